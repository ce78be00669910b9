//! Whether a decide connection takes requests: while the worker is ready, and its state is that of the log.
//!
//! A state that the log has not confirmed for longer than `--max-stale-ms` may admit to providers that other workers
//! refuse. Where another worker that decides by a fresh state answers discovery *over this very connection*, requests
//! reach that one as well, and this worker takes its subscriptions back. Alone it goes on: a decision by an old state is
//! worth more than none, and bears `stale`.

use std::sync::Arc;
use std::time::Duration;

use beamline_nats::Client;
use tokio::sync::watch;

use crate::domain::Tick;
use crate::nats::{Worker, workers};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// Between two questions to the others: an answer is used for [`PEER_MS`].
const ASK: Duration = Duration::from_secs(1);
/// How long the answer of another worker stands for its being there.
const PEER_MS: u64 = 5_000;

/// How a worker stands towards requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its state is the log's.
    Fresh,
    /// It is not, and another worker's is.
    Aside,
    /// It is not, and nobody else is there.
    Alone,
}

/// See the module. It knows when the state was the log's last, and when another worker answered.
#[derive(Clone, Copy, Debug)]
struct Staleness {
    most_ms: u64,
    peer: Option<Tick>,
}

impl Staleness {
    fn standing(&self, now: Tick, fresh: Tick) -> Standing {
        if now.since(fresh) <= self.most_ms {
            Standing::Fresh
        } else if self.peer.is_some_and(|at| now.since(at) <= PEER_MS) {
            Standing::Aside
        } else {
            Standing::Alone
        }
    }

    /// Whether to ask who else is there: before the answer is needed.
    fn asks(&self, now: Tick, fresh: Tick) -> bool {
        now.since(fresh).saturating_add(PEER_MS) > self.most_ms.max(2 * PEER_MS)
    }
}

/// Says whether a connection takes requests, until `ready` has nobody any more who sets it.
pub(super) async fn follow(
    worker: Arc<Worker>,
    client: Client,
    mut ready: watch::Receiver<bool>,
    takes: watch::Sender<bool>,
) {
    let most_ms = u64::try_from(worker.settings.decide.max_stale.as_millis()).unwrap_or(u64::MAX);
    let mut staleness = Staleness { most_ms, peer: None };
    loop {
        let (now, fresh) = (worker.clock.tick(), worker.ledger.fresh());
        let is_ready = *ready.borrow_and_update();
        let taken = is_ready && staleness.standing(now, fresh) != Standing::Aside;
        takes.send_if_modified(|takes| std::mem::replace(takes, taken) != taken);
        let wait = async {
            if !is_ready || !staleness.asks(now, fresh) {
                tokio::time::sleep(LOOK).await;
                return false;
            }
            let found = workers::answering(&client, &worker.settings.names).await;
            let others = found.unwrap_or_default();
            let found = others.iter().any(|other| other.id != worker.discovery.id && other.decides);
            if !found {
                tokio::time::sleep(ASK).await;
            }
            found
        };
        tokio::select! {
            found = wait => if found {
                staleness.peer = Some(worker.clock.tick());
                tokio::time::sleep(ASK).await;
            },
            changed = ready.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_state_steps_aside_for_another_worker_and_goes_on_alone() {
        let at = |ms: u64| Tick(1_000_000 + ms);
        let standing = |most_ms, peer: Option<u64>, now, fresh| {
            Staleness { most_ms, peer: peer.map(at) }.standing(at(now), at(fresh))
        };
        for (peer, now, fresh, expected) in [
            (None, 0, 0, Standing::Fresh),
            (None, 30_000, 0, Standing::Fresh),
            (None, 30_001, 0, Standing::Alone),
            (Some(30_000), 30_000, 0, Standing::Fresh),
            (Some(30_000), 30_001, 0, Standing::Aside),
            (Some(30_000), 35_000, 0, Standing::Aside),
            (Some(30_000), 35_001, 0, Standing::Alone),
            (Some(35_001), 35_001, 0, Standing::Aside),
            (Some(35_001), 35_002, 35_000, Standing::Fresh),
        ] {
            assert_eq!(standing(30_000, peer, now, fresh), expected, "{peer:?} {now} {fresh}");
        }
    }

    #[test]
    fn others_are_asked_for_before_it_is_needed_and_not_while_the_log_is_well() {
        let asks =
            |most_ms, age: u64| Staleness { most_ms, peer: None }.asks(Tick(100_000 + age), Tick(100_000));
        assert_eq!([0, 3_000, 25_000, 25_001].map(|age| asks(30_000, age)), [false, false, false, true]);
        assert_eq!([0, 3_000, 5_001].map(|age| asks(1_000, age)), [false, false, true], "a short bound");
    }
}
