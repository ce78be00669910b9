use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Late, Slot, VerdictReceiver, late, round_trip};
use crate::breaker::{State, Verdict};
use crate::domain::{ClaimId, Stamp};
use crate::log::{ClaimEntry, Entry, FoldVersion};
use crate::nats::Worker;
use crate::state::{Answer, Cell, Reading, Reservation};
use crate::telemetry::labels::{Claim as Counted, Queue};

/// How much later than it is wanted a claim may land: what the measured offset to the broker's clock may be off by.
const CLOCK_SLACK_MS: u64 = 50;

/// How long a request is asked to wait that got no verdict in time.
const RETRY_MS: u64 = 1_000;

/// How long the verdict of a claim is awaited that no request waits for, or none does any more.
const UNWAITED: Duration = Duration::from_secs(5);

/// What a request asks a slot for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'r> {
    /// The request that will be the probe.
    pub request_id: &'r str,
    /// How long the slot must be held at least.
    pub lease_ms: u64,
}

/// A claim that was answered, to be released if its slot is not used after all.
#[derive(Debug)]
pub struct Claimed {
    /// What the fold said, or that it did not in time.
    pub answer: Answer,
    /// The claim, if it was made.
    claim: Option<ClaimId>,
    cell: Arc<Cell>,
    /// What is still awaited of it.
    overdue: Option<Overdue>,
}

/// A claim whose request did not wait any longer.
#[derive(Debug)]
struct Overdue {
    verdict: VerdictReceiver,
    /// Until the verdict is known no other claim is made in its place.
    reservation: Reservation,
}

impl Claimed {
    const fn with(answer: Answer, claim: Option<ClaimId>, cell: Arc<Cell>) -> Self {
        Self { answer, claim, cell, overdue: None }
    }
}

const fn refused(state: State, retry_after_ms: u64) -> Answer {
    Answer::Refused { state, retry_after_ms }
}

impl Worker {
    /// Gets a slot for a request that has `left` of its time, and waits for the verdict as long as the path to
    /// the log needs.
    pub async fn claim(&self, slot: Slot, wanted: Wanted<'_>, left: Duration) -> Claimed {
        let reservation = match self.slot(slot, wanted) {
            Ok(reservation) => reservation,
            Err(claimed) => return claimed,
        };
        let wait = self.claims.wait(self.settings.decide.claim_wait, left, self.clock.tick());
        let cell = Arc::clone(reservation.cell());
        let Some((claim, mut verdict)) = self.ask(&cell, wanted, wait) else {
            self.metrics.claims.inc(Counted::Failed);
            return Claimed::with(refused(State::HalfOpen, RETRY_MS), None, cell);
        };
        let answer = match tokio::time::timeout(wait, &mut verdict).await {
            Ok(Ok(Some(Verdict::Granted))) => {
                self.metrics.claims.inc(Counted::Granted);
                Answer::Granted
            }
            Ok(Ok(Some(Verdict::NotNeeded))) => Answer::NotNeeded,
            Ok(Ok(Some(Verdict::Refused { state, retry_after_ms }))) => {
                self.metrics.claims.inc(Counted::Refused);
                refused(state, retry_after_ms)
            }
            // The breaker is gone: the policy changed under the request.
            Ok(Ok(None) | Err(_)) => refused(State::Open, RETRY_MS),
            Err(_) => {
                self.metrics.claims.inc(Counted::TimedOut);
                let overdue = Some(Overdue { verdict, reservation });
                let answer = refused(State::HalfOpen, RETRY_MS);
                return Claimed { overdue, ..Claimed::with(answer, Some(claim), cell) };
            }
        };
        Claimed::with(answer, Some(claim), cell)
    }

