//! Sound documents, drawn at random.

use std::collections::BTreeSet;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::document::{testing::object, written};

/// A duration from `least` to `most` milliseconds, as a document writes it.
fn duration(least: u64, most: u64) -> impl Strategy<Value = Value> {
    prop_oneof![
        (least..=most).prop_map(|ms| json!(format!("{ms}ms"))),
        (least.div_ceil(1_000)..=most / 1_000).prop_map(|s| json!(s.max(1))),
        Just(json!(written(most))),
    ]
}

fn ratio(least: f64, most: f64) -> impl Strategy<Value = Value> {
    (least..=most).prop_map(Value::from)
}

fn or_auto(number: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Value> {
    prop_oneof![1 => Just(json!("auto")), 3 => number]
}

fn word(words: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::sample::select(words).prop_map(Value::from)
}

fn breaker() -> impl Strategy<Value = Value> {
    (option::of(1_u64..=100), option::of(0.001..=1.0), option::of(1_000_u64..=300_000)).prop_map(
        |(failures, rate, timeout)| {
            object(std::vec![
                ("failure_threshold", failures.map(Value::from)),
                ("error_rate_threshold", rate.map(Value::from)),
                ("timeout_ms", timeout.map(Value::from)),
            ])
        },
    )
}

fn cohort() -> impl Strategy<Value = Value> {
    let patterns = |least| btree_set("[a-d*]{1,4}", least..4).prop_map(|set| json!(set));
    (
        option::of(any::<u32>().prop_map(Value::from)),
        option::of(word(&["traffic", "hash", "listed"])),
        option::of(patterns(1)),
        option::of(patterns(0)),
    )
        .prop_map(|(seed, order, include, exclude)| {
            object(std::vec![("seed", seed), ("order", order), ("include", include), ("exclude", exclude)])
        })
}

fn facts() -> impl Strategy<Value = Value> {
    let day =
        (1_u32..=9_999, 1_u32..=12, 1_u32..=28).prop_map(|(y, m, d)| json!(format!("{y:04}-{m:02}-{d:02}")));
    let of_tenant = (option::of(any::<bool>().prop_map(Value::from)), option::of(".{1,20}"), option::of(day))
        .prop_map(|(critical, owner, notified)| {
            object(std::vec![
                ("critical", critical),
                ("owner", owner.map(Value::from)),
                ("notified", notified),
            ])
        });
    btree_map("[a-d]{1,2}", of_tenant, 0..4).prop_map(|map| json!(map))
}

fn analysis() -> impl Strategy<Value = Value> {
    let times = (
        option::of(duration(1_000, 3_600_000)),
        option::of(duration(100, 900_000)),
        option::of(duration(1, 86_400_000)),
    );
    let harm = (
        option::of(ratio(0.000_001, 0.5)),
        option::of(or_auto(ratio(0.0, 0.05))),
        option::of(or_auto((0_u64..=1_000_000).prop_map(Value::from))),
    )
        .prop_map(|(alpha, margin, budget)| {
            object(std::vec![("alpha", alpha), ("margin", margin), ("budget", budget)])
        });
    let safe = (option::of(ratio(0.000_001, 0.5)), option::of(or_auto(ratio(0.000_001, 0.1))))
        .prop_map(|(alpha, margin)| object(std::vec![("alpha", alpha), ("margin", margin)]));
    let quantiles =
        prop::sample::subsequence(std::vec![0.5, 0.95], 0..=2).prop_shuffle().prop_map(|list| json!(list));
    let latency = (option::of(ratio(0.001, 1.0)), option::of(quantiles))
        .prop_map(|(limit, quantiles)| object(std::vec![("limit", limit), ("quantiles", quantiles)]));
    let rest = (option::of(word(&["required", "drill", "no"])), option::of(ratio(0.0, 1.0)));
    (times, option::of(harm), option::of(safe), option::of(latency), rest).prop_map(
        |(times, harm, safe, latency, rest)| {
            object(std::vec![
                ("block", times.0),
                ("settle", times.1),
                ("max_stale", times.2),
                ("harm", harm),
                ("safe", safe),
                ("latency", latency),
                ("exercise", rest.0),
                ("coverage", rest.1),
            ])
        },
    )
}

/// Selections that rise: some that count, then some by share.
fn selections() -> impl Strategy<Value = Vec<Value>> {
    let counts = btree_set(1_u32..=20, 0..4);
    let percents = btree_set(1_u32..=100, 1..4);
    let how = vec((any::<bool>(), option::of(1_u64..=200), any::<bool>(), 0_u32..4), 4);
    (counts, percents, how).prop_map(|(counts, percents, how)| {
        let counting = counts.into_iter().zip(how).map(|(count, (range, busiest, critical, slack))| {
            if range {
                return json!({"min": count.saturating_sub(slack).max(1), "max": count});
            }
            object(std::vec![
                ("count", Some(json!(count))),
                ("max_per_minute", busiest.map(Value::from)),
                ("critical", Some(json!(critical))),
            ])
        });
        counting.chain(percents.into_iter().map(|percent| json!({ "percent": percent }))).collect()
    })
}

fn phases() -> impl Strategy<Value = Value> {
    let steps = btree_set(0_u32..=99, 1..4).prop_filter("a share above 0", |set| *set != BTreeSet::from([0]));
    // The longest time is longer than three bakes.
    let times = (1_000_u64..=86_400_000, 1_000_u64..=86_400_000, 0_u64..=86_400_000);
    let one = (steps, times, option::of(duration(1_000, 3_600_000)));
    (selections(), vec(one, 7)).prop_map(|(selections, rest)| {
        let mut phases = Vec::new();
        for (tenants, (ladder, (bake, min, more), block)) in selections.into_iter().zip(rest) {
            let max = min.max(bake * 3) + 1 + more;
            let ms = |ms: u64| Some(json!(format!("{ms}ms")));
            phases.push(object(std::vec![
                ("name", Some(json!(format!("p-{}", phases.len())))),
                ("tenants", Some(tenants)),
                ("ladder", Some(json!(ladder))),
                ("bake", ms(bake)),
                ("min", ms(min)),
                ("max", ms(max)),
                ("block", block),
            ]));
        }
        json!(phases)
    })
}

pub(super) fn sound_document() -> impl Strategy<Value = Value> {
    let blocks = (
        option::of(breaker()),
        option::of(cohort()),
        option::of(facts()),
        option::of(analysis()),
        option::of(phases()),
    );
    let rest = (
        option::of(duration(60_000, 2_419_200_000)),
        option::of(1_u64..=99),
        option::of(duration(1_000, 7_776_000_000)),
        option::of(word(&["each_phase", "none"])),
        option::of(word(&["pause", "rollback"])),
    );
    ("[a-z0-9-]{1,64}", blocks, rest).prop_map(|(id, blocks, rest)| {
        object(std::vec![
            ("kind", Some(json!("PolicyRollout"))),
            ("id", Some(json!(id))),
            ("circuit_breaker", blocks.0),
            ("cohort", blocks.1),
            ("facts", blocks.2),
            ("analysis", blocks.3),
            ("phases", blocks.4),
            ("history", rest.0),
            ("after_phase", rest.1.map(Value::from)),
            ("final_bake", rest.2),
            ("approval", rest.3),
            ("on_exhausted", rest.4),
        ])
    })
}
