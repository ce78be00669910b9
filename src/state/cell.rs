use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::Counters;
use crate::breaker::{Breaker, Gate, Position, State};
use crate::domain::{Offset, PolicyId, ProviderId, Stamp, TenantId, Tick};
use crate::log::StepInForce;
use crate::routing::Observed;

/// One breaker where the decide path and the fold meet. With many breakers it has to be fetched from memory,
/// so what is read together stands together: first, beside the count of its references, what the fold finds
/// it by (names of up to 23 bytes), then in one line what every decision reads, and where that begins which
/// every result changes.
#[repr(C)]
pub struct Cell {
    /// Whose it is.
    pub tenant_id: TenantId,
    /// For which provider.
    pub provider_id: ProviderId,
    /// The packed gate: see [`pack`].
    gate: AtomicU64,
    /// The tick after which the means are out of the window.
    means_until: AtomicU64,
    mean_cost_nanos: AtomicU64,
    mean_latency_ms: AtomicU32,
    /// Claims of this worker that have no verdict yet: no more than there are slots, at most 100.
    claims: AtomicU16,
    /// Slots that this worker holds and no request uses.
    late_grants: AtomicU16,
    /// The failures' share when it last opened, in parts per million.
    failure_share: AtomicU32,
    /// How many refusals were not logged since the last one that was.
    unlogged: AtomicU32,
    /// What every result reads and writes stands first in it.
    guarded: Mutex<Guarded>,
    fail_fast: AtomicU64,
    would_reject: AtomicU64,
    /// Sum of the failure shares over all refusals, in parts per million.
    saved: AtomicU64,
    /// The second in which a refusal was last logged.
    logged_at: AtomicU64,
}

/// What only the fold writes.
#[derive(Debug)]
#[repr(C)]
pub struct Guarded {
    /// Whether it changed since the fold's digest was told.
    pub dirty: bool,
    /// Whether no policy names it any more.
    pub gone: bool,
    /// What the fold's digest holds of it.
    pub digest: u64,
    /// The state machine.
    pub breaker: Breaker,
    /// What its entries counted.
    pub counters: Counters,
    /// The policy whose settings hold.
    pub policy_id: PolicyId,
    /// The step of a rollout that lies over that policy.
    pub step: Option<Arc<StepInForce>>,
}

impl Guarded {
    /// Reads a word of each of its cache lines that the fold touches for a result. What it tells is of no
    /// use: the lines are then at hand.
    #[must_use]
    pub fn glance(&self) -> u64 {
        self.breaker.glance() ^ self.counters.success
    }
}

/// What a request reads off a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It may pass.
    Pass,
    /// It may not.
    Refuse {
        /// What the breaker shows.
        state: State,
        /// How long until asking again may help.
        retry_after_ms: u64,
        /// Share of requests, in percent, for which that is enforced.
        enforce_percent: u8,
    },
    /// A claim is worth a try.
    Claim {
        /// What the breaker shows until a claim is granted.
        state: State,
        /// Slots that may be free.
        free: u32,
        /// Share of requests, in percent, for which a refusal is enforced.
        enforce_percent: u8,
    },
}

const TAG_PASS: u64 = 0;
const TAG_REFUSE: u64 = 1;
const TAG_PROBE: u64 = 2;
const FORCED: u64 = 1 << 16;
const TICK_BITS: u32 = 44;
const NEVER: u64 = (1 << TICK_BITS) - 1;

/// What a refusal without an end tells the caller to wait.
const FORCED_RETRY_MS: u64 = 60_000;
/// What a refusal for want of a slot tells the caller to wait.
const SLOT_RETRY_MS: u64 = 1_000;
/// One refusal in this many seconds is logged; the next tells how many it stands for.
const LOG_EVERY_S: u64 = 10;

/// Packs a gate into one word, so that reading it is one load: two bits of tag, seven of the enforced
/// share, seven of free slots, one that tells a force, 44 of a tick.
fn pack(gate: Gate, max_calls: u32, offset: Offset) -> u64 {
    let tick = |stamp: Option<Stamp>| stamp.map_or(NEVER, |s| offset.to_tick(s).0.min(NEVER - 1));
    let (tag, free, tick) = match gate.position {
        Position::Pass => (TAG_PASS, 0, 0),
        Position::Refuse { until } => (TAG_REFUSE, max_calls, tick(until)),
        Position::Probe { free, next_expiry } => (TAG_PROBE, free, tick(next_expiry)),
    };
    tag | u64::from(gate.enforce_percent) << 2 | u64::from(free.min(127)) << 9 | tick << 20
}

