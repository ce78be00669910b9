//! What it costs to learn whether a pushed assignment has a receiver: the answer waits for a round trip to the broker.

use super::bars::{Bar, ratio};
use super::figures::Figure;
use super::groups::{Group, Measured};
use super::rounds::{Case, Target};
use super::site::{Plan, PolicyKind};
use crate::nats::measuring::Load;

/// The deployment that is asked.
pub(super) const KEY: &str = "pushed";

const PLAIN: &str = "decided";
const PUSHED: &str = "pushed";

/// Nobody answers the assignments, so none ends while it is measured.
pub(super) fn plan(tenants: u32) -> Plan {
    let hour = "3600000".to_owned();
    Plan {
        policies: vec![PolicyKind::OFF],
        env: vec![
            ("BEAMLINE_MAX_TRACKED_ASSIGNMENTS", "10000000".to_owned()),
            ("BEAMLINE_ASSIGNMENT_DEADLINE_MIN_MS", hour.clone()),
            ("BEAMLINE_ASSIGNMENT_DEADLINE_MAX_MS", hour),
        ],
        ..Plan::usual(KEY, tenants)
    }
}

/// Decisions with 1 and 64 in flight, pushed and not.
pub(super) fn cases() -> Vec<Case> {
    let case = |name: &str, pushed, in_flight| Case {
        name: name.to_owned(),
        target: Target::Router { at: 0, policy: PolicyKind::OFF.id, results: false, imported: false, pushed },
        load: Load::Closed { in_flight },
    };
    [1, 64].into_iter().flat_map(|n| [case(PLAIN, false, n), case(PUSHED, true, n)]).collect()
}

/// What a push adds, as a ratio within each round.
pub(super) fn bars(measured: &Measured) -> Vec<Bar> {
    let find = |target: &str| measured.find(Group::Pushed, "1 in flight", target);
    ratio(find(PUSHED), find(PLAIN), Figure::P50)
        .map(|found| Bar::at_most("p50 of a pushed decision to another's, 1 in flight", 3.0, found))
        .into_iter()
        .collect()
}
