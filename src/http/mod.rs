//! HTTP: what monitors and people read from this worker.
//!
//! `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops processes, the
//! console at `/` for people, and `/api/v1`, which the console lives on. The room knows the rest of the
//! program only as a [`Desk`]. It reads; only with `--console-actions` its actions change
//! something.
//!
//! It is served beside decisions and must not cost them anything: a page of metrics is made on a
//! blocking thread and two at a time, connections are bounded (`places`), and a peer that dawdles over its
//! request or over taking its answer is cut off. Health answers need none of that and so tell the truth
//! while a scrape is slow.

mod api;
mod console;
mod desk;
mod exchange;
mod places;
mod routes;
mod serve;
mod slow;

pub use desk::{
    Answer, Asked, Bucket, Decisions, Desk, Digest, Flags, Forced, Log, Nats, News, Overview, Refusal, Row,
    Transitions,
};
pub use serve::{BindError, bind, serve};

/// What callers may do, and by which names they reach this server.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Whether breakers can be forced and reset, and rollouts moved on, held and rolled back.
    pub actions: bool,
    /// Host names besides `localhost` and addresses, in lower case.
    pub hosts: Vec<String>,
}

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
