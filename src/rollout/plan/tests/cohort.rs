use super::*;
use crate::domain::TenantId;
use crate::rollout::plan::{Members, Tenant, Unmet, choose};

fn tenant(id: &str, per_minute: u64) -> Tenant {
    let id = TenantId::try_new(id).unwrap();
    Tenant { id, milli_per_minute: per_minute * 1_000, already_enforced: false }
}

/// Tenants with ids of one letter, each with as many units a minute as its place.
fn letters(ids: &str) -> Vec<Tenant> {
    ids.chars().zip(1..).map(|(id, units)| tenant(&id.to_string(), units)).collect()
}

/// A plan whose phases choose tenants so.
fn by_phases(tenants: &[Value], change: Value) -> Value {
    let phase = |(index, tenants): (usize, &Value)| {
        json!({
            "name": format!("p{index}"), "tenants": tenants,
            "ladder": [50], "bake": "1s", "min": "1d", "max": "2d",
        })
    };
    let mut document = json!({"phases": tenants.iter().enumerate().map(phase).collect::<Vec<_>>()});
    merge_patch(&mut document, &change);
    document
}

fn chosen(document: Value, tenants: &[Tenant]) -> Members {
    choose(&plan(document), tenants).unwrap()
}

/// The tenants that come in with each phase, and those that none has.
fn waves(document: Value, tenants: &[Tenant]) -> Vec<String> {
    let count = document["phases"].as_array().unwrap().len();
    let members = chosen(document, tenants);
    let ids = |list: &[TenantId]| list.iter().map(TenantId::as_str).collect::<Vec<_>>().join(" ");
    let in_phases = count.checked_sub(1).map_or(0, |last| members.phase(last).len());
    let mut waves: Vec<_> = (0..count).map(|index| ids(members.new_in(index))).collect();
    waves.push(ids(&members.cohort()[in_phases..]));
    waves
}

fn unmet(document: Value, tenants: &[Tenant]) -> Vec<(usize, Unmet)> {
    choose(&plan(document), tenants).unwrap_err().into_iter().map(|u| (u.index, u.unmet)).collect()
}

#[test]
fn each_phase_adds_the_next_tenants_in_the_order_of_the_cohort() {
    let [count, range] = [json!({"count": 1}), json!({"min": 2, "max": 4})];
    let [half, all] = [json!({"percent": 50}), json!({"percent": 100})];
    for (tenants, phases, expected) in [
        ("abcdefghij", vec![&count, &range, &half, &all], vec!["a", "b c d", "e", "f g h i j", ""]),
        ("abcdefghijk", vec![&count, &range, &half, &all], vec!["a", "b c d", "e f", "g h i j k", ""]),
        ("abc", vec![&count, &range, &half, &all], vec!["a", "b c", "", "", ""]),
        ("abcde", vec![&count], vec!["a", "b c d e"]),
        ("abc", vec![&half], vec!["a b", "c"]),
        ("a", vec![&half, &all], vec!["a", "", ""]),
    ] {
        let phases: Vec<_> = phases.into_iter().cloned().collect();
        assert_eq!(waves(by_phases(&phases, json!({})), &letters(tenants)), expected, "{tenants} {phases:?}");
    }
}

#[test]
fn the_order_is_by_traffic_by_hash_or_as_listed() {
    let tenants = [tenant("busy", 90), tenant("b", 5), tenant("a", 5), tenant("idle", 0), tenant("calm", 1)];
    let order = |cohort: Value| {
        let all = by_phases(&[json!({"percent": 100})], json!({ "cohort": cohort }));
        waves(all, &tenants)[0].clone()
    };
    assert_eq!(order(json!({})), "calm a b busy idle");
    assert_eq!(order(json!({"order": "listed", "include": ["b*", "idle", "*"]})), "b busy idle a calm");
    assert_eq!(order(json!({"order": "listed", "include": ["*", "b"]})), "a b busy calm idle");
    // Fixed hashes: a rollout that goes on keeps its order, whichever program it goes on with.
    assert_eq!(order(json!({"order": "hash"})), "calm idle busy b a");
    assert_eq!(order(json!({"order": "hash", "seed": 2})), "idle a busy calm b");
}

