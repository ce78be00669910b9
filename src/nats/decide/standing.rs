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
/// Between two questions to the others while an answer may matter soon.
const ASK_MS: u64 = 1_000;
/// The same while nobody else is there: each question goes to all workers.
const ASK_ALONE_MS: u64 = 5_000;
/// So much is added at most, so that workers that lost the log together do not ask together.
const JITTER_MS: u64 = 500;
/// How long the answer of another worker is used at most.
const PEER_MS: u64 = 5_000;
/// A state of this age counts as fresh for others however low the bound is: where the log is quiet and has replicas,
/// it is confirmed every 2 s, as looks a second apart see it.
const WELL_MS: u64 = 3_000;

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

/// See the module. It knows when the question was asked that another worker answered last.
#[derive(Clone, Copy, Debug)]
struct Staleness {
    most_ms: u64,
    peer: Option<Tick>,
}

impl Staleness {
    const fn new(most_ms: u64) -> Self {
        Self { most_ms, peer: None }
    }

    fn of(worker: &Worker) -> Self {
        Self::new(u64::try_from(worker.settings.decide.max_stale.as_millis()).unwrap_or(u64::MAX))
    }

    /// The age up to which this worker reports to others that it decides. It is lower than the bound: who steps aside
    /// for its answer relies on it for [`Self::lasts_ms`], and its state is within the bound until then. So of workers
    /// that lost the log, even at one moment, one is left that takes requests.
    fn margin_ms(&self) -> u64 {
        self.most_ms.saturating_sub(PEER_MS).max(WELL_MS).min(self.most_ms)
    }

    /// How long another worker's answer is used, from the question on.
    fn lasts_ms(&self) -> u64 {
        self.most_ms - self.margin_ms()
    }

    fn standing(&self, now: Tick, fresh: Tick) -> Standing {
        if now.since(fresh) <= self.most_ms {
            Standing::Fresh
        } else if self.peer.is_some_and(|asked| now.since(asked) <= self.lasts_ms()) {
            Standing::Aside
        } else {
            Standing::Alone
        }
    }

    /// Whether to ask who else is there: before the answer is needed.
    fn asks(&self, now: Tick, fresh: Tick) -> bool {
        now.since(fresh).saturating_add(PEER_MS) > self.most_ms.max(2 * PEER_MS)
    }

    /// Takes the outcome of a question.
    fn note(&mut self, asked: Tick, found: bool) {
        self.peer = found.then_some(asked);
    }

    /// How long to wait until the next question.
    fn pause_ms(&self, now: Tick, fresh: Tick) -> u64 {
        if self.standing(now, fresh) == Standing::Alone {
            ASK_ALONE_MS
        } else {
            // An answer is renewed before it expires, also where one gets lost.
            ASK_MS.min(self.lasts_ms() / 4)
        }
    }
}

/// Whether others that lost the log may leave requests to this worker, as far as its state matters.
pub(in crate::nats) fn is_fresh_for_others(worker: &Worker) -> bool {
    worker.clock.tick().since(worker.ledger.fresh()) <= Staleness::of(worker).margin_ms()
}

/// Says whether a connection takes requests, until `ready` has nobody any more who sets it.
pub(super) async fn follow(
    worker: Arc<Worker>,
    client: Client,
    ready: watch::Receiver<bool>,
    takes: watch::Sender<bool>,
) {
    let staleness = watch::Sender::new(Staleness::of(&worker));
    let looking = look(&worker, &staleness, ready.clone(), &takes);
    // A question may take seconds, and an answer expires meanwhile.
    tokio::select! {
        () = looking => {}
        () = ask(&worker, &staleness, &client, &ready) => {}
    }
}

async fn look(
    worker: &Worker,
    staleness: &watch::Sender<Staleness>,
    mut ready: watch::Receiver<bool>,
    takes: &watch::Sender<bool>,
) {
    loop {
        let (now, fresh) = (worker.clock.tick(), worker.ledger.fresh());
        let standing = staleness.borrow().standing(now, fresh);
        let taken = *ready.borrow_and_update() && standing != Standing::Aside;
        takes.send_if_modified(|takes| std::mem::replace(takes, taken) != taken);
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            changed = ready.changed() => if changed.is_err() { return },
        }
    }
}

