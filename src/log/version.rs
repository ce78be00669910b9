use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of the rules by which the fold applies entries. Workers of two versions would come to different states,
/// so a version holds from a [`FoldVersionEntry`] on, which is written once every worker has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FoldVersion(pub u32);

impl FoldVersion {
    /// The rules of a log without such an entry.
    pub const FIRST: Self = Self(1);
    /// Results are known by a keyed hash.
    pub const KEYED_IDENTITIES: Self = Self(2);
    /// A tenant is in one rollout.
    pub const ONE_ROLLOUT_EACH: Self = Self(2);
    /// An open circuit counts the first 1,000 calls of other tenants.
    pub const BOUNDED_OPENS: Self = Self(2);
    /// A policy lists where its assignments may go.
    pub const ASSIGNMENT_SUBJECTS: Self = Self(3);
    /// Results longer than 64 KiB are rejected, and of their protobuf form what is not used is skipped unread.
    pub const BOUNDED_RESULTS: Self = Self(3);
    /// Identities of results are remembered by log time, in shares of their tenants.
    pub const TIMED_IDENTITIES: Self = Self(3);
    /// A force, a reset and a switch change nothing past the latest stamp that they bear.
    pub const TIMELY_COMMANDS: Self = Self(4);
    /// A claim may take over the slot of another one.
    pub const TAKEN_LEASES: Self = Self(4);
    /// The last version that this program has.
    pub const NEWEST: Self = Self::TIMELY_COMMANDS;
}

impl Default for FoldVersion {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for FoldVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key that only those know who may read the log.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityKey(pub [u64; 2]);

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey")
    }
}

/// From here on the fold applies the rules of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldVersionEntry {
    /// Which.
    pub version: FoldVersion,
    /// Drawn at random by its writer; results are known by it from now on.
    pub identity_key: IdentityKey,
}