fn unpack(word: u64, now: Tick) -> Reading {
    let enforce_percent = u8::try_from(word >> 2 & 0x7F).unwrap_or(100);
    let free = u32::try_from(word >> 9 & 0x7F).unwrap_or(0);
    let tick = word >> 20;
    match word & 0b11 {
        TAG_REFUSE if tick == NEVER => {
            Reading::Refuse { state: State::Open, retry_after_ms: FORCED_RETRY_MS, enforce_percent }
        }
        TAG_REFUSE if now.0 < tick => {
            Reading::Refuse { state: State::Open, retry_after_ms: tick - now.0, enforce_percent }
        }
        TAG_REFUSE => Reading::Claim { state: State::Open, free, enforce_percent },
        TAG_PROBE if free > 0 => Reading::Claim { state: State::HalfOpen, free, enforce_percent },
        // A lease that nobody answered has ended by now; the claim makes the fold see it.
        TAG_PROBE if now.0 >= tick => Reading::Claim { state: State::HalfOpen, free: 1, enforce_percent },
        TAG_PROBE => {
            let retry_after_ms = SLOT_RETRY_MS.min(tick - now.0);
            Reading::Refuse { state: State::HalfOpen, retry_after_ms, enforce_percent }
        }
        _ => Reading::Pass,
    }
}

impl Cell {
    /// A cell around a breaker.
    #[must_use]
    pub fn new(tenant_id: TenantId, provider_id: ProviderId, policy_id: PolicyId, breaker: Breaker) -> Self {
        Self {
            tenant_id,
            provider_id,
            gate: AtomicU64::new(TAG_PASS),
            claims: AtomicU16::new(0),
            late_grants: AtomicU16::new(0),
            failure_share: AtomicU32::new(0),
            mean_latency_ms: AtomicU32::new(0),
            mean_cost_nanos: AtomicU64::new(0),
            means_until: AtomicU64::new(0),
            fail_fast: AtomicU64::new(0),
            would_reject: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            logged_at: AtomicU64::new(0),
            unlogged: AtomicU32::new(0),
            guarded: Mutex::new(Guarded {
                breaker,
                counters: Counters::default(),
                policy_id,
                step: None,
                digest: 0,
                dirty: false,
                gone: false,
            }),
        }
    }

    // ---- the decide path ----

    /// What the gate says at `now`: one atomic load.
    #[must_use]
    pub fn read(&self, now: Tick) -> Reading {
        unpack(self.gate.load(Ordering::Acquire), now)
    }

    /// Has the part that decisions read fetched into the processor's cache.
    pub(super) fn touch(&self) {
        std::hint::black_box(self.gate.load(Ordering::Relaxed));
    }

    /// Whether what the gate says is an operator's force, and not the breaker's own judgement.
    #[must_use]
    pub fn is_forced(&self) -> bool {
        self.gate.load(Ordering::Acquire) & FORCED != 0
    }

    /// The means over the breaker's window, as of its last result; zero once that is a window old.
    #[must_use]
    pub fn observed(&self, now: Tick) -> Observed {
        if now.0 >= self.means_until.load(Ordering::Relaxed) {
            return Observed::default();
        }
        Observed {
            latency_ms: u64::from(self.mean_latency_ms.load(Ordering::Relaxed)),
            cost_nanos: self.mean_cost_nanos.load(Ordering::Relaxed),
        }
    }

