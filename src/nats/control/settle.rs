//! What an answer says of a change that stands in its bucket: whether it is in force.
//!
//! It is in force if the fold took this very change, not if its place in the log was passed: a revision that
//! is not newer than what was seen of its key, or a document that cannot run here, changes nothing.

use super::APPLY_PATIENCE;
use crate::ledger::Fold;
use crate::log::Revision;
use crate::nats::Worker;
use crate::nats::append::{AppendError, Appended};
use crate::nats::ledger::Taken;

/// How a change stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// The fold took it.
    InForce,
    /// A newer revision of the key was seen before.
    Overtaken(Revision),
    /// The document cannot run here.
    Refused,
    /// Its entry came too late. The bucket holds it, and the comparison enters it again.
    Late,
    /// The log did not take it yet, or this worker has not read it.
    NotSeen,
}

/// `taken` is what became of the entry, where that is known; `seen` is the last revision of the key that the
/// fold has seen.
fn stands(change: Revision, taken: Option<Taken>, seen: Option<Revision>) -> Stands {
    match (taken, seen) {
        (Some(Taken::Yes), _) => Stands::InForce,
        (Some(Taken::Refused), _) => Stands::Refused,
        (Some(Taken::Late), _) => Stands::Late,
        // A copy of the entry that came before was taken.
        (Some(Taken::Stale) | None, Some(seen)) if seen == change => Stands::InForce,
        (Some(Taken::Stale) | None, Some(seen)) if seen > change => Stands::Overtaken(seen),
        (Some(Taken::Stale) | None, _) => Stands::NotSeen,
    }
}

/// Waits until a change is applied here. Whether it is in force, and a warning if not; `seen` reads the last
/// revision of its key that the fold has seen.
pub(super) async fn settle(
    worker: &Worker,
    appended: Result<Appended, AppendError>,
    change: Revision,
    seen: impl Fn(&Fold) -> Option<Revision>,
    warnings: &mut Vec<String>,
) -> bool {
    let stands = match appended {
        Ok(Appended { position, .. }) => {
            if worker.ledger.wait_applied(position, APPLY_PATIENCE).await {
                let taken = worker.ledger.taken(position);
                stands(change, taken, seen(&worker.ledger.fold()))
            } else {
                Stands::NotSeen
            }
        }
        Err(error) => {
            let error = error.to_string();
            if let Some(stands_for) = worker.line_due("change_not_appended", &error) {
                tracing::warn!(event = "change_not_appended", error, stands_for);
            }
            worker.ledger.note_lacking();
            Stands::NotSeen
        }
    };
    warnings.extend(match stands {
        Stands::InForce => None,
        Stands::Overtaken(seen) => {
            Some(format!("revision {} of the same key came first, so this one is not in force", seen.revision))
        }
        Stands::Refused => {
            Some("this version of the router cannot run the document: what was in force stays".to_owned())
        }
        Stands::Late => {
            worker.ledger.note_lacking();
            Some("the change is durable and came late into the log; it comes into force in a moment".to_owned())
        }
        Stands::NotSeen => Some(
            "the change is durable but was not seen in the log within 5 s; it comes into force when the log moves"
                .to_owned(),
        ),
    });
    stands == Stands::InForce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_in_force_if_the_fold_took_this_very_one() {
        let of = |revision| Revision { created: 7, revision };
        let older = Revision { created: 6, revision: 99 };
        for (taken, seen, expected) in [
            (Some(Taken::Yes), Some(of(5)), Stands::InForce),
            (Some(Taken::Yes), Some(of(6)), Stands::InForce),
            (Some(Taken::Stale), Some(of(5)), Stands::InForce),
            (Some(Taken::Stale), Some(of(6)), Stands::Overtaken(of(6))),
            (Some(Taken::Refused), Some(of(5)), Stands::Refused),
            (Some(Taken::Late), Some(of(4)), Stands::Late),
            (None, Some(of(5)), Stands::InForce),
            (None, Some(of(9)), Stands::Overtaken(of(9))),
            (None, Some(older), Stands::NotSeen),
            (None, None, Stands::NotSeen),
        ] {
            assert_eq!(stands(of(5), taken, seen), expected, "{taken:?} {seen:?}");
        }
    }
}
