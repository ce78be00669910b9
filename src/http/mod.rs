//! HTTP: what monitors and people read from this worker.
//!
//! `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops processes, `/`
//! for people. All of it reads and nothing writes; the room knows the rest of the program only as a
//! [`Probe`].
//!
//! It is served beside decisions and must not cost them anything: a page of metrics is made on a
//! blocking thread and two at a time, connections are bounded, and a peer that dawdles over its
//! request is cut off. Health answers need none of that and so tell the truth while a scrape is slow.

mod console;
mod routes;
mod serve;

pub use routes::router;
pub use serve::{BindError, bind, serve};

/// What the rest of the program tells this room.
pub trait Probe: Send + Sync + 'static {
    /// Whether the process works at all; one that does not should be restarted.
    fn alive(&self) -> bool;

    /// Why the worker should get no work now, each reason in a few words; ready if there is none.
    fn not_ready(&self) -> Vec<String>;

    /// The page of metrics in OpenMetrics text. May take some milliseconds; empty if it failed.
    fn metrics(&self) -> String;
}

#[cfg(test)]
mod tests;