    /// Claims a slot for a request that has been answered already, being outside the enforced share.
    /// Without a slot it is one that would have been rejected.
    pub async fn claim_unwaited(&self, slot: Slot, wanted: Wanted<'_>) {
        let reservation = match self.slot(slot, wanted) {
            Ok(reservation) => reservation,
            Err(claimed) if claimed.answer == Answer::Granted => return,
            Err(claimed) => return claimed.cell.count_would_reject(),
        };
        let cell = reservation.cell();
        let least = self.settings.decide.claim_wait;
        let wait = self.claims.wait(least, UNWAITED, self.clock.tick());
        let verdict = match self.ask(cell, wanted, wait) {
            Some((claim, verdict)) => {
                let verdict =
                    tokio::time::timeout(UNWAITED, verdict).await.ok().and_then(Result::ok).flatten();
                if verdict.is_none() {
                    self.claims.forget(claim);
                }
                verdict
            }
            None => None,
        };
        match verdict {
            Some(Verdict::Granted) => self.metrics.claims.inc(Counted::Granted),
            Some(Verdict::NotNeeded) => {}
            Some(Verdict::Refused { .. }) => {
                self.metrics.claims.inc(Counted::Refused);
                cell.count_would_reject();
            }
            None => {
                self.metrics.claims.inc(Counted::Failed);
                cell.count_would_reject();
            }
        }
    }

    /// The reservation to claim by, or what became of a slot that was taken over.
    fn slot(&self, slot: Slot, wanted: Wanted<'_>) -> Result<Reservation, Claimed> {
        match slot {
            Slot::Ask(reservation) => Ok(reservation),
            Slot::Late(late) => {
                let cell = Arc::clone(&late.cell);
                if let Some(claimed) = self.take_over(late, wanted) {
                    return Err(claimed);
                }
                // Its slot is gone, and others may be free.
                let free = match cell.read(self.clock.tick()) {
                    Reading::Claim { free, .. } => free,
                    Reading::Pass | Reading::Refuse { .. } => 0,
                };
                let refuse = || Claimed::with(refused(State::HalfOpen, RETRY_MS), None, Arc::clone(&cell));
                cell.reserve_claim(free).ok_or_else(refuse)
            }
        }
    }

    /// Takes a slot over for a request, which needs no wait: the slot is this worker's. `None` if it is not any more.
    fn take_over(&self, late: Late, wanted: Wanted<'_>) -> Option<Claimed> {
        let Late { cell, claim: takes, until } = late;
        let (held, repeated) = {
            let breaker = &cell.lock().breaker;
            let left = breaker.lease_left_ms(takes, self.clock.stamp());
            (left.is_some(), breaker.probes_besides(wanted.request_id, takes))
        };
        if !held {
            return None;
        }
        let claim = self.claims.name();
        // The request goes on whenever the claim lands, so it is wanted for as long as the slot is kept, and longer.
        let wanted_for = Duration::from_millis(until.since(self.clock.tick())).max(round_trip::MOST);
        let appended = !repeated && self.append_claim(&cell, wanted, claim, Some(takes), wanted_for);
        if appended {
            self.metrics.claims.inc(Counted::TakenOver);
            return Some(Claimed::with(Answer::Granted, Some(claim), cell));
        }
        // A request that holds a slot gets no second one.
        self.release_claim(&cell, wanted.request_id, takes);
        self.metrics.claims.inc(if repeated { Counted::Refused } else { Counted::Failed });
        Some(Claimed::with(refused(State::HalfOpen, RETRY_MS), None, cell))
    }

    /// Awaits the verdict of a claim whose request is answered, and keeps its slot for the next one.
    pub async fn settle_claim(&self, claimed: Claimed, request_id: &str) {
        let Claimed { claim: Some(claim), cell, overdue: Some(overdue), .. } = claimed else { return };
        let Overdue { verdict, reservation } = overdue;
        let keeps = self.keeps_slots();
        if !keeps {
            self.release_claim(&cell, request_id, claim);
        }
        let verdict = tokio::select! {
            verdict = tokio::time::timeout(UNWAITED, verdict) => verdict,
            () = self.claims.closed.cancelled() => Ok(Ok(None)),
        };
        // The lease holds the slot from here on.
        drop(reservation);
        match verdict {
            _ if !keeps => self.claims.forget(claim),
            Ok(Ok(Some(Verdict::Granted))) => self.keep_slot(&cell, claim, request_id).await,
            Ok(Ok(Some(Verdict::NotNeeded | Verdict::Refused { .. }))) => {}
            // It may still be granted.
            Ok(Ok(None) | Err(_)) | Err(_) => {
                self.claims.forget(claim);
                self.release_claim(&cell, request_id, claim);
            }
        }
    }

