use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::block::TenantRow;
use super::facts::CallEnd;
use crate::domain::Stamp;

/// How many units of a rollout are open at once: its sample gives at most 1,000 units a second, and 15 minutes
/// is the longest time to settle. One that finds no place is not opened.
pub(super) const MAX_OPEN: usize = 1 << 20;
/// How many settled units of a rollout are remembered; the oldest is forgotten first.
pub(super) const MAX_SETTLED: usize = 1 << 20;
/// Settled units are forgotten after so many times `settle`, counted from their first entry.
pub const REMEMBERED: u64 = 10;

/// Which unit: the tenant's slot in its rollout, and the arm hash of the request id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct UnitKey {
    pub(super) slot: u64,
    pub(super) hash: u64,
}

/// One request id from its first entry until `settle` later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    pub(super) first: Stamp,
    /// The window of its first entry.
    pub(super) window: u64,
    /// The tenant's last cut before it. After another one it does not count.
    pub(super) cut: u64,
    pub(super) treated: bool,
    /// It began while a cut was not over.
    pub(super) dropped: bool,
    pub(super) met: bool,
    pub(super) success: bool,
    pub(super) failed: bool,
    /// Sum over its calls; absent if none had a latency.
    pub(super) latency_ms: Option<u64>,
}

impl Unit {
    pub(super) const fn call(&mut self, ended: CallEnd, latency_ms: Option<u64>) {
        match ended {
            CallEnd::Succeeded => self.success = true,
            CallEnd::Failed => self.failed = true,
            CallEnd::Neutral => {}
        }
        if let Some(ms) = latency_ms {
            let before = match self.latency_ms {
                Some(before) => before,
                None => 0,
            };
            self.latency_ms = Some(before.saturating_add(ms));
        }
    }
}

impl TenantRow {
    /// Counts a settled unit.
    pub(super) fn count(&mut self, unit: &Unit) {
        let arm = usize::from(!unit.treated);
        if !(unit.success || unit.failed) {
            add(self.no_outcome.get_mut(arm), 1);
            return;
        }
        let cells = if unit.met { &mut self.met } else { &mut self.plain };
        add(cells.get_mut(2 * arm), 1);
        add(cells.get_mut(2 * arm + 1), u64::from(!unit.success));
        if let Some(latency_ms) = unit.latency_ms.filter(|_| unit.success)
            && let Some(histogram) = self.latency.get_mut(arm)
        {
            histogram.add(latency_ms);
        }
    }
}

fn add(cell: Option<&mut u64>, more: u64) {
    if let Some(cell) = cell {
        *cell = cell.saturating_add(more);
    }
}

/// The place of a unit.
pub(super) enum Place<'u> {
    Open(&'u mut Unit),
    /// It is settled: entries of it are passed over.
    Settled,
    /// Too many are open.
    Full,
}

/// The units of one rollout. Log time does not run backwards, so the oldest stand first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Units {
    open: OpenUnits,
    settled: SettledUnits,
}

impl Units {
    pub(super) fn place(&mut self, key: UnitKey, make: impl FnOnce() -> Unit) -> Place<'_> {
        if self.settled.known.contains(&key) {
            return Place::Settled;
        }
        if !self.open.units.contains_key(&key) {
            if self.open.order.len() >= MAX_OPEN {
                return Place::Full;
            }
            self.open.order.push_back(key);
        }
        Place::Open(self.open.units.entry(key).or_insert_with(make))
    }

    /// Settles the oldest unit that is due.
    pub(super) fn settle(&mut self, time: Stamp, settle_ms: u64) -> Option<(UnitKey, Unit)> {
        let key = *self.open.order.front()?;
        if self.open.units.get(&key).is_some_and(|unit| time < unit.first.plus(settle_ms)) {
            return None;
        }
        self.open.order.pop_front();
        let unit = self.open.units.remove(&key)?;
        self.settled.add(unit.first, key);
        Some((key, unit))
    }

    /// Forgets settled units, by age and by number. Tells how many went by number.
    pub(super) fn forget(&mut self, time: Stamp, settle_ms: u64) -> u64 {
        let lasting = settle_ms.saturating_mul(REMEMBERED);
        while self.settled.order.front().is_some_and(|(first, _)| time >= first.plus(lasting)) {
            self.settled.forget_oldest();
        }
        let excess = self.settled.order.len().saturating_sub(MAX_SETTLED);
        (0..excess).for_each(|_| self.settled.forget_oldest());
        u64::try_from(excess).unwrap_or(u64::MAX)
    }

    #[cfg(test)]
    pub(super) fn lens(&self) -> [usize; 4] {
        [self.open.order.len(), self.open.units.len(), self.settled.order.len(), self.settled.known.len()]
    }
}

/// Serialised once, in the order of their first entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OpenUnits {
    order: VecDeque<UnitKey>,
    units: BTreeMap<UnitKey, Unit>,
}

impl Serialize for OpenUnits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.order.len()))?;
        for key in &self.order {
            list.serialize_element(&(key, self.units.get(key)))?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for OpenUnits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<(UnitKey, Option<Unit>)>::deserialize(deserializer)?;
        let order: VecDeque<UnitKey> = list.iter().map(|(key, _)| *key).collect();
        let units: BTreeMap<UnitKey, Unit> =
            list.into_iter().filter_map(|(key, unit)| Some((key, unit?))).collect();
        if units.len() == order.len() {
            Ok(Self { order, units })
        } else {
            Err(D::Error::custom("open units"))
        }
    }
}

/// Serialised once, in the order in which they settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct SettledUnits {
    order: VecDeque<(Stamp, UnitKey)>,
    known: BTreeSet<UnitKey>,
}

impl SettledUnits {
    fn add(&mut self, first: Stamp, key: UnitKey) {
        if self.known.insert(key) {
            self.order.push_back((first, key));
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

impl Serialize for SettledUnits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.order.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SettledUnits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let order = VecDeque::<(Stamp, UnitKey)>::deserialize(deserializer)?;
        let known = order.iter().map(|(_, key)| *key).collect();
        Ok(Self { order, known })
    }
}
