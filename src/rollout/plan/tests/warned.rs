use super::*;

/// Facts that name a tenant, so that a plan warns of nothing by itself.
fn with_facts(change: Value) -> Value {
    let mut document = json!({"facts": {"acme": {"critical": true}}});
    merge_patch(&mut document, &change);
    document
}

/// The one warning, checked to say this.
fn warned(change: Value, says: &str) {
    let list = warnings(with_facts(change));
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list[0].contains(says), "{}", list[0]);
}

/// A phase for all tenants, changed by a merge patch.
fn for_all(change: Value) -> Value {
    let mut phase = json!({"tenants": {"count": null, "percent": 100}});
    merge_patch(&mut phase, &change);
    one_phase(phase)
}

#[test]
fn the_defaults_warn_of_nothing_but_lacking_facts() {
    assert_eq!(warnings(with_facts(json!({}))), Vec::<String>::new());
    assert_eq!(
        warnings(json!({})),
        ["phases[0].tenants.critical is false, which leaves nobody out: facts is empty"]
    );
}

#[test]
fn a_phase_shorter_than_a_day_is_told() {
    warned(for_all(json!({"min": "23h"})), "phases[0].min is 23h, less than a day");
    assert_eq!(warnings(for_all(json!({"min": "1d"}))), Vec::<String>::new());
}

#[test]
fn a_ladder_that_does_not_end_at_half_is_told() {
    warned(for_all(json!({"ladder": [0, 60]})), "phases[0].ladder ends at 60, not 50");
    warned(for_all(json!({"ladder": [10]})), "phases[0].ladder ends at 10, not 50");
}

#[test]
fn a_share_that_falls_when_the_phase_has_passed_is_told() {
    let mut lower = for_all(json!({}));
    lower["after_phase"] = json!(40);
    warned(lower, "phases[0].ladder ends at 50, above after_phase, which is 40");
}

#[test]
fn a_plan_that_never_reaches_all_is_told() {
    warned(one_phase(json!({})), "phases: none has percent 100");
    warned(one_phase(json!({"tenants": {"count": null, "percent": 99}})), "phases: none has percent 100");
}

#[test]
fn blocks_that_are_short_beside_the_time_to_settle_are_told() {
    let blocks = |block: &str| {
        let mut document = for_all(json!({ "block": block }));
        document["analysis"] = json!({"settle": "2m"});
        document
    };
    warned(blocks("11s"), "phases[0].block is 11s, short beside analysis.settle, which is 2m");
    assert_eq!(warnings(blocks("12s")), Vec::<String>::new());
}

#[test]
fn a_time_without_a_judged_window_that_is_too_short_is_told() {
    let stale = |block: &str, max_stale: &str| {
        let mut document = for_all(json!({ "block": block }));
        document["analysis"] = json!({"settle": "1s", "max_stale": max_stale});
        document
    };
    warned(stale("4s", "11999ms"), "analysis.max_stale is 11999ms: in phases[0] workers report each 4s");
    assert_eq!(warnings(stale("4s", "12s")), Vec::<String>::new());
    warned(stale("1h", "29s"), "workers report each 10s");
    assert_eq!(warnings(stale("1h", "30s")), Vec::<String>::new());
}

#[test]
fn analysis_that_leaves_a_question_open_is_told() {
    warned(json!({"analysis": {"latency": {"quantiles": []}}}), "latency is not judged");
    let margins = |harm, safe| json!({"analysis": {"harm": {"margin": harm}, "safe": {"margin": safe}}});
    warned(margins(json!(0.01), json!(0.01)), "analysis.harm.margin is 0.01, not below safe.margin");
    assert_eq!(warnings(with_facts(margins(json!(0.001), json!(0.01)))), Vec::<String>::new());
    assert_eq!(warnings(with_facts(margins(json!("auto"), json!(0.01)))), Vec::<String>::new());
}

#[test]
fn the_effective_document_warns_of_the_same() {
    for change in [json!({}), for_all(json!({"min": "1h", "ladder": [5]}))] {
        let first = parse(&document(change)).unwrap();
        assert_eq!(parse(&effective(&first.plan)).unwrap().warnings, first.warnings);
    }
}
