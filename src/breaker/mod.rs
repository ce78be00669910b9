//! The circuit breaker of one (tenant, provider), as a pure state machine.
//!
//! The pattern is Nygard's (*Release It!*): **closed** lets requests pass and counts how they end;
//! **open** refuses them for a time; **half-open** lets a few probes pass, and their results decide
//! between the two. Failures in a row trip it at once; the failures' share of a sliding window trips
//! it where successes come in between, but never before `minimum_requests`; the slow calls' share
//! likewise.
//!
//! What differs from a breaker that lives in one process:
//!
//! - It changes by [`Breaker::apply`] only, and each [`Input`] is an entry of the log. Time is the
//!   entry's stamp. Two breakers that were given the same inputs are equal, on whatever worker.
//! - Half-open is judged by results of requests that *claimed* a slot in the log, and by nothing
//!   else. A slot is a lease: its result, its release or its deadline frees it, so lost probes
//!   cannot wedge the breaker. After the open time it stays open until somebody claims: nothing
//!   happens by time alone.
//! - A result whose call began before the latest transition says nothing of the present state and is
//!   *late*. One that nobody claimed, while open or half-open, is *ignored*.
//! - An operator's force lies over the breaker's own judgement, and the emergency switch over both.
//!   While forced, what lies beneath stays as it is.
//!
//! What always holds: an input changes a breaker the same way on every worker; leases never exceed
//! `half_open_max_calls` as it was when each was granted; the window is empty after a close; no
//! wait, however long, costs more than a fixed number of steps.
//!
//! It does not know requests that it refused: those cost it nothing, and are counted where they are
//! refused. A probe slower than `latency_threshold_ms` counts as a failed one, since closing on it
//! would only open again.
//!
//! A log whose clock is set back by minutes (a leader with a wrong clock) empties windows and starts
//! deadlines anew: [`Input::ClockSetBack`].

mod digest;
mod gate;
mod machine;
mod operators;
mod probes;
mod saved;
mod settings;
#[cfg(test)]
mod tests;
mod transition;
mod view;
mod window;

pub use gate::{Gate, Position};
pub use machine::{Breaker, Claim, Input};
pub use saved::Saved;
pub use settings::{Settings, SettingsDraft, SettingsFault};
pub use transition::{Cause, Effect, Judged, State, Transition, Verdict};
pub use view::View;
pub use window::{BUCKETS, Counts, Sample, Window};
