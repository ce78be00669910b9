//! Following pushed assignments: whether they are taken, and whether they end in time.
//!
//! What is pushed is tracked until its result stands in the log. An executor's refusal and a missed
//! deadline are evidence like a result, and enter the log as such. A deadline that fell while the log
//! did not move, or shortly after, says nothing of the provider: its result may be on the way, and it
//! is dropped untold.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::Worker;
use crate::domain::{Status, Tick};
use crate::log::{Ended, Entry};
use crate::telemetry::TraceParent;
use crate::telemetry::labels::{Assignment as Counted, Source};
use crate::wire::{AckStatus, Content, decode_ack};

/// A deadline within this time of a stall is not told.
const STALL_SHADOW_MS: u64 = 10_000;
/// How often deadlines are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// How many refusals and timeouts are told at once.
const TELL_AT_ONCE: usize = 64;

/// A pushed assignment that has not ended.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// Whose.
    pub tenant_id: Arc<str>,
    /// Who serves it.
    pub provider_id: Arc<str>,
    /// The request.
    pub request_id: Arc<str>,
    /// When it was pushed.
    pub issued: Tick,
    /// When it should have ended.
    pub deadline: Tick,
    /// The decision's span, if it was recorded.
    pub trace: Option<TraceParent>,
}

/// What this worker has pushed and not seen the end of.
#[derive(Debug)]
pub struct Assignments {
    inner: Mutex<Inner>,
    count: AtomicUsize,
    most: usize,
}

#[derive(Debug, Default)]
struct Inner {
    tracked: HashMap<Arc<str>, Tracked>,
    deadlines: BinaryHeap<Reverse<(Tick, Arc<str>)>>,
}

impl Assignments {
    /// Tracks at most `most` at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { inner: Mutex::default(), count: AtomicUsize::new(0), most }
    }

    /// Begins to track; `false` if as many as may be are tracked already.
    pub fn track(&self, assignment_id: &str, tracked: Tracked) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.tracked.len() >= self.most {
            return false;
        }
        let id: Arc<str> = assignment_id.into();
        inner.deadlines.push(Reverse((tracked.deadline, Arc::clone(&id))));
        inner.tracked.insert(id, tracked);
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        true
    }

    /// Ends an assignment, if it was tracked. Its deadline is forgotten when it comes.
    pub fn ended(&self, assignment_id: &str) -> Option<Tracked> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let tracked = inner.tracked.remove(assignment_id);
        // Deadlines of what has ended are kept until they are due; where most are, they are cleared.
        if inner.deadlines.len() > 64 && inner.deadlines.len() > inner.tracked.len() * 4 {
            let Inner { tracked, deadlines } = &mut *inner;
            deadlines.retain(|Reverse((_, id))| tracked.contains_key(id));
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        tracked
    }

    /// How many are tracked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn due(&self, now: Tick) -> Vec<(Arc<str>, Tracked)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while inner.deadlines.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now) {
            if let Some(Reverse((_, id))) = inner.deadlines.pop()
                && let Some(tracked) = inner.tracked.remove(&id)
            {
                due.push((id, tracked));
            }
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        due
    }
}

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

/// Hears acknowledgements and acts on those of this worker's assignments.
pub async fn hear_acks(worker: Arc<Worker>, stop: CancellationToken) {
    let Ok(mut acks) = worker.traffic.subscribe(&worker.settings.names.exec_ack, None) else { return };
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = acks.next() => match message {
                Some(message) => message,
                None => return,
            },
        };
        let message = match message.as_ref().read() {
            Ok(message) => message,
            Err(malformed) => {
                worker.link.note_malformed(Source::Ack, malformed, &worker.metrics);
                continue;
            }
        };
        let Ok(content) = Content::of(&message.headers, message.payload) else { continue };
        let Ok(ack) = decode_ack(content, message.payload) else { continue };
        match ack.status {
            AckStatus::Accepted => {
                if worker.assignments.is_tracked(&ack.assignment_id) {
                    worker.metrics.assignments.inc(Counted::Acked);
                }
            }
            AckStatus::Rejected | AckStatus::Error => {
                let Some(tracked) = worker.assignments.ended(&ack.assignment_id) else { continue };
                let counted =
                    if ack.status == AckStatus::Rejected { Counted::Rejected } else { Counted::Error };
                let (worker, id) = (Arc::clone(&worker), ack.assignment_id.into_owned());
                // At most as many as are tracked.
                tokio::spawn(async move { tell(&worker, &id, &tracked, Status::Error, counted).await });
            }
        }
    }
}

impl Assignments {
    fn is_tracked(&self, assignment_id: &str) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).tracked.contains_key(assignment_id)
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
            tracing::warn!(
                event = "assignment_end_untold",
                tenant_id = &*tracked.tenant_id,
                provider_id = &*tracked.provider_id,
                assignment_id = id,
                status = status.as_str(),
                error = %error,
                trace_id = tracked.trace.map(|t| t.trace_id_hex())
            );
        }
    };
}
