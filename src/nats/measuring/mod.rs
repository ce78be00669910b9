//! The other side of a measurement: who asks, who reports results, and the floor that decisions are
//! compared with.
//!
//! Who asks and who reports go through the client library that most programs in Rust use, so that what is
//! measured is the responder and not a cleverer client. The asker shares the machine's cores with broker and
//! responder, as clients do on a small machine; it is the same one for the floor and for the router, and
//! a program that measures says so.

mod asker;
mod floor;
mod latencies;
mod pacing;
mod results;
mod stock;
mod tap;

pub use asker::{Asked, AskerFailed, Load, Questions, ask};
pub use floor::{EchoOver, echo};
pub use latencies::Latencies;
pub use results::{Reported, Reports, report_at, tenant_id};
pub use stock::{LogSize, log_size};
pub use tap::{Tap, Volume};
