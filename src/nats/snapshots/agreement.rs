//! Keeping workers agreed; [`crate::ledger::compare`] has the rules.
//!
//! Each worker looks again and again at what is recorded at the position of its last snapshot: another worker may have
//! replaced it. Whoever differs waits for its turn, has the reader make the state anew, and gives the turn back once it
//! has compared again. A turn is a key of the bucket of snapshots. One that was taken long ago is free: its holder died.

use std::sync::Arc;
use std::time::Duration;

use beamline_nats::jetstream::Select;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::bucket::{Failed, id, manifest, messages, open, put, subject};
use super::note_difference;
use crate::domain::{Stamp, Tick};
use crate::ledger::{Finding, Own, bounded, compare};
use crate::nats::Worker;
use crate::nats::ledger::stamp_of;

/// Long enough to read a log of gigabytes.
const TURN: Duration = Duration::from_secs(300);

/// The last snapshot that this worker compared, or began from.
#[derive(Clone, Debug)]
pub struct Compared {
    /// When the log was made, as the broker writes it.
    pub stream: String,
    /// How often the state had been made anew.
    pub rebuilds: u64,
    /// What was compared.
    pub own: Own,
    /// Whether it was found to differ.
    pub differs: bool,
}

/// Compares after each interval and after each snapshot, until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut compared = worker.ledger.compared.subscribe();
    let mut remade = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(worker.settings.reconcile_interval) => {}
            changed = compared.changed() => if changed.is_err() { return },
        }
        let progress = *worker.ledger.progress().borrow();
        let last = compared.borrow_and_update().clone();
        let last = last.filter(|last| progress.caught_up && last.rebuilds == progress.rebuilds);
        let Some(last) = last.filter(|_| worker.link.is_up()) else { continue };
        tokio::select! {
            () = stop.cancelled() => return,
            looked = look(&worker, last, &mut remade) => {
                // It is tried again.
                if let Err(error) = looked {
                    tracing::warn!(event = "snapshot_not_compared", error = %error);
                }
            }
        }
    }
}

/// Looks once. `remade` is when this worker last made its state anew because of a difference.
async fn look(worker: &Worker, last: Compared, remade: &mut Option<Tick>) -> Result<(), Failed> {
    let Compared { stream, rebuilds, own, differs } = last;
    // One that is gone is too old to matter.
    let Some(theirs) = manifest(worker, &stream, own.at.position).await? else { return Ok(()) };
    let finding = compare(&own, &theirs.recorded());
    if finding != Finding::Remake {
        return Ok(());
    }
    if !differs {
        note_difference(worker, &own, &theirs.worker);
        worker.ledger.compared.send_modify(|compared| {
            if let Some(compared) = compared {
                compared.differs = true;
            }
        });
    }
    if bounded(finding, *remade, worker.clock.tick()) != Finding::Remake {
        return Ok(());
    }
    let Some(turn) = take_turn(worker, &stream).await? else { return Ok(()) };
    *remade = Some(worker.clock.tick());
    worker.ledger.remake.send_replace(Some(own.at.position));
    let mut compared = worker.ledger.compared.subscribe();
    let mut progress = worker.ledger.progress();
    let done = async {
        let _ = compared.wait_for(|now| now.as_ref().is_some_and(|now| now.rebuilds > rebuilds)).await;
        let _ = progress.wait_for(|now| now.caught_up).await;
    };
    // Where it takes longer, another worker may have its turn.
    let _ = tokio::time::timeout(TURN, done).await;
    give_back(worker, &turn).await
}

/// Whether a turn that was taken at some time is over.
fn is_over(taken: Stamp, now: Stamp) -> bool {
    now.since(taken) > u64::try_from(TURN.as_millis()).unwrap_or(u64::MAX)
}

/// Takes the turn of a stream's workers, if it is free. Gives its key.
async fn take_turn(worker: &Worker, stream: &str) -> Result<Option<String>, Failed> {
    let key = subject(worker, &format!("{}.turn", id(stream)));
    let standing = messages(worker).find(Select::LastOf(&key)).await?;
    let taken = standing.as_ref().and_then(|standing| stamp_of(&standing.time));
    if taken.is_some_and(|taken| !is_over(taken, worker.clock.stamp())) {
        return Ok(None);
    }
    let after = standing.map_or(0, |standing| standing.sequence);
    let name = Bytes::from(worker.settings.worker_name.clone());
    // Another worker may be faster.
    Ok(put(worker, &key, name, Some(after)).await.is_ok().then_some(key))
}

async fn give_back(worker: &Worker, key: &str) -> Result<(), Failed> {
    open(worker).await?.purge().filter(key).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_itself() {
        assert!(!is_over(Stamp(1_000), Stamp(1_000)));
        assert!(!is_over(Stamp(1_000), Stamp(301_000)));
        assert!(is_over(Stamp(1_000), Stamp(301_001)));
        assert!(!is_over(Stamp(2_000), Stamp(1_000)), "its clock is ahead");
    }
}
