use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::document::testing::{self, object, point_into, spoil};

/// Any JSON; names are often those of a document, so that it gets past the first look.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &[
        "policy_id",
        "version",
        "providers",
        "weights",
        "name",
        "weight",
        "sticky",
        "enabled",
        "session_key",
        "ttl",
        "fallbacks",
        "fallback",
        "provider",
        "when",
        "status",
        "message_type",
        "retry",
        "to",
        "backoff",
        "base_ms",
        "max_ms",
        "circuit_breaker",
        "timeout_ms",
        "pre",
    ];
    testing::any_json(NAMES, &["10m", "5xx", "error", "success", "linear"])
}

fn id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_.:-]{1,8}"
}

fn words(word: &'static str) -> impl Strategy<Value = Value> {
    prop_oneof![word.prop_map(Value::from), btree_set(word, 1..5).prop_map(|set| set.into_iter().collect())]
}

fn providers() -> impl Strategy<Value = (&'static str, Value)> {
    let weight = prop_oneof![Just(0.0), 0.0..=1.0, 1.0..=100.0, (1_u32..=100).prop_map(f64::from)];
    let named = btree_map(id(), weight, 1..6);
    let some_weight = named.prop_filter("a weight above 0", |map| map.values().any(|w| *w > 0.0));
    (some_weight, any::<bool>()).prop_map(|(map, older)| {
        if older {
            ("weights", json!(map))
        } else {
            let list: Vec<_> =
                map.iter().map(|(name, weight)| json!({"name": name, "weight": weight})).collect();
            ("providers", json!(list))
        }
    })
}

fn fallback() -> impl Strategy<Value = Value> {
    let when = (option::of(words("[a-z]{1,4}|[1-6]xx|[45][0-9]{2}")), option::of(words("[a-z.]{1,6}")))
        .prop_map(|(status, kind)| object(std::vec![("status", status), ("message_type", kind)]));
    let growth = prop::sample::select(std::vec!["exponential", "linear", "fixed"]).prop_map(Value::from);
    let backoff = (option::of(growth), 0_u64..=10_000, option::of(0_u64..=10_000), option::of(any::<bool>()))
        .prop_map(|(strategy, base, more, jitter)| {
            object(std::vec![
                ("strategy", strategy),
                ("base_ms", Some(json!(base))),
                ("max_ms", more.map(|more| json!(base + more))),
                ("jitter", jitter.map(Value::from)),
            ])
        });
    (option::of(when), option::of(0_u64..=100), id(), option::of(backoff)).prop_map(
        |(when, retry, to, backoff)| {
            object(std::vec![
                ("when", when),
                ("retry", retry.map(Value::from)),
                ("to", Some(json!(to))),
                ("backoff", backoff),
            ])
        },
    )
}

fn fallbacks() -> impl Strategy<Value = (&'static str, Value)> {
    prop_oneof![
        3 => vec(fallback(), 0..5).prop_map(|list| ("fallbacks", json!(list))),
        1 => id().prop_map(|to| ("fallback", json!({"provider": to}))),
    ]
}

fn sticky() -> impl Strategy<Value = Value> {
    let ttl = prop_oneof![
        (1_u64..100_000, prop::sample::select(std::vec!["ms", "s", "m", "h"]))
            .prop_map(|(n, unit)| json!(format!("{n}{unit}"))),
        (1_u64..100_000).prop_map(Value::from),
    ];
    (any::<bool>(), ".{1,20}", option::of(ttl)).prop_map(|(enabled, key, ttl)| {
        object(std::vec![("enabled", Some(json!(enabled))), ("session_key", Some(json!(key))), ("ttl", ttl)])
    })
}

