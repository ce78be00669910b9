use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use beamline_nats::{Message, Subscriber};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::lanes::{LONGEST_WAIT_MS, Lanes, Next, Offered, lane_of};
use super::{ControlError, one, refuse, verb_of};
use crate::domain::ErrorCode;
use crate::nats::Worker;
use crate::telemetry::labels::{Label as _, Lane, Queue};

/// Takes control requests, gives them their places and carries them out. Who goes when is for [`Lanes`] to say.
pub(super) struct Intake {
    worker: Arc<Worker>,
    lanes: Mutex<Lanes<Message>>,
    /// A request began to wait.
    waits: Notify,
    tasks: TaskTracker,
}

impl Intake {
    pub(super) fn new(worker: Arc<Worker>) -> Self {
        Self { worker, lanes: Mutex::default(), waits: Notify::new(), tasks: TaskTracker::new() }
    }

    /// Takes what comes until nothing more can.
    pub(super) async fn take_all(self: &Arc<Self>, verbs: &mut Subscriber) {
        while let Some(message) = verbs.next().await {
            self.take(message);
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
                    late.into_iter().for_each(|message| self.refuse(message, "it waited too long"));
                }
            }
        }
    }

    fn take(self: &Arc<Self>, message: Message) {
        let (lane, size) = (lane_of(verb_of(&self.worker, &message)), message.as_ref().bytes());
        let offered = self.lanes().offer(lane, message, size, self.worker.clock.tick());
        match offered {
            Offered::Begins(message) => {
                let intake = Arc::clone(self);
                self.tasks.spawn(async move { intake.carry_out(lane, message).await });
            }
            Offered::Waits => self.waits.notify_one(),
            Offered::Refused(message) => self.refuse(message, "too many control requests wait"),
        }
        self.show();
    }

    /// Carries out a request, and then those that get its place.
    async fn carry_out(&self, lane: Lane, first: Message) {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            one(&self.worker, message).await;
            let Next { late, begins } = self.lanes().done(lane, self.worker.clock.tick());
            self.show();
            late.into_iter().for_each(|message| self.refuse(message, "it waited too long"));
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

    fn lanes(&self) -> MutexGuard<'_, Lanes<Message>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
