use super::*;
use crate::document::MAX_FAULTS;
use crate::rollout::plan::parse_text;

fn phases(list: &[Value]) -> Value {
    let whole = |(index, change): (usize, &Value)| {
        let mut phase = one_phase(json!({"name": format!("p{index}")}))["phases"][0].clone();
        phase["tenants"] = json!({});
        merge_patch(&mut phase, change);
        phase
    };
    json!({"phases": list.iter().enumerate().map(whole).collect::<Vec<_>>()})
}

fn tenants(list: &[Value]) -> Vec<String> {
    paths(phases(&list.iter().map(|tenants| json!({ "tenants": tenants })).collect::<Vec<_>>()))
}

#[test]
fn every_fault_is_told_at_once() {
    let found = paths(json!({
        "kind": "policy", "id": "CB", "nonsense": 1,
        "circuit_breaker": {"enabled": true, "timeout_ms": 1, "failure_treshold": 4},
        "cohort": {"seed": -1, "order": "size", "include": [], "exclude": ["a b", 1]},
        "facts": {"a b": {}, "acme": {"critical": 1, "owner": "", "notified": "soon", "team": "x"}},
        "history": "1s",
        "analysis": {
            "block": "2h", "harm": {"alpha": 0.6}, "safe": {"budget": 3},
            "latency": {"quantiles": [0.5, 0.9, 0.5]}, "exercise": true, "coverage": 2
        },
        "phases": [
            {"name": "canary", "tenants": {"count": 0}, "ladder": [10, 10, 0], "bake": "1d", "min": "2d"},
            {"name": "canary", "tenants": {"percent": 0}, "ladder": [0], "bake": 0, "min": "2d", "max": "1d"},
            7
        ],
        "after_phase": 100, "final_bake": "0s", "approval": "all", "on_exhausted": 1
    }));
    let expected = [
        "/nonsense",
        "/kind",
        "/id",
        "/circuit_breaker/enabled",
        "/circuit_breaker/failure_treshold",
        "/circuit_breaker/timeout_ms",
        "/cohort/seed",
        "/cohort/order",
        "/cohort/include",
        "/cohort/exclude/0",
        "/cohort/exclude/1",
        "/facts/a b",
        "/facts/acme/team",
        "/facts/acme/critical",
        "/facts/acme/owner",
        "/facts/acme/notified",
        "/history",
        "/analysis/block",
        "/analysis/harm/alpha",
        "/analysis/safe/budget",
        "/analysis/latency/quantiles/1",
        "/analysis/latency/quantiles/2",
        "/analysis/exercise",
        "/analysis/coverage",
        "/phases/0/tenants/count",
        "/phases/0/ladder/1",
        "/phases/0/ladder/2",
        "/phases/0/max",
        "/phases/1/name",
        "/phases/1/tenants/percent",
        "/phases/1/ladder",
        "/phases/1/bake",
        "/phases/1/max",
        "/phases/2",
        "/after_phase",
        "/final_bake",
        "/approval",
        "/on_exhausted",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_document_that_is_no_object_is_one_fault_of_the_whole() {
    for value in [json!(null), json!([]), json!("p"), json!(1)] {
        let found = parse(&value).unwrap_err();
        assert_eq!((found.len(), found[0].path.as_str()), (1, ""), "{value}");
    }
}

#[test]
fn kind_and_id_are_required() {
    assert_eq!(paths(json!({"kind": null})), ["/kind"]);
    assert_eq!(paths(json!({"id": null})), ["/id"]);
}

#[test]
fn unknown_fields_are_refused_and_called_those_of_a_plan() {
    let message = |change| faults(change)[0].message.clone();
    assert_eq!(message(json!({"approvals": "none"})), "is no field of a plan; did you mean approval?");
    assert_eq!(
        message(json!({"circuit_breaker": {"failure_treshold": 3}})),
        "is no field of a plan; did you mean failure_threshold?"
    );
    assert_eq!(message(json!({"cohort": {"tenants": []}})), {
        "is no field of a plan; known here: seed, order, include, exclude"
    });
}

#[test]
fn names_that_occur_twice_are_told_with_the_other_faults() {
    let text = r#"{"kind": "PolicyRollout", "id": "a", "id": "b", "history": "1s"}"#;
    let found = parse_text(text).unwrap_err();
    assert_eq!(found.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["/id", "/history"]);
    assert!(parse_text(r#"{"kind": "PolicyRollout", "id": "a"}"#).is_ok());
}

#[test]
fn the_breaker_block_is_a_policys_without_what_the_steps_set() {
    for name in ["enabled", "enforce_percent"] {
        for value in [json!(true), json!(50), json!("x")] {
            let [fault] = &faults(json!({"circuit_breaker": {name: value}}))[..] else { panic!("one fault") };
            assert_eq!(fault.path, format!("/circuit_breaker/{name}"));
            assert_eq!(fault.message, "is set by the rollout's steps; remove it");
        }
    }
    let invalid = json!({"circuit_breaker": {"timeout_ms": 5_000, "max_timeout_ms": 4_000}});
    assert_eq!(paths(invalid), ["/circuit_breaker/max_timeout_ms"]);
    assert_eq!(paths(json!({"circuit_breaker": []})), ["/circuit_breaker"]);

    let stated = json!({
        "minimum_requests": 20.0, "error_rate_threshold": 0.333_333_333, "latency_threshold_ms": null,
    });
    let mut whole = document(json!({}));
    whole["circuit_breaker"] = stated;
    let plan = parse(&whole).unwrap().plan;
    let kept =
        json!({"minimum_requests": 20, "error_rate_threshold": 0.333_333, "latency_threshold_ms": null});
    assert_eq!(json!(plan.circuit_breaker().fields()), kept);
    assert_eq!(plan.circuit_breaker().settings().minimum_requests(), 20);
    assert!(!plan.circuit_breaker().settings().enabled());
}

#[test]
fn patterns_of_the_cohort_are_checked_and_bounded() {
    let include = |list: Value| paths(json!({"cohort": {"include": list}}));
    assert_eq!(include(json!(["a*", "*.test", "acme"])), Vec::<String>::new());
    assert_eq!(include(json!(["a", "a", "", "a?", null])), {
        ["/cohort/include/1", "/cohort/include/2", "/cohort/include/3", "/cohort/include/4"]
    });
    for wrong in [json!("*"), json!({}), json!([])] {
        assert_eq!(include(wrong), ["/cohort/include"]);
    }
    let many = |n: usize| json!((0..n).map(|i| format!("t{i}")).collect::<Vec<_>>());
    assert_eq!(include(many(4_096)), Vec::<String>::new());
    assert_eq!(include(many(4_097)), ["/cohort/include"]);
    let exclude = |list: Value| paths(json!({"cohort": {"exclude": list}}));
    assert_eq!(exclude(json!([])), Vec::<String>::new());
    assert_eq!(exclude(many(4_097)), ["/cohort/exclude"]);
}

#[test]
fn facts_are_by_tenant_and_bounded() {
    let many = |n: usize| {
        let map: serde_json::Map<_, _> = (0..n).map(|i| (format!("t{i}"), json!({}))).collect();
        paths(json!({ "facts": map }))
    };
    assert_eq!(many(10_000), Vec::<String>::new());
    assert_eq!(many(10_001), ["/facts"]);
    assert_eq!(paths(json!({"facts": []})), ["/facts"]);
    assert_eq!(paths(json!({"facts": {"acme": true}})), ["/facts/acme"]);
    assert_eq!(paths(json!({"facts": {"acme": {"notified": "2026-02-30"}}})), ["/facts/acme/notified"]);

    let plan = plan(json!({"facts": {"acme": {"critical": true}, "globex": {}}}));
    let critical: Vec<_> = plan.facts().keys().filter(|t| plan.is_critical(t)).map(|t| t.as_str()).collect();
    assert_eq!(critical, ["acme"]);
}

#[test]
fn a_ladder_rises_from_a_first_zero_to_a_share_below_all() {
    let ladder = |steps: Value| paths(one_phase(json!({"ladder": steps})));
    for sound in [json!([50]), json!([0, 1]), json!([1, 2, 99]), json!([0, 10.0, 50])] {
        assert_eq!(ladder(sound), Vec::<String>::new());
    }
    for (wrong, at) in [
        (json!([10, 0, 50]), "/phases/0/ladder/1"),
        (json!([0, 0, 50]), "/phases/0/ladder/1"),
        (json!([50, 50]), "/phases/0/ladder/1"),
        (json!([50, 10]), "/phases/0/ladder/1"),
        (json!([0, 50, 100]), "/phases/0/ladder/2"),
        (json!([-1]), "/phases/0/ladder/0"),
        (json!([12.5]), "/phases/0/ladder/0"),
        (json!(["50"]), "/phases/0/ladder/0"),
        (json!([0]), "/phases/0/ladder"),
        (json!([]), "/phases/0/ladder"),
        (json!(50), "/phases/0/ladder"),
    ] {
        assert_eq!(ladder(wrong.clone()), [at], "{wrong}");
    }
}

#[test]
fn a_phase_states_all_but_its_block() {
    for name in ["name", "tenants", "ladder", "bake", "min", "max"] {
        assert_eq!(paths(one_phase(json!({ name: null }))), [format!("/phases/0/{name}")]);
    }
    assert_eq!(paths(one_phase(json!({"block": null}))), Vec::<String>::new());
}

#[test]
fn phases_are_bounded_and_named_apart() {
    let many = |n: u32| paths(phases(&(1..=n).map(|i| json!({"tenants": {"count": i}})).collect::<Vec<_>>()));
    assert_eq!(many(20), Vec::<String>::new());
    assert_eq!(many(21), ["/phases"]);
    for wrong in [json!([]), json!({}), json!("canary")] {
        assert_eq!(paths(json!({ "phases": wrong })), ["/phases"]);
    }
    let same = phases(&[
        json!({"name": "a", "tenants": {"count": 1}}),
        json!({"name": "b", "tenants": {"count": 2}}),
        json!({"name": "a", "tenants": {"count": 3}}),
    ]);
    let [fault] = &faults(same)[..] else { panic!("one fault") };
    assert_eq!(
        (fault.path.as_str(), fault.message.as_str()),
        ("/phases/2/name", "is the name of /phases/0 too")
    );
}

#[test]
fn the_longest_time_leaves_room_for_the_shortest_and_for_the_steps_before_the_last() {
    let times =
        |bake: &str, min: &str, max: &str| paths(one_phase(json!({"bake": bake, "min": min, "max": max})));
    assert_eq!(times("12h", "3d", "3d"), Vec::<String>::new());
    assert_eq!(times("12h", "3d", "2d"), ["/phases/0/max"]);
    assert_eq!(times("1d", "1d", "49h"), Vec::<String>::new());
    assert_eq!(times("1d", "1d", "2d"), ["/phases/0/max"]);
    assert_eq!(times("1s", "2s", "3s"), Vec::<String>::new());
    assert_eq!(paths(one_phase(json!({"ladder": [50], "bake": "9d"}))), Vec::<String>::new());
}

#[test]
fn a_phase_chooses_its_tenants_in_one_way() {
    let only = |tenants: Value| tenants_of_one(&tenants);
    assert_eq!(only(json!({"count": 1, "max_per_minute": 5, "critical": true})), Vec::<String>::new());
    assert_eq!(only(json!({"min": 2, "max": 2})), Vec::<String>::new());
    assert_eq!(only(json!({})), ["/phases/0/tenants"]);
    assert_eq!(only(json!(5)), ["/phases/0/tenants"]);
    assert_eq!(only(json!({"critical": false})), ["/phases/0/tenants"]);
    assert_eq!(only(json!({"min": 3})), ["/phases/0/tenants/max"]);
    assert_eq!(only(json!({"max": 3})), ["/phases/0/tenants/min"]);
    assert_eq!(only(json!({"min": 3, "max": 2})), ["/phases/0/tenants/max"]);
    assert_eq!(only(json!({"min": 0, "max": 2})), ["/phases/0/tenants/min"]);
    assert_eq!(only(json!({"count": 1, "percent": 5})), ["/phases/0/tenants/percent"]);
    assert_eq!(only(json!({"min": 1, "max": 2, "percent": 5})), ["/phases/0/tenants/percent"]);
    assert_eq!(only(json!({"percent": 5, "critical": false})), ["/phases/0/tenants/critical"]);
    assert_eq!(only(json!({"min": 1, "max": 2, "max_per_minute": 9})), ["/phases/0/tenants/max_per_minute"]);
    for percent in [json!(0), json!(101), json!(0.5), json!("50")] {
        assert_eq!(only(json!({ "percent": percent })), ["/phases/0/tenants/percent"]);
    }
}

fn tenants_of_one(value: &Value) -> Vec<String> {
    paths(phases(&[json!({ "tenants": value })]))
}

#[test]
fn each_phase_has_more_tenants_than_those_before_it() {
    let (count, range) = (|n: u32| json!({"count": n}), |min: u32, max: u32| json!({"min": min, "max": max}));
    let percent = |n: u32| json!({"percent": n});
    assert_eq!(tenants(&[count(1), count(2), range(1, 3), percent(1), percent(100)]), Vec::<String>::new());
    assert_eq!(tenants(&[count(2), count(2)]), ["/phases/1/tenants/count"]);
    assert_eq!(tenants(&[count(5), range(2, 5)]), ["/phases/1/tenants/max"]);
    assert_eq!(tenants(&[range(2, 5), count(4), count(5)]), {
        ["/phases/1/tenants/count", "/phases/2/tenants/count"]
    });
    assert_eq!(tenants(&[percent(50), percent(50), percent(100)]), ["/phases/1/tenants/percent"]);
    assert_eq!(tenants(&[percent(10), count(3), range(4, 5)]), ["/phases/1/tenants", "/phases/2/tenants"]);
}

#[test]
fn faults_are_bounded_however_wrong_the_document_is() {
    let found = faults(one_phase(json!({"ladder": vec![json!("x"); 10_000]})));
    assert_eq!(found.len(), MAX_FAULTS + 1);
    assert_eq!(found[MAX_FAULTS].message, "has 9900 more faults, not listed");
}