#[test]
fn the_cohort_is_what_the_patterns_mean_without_what_enforces_already() {
    let mut tenants: Vec<_> = ["eu-a", "eu-b", "eu-test", "us-a"].iter().map(|id| tenant(id, 1)).collect();
    tenants[1].already_enforced = true;
    tenants[3].already_enforced = true;
    let cohort = json!({"cohort": {"include": ["eu-*"], "exclude": ["*-test"]}});
    let members = chosen(by_phases(&[json!({"percent": 100})], cohort), &tenants);
    assert_eq!(members.cohort().iter().map(TenantId::as_str).collect::<Vec<_>>(), ["eu-a"]);
    assert_eq!(members.already_enforced().iter().map(TenantId::as_str).collect::<Vec<_>>(), ["eu-b"]);
}

#[test]
fn a_canary_meets_its_conditions_and_who_is_passed_over_comes_later() {
    let tenants = letters("abcdef");
    let facts = json!({"facts": {"a": {"critical": true}, "b": {"critical": false}}});
    let two = json!({"min": 2, "max": 2});
    for (canary, expected) in [
        (json!({"count": 1}), ["a", "b", "c d e f"]),
        (json!({"count": 1, "critical": true}), ["a", "b", "c d e f"]),
        (json!({"count": 1, "critical": false}), ["b", "a", "c d e f"]),
        (json!({"count": 1, "critical": false, "max_per_minute": 2}), ["b", "a", "c d e f"]),
    ] {
        assert_eq!(
            waves(by_phases(&[canary.clone(), two.clone()], facts.clone()), &tenants),
            expected,
            "{canary}"
        );
    }
}

#[test]
fn a_traffic_limit_is_met_by_as_much_and_not_by_a_thousandth_more() {
    let mut tenants = vec![tenant("a", 100), tenant("b", 100)];
    let canary =
        by_phases(&[json!({"count": 1, "max_per_minute": 100})], json!({"cohort": {"order": "listed"}}));
    assert_eq!(waves(canary.clone(), &tenants), ["a", "b"]);
    tenants[0].milli_per_minute += 1;
    assert_eq!(waves(canary, &tenants), ["b", "a"]);
}

#[test]
fn every_phase_that_lacks_tenants_says_what_it_lacks() {
    let phases = [
        json!({"count": 2, "max_per_minute": 1, "critical": false}),
        json!({"min": 3, "max": 4}),
        json!({"min": 6, "max": 9}),
        json!({"percent": 100}),
    ];
    let found = unmet(by_phases(&phases, json!({})), &letters("abcde"));
    let canary = Unmet::Count { count: 2, found: 1, cohort: 5 };
    assert_eq!(found, [(0, canary), (2, Unmet::Min { min: 6, cohort: 5 })]);

    let found = choose(&plan(by_phases(&phases, json!({}))), &letters("abcde")).unwrap_err();
    assert_eq!(
        found.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "phase p0 needs 2 tenants that meet its conditions, and 1 of 5 in the cohort do",
            "phase p2 needs at least 6 tenants, and the cohort has 5",
        ]
    );
}

#[test]
fn an_empty_cohort_meets_no_phase() {
    let phases = [json!({"count": 1}), json!({"min": 1, "max": 4}), json!({"percent": 100})];
    let expected = [
        (0, Unmet::Count { count: 1, found: 0, cohort: 0 }),
        (1, Unmet::Min { min: 1, cohort: 0 }),
        (2, Unmet::Empty),
    ];
    assert_eq!(unmet(by_phases(&phases, json!({})), &[]), expected);
}

#[test]
fn a_phase_that_the_plan_does_not_have_has_no_tenants() {
    let members = chosen(by_phases(&[json!({"count": 1})], json!({})), &letters("ab"));
    assert!(members.phase(1).is_empty() && members.new_in(1).is_empty());
}
