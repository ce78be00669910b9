//! The document that says how a rollout goes, and the checked [`Plan`] that it becomes.
//!
//! [`parse`] reads a document as [`crate::document`] has it, all faults at once; or it gives a [`Plan`],
//! past which nothing checks again: shares rise, the shortest time of a phase is not above its longest, a
//! phase asks for more tenants than those before it, the breaker block is one that a policy may have.
//! Unknown fields are refused.
//!
//! What always holds:
//! - `parse(serialize(plan))` gives an equal plan: the serialized form is the effective document, every
//!   default filled in.
//! - A plan holds integers: rates are parts per million ([`crate::domain::Ratio`]), steps whole percent,
//!   coverage and quantiles permille, times milliseconds. The breaker block alone is kept as JSON too, for
//!   it is laid under other documents.
//! - All durations are log time, so a plan with seconds in place of days is a whole rollout in a minute.
//!
//! Warnings are for what is legal and probably not meant; they never stop a plan. What needs the tenants
//! and their traffic is not checked here: whether facts name tenants that exist, whether the phases find
//! theirs ([`choose`]), whether the evidence can suffice in the time given.

mod analysis;
mod breaker;
mod cohort;
mod document;
mod facts;
mod ladder;
mod model;
mod pattern;
mod phases;
mod selection;
#[cfg(test)]
mod tests;
mod warnings;
mod words;
mod written;

pub use analysis::{Analysis, Harm, Latency, OrAuto, Quantile, Safe};
pub use breaker::BreakerBlock;
pub use cohort::{Members, Tenant, Unmet, UnmetPhase, choose};
pub use document::{Checked, parse, parse_text};
pub use facts::{Date, Facts};
pub use ladder::Ladder;
pub use model::{Cohort, Plan};
pub use pattern::{Pattern, PatternError};
pub use phases::Phase;
pub use selection::TenantSelection;
pub use words::{Approval, Exercise, OnExhausted, Order};
