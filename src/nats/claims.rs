//! Claims to probe slots: asked in the log, answered by the fold.
//!
//! A request waits for its claim as long as the path to the log needs (`round_trip`), and takes its fallback after
//! that. A grant that comes later is kept for the next request of the same breaker (`late`), which takes the slot over
//! by a claim that names the one that it takes: the fold releases that one and grants the other in one step, so that the
//! cap holds. Where nobody takes it, it is released. The reservation of a claim is held until its verdict is known, so
//! that no more claims are on their way than slots are free, however long they take.

mod late;
mod probe;
mod round_trip;

pub use probe::{Claimed, Wanted};

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use self::late::LateGrants;
use self::round_trip::RoundTrips;
use crate::breaker::Verdict;
use crate::clock::Clock;
use crate::domain::{ClaimId, ProviderId, Shares, TenantId, Tick};
use crate::state::{Cell, Reservation};

/// How many claims of this worker wait for their verdicts at once.
const MOST: usize = 10_000;

/// Claims of this worker that have no verdict yet. As many as [`Reservation`]s, so bounded by the
/// slots of its half-open breakers, and by the tenants' shares of a bound for all.
#[derive(Debug)]
pub struct Claims {
    waiting: Mutex<Waiting>,
    nonce: u64,
    next: AtomicU64,
    /// Cancelled when no more requests come.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Waiting {
    claims: HashMap<ClaimId, Waiter>,
    shares: Shares,
    late: LateGrants<(TenantId, ProviderId)>,
    round_trips: RoundTrips,
}

#[derive(Debug)]
struct Waiter {
    tenant_id: Arc<str>,
    /// When it was appended, in nanoseconds of the clock.
    asked: u64,
    verdict: VerdictSender,
}

type VerdictSender = oneshot::Sender<Option<Verdict>>;
type VerdictReceiver = oneshot::Receiver<Option<Verdict>>;

impl Default for Claims {
    fn default() -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        let waiting = Waiting {
            claims: HashMap::new(),
            shares: Shares::new(MOST),
            late: LateGrants::default(),
            round_trips: RoundTrips::default(),
        };
        Self {
            waiting: Mutex::new(waiting),
            nonce: high ^ low,
            next: AtomicU64::new(0),
            closed: CancellationToken::new(),
        }
    }
}

impl Claims {
    /// Gives the verdict to whoever waits for it; called by the reader for every claim it applies, at `nanos` of the clock.
    pub fn resolve(&self, claim: ClaimId, verdict: Option<Verdict>, nanos: u64) {
        let mut waiting = self.waiting();
        let Some(waiter) = waiting.remove(claim) else { return };
        let took = Duration::from_nanos(nanos.saturating_sub(waiter.asked));
        waiting.round_trips.claim(took, Clock::tick_at(nanos));
        drop(waiting);
        // Who does not wait any more has given the slot up.
        let _ = waiter.verdict.send(verdict);
    }

    /// The broker answered a request of the watchdog's.
    pub fn note_round_trip(&self, took: Duration, now: Tick) {
        self.waiting().round_trips.request(took, now);
    }

    /// How long a claim is waited for, if the request has `left`.
    pub fn wait(&self, least: Duration, left: Duration, now: Tick) -> Duration {
        self.waiting().round_trips.wait(least, left, now)
    }

    /// No more requests come: slots that are kept for the next one are given back at once.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// A slot for a request: one that this worker holds and nobody uses, else a claim of its own. `free` is how
    /// many slots the breaker shows.
    pub fn reserve(&self, cell: &Arc<Cell>, free: u32, now: Tick) -> Option<Slot> {
        if cell.has_late_grants() {
            let mut waiting = self.waiting();
            let taken = waiting.late.take(&key(cell), now);
            waiting.note_late(cell);
            if let Some((claim, until)) = taken {
                return Some(Slot::Late(Late { cell: Arc::clone(cell), claim, until }));
            }
        }
        cell.reserve_claim(free).map(Slot::Ask)
    }

    /// A name that no other claim has.
    fn name(&self) -> ClaimId {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        ClaimId(xxh3_64_with_seed(&count.to_le_bytes(), self.nonce))
    }

    /// Begins to wait; `None` if the tenant's share is taken.
    fn begin(&self, tenant_id: &str, asked: u64) -> Option<(ClaimId, VerdictReceiver)> {
        let tenant_id: Arc<str> = tenant_id.into();
        let claim = self.name();
        let (verdict, receiver) = oneshot::channel();
        let mut waiting = self.waiting();
        if !waiting.shares.take(&tenant_id, 1) {
            return None;
        }
        waiting.claims.insert(claim, Waiter { tenant_id, asked, verdict });
        Some((claim, receiver))
    }

    fn forget(&self, claim: ClaimId) {
        self.waiting().remove(claim);
    }

    /// Keeps a slot for the next request; `false` if there is no room.
    fn keep(&self, cell: &Cell, claim: ClaimId, until: Tick) -> bool {
        let mut waiting = self.waiting();
        let kept = waiting.late.keep(key(cell), claim, until);
        waiting.note_late(cell);
        kept
    }

    /// Keeps a slot no longer; `false` if it was handed out.
    fn stop_keeping(&self, cell: &Cell, claim: ClaimId) -> bool {
        let mut waiting = self.waiting();
        let removed = waiting.late.remove(&key(cell), claim);
        waiting.note_late(cell);
        removed
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

    /// Shows the decide path how many slots are kept.
    fn note_late(&self, cell: &Cell) {
        cell.set_late_grants(self.late.count(&key(cell)));
    }
}

fn key(cell: &Cell) -> (TenantId, ProviderId) {
    (cell.tenant_id.clone(), cell.provider_id.clone())
}

/// How a request gets its slot.
#[derive(Debug)]
pub enum Slot {
    /// By a claim.
    Ask(Reservation),
    /// By taking over one that this worker holds.
    Late(Late),
}

/// A slot that was granted too late for its request.
#[derive(Debug)]
pub struct Late {
    cell: Arc<Cell>,
    claim: ClaimId,
    until: Tick,
}

impl Slot {
    /// The breaker.
    pub const fn cell(&self) -> &Arc<Cell> {
        match self {
            Self::Ask(reservation) => reservation.cell(),
            Self::Late(late) => &late.cell,
        }
    }
}
