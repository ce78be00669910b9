//! The evidence of rollouts: entries of the log become *units*, and units become *blocks*, counts of both arms in a
//! window of log time.
//!
//! [`Evidence`] is a fold that runs beside the breakers' fold, over the same log. It looks only at tenants that a
//! running rollout names. An entry's effect depends on nothing but the entry, its place, the state, and what the
//! breakers' fold knows of it ([`EntryFacts`]); so every worker makes the same blocks, and
//! [`EvidenceBlock::digest`] makes that checkable.
//!
//! **Unit.** One request id of a tenant, from its first entry (a result, an [`Ended`](crate::log::Ended), or a
//! [`Met`](crate::log::Met)) until `settle` later. Its first entry fixes its window. It is a success if any call
//! succeeded; else failed if a call failed or a reply was without a provider; else it has no outcome. Entries of a
//! settled unit are passed over; it is remembered for ten times `settle`. A unit is *met* if it met a breaker that
//! was not closed, other than as a retry. Its arm follows from its hash and the tenant's split. Results without a
//! request id are of no unit. Only hashes of the sample count ([`is_sampled`]).
//!
//! **Cut.** A step, an edit of a tenant's policies, a clock that is set back, a purge, and a jump of time above
//! three tally intervals. A cut drops the tenant's open units and those that begin within `settle` after it, since
//! their arms are not sure. A step's cut also lasts until every live worker has read the step. What tallies count
//! during a cut is not counted.
//!
//! **Window.** Log time is fold time, plus all by which it was ever set back. Window 0 begins with the first step
//! of the rollout (of its stream: `made`), and window *n* is `floor((time − start) / block)`. A step that changes
//! `block` ends the window it falls into and begins the next: numbers go on without a gap. So they do when a
//! rollout that laid nothing over policies takes steps again.
//!
//! **Worker.** A run of a process that wrote a tally. A tally counts if it has read further than the run's one
//! before, so a copy changes nothing. A worker is lost to a rollout after three tally intervals without a tally,
//! or while it is three intervals and `settle` behind in the log. The tally interval is 10 s, or `block` where
//! that is shorter. A step, a jump and a clock set back begin all waits anew.
//!
//! **Closing.** A window closes when its end and `settle` have passed and every live worker has read past its end;
//! where nobody is there, after three intervals. Windows close in order, each once, those without units too.
//! Incomplete are those which a lost worker did not cover, those between two tallies of which the later reports a
//! met entry that is not there, those without any worker, those of a jump, and those where units did not fit. A
//! closed window does not change. It is kept until every live worker's tally reports it as judged.
//!
//! **What workers must do** for this to hold: write a tally before they serve watched tenants; write each tally
//! after the met entries that it counts have been stored; and count only sampled requests.
//!
//! **Bounds**, for each rollout: 1,048,576 open units (more are not opened: [`Losses::units`], incomplete), as many
//! settled ones (the oldest is forgotten: [`Losses::settled`]), 4,096 windows that are not closed and as many that
//! are not judged (the oldest is dropped: [`EvidenceBlock::missing`], [`Losses::windows`]), 256 opens and 1,024
//! providers for each tenant ([`Losses::opens`]), 4,096 providers. For all: [`MAX_ROLLOUTS`]
//! ([`Evidence::refused_steps`]) and [`MAX_RUNS`] of workers ([`Evidence::forgotten_workers`]). A row needs units
//! or requests, so windows hold no more than tenants have.
//!
//! The state is serialisable, and equal folds serialise to equal bytes: nothing iterates over a hash map. There is
//! no clock, no randomness and no float here.

mod block;
mod calls;
mod clock;
mod facts;
mod fold;
mod histogram;
mod liveness;
mod lost;
mod marks;
mod sample;
mod tenant;
#[cfg(test)]
mod tests;
mod units;
mod watch;
mod windows;
mod workers;

pub use block::{EvidenceBlock, OpenRecord, TenantRow};
pub use facts::{Call, CallEnd, EntryFacts, Leaving, Move};
pub use fold::{Evidence, MAX_ROLLOUTS};
pub use histogram::LatencyHistogram;
pub use liveness::TALLY_MS;
pub use lost::Lost;
pub use sample::is_sampled;
pub use units::REMEMBERED;
pub use watch::Losses;
pub use windows::MAX_WINDOWS;
pub use workers::MAX_RUNS;
