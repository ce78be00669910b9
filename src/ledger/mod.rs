//! The log and what it adds up to.
//!
//! Whatever changes a breaker is an [`Entry`](crate::log::Entry) of one ordered stream: results of provider calls, and
//! what the router adds itself. [`Fold`] applies them in order. Two folds that applied the same
//! entries hold the same state, since an entry's effect depends on nothing but the entry, its
//! position, its stamp and the state: no clock, no randomness, no iteration over a hash map, integers
//! only. [`Fold::digest`] makes that checkable.
//!
//! **Time** is the greatest stamp seen. A stamp more than five minutes behind it means that the clock
//! which made it was wrong before (or is now): time is set back, windows empty and deadlines start
//! anew.
//!
//! **Identity.** A result counts once, however often it was published or delivered. The fold remembers the
//! identities of two minutes, and a million at least, with a share for each tenant; before, [`Seen`] remembers the last
//! million of all. The first of result, refusal and timeout of an assignment counts.
//!
//! **Versions.** A change of what an entry does has a [`FoldVersion`](crate::log::FoldVersion). It holds from the entry
//! on that raises the version, which is written once all workers have it; before, the older rules hold. A version that
//! this program does not have is not applied ([`Fold::unsupported`]).
//!
//! **Policies** come as whole documents. The newest revision of each holds, whatever the order in which
//! revisions arrive. One breaker stands for each (tenant, provider) that some policy names; keys on the
//! wire make none.
//!
//! **Evidence of rollouts** is a fold of its own ([`Evidence`](crate::rollout::evidence::Evidence)) that this one
//! gives each entry to, with what it knows of it.
//!
//! An entry whose kind or version is not known changes nothing and is told ([`What::Unknown`]), so that
//! workers of two versions can run side by side for the time of an upgrade.

mod agreement;
mod ahead;
mod applied;
mod digest;
mod facts;
mod fold;
mod foresee;
mod identities;
mod in_force;
mod judge;
mod overlays;
mod pool;
mod register;
mod roster;
mod seen;
mod snapshot;
mod step;
mod tenant_facts;
#[cfg(test)]
mod tests;
mod verdicts;
mod version;

pub use agreement::{Finding, Own, Recorded, Remade, bounded, compare};
pub use ahead::AHEAD;
pub use applied::{Applied, Moved, What};
pub use fold::Fold;
pub use in_force::Repeated;
pub use overlays::{LaidOver, Leaver, Overlays, Rollout};
pub use register::{FlagRecord, Flags, Laid, Live, Newest, Owner, PolicyChange, PolicyRecord, Register};
pub use seen::{Kind, Seen};
pub use snapshot::{SnapshotError, place_of};
pub use verdicts::{MOST_PAGES, Metering, Verdicts};
pub use version::version_for;
