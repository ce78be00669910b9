//! Claims to probe slots: asked in the log, answered by the fold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Worker;
use crate::breaker::{State, Verdict};
use crate::domain::{ClaimId, Shares};
use crate::log::{ClaimEntry, Entry};
use crate::state::{Answer, Reservation};
use crate::telemetry::labels::{Claim as Counted, Queue};

/// How much later than the wait a claim may land and still be wanted: what the measured offset to the
/// broker's clock may be off by.
const CLOCK_SLACK_MS: u64 = 50;

/// What a request is told to wait that got no verdict in time.
const RETRY_MS: u64 = 1_000;

/// How long the verdict of a claim is awaited that no request waits for.
const UNWAITED: Duration = Duration::from_secs(5);

/// How many claims of this worker wait for their verdicts at once.
const MOST: usize = 10_000;

/// Claims of this worker that have no verdict yet. As many as [`Reservation`]s, so bounded by the
/// slots of its half-open breakers, and by the tenants' shares of a bound for all.
#[derive(Debug)]
pub struct Claims {
    waiting: Mutex<Waiting>,
    nonce: u64,
    next: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    claims: HashMap<ClaimId, Waiter>,
    shares: Shares,
}

#[derive(Debug)]
struct Waiter {
    tenant_id: Arc<str>,
    verdict: oneshot::Sender<Option<Verdict>>,
}

impl Default for Claims {
    fn default() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let waiting = Waiting { claims: HashMap::new(), shares: Shares::new(MOST) };
        Self { waiting: Mutex::new(waiting), nonce: high ^ low, next: AtomicU64::new(0) }
    }
}

impl Claims {
    /// Tells who waits what the fold said; called by the reader for every claim it applies.
    pub fn resolve(&self, claim: ClaimId, verdict: Option<Verdict>) {
        if let Some(waiter) = self.waiting().remove(claim) {
            // Who gave up has a release on its way.
            let _ = waiter.verdict.send(verdict);
        }
    }

    /// Begins to wait; `None` if the tenant's share is taken.
    fn begin(&self, tenant_id: &str) -> Option<(ClaimId, oneshot::Receiver<Option<Verdict>>)> {
        let tenant_id: Arc<str> = tenant_id.into();
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let claim = ClaimId(xxh3_64_with_seed(&count.to_le_bytes(), self.nonce));
        let (verdict, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if !waiting.shares.take(&tenant_id, 1) {
            return None;
        }
        waiting.claims.insert(claim, Waiter { tenant_id, verdict });
        Some((claim, receiver))
    }

    fn forget(&self, claim: ClaimId) {
        self.waiting().remove(claim);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn remove(&mut self, claim: ClaimId) -> Option<Waiter> {
        let waiter = self.claims.remove(&claim)?;
        self.shares.give_back(&waiter.tenant_id, 1);
        Some(waiter)
    }
}

/// A claim that was answered, to be released if its slot is not used after all.
#[derive(Debug)]
pub struct Claimed {
    /// What the fold said, or that it did not in time.
    pub answer: Answer,
    /// The claim, if it was made.
    claim: Option<ClaimId>,
    reservation: Reservation,
}

impl Worker {
    /// Claims a slot for a request and waits for the verdict, at most as long as the settings allow.
    /// `lease_ms` is how long the slot must be held at least.
    pub async fn claim(&self, reservation: Reservation, request_id: &str, lease_ms: u64) -> Claimed {
        let wait = self.settings.decide.claim_wait;
        let asked = self.ask(&reservation, request_id, lease_ms, wait);
        let claim = asked.as_ref().map(|(claim, _)| *claim);
        let cell = Arc::clone(reservation.cell());
        let refused = |state, retry_after_ms| Answer::Refused { state, retry_after_ms };
        let answer = match asked {
            None => {
                self.metrics.claims.inc(Counted::Failed);
                refused(State::HalfOpen, RETRY_MS)
            }
            Some((claim, verdict)) => match tokio::time::timeout(wait, verdict).await {
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
                    self.claims.forget(claim);
                    self.release_claim(&cell, request_id, claim);
                    refused(State::HalfOpen, RETRY_MS)
                }
            },
        };
        Claimed { answer, claim, reservation }
    }

    /// Claims a slot for a request that has been answered already, being outside the enforced share.
    /// Without a slot it is one that would have been rejected.
    pub async fn claim_unwaited(&self, reservation: Reservation, request_id: &str, lease_ms: u64) {
        let cell = Arc::clone(reservation.cell());
        let asked = self.ask(&reservation, request_id, lease_ms, self.settings.decide.claim_wait);
        let verdict = match asked {
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

    /// Gives a slot back that its request does not use.
    pub fn release_unused(&self, claimed: &Claimed, request_id: &str) {
        if let (Answer::Granted, Some(claim)) = (claimed.answer, claimed.claim) {
            self.release_claim(claimed.reservation.cell(), request_id, claim);
        }
    }

    /// Asks for a slot; `None` if the tenant waits for as many claims as it may, or the log cannot be reached.
    fn ask(
        &self,
        reservation: &Reservation,
        request_id: &str,
        lease_ms: u64,
        wait: Duration,
    ) -> Option<(ClaimId, oneshot::Receiver<Option<Verdict>>)> {
        let cell = reservation.cell();
        let Some((claim, verdict)) = self.claims.begin(cell.tenant_id.as_str()) else {
            self.metrics.queue_refused.inc(Queue::Claims);
            return None;
        };
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let entry = Entry::Claim(ClaimEntry {
            tenant_id: Cow::Borrowed(cell.tenant_id.as_str()),
            provider_id: Cow::Borrowed(cell.provider_id.as_str()),
            request_id: Cow::Borrowed(request_id),
            claim,
            latest: self.clock.stamp().plus(wait.saturating_add(CLOCK_SLACK_MS)),
            lease_ms,
        });
        if self.append_now(&entry) {
            Some((claim, verdict))
        } else {
            self.claims.forget(claim);
            None
        }
    }

    fn release_claim(&self, cell: &crate::state::Cell, request_id: &str, claim: ClaimId) {
        self.append_now(&Entry::Release(ClaimEntry {
            tenant_id: Cow::Borrowed(cell.tenant_id.as_str()),
            provider_id: Cow::Borrowed(cell.provider_id.as_str()),
            request_id: Cow::Borrowed(request_id),
            claim,
            latest: crate::domain::Stamp(0),
            lease_ms: 0,
        }));
    }
}
