use super::*;
use crate::domain::Ratio;
use crate::rollout::plan::{Approval, Date, Exercise, OnExhausted, OrAuto, Order, Quantile, TenantSelection};

/// Every field but the blocks of phases; where there is a default, that.
fn example() -> Value {
    json!({
        "kind": "PolicyRollout",
        "id": "cb-2026",
        "circuit_breaker": {"failure_threshold": 5, "timeout_ms": 30000},
        "cohort": {"seed": 1, "order": "traffic", "include": ["*"], "exclude": []},
        "facts": {"acme": {"critical": false, "owner": "team-a@example.com", "notified": "2026-11-20"}},
        "history": "7d",
        "analysis": {
            "block": "5m",
            "settle": "2m",
            "harm": {"alpha": 0.01, "margin": "auto", "budget": "auto"},
            "safe": {"alpha": 0.05, "margin": "auto"},
            "latency": {"limit": 0.05, "quantiles": [0.5, 0.95]},
            "exercise": "required",
            "coverage": 0.95,
            "max_stale": "10m"
        },
        "phases": [
            {"name": "canary", "tenants": {"count": 1, "max_per_minute": 100, "critical": false},
             "ladder": [0, 10, 50], "bake": "12h", "min": "3d", "max": "7d"},
            {"name": "limited", "tenants": {"min": 5, "max": 10}, "ladder": [0, 10, 50],
             "bake": "12h", "min": "7d", "max": "14d"},
            {"name": "half", "tenants": {"percent": 50}, "ladder": [10, 50],
             "bake": "12h", "min": "14d", "max": "21d"},
            {"name": "all", "tenants": {"percent": 100}, "ladder": [10, 50],
             "bake": "12h", "min": "7d", "max": "14d"}
        ],
        "after_phase": 95,
        "final_bake": "2d",
        "approval": "each_phase",
        "on_exhausted": "pause"
    })
}

fn with_blocks(mut document: Value, blocks: [&str; 4]) -> Value {
    for (phase, block) in document["phases"].as_array_mut().unwrap().iter_mut().zip(blocks) {
        phase["block"] = json!(block);
    }
    document
}

#[test]
fn a_whole_document_becomes_the_plan_it_describes() {
    let checked = parse(&example()).unwrap();
    assert_eq!(checked.warnings, Vec::<String>::new());
    let plan = checked.plan;
    assert_eq!(plan.id().as_str(), "cb-2026");
    assert_eq!(json!(plan.circuit_breaker().fields()), example()["circuit_breaker"]);
    assert_eq!(plan.circuit_breaker().settings().open_ms(0, 1, 0), 30_000);

    let cohort = plan.cohort();
    assert_eq!((cohort.seed, cohort.order, cohort.exclude.len()), (1, Order::Traffic, 0));
    assert_eq!(cohort.include.iter().map(|p| p.as_str()).collect::<Vec<_>>(), ["*"]);
    let [(tenant, facts)] = &plan.facts().iter().collect::<Vec<_>>()[..] else { panic!("one tenant") };
    assert_eq!((tenant.as_str(), facts.critical), ("acme", false));
    assert_eq!(facts.owner.as_deref(), Some("team-a@example.com"));
    assert_eq!(facts.notified, Date::parse("2026-11-20"));

    assert_eq!(plan.history_ms(), 604_800_000);
    let analysis = plan.analysis();
    assert_eq!((analysis.block_ms, analysis.settle_ms, analysis.max_stale_ms), (300_000, 120_000, 600_000));
    assert_eq!(
        (analysis.harm.alpha, analysis.safe.alpha),
        (Ratio::from_ppm(10_000), Ratio::from_ppm(50_000))
    );
    assert_eq!((analysis.harm.margin, analysis.safe.margin), (OrAuto::Auto, OrAuto::Auto));
    assert_eq!(analysis.harm.budget, OrAuto::Auto);
    assert_eq!(analysis.latency.limit, Ratio::from_ppm(50_000));
    assert_eq!(analysis.latency.quantiles, [Quantile::Median, Quantile::P95]);
    assert_eq!((analysis.exercise, analysis.coverage_permille), (Exercise::Required, 950));

    let [canary, limited, half, all] = plan.phases() else { panic!("four phases") };
    let count = TenantSelection::Count { count: 1, max_per_minute: Some(100), critical: false };
    assert_eq!((canary.name.as_str(), canary.tenants), ("canary", count));
    assert_eq!((canary.ladder.bakes(), canary.ladder.judged()), (&[0, 10][..], 50));
    assert_eq!((canary.bake_ms, canary.min_ms, canary.max_ms), (43_200_000, 259_200_000, 604_800_000));
    assert_eq!(limited.tenants, TenantSelection::Range { min: 5, max: 10 });
    assert_eq!((half.tenants, half.ladder.bakes()), (TenantSelection::Percent { percent: 50 }, &[10][..]));
    assert_eq!((all.name.as_str(), all.tenants), ("all", TenantSelection::Percent { percent: 100 }));

    assert_eq!((plan.after_phase(), plan.final_bake_ms()), (95, 172_800_000));
    assert_eq!((plan.approval(), plan.on_exhausted()), (Approval::EachPhase, OnExhausted::Pause));
}

