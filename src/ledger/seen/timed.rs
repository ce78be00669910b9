//! The memory of identities by log time, with a share for each tenant.
//!
//! Each tenant has a queue of its identities in log order. A new one is remembered; before that, of those that are
//! older than [`KEEP_MS`], the oldest of all go for as long as more than [`ENOUGH`] are held, and a tenant whose share
//! ([`has_share`]) is taken gives up its own oldest. So a tenant that floods the log forgets its own identities, and of
//! nobody else's one that is younger than [`KEEP_MS`]. What is forgotten younger than that is forgotten early. All of it
//! follows from the entries and their stamps, so that workers agree on each copy.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use serde::{Deserialize, Serialize, Serializer};

use super::known::Known;
use super::{CAPACITY, Kind, Seen};
use crate::domain::{Stamp, has_share};
use crate::ledger::ahead::AHEAD;
use crate::ledger::snapshot::Rows;

/// How many identities are remembered at most: those of two minutes at 35,000 results a second.
pub(in crate::ledger) const MOST: usize = 4_194_304;
/// So many are remembered however old they are.
const ENOUGH: usize = CAPACITY;
/// For how long an identity is remembered within its tenant's share: twice the longest deadline that assignments have
/// by default, and as long as the stream itself drops copies.
const KEEP_MS: u64 = 120_000;
/// How many old identities go for a new one: more than one, so that their number falls; few, so that none of the
/// results that end a quiet time waits for millions.
const AT_ONCE: usize = 2;
/// The owner of identities that were remembered before tenants had shares. No tenant has this id.
const NAMELESS: &str = "";
/// A queue that holds fewer than a quarter of what it has room for gives room back, unless it has no more than this.
const LEAST_ROOM: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Limits {
    most: usize,
    enough: usize,
    keep_ms: u64,
}

const LIMITS: Limits = Limits { most: MOST, enough: ENOUGH, keep_ms: KEEP_MS };

#[derive(Debug)]
pub(in crate::ledger) struct Timed {
    limits: Limits,
    known: Known,
    /// Where in `queues` the queue of each tenant is that has any.
    slots: HashMap<String, u32>,
    queues: Vec<Queue>,
    /// Slots that no tenant has. The least is taken first, so that which tenant has which follows from the log.
    free: BinaryHeap<Reverse<u32>>,
    /// Each queue by when its oldest identity came, or one before it that is forgotten.
    oldest: BinaryHeap<Reverse<(u64, u32)>>,
    clock: Clock,
    len: usize,
    forgotten_early: bool,
}

/// Empty in a slot that no tenant has, and only there.
#[derive(Debug, Default)]
struct Queue {
    tenant_id: String,
    rows: VecDeque<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    identity: u64,
    /// By the clock.
    at: u64,
}

/// The time that has passed in the log since the memory began. A stamp before the last one moves it neither forth nor
/// back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Clock {
    last: Stamp,
    elapsed_ms: u64,
}

impl Clock {
    const fn advance(&mut self, now: Stamp) {
        // A bit is left for what a snapshot writes beside a time.
        let elapsed_ms = self.elapsed_ms.saturating_add(now.since(self.last));
        self.elapsed_ms = if elapsed_ms > u64::MAX >> 1 { u64::MAX >> 1 } else { elapsed_ms };
        self.last = now;
    }
}

impl Timed {
    fn new(limits: Limits, now: Stamp) -> Self {
        Self {
            limits,
            known: Known::default(),
            slots: HashMap::new(),
            queues: Vec::new(),
            free: BinaryHeap::new(),
            oldest: BinaryHeap::new(),
            clock: Clock { last: now, elapsed_ms: 0 },
            len: 0,
            forgotten_early: false,
        }
    }

    /// Of another size than that of a log.
    #[cfg(test)]
    pub(super) fn of_size(most: usize, enough: usize, keep_ms: u64, now: Stamp) -> Self {
        Self::new(Limits { most, enough, keep_ms }, now)
    }