async fn ask(
    worker: &Worker,
    staleness: &watch::Sender<Staleness>,
    client: &Client,
    ready: &watch::Receiver<bool>,
) {
    loop {
        let asked = worker.clock.tick();
        let wanted = *ready.borrow() && staleness.borrow().asks(asked, worker.ledger.fresh());
        if !wanted {
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let others = workers::answering(client, &worker.settings.names).await.unwrap_or_default();
        let found = others.iter().any(|other| other.id != worker.discovery.id && other.decides);
        staleness.send_modify(|staleness| staleness.note(asked, found));
        let pause = staleness.borrow().pause_ms(worker.clock.tick(), worker.ledger.fresh());
        let jitter = uuid::Uuid::new_v4().as_u64_pair().0 % JITTER_MS;
        tokio::time::sleep(Duration::from_millis(pause + jitter.min(pause))).await;
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

    #[test]
    fn a_worker_reports_that_it_decides_only_as_long_as_others_may_rely_on_it() {
        let figures = [5_000, 6_000, 8_000, 10_000, 30_000].map(|most| {
            let staleness = Staleness::new(most);
            (staleness.margin_ms(), staleness.lasts_ms())
        });
        let expected = [(3_000, 2_000), (3_000, 3_000), (3_000, 5_000), (5_000, 5_000), (25_000, 5_000)];
        assert_eq!(figures, expected);
    }

    #[test]
    fn a_question_that_found_nobody_ends_the_answer_before_it() {
        let (fresh, at) = (Tick(100_000), |ms: u64| Tick(100_000 + ms));
        let mut staleness = Staleness::new(30_000);
        staleness.note(at(30_500), true);
        assert_eq!(staleness.standing(at(31_000), fresh), Standing::Aside);
        staleness.note(at(31_500), false);
        assert_eq!(staleness.standing(at(31_600), fresh), Standing::Alone);
    }

    #[test]
    fn alone_a_worker_asks_every_five_seconds() {
        let (fresh, at) = (Tick(100_000), |ms: u64| Tick(100_000 + ms));
        let mut staleness = Staleness::new(30_000);
        assert_eq!(staleness.pause_ms(at(26_000), fresh), 1_000, "not yet");
        assert_eq!(staleness.pause_ms(at(31_000), fresh), 5_000, "alone");
        staleness.note(at(30_500), true);
        assert_eq!(staleness.pause_ms(at(31_000), fresh), 1_000, "aside");
        staleness = Staleness::new(5_000);
        staleness.note(at(5_100), true);
        assert_eq!(staleness.pause_ms(at(5_200), fresh), 500, "a short bound");
    }

    /// A worker that asks one other, step by step. The answer is given in the middle of the question.
    struct Asker {
        staleness: Staleness,
        /// The ticks at which the log confirmed the state, in order.
        confirmed: Vec<u64>,
        /// When it asks next, or asked.
        asks_at: u64,
        answer: Option<bool>,
    }

    impl Asker {
        fn new(most_ms: u64, confirmed: Vec<u64>, asks_at: u64) -> Self {
            Self { staleness: Staleness::new(most_ms), confirmed, asks_at, answer: None }
        }

        fn fresh(&self, now: u64) -> Tick {
            Tick(self.confirmed.iter().copied().filter(|at| *at <= now).max().unwrap_or(0))
        }

        fn reports(&self, now: u64) -> bool {
            Tick(now).since(self.fresh(now)) <= self.staleness.margin_ms()
        }

        fn step(&mut self, now: u64, other_reports: bool) -> Standing {
            let fresh = self.fresh(now);
            if now == self.asks_at && !self.staleness.asks(Tick(now), fresh) {
                self.asks_at += 100;
            } else if now == self.asks_at + 100 {
                self.answer = Some(other_reports);
            } else if now == self.asks_at + 400 {
                self.staleness.note(Tick(self.asks_at), self.answer.take().unwrap_or_default());
                self.asks_at = (now + self.staleness.pause_ms(Tick(now), fresh)).next_multiple_of(100);
            }
            self.staleness.standing(Tick(now), fresh)
        }
    }

    fn stands(most_ms: u64, confirmed: [Vec<u64>; 2], offset: u64) -> Vec<[Standing; 2]> {
        let [one, other] = confirmed;
        let (mut one, mut other) =
            (Asker::new(most_ms, one, 10_000), Asker::new(most_ms, other, 10_000 + offset));
        (100..900)
            .map(|step| step * 100)
            .map(|now| {
                let (one_reports, other_reports) = (one.reports(now), other.reports(now));
                [one.step(now, other_reports), other.step(now, one_reports)]
            })
            .collect()
    }

    #[test]
    fn workers_that_lost_the_log_never_both_step_aside() {
        let at = 10_000;
        for most_ms in [5_000, 6_000, 8_000, 9_900, 10_000, 30_000] {
            for offset in (0..2_000).step_by(100) {
                let alike = stands(most_ms, [vec![at], vec![at]], offset);
                assert!(alike.iter().flatten().all(|s| *s != Standing::Aside), "{most_ms} {offset}");
                assert!(alike.iter().flatten().any(|s| *s == Standing::Alone), "{most_ms} {offset}");
                for later in (100..20_000).step_by(700) {
                    let again: Vec<_> = (0..9).map(|n| at + later + n * (most_ms + later)).collect();
                    for confirmed in [[vec![at], vec![at + later]], [vec![at, at + 2 * later], again]] {
                        let all = stands(most_ms, confirmed, offset);
                        let both = all.contains(&[Standing::Aside; 2]);
                        assert!(!both, "{most_ms} {offset} {later}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_worker_steps_aside_for_one_that_holds_the_log() {
        for most_ms in [5_000, 8_000, 30_000] {
            // Confirmed every two seconds.
            let well: Vec<_> = (0..45).map(|n| 10_000 + n * 2_000).collect();
            let all = stands(most_ms, [vec![10_000], well], 0);
            let aside = all.iter().filter(|[one, _]| *one == Standing::Aside).count();
            let alone = all.iter().filter(|[one, _]| *one == Standing::Alone).count();
            assert!(aside > 400 && alone < 10, "{most_ms}: {aside} {alone}");
        }
    }
}
