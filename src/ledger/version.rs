//! Which rules hold.

use serde_json::Value;

use super::fold::Fold;
use super::seen::{CAPACITY, MOST};
use crate::log::{Entry, FoldVersion, FoldVersionEntry};
use crate::policy;

/// The first version of the fold that takes a policy's document; programs without it refuse the document.
#[must_use]
pub fn version_for(document: &Value) -> FoldVersion {
    if document.get(policy::ASSIGNMENT_SUBJECTS).is_some() {
        FoldVersion::ASSIGNMENT_SUBJECTS
    } else {
        FoldVersion::FIRST
    }
}

impl Fold {
    /// The version of the rules that hold.
    #[must_use]
    pub const fn version(&self) -> FoldVersion {
        self.version
    }

    /// The version that an entry raises the fold to, where this program does not have it: only a newer program can
    /// apply the entry, and what follows.
    #[must_use]
    pub fn unsupported(entry: &Entry<'_>) -> Option<FoldVersion> {
        match entry {
            Entry::FoldVersion(entry) => Some(entry.version).filter(|version| *version > FoldVersion::NEWEST),
            _ => None,
        }
    }

    /// The place behind which results are known by a key; `None` before there is one.
    #[must_use]
    pub fn keyed_since(&self) -> Option<u64> {
        self.identities.keyed_since()
    }

    pub(super) fn raise(&mut self, entry: &FoldVersionEntry) -> bool {
        if entry.version <= self.version || entry.version > FoldVersion::NEWEST {
            return false;
        }
        if self.version < FoldVersion::KEYED_IDENTITIES {
            let timed = entry.version >= FoldVersion::TIMED_IDENTITIES;
            let remembered = if timed { MOST } else { CAPACITY };
            self.identities.set_key(entry.identity_key, self.at().position, remembered);
        }
        if self.version < FoldVersion::TIMED_IDENTITIES && entry.version >= FoldVersion::TIMED_IDENTITIES {
            self.seen.remember_by_time(self.now());
        }
        self.version = entry.version;
        true
    }
}
