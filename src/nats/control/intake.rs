use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use beamline_nats::{Message, Subscriber};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::lanes::{LONGEST_WAIT_MS, Lanes, Next, Offered, lane_of};
use super::{ControlError, one, refuse, verb_of};
use crate::domain::{ErrorCode, Tick};
use crate::nats::Worker;
use crate::nats::pulse::Pulse;
use crate::telemetry::labels::{Label as _, Lane, Queue};

/// A request, and when it was taken off its subscription.
struct Request {
    message: Message,
    arrived: Tick,
}

/// Takes control requests, gives them their places and carries them out. Who goes when is for [`Lanes`] to say.
pub(super) struct Intake {
    worker: Arc<Worker>,
    lanes: Mutex<Lanes<Request>>,
    /// A request began to wait.
    waits: Notify,
    tasks: TaskTracker,
}

impl Intake {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        Self { worker, lanes: Mutex::default(), waits: Notify::new(), tasks: TaskTracker::new() }
    }

    /// Takes what comes until nothing more can. What may have waited in the socket of a worker that stood
    /// still is refused: its asker has given up, and newer requests may have been carried out meanwhile.
    pub(super) async fn take_all(self: &Arc<Self>, verbs: &mut Subscriber) {
        let (worker, longest) = (&self.worker, Duration::from_millis(LONGEST_WAIT_MS));
        let mut pulse = Pulse::begin(worker, longest, "control");
        loop {
            let (messages, all) = tokio::select! {
                biased;
                all = pulse.beat() => (None, all),
                messages = verbs.next_batch() => match messages {
                    Some(messages) => (Some(messages), false),
                    None => return,
                },
            };
            let stood_still = pulse.feel(worker, &worker.traffic);
            let stale = pulse.is_stale();
            if let Some(messages) = messages {
                messages.messages().for_each(|message| self.take(message, stale));
            }
            if all {
                // They may have been put between the two looks.
                while let Some(messages) = verbs.try_next_batch() {
                    messages.messages().for_each(|message| self.take(message, true));
                }
                if !stood_still {
                    pulse.end_stale();
                }
            }
        }
    }

    /// Waits until all that was taken is answered.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Refuses those that have waited too long; never ends.
    pub(super) async fn refuse_late(&self) {
        loop {
            let due = self.lanes().next_late();
            match due {
                None => self.waits.notified().await,
                Some(due) => {
                    let left = due.since(self.worker.clock.tick());
                    tokio::time::sleep(Duration::from_millis(left)).await;
                    let late = self.lanes().late(self.worker.clock.tick());
                    self.show();
                    late.into_iter().for_each(|late| self.refuse(late.message, "it waited too long"));
                }
            }
        }
    }

    fn take(self: &Arc<Self>, message: Message, stale: bool) {
        if stale {
            return self.refuse(message, "this worker stood still, and the request may have waited too long");
        }
        let (lane, size) = (lane_of(verb_of(&self.worker, &message)), message.as_ref().bytes());
        let now = self.worker.clock.tick();
        let offered = self.lanes().offer(lane, Request { message, arrived: now }, size, now);
        match offered {
            Offered::Begins(request) => {
                let intake = Arc::clone(self);
                self.tasks.spawn(async move { intake.carry_out(lane, request).await });
            }
            Offered::Waits => self.waits.notify_one(),
            Offered::Refused(request) => self.refuse(request.message, "too many control requests wait"),
        }
        self.show();
    }

    /// Carries out a request, and then those that get its place.
    async fn carry_out(&self, lane: Lane, first: Request) {
        let mut next = Some(first);
        while let Some(Request { message, arrived }) = next.take() {
            one(&self.worker, message, arrived).await;
            let Next { late, begins } = self.lanes().done(lane, self.worker.clock.tick());
            self.show();
            late.into_iter().for_each(|late| self.refuse(late.message, "it waited too long"));
            next = begins;
        }
    }

    /// Nothing of it was done, so asking again is safe.
    fn refuse(&self, message: Message, why: &str) {
        self.worker.metrics.queue_refused.inc(Queue::Control);
        let details = Some(json!({ "retry_after_ms": LONGEST_WAIT_MS }));
        let error =
            ControlError { details, ..ControlError::new(ErrorCode::Overloaded, format!("{why}; try again")) };
        refuse(&self.worker, &message, &error);
    }

    fn show(&self) {
        let lanes = self.lanes();
        for lane in Lane::ALL {
            let waiting = u64::try_from(lanes.waiting(*lane)).unwrap_or(u64::MAX);
            self.worker.metrics.control_waiting.set(*lane, waiting);
        }
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes<Request>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
