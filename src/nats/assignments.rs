//! Following pushed assignments: whether they are taken, and whether they end in time.
//!
//! What is pushed is tracked until its result stands in the log. An executor's refusal and a missed
//! deadline are evidence like a result, and enter the log as such. A deadline that fell while the log
//! did not move, or shortly after, says nothing of the provider: its result may be on the way, and it
//! is dropped untold.

mod acks;
mod no_executor;
mod table;

pub use acks::hear as hear_acks;
pub use no_executor::Unreceived;
pub use table::{Assignments, Tracked};

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::domain::{Status, Tick};
use crate::log::{Ended, Entry};
use crate::telemetry::labels::Assignment as Counted;

/// A deadline within this time of a stall is not told.
const STALL_SHADOW_MS: u64 = 10_000;
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// How many refusals and timeouts are told at once.
const TELL_AT_ONCE: usize = 64;

/// Tells the log of assignments whose deadline has passed.
pub async fn sweep(worker: Arc<Worker>, stop: CancellationToken) {
    let mut ticker = tokio::time::interval(SWEEP);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticker.tick() => {}
        }
        let now = worker.clock.tick();
        worker.metrics.assignments_in_flight.set(i64::try_from(worker.assignments.len()).unwrap_or(i64::MAX));
        let due = worker.assignments.due(now);
        futures_util::stream::iter(due)
            .for_each_concurrent(TELL_AT_ONCE, |(id, tracked)| {
                let worker = Arc::clone(&worker);
                async move {
                    let stalled = worker.link.stalled_at();
                    let shadowed = |at: Tick| tracked.deadline.0 <= at.0.saturating_add(STALL_SHADOW_MS);
                    if !worker.link.is_up() || stalled.is_some_and(shadowed) {
                        worker.metrics.assignments.inc(Counted::Untold);
                        return;
                    }
                    tell(&worker, &id, &tracked, Status::Timeout, Counted::Timeout).await;
                }
            })
            .await;
    }
}

async fn tell(worker: &Worker, id: &str, tracked: &Tracked, status: Status, counted: Counted) {
    let entry = Entry::Ended(Ended {
        tenant_id: Cow::Borrowed(&tracked.tenant_id),
        provider_id: Cow::Borrowed(&tracked.provider_id),
        request_id: Cow::Borrowed(&tracked.request_id),
        assignment_id: Cow::Borrowed(id),
        status,
        elapsed_ms: worker.clock.tick().since(tracked.issued),
    });
    let unique = format!("ended.{id}");
    match worker.append(&entry, Some(&unique)).await {
        Ok(_) => worker.metrics.assignments.inc(counted),
        Err(error) => {
            worker.metrics.assignments.inc(Counted::Untold);
            let error = error.to_string();
            if let Some(stands_for) = worker.line_due("assignment_end_untold", &error) {
                tracing::warn!(
                    event = "assignment_end_untold",
                    tenant_id = &*tracked.tenant_id,
                    provider_id = &*tracked.provider_id,
                    assignment_id = id,
                    status = status.as_str(),
                    error,
                    trace_id = tracked.trace.map(|t| t.trace_id_hex()),
                    stands_for
                );
            }
        }
    };
}
