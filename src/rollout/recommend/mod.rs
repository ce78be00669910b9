//! Which breaker settings suit a tenant, by replaying what the log holds of its provider calls.
//!
//! [`Calls`] collects the results of a tenant, and those of other tenants with the same providers. [`recommend`]
//! replays them through [`Breaker`](crate::breaker::Breaker) once for each setting of a fixed [grid](candidates) and for
//! the present one, and compares what each would have done:
//!
//! - A call that begins while the replayed circuit is open, or half-open without a free slot, is *refused*: a success
//!   refused or a failure spared. Its result never reaches the replayed breaker. Once the open time is over the next
//!   call claims a probe.
//! - An *outage* is found without a breaker: at least eight of ten calls in a row fail. The detection delay is the time
//!   from its first failure to the first open.
//! - An open is *needless* if fewer than half of the calls failed that began just after it. These calls were made, since
//!   the log holds their results: the tenant's own, and where they are too few those of other tenants.
//! - A call that was made although a breaker refused it, its refusal not being enforced, stands for those of treated
//!   requests that the same breaker removed from the log. Where `share` percent are treated it weighs
//!   100 / (100 − share).
//!
//! The best setting is one whose gain, failures spared less successes refused, comes within 5 % of the greatest. Of
//! these it is the one with the fewest needless opens, then the fewest outages missed, the shortest delay, and the fewest
//! changes to the present settings. With fewer than [`MIN_CALLS`] calls there is no recommendation.
//!
//! What always holds: equal calls give equal figures; all arithmetic is on integers; memory and work are bounded by the
//! bound of [`Calls::new`] times the length of the grid.
//!
//! What a replay cannot know: calls that a real breaker refused are not in the log, and fallbacks that a refusal would
//! have caused are not made.

mod calls;
mod choice;
mod grid;
mod outages;
mod replay;
#[cfg(test)]
mod tests;

pub use calls::Calls;
pub use choice::{Best, MIN_CALLS, NoChoice, Recommendation, Row, recommend};
pub use grid::candidates;
pub use replay::Replayed;