    /// Takes over what was remembered in log order: it has no tenant, and counts as seen now.
    pub(super) fn following<const CAP: usize>(seen: Seen<CAP>, now: Stamp) -> Self {
        let mut timed = Self::new(LIMITS, now);
        let Seen { order, known } = seen;
        timed.known = known;
        timed.len = order.len();
        if !order.is_empty() {
            let slot = timed.slot_of(NAMELESS);
            if let Some(queue) = timed.queues.get_mut(slot as usize) {
                queue.rows = order.into_iter().map(|identity| Row { identity, at: 0 }).collect();
            }
        }
        timed
    }

    /// Takes note of an identity of a tenant, and gives what it was seen as before, if it is remembered. Its place is
    /// that of its first sight.
    pub(super) fn note(&mut self, tenant_id: &str, identity: u64, kind: Kind, now: Stamp) -> Option<Kind> {
        let before = self.known.see_again(identity, kind);
        if before.is_some() {
            return before;
        }
        self.clock.advance(now);
        self.forget_old();
        self.make_room(tenant_id);
        let slot = self.slot_of(tenant_id);
        if let Some(queue) = self.queues.get_mut(slot as usize) {
            queue.rows.push_back(Row { identity, at: self.clock.elapsed_ms });
            self.known.insert(identity, kind);
            self.len += 1;
        }
        None
    }

    pub(super) fn contains(&self, identity: u64) -> bool {
        self.known.contains(identity)
    }

    #[cfg(test)]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn take_forgotten_early(&mut self) -> bool {
        std::mem::replace(&mut self.forgotten_early, false)
    }

    /// As [`Seen::glance`]. Which ones will be forgotten is not known exactly: those looked at are among the oldest.
    pub(super) fn glance(&self, next: impl ExactSizeIterator<Item = u64>) -> u64 {
        let forgotten = (self.len + next.len()).saturating_sub(self.limits.enough).min(next.len());
        let of_each = forgotten.div_ceil(self.oldest.len().max(1));
        let first = self.oldest.iter().filter_map(|Reverse((_, slot))| self.queues.get(*slot as usize));
        let oldest = first.flat_map(|queue| queue.rows.iter().take(of_each)).take(forgotten);
        let old = oldest.filter(|row| self.is_old(row.at)).map(|row| row.identity);
        self.known.glance(next.chain(old))
    }

    fn is_old(&self, at: u64) -> bool {
        self.clock.elapsed_ms.saturating_sub(at) >= self.limits.keep_ms
    }

    fn forget_old(&mut self) {
        for _ in 0..AT_ONCE {
            if self.len <= self.limits.enough || !self.oldest_at().is_some_and(|at| self.is_old(at)) {
                return;
            }
            self.forget_oldest();
        }
    }

    /// Forgets the tenant's own oldest identity where its share is taken.
    fn make_room(&mut self, tenant_id: &str) {
        let slot = self.slots.get(tenant_id).copied();
        let queue = slot.and_then(|slot| self.queues.get_mut(slot as usize));
        let own = queue.as_ref().map_or(0, |queue| queue.rows.len());
        if has_share(own, self.len, self.limits.most) {
            return;
        }
        let forgotten = match queue {
            Some(queue) => queue.pop(),
            // Every place is taken and none is its own, as where tenants are millions.
            None => {
                let at = self.oldest_at();
                self.forget_oldest();
                self.forgotten_early = at.is_some_and(|at| !self.is_old(at));
                return;
            }
        };
        if let Some(row) = forgotten {
            self.known.forget(row.identity);
            self.len -= 1;
            self.forgotten_early = !self.is_old(row.at);
        }
    }

    /// When the oldest identity of all came. Its queue is then the first of `oldest`.
    fn oldest_at(&mut self) -> Option<u64> {
        loop {
            let mut first = self.oldest.peek_mut()?;
            let Reverse((at, slot)) = *first;
            let row = self.queues.get(slot as usize).and_then(|queue| queue.rows.front())?;
            if row.at == at {
                return Some(at);
            }
            *first = Reverse((row.at, slot));
        }
    }

    /// Forgets what [`Self::oldest_at`] found.
    fn forget_oldest(&mut self) {
        let Some(Reverse((_, slot))) = self.oldest.peek().copied() else { return };
        let Some(queue) = self.queues.get_mut(slot as usize) else { return };
        let Some(row) = queue.pop() else { return };
        self.known.forget(row.identity);
        self.len -= 1;
        if queue.rows.is_empty() {
            self.slots.remove(&queue.tenant_id);
            *queue = Queue::default();
            self.oldest.pop();
            self.free.push(Reverse(slot));
        }
    }

    /// The slot of a tenant, which it gets if it has none. Who asks fills it.
    fn slot_of(&mut self, tenant_id: &str) -> u32 {
        if let Some(slot) = self.slots.get(tenant_id) {
            return *slot;
        }
        let slot = self.free.pop().map_or_else(
            || {
                self.queues.push(Queue::default());
                // No more than there are identities.
                u32::try_from(self.queues.len() - 1).unwrap_or(u32::MAX)
            },
            |Reverse(slot)| slot,
        );
        if let Some(queue) = self.queues.get_mut(slot as usize) {
            tenant_id.clone_into(&mut queue.tenant_id);
        }
        self.slots.insert(tenant_id.to_owned(), slot);
        self.oldest.push(Reverse((self.clock.elapsed_ms, slot)));
        slot
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Row> {
        let row = self.rows.pop_front();
        let room = self.rows.capacity();
        if room > LEAST_ROOM && self.rows.len() < room / 4 {
            // Else each tenant would keep the room of its largest flood.
            self.rows.shrink_to(room / 2);
        }
        row
    }
}