    /// Reserves one of this worker's claims in flight: at most as many as there are free slots, so
    /// that a refused crowd does not flood the log. Freed when the reservation is dropped.
    #[must_use]
    pub fn reserve_claim(self: &Arc<Self>, free: u32) -> Option<Reservation> {
        self.claims
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| (u32::from(n) < free).then_some(n + 1))
            .ok()
            .map(|_| Reservation(Arc::clone(self)))
    }

    /// Whether this worker may hold a slot that no request uses.
    #[must_use]
    pub fn has_late_grants(&self) -> bool {
        self.late_grants.load(Ordering::Acquire) > 0
    }

    /// Notes how many slots this worker holds that no request uses.
    pub fn set_late_grants(&self, count: usize) {
        self.late_grants.store(u16::try_from(count).unwrap_or(u16::MAX), Ordering::Release);
    }

    /// Counts a refusal that was enforced. Tells how many refusals a log line should stand for, if
    /// one is due: the first at once, then one each ten seconds.
    pub fn count_fail_fast(&self, now: Tick) -> Option<u32> {
        self.fail_fast.fetch_add(1, Ordering::Relaxed);
        self.saved.fetch_add(u64::from(self.failure_share.load(Ordering::Relaxed)), Ordering::Relaxed);
        let second = now.0 / 1_000;
        let last = self.logged_at.load(Ordering::Relaxed);
        let due = second >= last.saturating_add(LOG_EVERY_S);
        if due && self.logged_at.compare_exchange(last, second, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return Some(self.unlogged.swap(0, Ordering::Relaxed).saturating_add(1));
        }
        self.unlogged.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Counts a refusal that was not enforced.
    pub fn count_would_reject(&self) {
        self.would_reject.fetch_add(1, Ordering::Relaxed);
    }

    // ---- readers ----

    /// Refusals that were enforced, those that were not, and the calls saved by the first (an
    /// estimate: each times the failures' share when the breaker opened).
    #[must_use]
    pub fn refusals(&self) -> (u64, u64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let saved = self.saved.load(Ordering::Relaxed) as f64 / 1e6;
        (self.fail_fast.load(Ordering::Relaxed), self.would_reject.load(Ordering::Relaxed), saved)
    }

    /// The breaker and what the fold keeps with it. Held for a moment only, never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Guarded> {
        // A writer that died mid-way ends the process; until then what stands is shown.
        self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- the fold ----

    /// The breaker, unless somebody holds it: for looks ahead, which wait for nobody.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Guarded>> {
        match self.guarded.try_lock() {
            Ok(guarded) => Some(guarded),
            Err(TryLockError::Poisoned(died)) => Some(died.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Reads a word of each of its cache lines that the fold touches for a result and can read without
    /// the lock. What it tells is of no use: the lines are then at hand.
    #[must_use]
    pub fn glance(&self) -> u64 {
        // Names that are longer than most stand elsewhere.
        let first = |name: &str| u64::from(name.bytes().next().unwrap_or_default());
        self.gate.load(Ordering::Relaxed) ^ first(self.tenant_id.as_str()) ^ first(self.provider_id.as_str())
    }

    /// Shows the decide path what the breaker has become; the fold only, after each input.
    pub fn publish(&self, guarded: &Guarded, offset: Offset) {
        let breaker = &guarded.breaker;
        let word = pack(breaker.gate(), breaker.settings().half_open_max_calls(), offset);
        self.failure_share.store(breaker.failure_share().ppm(), Ordering::Relaxed);
        let forced = if breaker.is_forced() { FORCED } else { 0 };
        self.gate.store(word | forced, Ordering::Release);
    }

    /// Shows the decide path the means over the window; the fold only, after what changes
    /// the window.
    pub fn publish_means(&self, guarded: &Guarded, now: Stamp, offset: Offset) {
        let counts = guarded.breaker.counts(now);
        let latency = u32::try_from(counts.mean_latency_ms()).unwrap_or(u32::MAX);
        self.mean_latency_ms.store(latency, Ordering::Relaxed);
        self.mean_cost_nanos.store(counts.mean_cost_nanos(), Ordering::Relaxed);
        let until = offset.to_tick(now.plus(guarded.breaker.settings().window_ms()));
        self.means_until.store(until.0, Ordering::Relaxed);
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cell")
            .field("tenant_id", &self.tenant_id)
            .field("provider_id", &self.provider_id)
            .finish_non_exhaustive()
    }
}

/// One of this worker's claims in flight.
#[derive(Debug)]
pub struct Reservation(Arc<Cell>);

impl Reservation {
    /// The breaker that is claimed.
    #[must_use]
    pub const fn cell(&self) -> &Arc<Cell> {
        &self.0
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.claims.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(position: Position) -> Gate {
        Gate { position, enforce_percent: 37 }
    }

    #[test]
    fn a_packed_gate_reads_as_what_was_packed() {
        let offset = Offset(1_700_000_000_000);
        let at = |tick: u64| Some(offset.to_stamp(Tick(tick)));
        assert_eq!(unpack(pack(gate(Position::Pass), 3, offset), Tick(5)), Reading::Pass);

        let open = pack(gate(Position::Refuse { until: at(10_000) }), 3, offset);
        assert_eq!(
            unpack(open, Tick(9_999)),
            Reading::Refuse { state: State::Open, retry_after_ms: 1, enforce_percent: 37 }
        );
        assert_eq!(
            unpack(open, Tick(10_000)),
            Reading::Claim { state: State::Open, free: 3, enforce_percent: 37 }
        );

        let forced = pack(gate(Position::Refuse { until: None }), 3, offset);
        assert!(matches!(unpack(forced, Tick(u64::MAX)), Reading::Refuse { state: State::Open, .. }));

        let full = pack(gate(Position::Probe { free: 0, next_expiry: at(500) }), 3, offset);
        assert_eq!(
            unpack(full, Tick(100)),
            Reading::Refuse { state: State::HalfOpen, retry_after_ms: 400, enforce_percent: 37 }
        );
        assert_eq!(
            unpack(full, Tick(500)),
            Reading::Claim { state: State::HalfOpen, free: 1, enforce_percent: 37 }
        );

        let some = pack(gate(Position::Probe { free: 100, next_expiry: None }), 100, offset);
        assert_eq!(
            unpack(some, Tick(0)),
            Reading::Claim { state: State::HalfOpen, free: 100, enforce_percent: 37 }
        );
    }
}
