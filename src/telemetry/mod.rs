//! What operators see: metrics, traces and logs.
//!
//! This room holds names and handles and decides nothing. Rooms that do work are given a handle
//! ([`metrics::Metrics`], [`traces::Tracing`]) and pass values to it; every name that leaves the
//! process stands in [`names`]. Three rules hold for all of it:
//!
//! - Observing never blocks and never fails what is observed. Counters are atomics, spans go to a
//!   bounded queue, and what is lost is counted.
//! - Labels are closed sets ([`labels`]) or come from policies, so a peer cannot make series.
//! - No secret leaves: settings print without them, and errors of an exporter without its headers.

pub mod breakers;
pub mod histogram;
pub mod labels;
pub mod logs;
pub mod metrics;
pub mod names;
mod page;
pub mod repeats;
pub mod rollouts;
pub mod shown;
pub mod table;
pub mod traces;

pub use histogram::Gathered;
pub use metrics::{Exposition, Metrics};
pub use traces::{Facts, Incoming, Message, Outgoing, RoutingStep, SpanGuard, TraceParent, Tracing};