/// As a snapshot holds it. By slot: a tenant, and its identities in their order, each with how much later than the one
/// before it came, doubled, and 1 if it was last seen to end without a result.
#[derive(Debug, Serialize, Deserialize)]
struct Form<Queues> {
    clock: Clock,
    queues: Queues,
}

/// What is read of a snapshot.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(in crate::ledger) struct Saved(Form<Vec<(String, Vec<SavedRow>)>>);

type SavedRow = ([u8; 8], u64);

impl Serialize for Timed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let queues = self.queues.iter().map(|queue| {
            let at = |n: usize| queue.rows.get(n).map_or(0, |row| row.at);
            let rows = queue.rows.iter().enumerate().map(move |(n, row)| {
                let later = row.at - n.checked_sub(1).map_or(0, at);
                let ended = self.known.kind_of(row.identity) == Kind::Ended;
                (row.identity.to_le_bytes(), later << 1 | u64::from(ended))
            });
            (&queue.tenant_id, Rows(rows))
        });
        Form { clock: self.clock, queues: Rows(queues) }.serialize(serializer)
    }
}

impl Timed {
    /// Takes over what a snapshot holds, unless it does not fit.
    pub(super) fn restore(saved: Saved) -> Result<Self, &'static str> {
        Self::restore_within(LIMITS, saved)
    }

    fn restore_within(limits: Limits, Saved(Form { clock, queues }): Saved) -> Result<Self, &'static str> {
        let mut timed = Self::new(limits, clock.last);
        timed.clock = clock;
        for (slot, (tenant_id, rows)) in (0..).zip(queues) {
            let rows = timed.restore_rows(rows)?;
            match rows.front() {
                None => timed.free.push(Reverse(slot)),
                Some(first) => {
                    timed.oldest.push(Reverse((first.at, slot)));
                    if timed.slots.insert(tenant_id.clone(), slot).is_some() {
                        return Err("a tenant has two queues of identities");
                    }
                }
            }
            timed.queues.push(Queue { tenant_id, rows });
        }
        Ok(timed)
    }

    fn restore_rows(&mut self, saved: Vec<SavedRow>) -> Result<VecDeque<Row>, &'static str> {
        let mut rows = VecDeque::with_capacity(saved.len());
        let mut at = 0_u64;
        for saved in saved.chunks(AHEAD) {
            std::hint::black_box(
                self.known.glance(saved.iter().map(|(identity, _)| u64::from_le_bytes(*identity))),
            );
            for (identity, packed) in saved {
                let identity = u64::from_le_bytes(*identity);
                at = at.saturating_add(packed >> 1);
                if at > self.clock.elapsed_ms {
                    return Err("an identity is later than the memory");
                }
                if self.len == self.limits.most || self.known.contains(identity) {
                    return Err("an identity is there twice, or there are too many");
                }
                self.known.insert(identity, if packed & 1 == 1 { Kind::Ended } else { Kind::Result });
                self.len += 1;
                rows.push_back(Row { identity, at });
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod model;
