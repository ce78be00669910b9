use serde::{Deserialize, Serialize, Serializer};

use super::timed::{Saved, Timed};
use super::{Kind, Seen};
use crate::domain::Stamp;
use crate::ledger::snapshot::Rows;

/// The identities that are remembered, by the rules of the version that holds.
#[derive(Debug)]
pub(in crate::ledger) enum Memory {
    /// Before [`TIMED_IDENTITIES`](crate::log::FoldVersion::TIMED_IDENTITIES).
    InOrder(Seen),
    Timed(Timed),
}

impl Default for Memory {
    fn default() -> Self {
        Self::InOrder(Seen::default())
    }
}

impl Memory {
    /// Takes note of an identity of a tenant, and gives what it was seen as before, if it is remembered.
    pub(in crate::ledger) fn note(
        &mut self,
        tenant_id: &str,
        identity: u64,
        kind: Kind,
        now: Stamp,
    ) -> Option<Kind> {
        match self {
            Self::InOrder(seen) => seen.note(identity, kind),
            Self::Timed(timed) => timed.note(tenant_id, identity, kind, now),
        }
    }

    pub(in crate::ledger) fn contains(&self, identity: u64) -> bool {
        match self {
            Self::InOrder(seen) => seen.contains(identity),
            Self::Timed(timed) => timed.contains(identity),
        }
    }

    /// See [`Seen::glance`].
    pub(in crate::ledger) fn glance(&self, next: impl ExactSizeIterator<Item = u64>) -> u64 {
        match self {
            Self::InOrder(seen) => seen.glance(next),
            Self::Timed(timed) => timed.glance(next),
        }
    }

    /// Remembers by log time, and by tenant, from now on.
    pub(in crate::ledger) fn remember_by_time(&mut self, now: Stamp) {
        if let Self::InOrder(seen) = self {
            *self = Self::Timed(Timed::following(std::mem::take(seen), now));
        }
    }

    /// Whether one was forgotten early since this was last asked.
    pub(in crate::ledger) const fn take_forgotten_early(&mut self) -> bool {
        match self {
            Self::InOrder(_) => false,
            Self::Timed(timed) => timed.take_forgotten_early(),
        }
    }

    #[cfg(test)]
    pub(in crate::ledger) fn len(&self) -> usize {
        match self {
            Self::InOrder(seen) => seen.len(),
            Self::Timed(timed) => timed.len(),
        }
    }

    /// A memory by log time of another size than that of a log.
    #[cfg(test)]
    pub(in crate::ledger) fn of_size(most: usize, enough: usize, keep_ms: u64, now: Stamp) -> Self {
        Self::Timed(Timed::of_size(most, enough, keep_ms, now))
    }
}

/// Identities in log order, and whether each was last seen to end without a result.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(in crate::ledger) struct InOrder(Vec<(u64, bool)>);

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::InOrder(seen) => Rows(seen.iter().map(|(identity, kind)| (identity, kind == Kind::Ended)))
                .serialize(serializer),
            Self::Timed(timed) => timed.serialize(serializer),
        }
    }
}

impl TryFrom<InOrder> for Memory {
    type Error = &'static str;

    fn try_from(InOrder(rows): InOrder) -> Result<Self, Self::Error> {
        let mut seen = Seen::default();
        for (identity, ended) in rows {
            seen.note(identity, if ended { Kind::Ended } else { Kind::Result });
        }
        Ok(Self::InOrder(seen))
    }
}

impl TryFrom<Saved> for Memory {
    type Error = &'static str;

    fn try_from(saved: Saved) -> Result<Self, Self::Error> {
        Timed::restore(saved).map(Self::Timed)
    }
}
