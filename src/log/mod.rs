//! The entries of the log: what executors, operators and workers add to it, as values.
//!
//! How an entry stands in a message is in [`crate::wire`], what it does in [`crate::ledger`] and, for those of a
//! rollout, in [`crate::rollout`].

mod entry;
mod rollout;
mod version;

pub use entry::{At, ClaimEntry, Ended, Entry, FlagEntry, ForceEntry, ForceTo, PolicyEntry, Revision, Scope};
pub use rollout::{
    ArmTotals, EvidenceSettings, Fate, JudgedWindow, Met, MetEntry, OverlaySettings, Share, StepEntry,
    StepInForce, StepNumber, TallyEntry, WorkerRun,
};
pub use version::{FoldVersion, FoldVersionEntry, IdentityKey};