#[test]
fn a_plan_is_written_as_the_document_that_it_was_read_from() {
    let document = with_blocks(example(), ["5m"; 4]);
    assert_eq!(effective(&parse(&document).unwrap().plan), document);
}

#[test]
fn what_a_document_leaves_out_has_the_default_of_the_example() {
    let mut expected = with_blocks(example(), ["5m", "5m", "1h", "1h"]);
    expected["circuit_breaker"] = json!({});
    expected["facts"] = json!({});
    assert_eq!(effective(&plan(json!({}))), expected);
    let empty = json!({"analysis": {"harm": {}, "safe": {}, "latency": {}}, "cohort": {}, "facts": {}});
    assert_eq!(effective(&plan(empty)), expected);
}

#[test]
fn late_default_phases_have_hourly_blocks_unless_the_plan_states_a_block() {
    let blocks = |change| plan(change).phases().iter().map(|p| p.block_ms / 1_000).collect::<Vec<_>>();
    assert_eq!(blocks(json!({})), [300, 300, 3_600, 3_600]);
    assert_eq!(blocks(json!({"analysis": {"settle": "1s"}})), [300, 300, 3_600, 3_600]);
    assert_eq!(blocks(json!({"analysis": {"block": "10s"}})), [10, 10, 10, 10]);
    assert_eq!(blocks(json!({"phases": example()["phases"]})), [300, 300, 300, 300]);
    let stated = with_blocks(example(), ["1s", "1m", "5m", "30m"]);
    assert_eq!(
        blocks(json!({"analysis": {"block": "10s"}, "phases": stated["phases"]})),
        [1, 60, 300, 1_800]
    );
}

#[test]
fn numbers_are_kept_as_integers_and_written_as_they_were() {
    let given = json!({
        "harm": {"alpha": 0.000_001, "margin": 0.001, "budget": 7},
        "safe": {"alpha": 0.5, "margin": 0.012_345},
        "latency": {"limit": 0.25, "quantiles": [0.95, 0.5]},
        "coverage": 0.999,
    });
    let analysis = plan(json!({"analysis": given})).analysis().clone();
    assert_eq!(analysis.harm.alpha, Ratio::from_ppm(1));
    assert_eq!(analysis.harm.margin, OrAuto::Fixed(Ratio::from_ppm(1_000)));
    assert_eq!(analysis.harm.budget, OrAuto::Fixed(7));
    assert_eq!(analysis.safe.margin, OrAuto::Fixed(Ratio::from_ppm(12_345)));
    assert_eq!(analysis.coverage_permille, 999);
    let written = serde_json::to_value(&analysis).unwrap();
    for name in ["harm", "safe", "coverage"] {
        assert_eq!(written[name], given[name]);
    }
    assert_eq!(written["latency"], json!({"limit": 0.25, "quantiles": [0.5, 0.95]}));
}
