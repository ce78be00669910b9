//! Claims to probe slots: asked in the log, answered by the fold.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Worker;
use crate::breaker::{State, Verdict};
use crate::domain::ClaimId;
use crate::log::{ClaimEntry, Entry};
use crate::state::{Answer, Reservation};
use crate::telemetry::labels::Claim as Counted;

/// How much later than the wait a claim may land and still be wanted: what the measured offset to the
/// broker's clock may be off by.
const CLOCK_SLACK_MS: u64 = 50;

/// What a request is told to wait that got no verdict in time.
const RETRY_MS: u64 = 1_000;

/// How long the verdict of a claim is awaited that no request waits for.
const UNWAITED: Duration = Duration::from_secs(5);

/// Claims of this worker that have no verdict yet. As many as [`Reservation`]s, so bounded by the
/// slots of its half-open breakers.
#[derive(Debug)]
pub struct Claims {
    waiting: Mutex<HashMap<ClaimId, oneshot::Sender<Option<Verdict>>>>,
    nonce: u64,
    next: AtomicU64,
}

impl Default for Claims {
    fn default() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Self { waiting: Mutex::default(), nonce: high ^ low, next: AtomicU64::new(0) }
    }
}

impl Claims {
    /// Tells who waits what the fold said; called by the reader for every claim it applies.
    pub fn resolve(&self, claim: ClaimId, verdict: Option<Verdict>) {
        let waiter = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&claim);
        if let Some(waiter) = waiter {
            // Who gave up has a release on its way.
            let _ = waiter.send(verdict);
        }
    }

    fn begin(&self) -> (ClaimId, oneshot::Receiver<Option<Verdict>>) {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let claim = ClaimId(xxh3_64_with_seed(&count.to_le_bytes(), self.nonce));
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(claim, sender);
        (claim, receiver)
    }

    fn forget(&self, claim: ClaimId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&claim);
    }
}

/// A claim that was answered, to be released if its slot is not used after all.
#[derive(Debug)]
pub struct Claimed {
    /// What the fold said, or that it did not in time.
    pub answer: Answer,
    claim: ClaimId,
    reservation: Reservation,
}

impl Worker {
    /// Claims a slot for a request and waits for the verdict, at most as long as the settings allow.
    /// `lease_ms` is how long the slot must be held at least.
    pub async fn claim(&self, reservation: Reservation, request_id: &str, lease_ms: u64) -> Claimed {
        let wait = self.settings.decide.claim_wait;
        let (claim, verdict) = self.ask(&reservation, request_id, lease_ms, wait);
        let cell = Arc::clone(reservation.cell());
        let refused = |state, retry_after_ms| Answer::Refused { state, retry_after_ms };
        let answer = match verdict {
            None => {
                self.metrics.claims.inc(Counted::Failed);
                refused(State::HalfOpen, RETRY_MS)
            }
            Some(verdict) => match tokio::time::timeout(wait, verdict).await {
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
        let (claim, verdict) = self.ask(&reservation, request_id, lease_ms, self.settings.decide.claim_wait);
        let verdict = match verdict {
            Some(verdict) => {
                tokio::time::timeout(UNWAITED, verdict).await.ok().and_then(Result::ok).flatten()
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
                self.claims.forget(claim);
                self.metrics.claims.inc(Counted::Failed);
                cell.count_would_reject();
            }
        }
    }

    /// Gives a slot back that its request does not use.
    pub fn release_unused(&self, claimed: &Claimed, request_id: &str) {
        if claimed.answer == Answer::Granted {
            self.release_claim(claimed.reservation.cell(), request_id, claimed.claim);
        }
    }

    fn ask(
        &self,
        reservation: &Reservation,
        request_id: &str,
        lease_ms: u64,
        wait: Duration,
    ) -> (ClaimId, Option<oneshot::Receiver<Option<Verdict>>>) {
        let cell = reservation.cell();
        let (claim, verdict) = self.claims.begin();
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
            (claim, Some(verdict))
        } else {
            self.claims.forget(claim);
            (claim, None)
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