fn breaker() -> impl Strategy<Value = Value> {
    let counts = (option::of(1_u64..=100), option::of(1_u64..=3_600), option::of(1_u64..=10_000));
    let times = (1_000_u64..=300_000, option::of(0_u64..=3_000_000), option::of(1_u64..=300_000));
    let factors = (
        option::of(0.000_000_001..=1.0),
        option::of(0.000_001..=1.0),
        option::of(1.0..=10.0),
        option::of(0.0..=0.5),
    );
    let lists = (
        btree_set(prop::sample::select(std::vec!["error", "timeout", "cancelled"]), 0..=3),
        btree_set(".{1,8}", 0..4),
    );
    (any::<bool>(), counts, times, factors, lists).prop_map(|(enabled, counts, times, factors, lists)| {
        object(std::vec![
            ("enabled", Some(json!(enabled))),
            ("failure_threshold", counts.0.map(Value::from)),
            ("error_rate_window_seconds", counts.1.map(Value::from)),
            ("minimum_requests", counts.2.map(Value::from)),
            ("timeout_ms", Some(json!(times.0))),
            ("max_timeout_ms", Some(json!(times.0 + times.1.unwrap_or(300_000)))),
            ("latency_threshold_ms", times.2.map(Value::from)),
            ("error_rate_threshold", factors.0.map(Value::from)),
            ("slow_call_rate_threshold", factors.1.map(Value::from)),
            ("backoff_multiplier", factors.2.map(Value::from)),
            ("jitter_ratio", factors.3.map(Value::from)),
            ("failure_statuses", Some(json!(lists.0))),
            ("ignored_error_codes", Some(json!(lists.1))),
        ])
    })
}

fn sound_document() -> impl Strategy<Value = Value> {
    let blocks = (option::of(sticky()), option::of(fallbacks()), option::of(breaker()));
    (id(), option::of("[0-9.]{1,8}"), providers(), blocks).prop_map(|(id, version, providers, blocks)| {
        let (sticky, fallbacks, breaker) = blocks;
        let mut members = std::vec![
            ("policy_id", Some(json!(id))),
            ("version", version.map(Value::from)),
            (providers.0, Some(providers.1)),
            ("sticky", sticky),
            ("circuit_breaker", breaker),
        ];
        members.extend(fallbacks.map(|(name, value)| (name, Some(value))));
        object(members)
    })
}

/// What the room promises of any outcome.
fn holds(document: &Value) -> Result<(), TestCaseError> {
    match parse(document) {
        Ok(checked) => {
            let policy = checked.policy;
            prop_assert!(policy.total_weight() > 0);
            prop_assert!(policy.fallbacks().iter().all(|f| f.to < policy.candidates().len()));
            let listed = policy.candidates().iter().take_while(|c| c.listed).count();
            prop_assert!(policy.candidates()[listed..].iter().all(|c| !c.listed && c.weight == 0));
            let again = parse(&policy.effective()).map(|c| c.policy);
            prop_assert_eq!(again, Ok(policy));
        }
        Err(faults) => point_into(document, &faults)?,
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(document in any_json()) {
        holds(&document)?;
    }

    #[test]
    fn a_sound_document_has_no_fault_and_its_effective_form_is_the_same_policy(document in sound_document()) {
        let checked = parse(&document).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        let effective = checked.policy.effective();
        let again = parse(&effective).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        prop_assert_eq!(again.policy.effective(), effective);
        prop_assert_eq!(again.policy, checked.policy);
    }

    #[test]
    fn the_effective_form_survives_being_written_as_text(document in sound_document()) {
        if let Ok(checked) = parse(&document) {
            let text = checked.policy.effective().to_string();
            prop_assert_eq!(crate::policy::parse_text(&text).map(|c| c.policy), Ok(checked.policy));
        }
    }

    #[test]
    fn a_document_spoilt_in_one_place_is_refused_or_still_keeps_every_promise(
        mut document in sound_document(), index: usize, value in any_json(),
    ) {
        spoil(&mut document, index, value);
        holds(&document)?;
    }

    #[test]
    fn a_merge_patch_of_nothing_changes_nothing_and_one_applied_twice_is_as_one(
        document in sound_document(), patch in any_json(),
    ) {
        let mut same = document.clone();
        merge_patch(&mut same, &json!({}));
        prop_assert_eq!(&same, &document);

        let mut once = document;
        merge_patch(&mut once, &patch);
        let mut twice = once.clone();
        merge_patch(&mut twice, &patch);
        prop_assert_eq!(once, twice);
    }
}
