use super::*;

/// A field: where it stands in the document, what it takes, and what it refuses.
struct Row(&'static str, Vec<Value>, Vec<Value>);

fn rows() -> Vec<Row> {
    vec![
        Row(
            "/id",
            vec![json!("a"), json!("a".repeat(64)), json!("cb-2026")],
            vec![json!(""), json!("a".repeat(65)), json!("CB"), json!("a.b"), json!(1), json!(null)],
        ),
        Row("/kind", vec![json!("PolicyRollout")], vec![json!("Policy"), json!(null), json!(1)]),
        Row(
            "/cohort/seed",
            vec![json!(0), json!(4_294_967_295_u64)],
            vec![json!(-1), json!(4_294_967_296_u64)],
        ),
        Row("/cohort/order", vec![json!("hash"), json!("listed")], vec![json!("random"), json!(1)]),
        Row("/history", durations(&["1m", "28d"]), durations(&["59s", "29d", "0d", "7", "1.5d", ""])),
        Row("/analysis/block", durations(&["1s", "1h"]), durations(&["999ms", "61m"])),
        Row("/analysis/settle", durations(&["100ms", "15m"]), durations(&["99ms", "16m"])),
        Row("/analysis/max_stale", durations(&["1ms", "1d"]), durations(&["0s", "2d"])),
        Row("/analysis/harm/alpha", numbers(&[0.000_001, 0.5]), alphas()),
        Row("/analysis/safe/alpha", numbers(&[0.000_001, 0.5]), alphas()),
        Row(
            "/analysis/harm/margin",
            vec![json!("auto"), json!(0), json!(0.05)],
            vec![json!(-0.01), json!(0.050_001), json!("Auto"), json!("0.01"), json!(null)],
        ),
        Row(
            "/analysis/safe/margin",
            vec![json!("auto"), json!(0.000_001), json!(0.1)],
            vec![json!(0), json!(0.5), json!(1), json!("half"), json!([0.01])],
        ),
        Row(
            "/analysis/harm/budget",
            vec![json!("auto"), json!(0), json!(3.0), json!(1_000_000)],
            vec![json!(-1), json!(1.5), json!(1_000_001), json!("3")],
        ),
        Row("/analysis/latency/limit", numbers(&[0.001, 1.0]), vec![json!(0), json!(1.01), json!("5%")]),
        Row(
            "/analysis/exercise",
            vec![json!("required"), json!("drill"), json!("no")],
            vec![json!(false), json!("yes")],
        ),
        Row("/analysis/coverage", vec![json!(0), json!(1), json!(0.5)], vec![json!(1.001), json!(-0.1)]),
        Row("/after_phase", vec![json!(1), json!(99)], vec![json!(0), json!(100), json!(95.5), json!("95")]),
        Row("/final_bake", durations(&["1s", "90d"]), durations(&["999ms", "91d"])),
        Row("/approval", vec![json!("none"), json!("each_phase")], vec![json!(null), json!("all")]),
        Row("/on_exhausted", vec![json!("rollback"), json!("pause")], vec![json!("promote")]),
        Row("/phases/0/name", vec![json!("a"), json!("x-1")], vec![json!(""), json!("Canary"), json!(7)]),
        Row("/phases/0/bake", durations(&["1s", "3d"]), durations(&["999ms", "91d"])),
        Row("/phases/0/min", durations(&["1s", "7d"]), durations(&["999ms", "91d"])),
        Row("/phases/0/max", durations(&["3d", "90d"]), durations(&["999ms", "91d", "2d"])),
        Row("/phases/0/block", durations(&["1s", "1h"]), durations(&["999ms", "2h"])),
        Row("/phases/0/tenants/count", vec![json!(1), json!(1_000_000)], vec![json!(0), json!(1_000_001)]),
        Row(
            "/phases/0/tenants/max_per_minute",
            vec![json!(1), json!(1_000_000_000)],
            vec![json!(0), json!(1_000_000_001), json!(null)],
        ),
        Row("/phases/0/tenants/critical", vec![json!(true), json!(false)], vec![json!("no"), json!(null)]),
    ]
}

fn durations(texts: &[&str]) -> Vec<Value> {
    texts.iter().map(|text| json!(text)).collect()
}

fn numbers(numbers: &[f64]) -> Vec<Value> {
    numbers.iter().map(|number| json!(number)).collect()
}

fn alphas() -> Vec<Value> {
    vec![
        json!(0),
        json!(0.500_001),
        json!(0.500_000_1),
        json!(0.000_000_1),
        json!(-0.1),
        json!("0.05"),
        json!(null),
    ]
}

/// A sound document with one phase, in which the field at a pointer has this value.
fn with(pointer: &str, value: Value) -> Value {
    let mut document = document(one_phase(json!({})));
    let mut place = &mut document;
    for name in pointer.split('/').skip(1) {
        place = match name.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[name],
        };
    }
    *place = value;
    document
}

#[test]
fn each_field_takes_both_ends_of_its_range() {
    for Row(pointer, taken, _) in rows() {
        for value in taken {
            let document = with(pointer, value.clone());
            let plan = parse(&document).unwrap_or_else(|faults| panic!("{pointer} {value}: {faults:?}")).plan;
            assert_eq!(parse(&effective(&plan)).unwrap().plan, plan, "{pointer} {value}");
        }
    }
}

#[test]
fn each_field_refuses_what_is_just_outside_its_range() {
    for Row(pointer, _, refused) in rows() {
        for value in refused {
            let faults = parse(&with(pointer, value.clone())).unwrap_err();
            let paths: Vec<_> = faults.iter().map(|f| f.path.as_str()).collect();
            assert_eq!(paths, [pointer], "{value}");
            let message = &faults[0].message;
            assert!(message.contains("must") || message.contains("may hold"), "{pointer}: {message}");
        }
    }
}

#[test]
fn a_duration_may_be_a_number_of_seconds_as_in_policies() {
    assert_eq!(plan(json!({"history": 86_400})), plan(json!({"history": "1d"})));
}

#[test]
fn a_fault_says_what_the_value_must_be_and_what_it_is() {
    let message = |change| faults(change)[0].message.clone();
    assert_eq!(
        message(json!({"analysis": {"block": 7_200}})),
        "must be a duration from 1s to 1h, like \"500ms\", \"30s\", \"5m\", \"12h\" or \"7d\", not 7200"
    );
    assert_eq!(
        message(json!({"analysis": {"safe": {"margin": 0.5}}})),
        "must be a number from 0.000001 to 0.1, where 0.01 is one percentage point, or \"auto\", not 0.5"
    );
    assert_eq!(
        message(json!({"analysis": {"harm": {"budget": true}}})),
        "must be a whole number from 0 to 1000000, or \"auto\", not a boolean"
    );
    assert_eq!(message(json!({"approval": "all"})), "must be one of each_phase, none");
    assert_eq!(message(json!({"after_phase": 100})), "must be a whole number from 1 to 99, not 100");
}
