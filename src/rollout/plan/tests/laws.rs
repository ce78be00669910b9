use proptest::prelude::*;
use serde_json::Value;

use super::sound::sound_document;
use super::*;
use crate::document::testing::{self, point_into, spoil};
use crate::rollout::plan::parse_text;

/// Any JSON; names are often those of a plan, so that it gets past the first look.
fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: &[&str] = &[
        "kind",
        "id",
        "circuit_breaker",
        "timeout_ms",
        "cohort",
        "seed",
        "order",
        "include",
        "exclude",
        "facts",
        "critical",
        "notified",
        "history",
        "analysis",
        "block",
        "harm",
        "safe",
        "alpha",
        "margin",
        "budget",
        "latency",
        "quantiles",
        "phases",
        "name",
        "tenants",
        "count",
        "min",
        "max",
        "percent",
        "ladder",
        "bake",
        "after_phase",
    ];
    testing::any_json(NAMES, &["PolicyRollout", "7d", "12h", "auto", "hash", "drill", "2026-11-20"])
}

/// What the module promises of any outcome.
fn holds(document: &Value) -> Result<(), TestCaseError> {
    match parse(document) {
        Ok(checked) => {
            let again = parse(&effective(&checked.plan)).map(|c| c.plan);
            prop_assert_eq!(again, Ok(checked.plan.clone()));
            for phase in checked.plan.phases() {
                let steps: Vec<_> = phase.ladder.steps().collect();
                prop_assert!(
                    steps.is_sorted_by(|a, b| a < b) && steps.last().is_some_and(|s| (1..=99).contains(s))
                );
                prop_assert!(phase.min_ms <= phase.max_ms);
            }
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
    fn a_sound_document_has_no_fault_and_its_effective_form_is_the_same_plan(document in sound_document()) {
        let checked = parse(&document).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        let document = effective(&checked.plan);
        let again = parse(&document).map_err(|faults| TestCaseError::fail(format!("{faults:?}")))?;
        prop_assert_eq!(effective(&again.plan), document);
        prop_assert_eq!(again, checked);
    }

    #[test]
    fn the_effective_form_survives_being_written_as_text(document in sound_document()) {
        if let Ok(checked) = parse(&document) {
            let text = serde_json::to_string(&checked.plan).unwrap();
            prop_assert_eq!(parse_text(&text), Ok(checked));
        }
    }

    #[test]
    fn a_document_spoilt_in_one_place_is_refused_or_still_keeps_every_promise(
        mut document in sound_document(), index: usize, value in any_json(),
    ) {
        spoil(&mut document, index, value);
        holds(&document)?;
    }
}
