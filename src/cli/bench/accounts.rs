//! Decisions and results that come from another account of the broker, through service imports.
//!
//! All that is measured without accounts is in one of them, too: the one that the server gives to whoever
//! says no name. The group of accounts asks one deployment from there and from the other account, in the
//! same rounds.

use super::bars::{Bar, ratio};
use super::figures::Figure;
use super::groups::{Group, Measured};
use super::rounds::{Case, Target};
use crate::nats::measuring::Load;

/// The deployment that the other account imports.
pub(super) const KEY: &str = "accounts";

/// User and password of the other account's only user.
pub(super) const ASKER: &str = "asker";

const STRAIGHT: &str = "one account";
const THROUGH: &str = "through accounts";

/// For the server's configuration. What is left out of the import cannot be asked from the other account.
pub(super) const CONFIGURATION: &str = r#"
no_auth_user: bench
accounts {
  BENCH {
    jetstream: enabled
    users: [ { user: bench, password: bench } ]
    exports: [ { service: "bench.accounts.v1.decide" }, { service: "bench.accounts-exec.result.v1" } ]
  }
  ASKERS {
    users: [ { user: asker, password: asker } ]
    imports: [
      { service: { account: BENCH, subject: "bench.accounts.v1.decide" } }
      { service: { account: BENCH, subject: "bench.accounts-exec.result.v1" } }
    ]
  }
}
"#;

/// Decisions with 1, 64 and 512 in flight, and with a result each.
pub(super) fn cases() -> Vec<Case> {
    let case = |imported, in_flight, results: bool| {
        let name = if imported { THROUGH } else { STRAIGHT };
        Case {
            name: if results { format!("{name}, results") } else { name.to_owned() },
            target: Target::Router { at: 0, policy: "on", results, imported, pushed: false },
            load: Load::Closed { in_flight },
        }
    };
    let loads = [(1, false), (64, false), (512, false), (512, true)];
    let pair = |(in_flight, results)| [case(false, in_flight, results), case(true, in_flight, results)];
    loads.into_iter().flat_map(pair).collect()
}

/// What accounts cost, as a ratio within each round.
pub(super) fn bars(measured: &Measured) -> Vec<Bar> {
    let find = |load, target: &str| measured.find(Group::Accounts, load, target);
    let of = |load, figure| ratio(find(load, THROUGH), find(load, STRAIGHT), figure);
    let rate = |load| of(load, Figure::PerSecond);
    let at_least = |what, least, found: Option<_>| found.map(|found| Bar::at_least(what, least, found));
    [
        at_least(
            "decisions a second through accounts to one account, 64 in flight",
            0.3,
            rate("64 in flight"),
        ),
        at_least(
            "decisions a second through accounts to one account, 512 in flight",
            0.3,
            rate("512 in flight"),
        ),
        of("1 in flight", Figure::P50)
            .map(|found| Bar::at_most("p50 through accounts to one account, 1 in flight", 1.5, found)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_load_is_measured_straight_and_through_accounts() {
        let told: Vec<_> = cases().into_iter().map(|case| (case.name, case.load)).collect();
        assert_eq!(told.len(), 8);
        for pair in told.chunks(2) {
            assert_eq!(pair[0].1, pair[1].1);
            assert_eq!(pair[0].0.replace(STRAIGHT, THROUGH), pair[1].0);
        }
    }
}
