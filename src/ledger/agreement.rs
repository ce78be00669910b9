//! Whether workers agree, and which of them makes its state anew.
//!
//! Equal folds make equal snapshots. At a position of the log the first worker records its snapshot, and the others
//! compare theirs with it. If one differs, some worker has not applied what the log holds: a fault of a program or a
//! machine. Who recorded first says nothing about who is right. What settles it is the log:
//!
//! 1. Whoever differs makes its state anew: from the log where it still holds all of its entries, else from the newest
//!    recorded snapshot, which is all that the workers have in common.
//! 2. It then compares at that position again. From a snapshot it agrees by construction. From the log, it either
//!    agrees, so it was the one that was wrong, or what was recorded is wrong, and it records its own in its place.
//! 3. Who recorded the wrong one, or began from it, sees that it differs from what is recorded now, and does the same.
//!
//! A machine that fails again differs again at the next position. So a worker makes its state anew once in six hours
//! ([`bounded`]), and only reports what differs until then.
//!
//! So all end with one state. It is done once for each position: where two states that both come from the log's first
//! entry differ, reading it again would not help, and the difference is only reported. One worker at a time makes its
//! state anew, so that the others serve.
//!
//! A snapshot whose stamp is not that of the log's entry at its position is of another history, which ended when the
//! log was put back to an older state. It is replaced, and no one differs from it.

use crate::domain::{Stamp, Tick};
use crate::log::At;

/// From what a state was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remade {
    /// From all entries that the log ever had.
    FromLog,
    /// From a snapshot, or from a log whose first entries are gone.
    FromRest,
}

/// After a state was made anew because of a difference, further ones are only reported for so long: each takes a worker
/// out of service, and with a machine that fails there is one at each position.
const ONCE_IN_MS: u64 = 6 * 3_600_000;

/// A worker's own snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Own {
    /// Where it stands.
    pub at: At,
    /// Its hash.
    pub hash: u64,
    /// Whether its state was made anew since it was found to differ at this very position.
    pub remade: Option<Remade>,
}

/// The snapshot that is recorded at the same position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The stamp of its entry; older versions do not record it.
    pub stamp: Option<Stamp>,
    /// Its hash.
    pub hash: u64,
    /// Whether it replaced one that the log refuted.
    pub from_log: bool,
}

/// What a comparison finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Workers agree.
    Equal,
    /// What is recorded is of a history that the log lost: to be replaced.
    OtherHistory,
    /// The worker's state is to be made anew.
    Remake,
    /// The log refutes what is recorded: to be replaced.
    Refuted,
    /// They differ for good.
    Unresolved,
}

/// Compares a worker's snapshot with the recorded one.
#[must_use]
pub fn compare(own: &Own, recorded: &Recorded) -> Finding {
    if recorded.stamp.is_some_and(|stamp| stamp != own.at.stamp) {
        return Finding::OtherHistory;
    }
    if recorded.hash == own.hash {
        return Finding::Equal;
    }
    match own.remade {
        None => Finding::Remake,
        Some(Remade::FromLog) if !recorded.from_log => Finding::Refuted,
        Some(_) => Finding::Unresolved,
    }
}

/// What is to be done about a finding by a worker that last made its state anew at `remade`.
#[must_use]
pub const fn bounded(finding: Finding, remade: Option<Tick>, now: Tick) -> Finding {
    match (finding, remade) {
        (Finding::Remake, Some(remade)) if now.since(remade) < ONCE_IN_MS => Finding::Unresolved,
        _ => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_at_each_position_leads_to_few_remakes() {
        const HOUR: u64 = 3_600_000;
        let mut remade = None;
        let mut hours = Vec::new();
        // Another worker, which is wrong, records each position first.
        for hour in 0..24 {
            let now = Tick(hour * HOUR);
            let finding = compare(&own(1, None), &recorded(2 + hour, false));
            match bounded(finding, remade, now) {
                Finding::Remake => {
                    remade = Some(now);
                    hours.push(hour);
                }
                other => assert_eq!(other, Finding::Unresolved, "it is reported"),
            }
        }
        assert_eq!(hours, [0, 6, 12, 18]);
        // What the one remake brings to light is done about.
        for finding in [Finding::Equal, Finding::OtherHistory, Finding::Refuted, Finding::Unresolved] {
            assert_eq!(bounded(finding, remade, Tick(18 * HOUR + 1)), finding);
        }
    }

    const AT: At = At { position: 100, stamp: Stamp(7) };

    fn own(hash: u64, remade: Option<Remade>) -> Own {
        Own { at: AT, hash, remade }
    }

    fn recorded(hash: u64, from_log: bool) -> Recorded {
        Recorded { stamp: Some(AT.stamp), hash, from_log }
    }

    #[test]
    fn a_difference_leads_to_one_remake_for_each_position() {
        use Remade::{FromLog, FromRest};
        assert_eq!(compare(&own(1, None), &recorded(1, false)), Finding::Equal);
        assert_eq!(compare(&own(1, None), &recorded(2, false)), Finding::Remake);
        assert_eq!(compare(&own(1, None), &recorded(2, true)), Finding::Remake);
        assert_eq!(compare(&own(1, Some(FromLog)), &recorded(2, false)), Finding::Refuted);
        assert_eq!(compare(&own(1, Some(FromLog)), &recorded(2, true)), Finding::Unresolved);
        assert_eq!(compare(&own(1, Some(FromRest)), &recorded(2, false)), Finding::Unresolved);
        assert_eq!(compare(&own(2, Some(FromRest)), &recorded(2, false)), Finding::Equal);
    }

    #[test]
    fn a_snapshot_of_another_history_is_replaced() {
        let other = Recorded { stamp: Some(Stamp(6)), ..recorded(2, true) };
        assert_eq!(compare(&own(1, None), &other), Finding::OtherHistory);
        let unknown = Recorded { stamp: None, ..recorded(2, false) };
        assert_eq!(compare(&own(1, None), &unknown), Finding::Remake, "of an older version");
    }

    /// The state of a worker by what it is made of: the log gives 0, and a wrong worker has something else.
    struct Peer {
        hash: u64,
        remade: Option<Remade>,
        times: usize,
    }

    /// Lets workers compare in turn until none has anything to do. Gives what is recorded.
    fn settle(peers: &mut [Peer], whole_log: bool) -> Recorded {
        let mut recorded = recorded(peers[0].hash, false);
        for _ in 0..10 * peers.len() {
            for peer in &mut *peers {
                match compare(&own(peer.hash, peer.remade), &recorded) {
                    Finding::Equal | Finding::Unresolved => {}
                    Finding::OtherHistory => unreachable!(),
                    Finding::Remake => {
                        peer.times += 1;
                        (peer.hash, peer.remade) = if whole_log {
                            (0, Some(Remade::FromLog))
                        } else {
                            (recorded.hash, Some(Remade::FromRest))
                        };
                    }
                    Finding::Refuted => recorded = Recorded { hash: peer.hash, from_log: true, ..recorded },
                }
            }
        }
        recorded
    }

    #[test]
    fn workers_end_equal_whoever_was_wrong_and_recorded_first() {
        for hashes in [[0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 2, 0], [1, 1, 0], [3, 2, 1]] {
            for whole_log in [true, false] {
                let mut peers = hashes.map(|hash| Peer { hash, remade: None, times: 0 });
                let end = settle(&mut peers, whole_log);
                assert!(peers.iter().all(|peer| peer.hash == end.hash && peer.times <= 1), "{hashes:?}");
                assert!(!whole_log || end.hash == 0, "the log is right: {hashes:?}");
            }
        }
    }
}