    /// Whether slots that come too late are kept: before that version of the fold no claim can take one over.
    fn keeps_slots(&self) -> bool {
        self.ledger.fold_version() >= FoldVersion::TAKEN_LEASES
    }

    /// Keeps a slot until a request takes it over, or its time ends.
    async fn keep_slot(&self, cell: &Cell, claim: ClaimId, request_id: &str) {
        // The breaker may have moved on since.
        let left = cell.lock().breaker.lease_left_ms(claim, self.clock.stamp());
        let Some(left_ms) = left else { return };
        let now = self.clock.tick();
        let until = late::until(left_ms, now);
        if self.claims.keep(cell, claim, until) {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(until.since(now))) => {}
                () = self.claims.closed.cancelled() => {}
            }
            if !self.claims.stop_keeping(cell, claim) {
                return;
            }
        }
        self.metrics.claims.inc(Counted::Unused);
        self.release_claim(cell, request_id, claim);
    }

    /// Gives a slot back that its request does not use.
    pub fn release_unused(&self, claimed: &Claimed, request_id: &str) {
        if let (Answer::Granted, Some(claim)) = (claimed.answer, claimed.claim) {
            self.release_claim(&claimed.cell, request_id, claim);
        }
    }

    /// Asks for a slot; `None` if the tenant waits for as many claims as it may, or the log cannot be reached.
    fn ask(&self, cell: &Cell, wanted: Wanted<'_>, wait: Duration) -> Option<(ClaimId, VerdictReceiver)> {
        let Some((claim, verdict)) = self.claims.begin(cell.tenant_id.as_str(), self.clock.nanos()) else {
            self.metrics.queue_refused.inc(Queue::Claims);
            return None;
        };
        // One that lands later than its request waits may serve the next one.
        let wanted_for = if self.keeps_slots() { wait.max(round_trip::MOST) } else { wait };
        if self.append_claim(cell, wanted, claim, None, wanted_for) {
            Some((claim, verdict))
        } else {
            self.claims.forget(claim);
            None
        }
    }

    /// Appends a claim that is wanted for so long.
    fn append_claim(
        &self,
        cell: &Cell,
        wanted: Wanted<'_>,
        claim: ClaimId,
        takes: Option<ClaimId>,
        wanted_for: Duration,
    ) -> bool {
        let wanted_for = u64::try_from(wanted_for.as_millis()).unwrap_or(u64::MAX);
        self.append_now(&Entry::Claim(ClaimEntry {
            latest: self.clock.stamp().plus(wanted_for.saturating_add(CLOCK_SLACK_MS)),
            lease_ms: wanted.lease_ms,
            takes,
            ..entry(cell, wanted.request_id, claim)
        }))
    }

    fn release_claim(&self, cell: &Cell, request_id: &str, claim: ClaimId) {
        self.append_now(&Entry::Release(entry(cell, request_id, claim)));
    }
}

/// What a claim and its release have in common.
fn entry<'a>(cell: &'a Cell, request_id: &'a str, claim: ClaimId) -> ClaimEntry<'a> {
    ClaimEntry {
        tenant_id: Cow::Borrowed(cell.tenant_id.as_str()),
        provider_id: Cow::Borrowed(cell.provider_id.as_str()),
        request_id: Cow::Borrowed(request_id),
        claim,
        latest: Stamp(0),
        lease_ms: 0,
        takes: None,
    }
}
