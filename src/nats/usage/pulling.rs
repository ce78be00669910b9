use std::sync::Arc;
use std::time::Duration;

use beamline_nats::encode::Outgoing;
use beamline_nats::jetstream::{Delivery, Place, Pull, PullSettings, Status, next_subject};
use beamline_nats::{Message, PublishError, Subscriber};
use futures_util::stream::Stream;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

use crate::nats::Worker;
use crate::nats::link::Connection;
use crate::nats::pulse::Pulse;

/// How long a request for results stands.
const EXPIRES: Duration = Duration::from_secs(30);
/// So many bytes come for one request: the broker cuts a connection that has 64 MiB waiting, and the log is read over
/// the same one.
const MOST_BYTES: u64 = 4 << 20;
/// How often the broker says that it does, where there are none.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether it still says so.
const LOOK: Duration = Duration::from_millis(500);
/// Before the next request, where nobody serves the consumer.
const LATER: Duration = Duration::from_millis(250);

/// Results as a pull consumer delivers them.
pub(super) struct Pulling {
    worker: Arc<Worker>,
    /// Where requests go.
    subject: String,
    inbox: String,
    deliveries: Subscriber,
    pull: Pull,
    connection: watch::Receiver<Connection>,
    /// How often the main connections had come up when what is taken now was sent, or later.
    epoch: u64,
    looks: Interval,
    /// What waited in the socket of a worker that stood still was delivered to another one long ago.
    pulse: Pulse,
}

/// A result that was delivered.
pub(super) struct Delivered {
    pub(super) message: Message,
    /// Where it stands in the log.
    pub(super) place: Place,
    /// The connection over which it came (`link::Connection::epoch`).
    pub(super) epoch: u64,
}

/// Why there are no more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the consumer is gone")]
    Gone,
    #[error("the consumer sends no heartbeats")]
    Silent,
    #[error("the connection is closed")]
    Closed,
}

impl Pulling {
    pub(super) fn begin(
        worker: &Arc<Worker>,
        stream: &str,
        consumer: &str,
        batch: u64,
    ) -> Result<Self, PublishError> {
        let inbox = worker.traffic.new_inbox();
        let deliveries = worker.traffic.subscribe(&inbox, None)?;
        let mut connection = worker.link.watch();
        let epoch = connection.borrow_and_update().epoch;
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The longest message must fit.
        let max_bytes = MOST_BYTES.max(2 * worker.traffic.max_payload() as u64);
        let settings = PullSettings { batch, max_bytes, expires: EXPIRES, heartbeat: HEARTBEAT };
        Ok(Self {
            pull: Pull::new(settings, now(worker)),
            worker: Arc::clone(worker),
            subject: next_subject(stream, consumer),
            inbox,
            deliveries,
            connection,
            epoch,
            looks,
            pulse: Pulse::begin(worker, super::ACK_WAIT, "usage"),
        })
    }

    /// All results that come, until the consumer fails.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Delivered, Ended>> {
        futures_util::stream::unfold(self, |mut pulling| async {
            let next = pulling.next().await;
            Some((next, pulling))
        })
    }

    async fn next(&mut self) -> Result<Delivered, Ended> {
        loop {
            self.ask();
            let stood_still = self.pulse.feel(&self.worker, &self.worker.traffic);
            tokio::select! {
                biased;
                message = self.deliveries.next() => {
                    let message = message.ok_or(Ended::Closed)?;
                    // Before it is looked at: the worker may have stood still until now.
                    self.pulse.feel(&self.worker, &self.worker.traffic);
                    if let Some(place) = self.take(&message).await?.filter(|_| !self.pulse.is_stale()) {
                        return Ok(Delivered { message, place, epoch: self.epoch });
                    }
                }
                all = self.pulse.beat() => if all {
                    // They may have been put between the two looks.
                    while let Some(batch) = self.deliveries.try_next_batch() {
                        for message in batch.messages() {
                            self.take(&message).await?;
                        }
                    }
                    if !stood_still {
                        self.pulse.end_stale();
                    }
                },
                changed = self.connection.changed() => {
                    if changed.is_err() {
                        return Err(Ended::Closed);
                    }
                    // Behind what was delivered before: the deliveries are looked at first.
                    self.epoch = self.connection.borrow().epoch;
                    self.pull.lost(now(&self.worker));
                }
                _ = self.looks.tick() => {
                    if self.pull.is_silent(now(&self.worker)) {
                        return Err(Ended::Silent);
                    }
                }
            }
        }
    }

    /// Takes a delivery. Gives where its result stands, if it is one.
    async fn take(&mut self, message: &Message) -> Result<Option<Place>, Ended> {
        let now = now(&self.worker);
        match Delivery::of(&message.as_ref()) {
            Delivery::Message(place) => {
                self.pull.message(now);
                return Ok(Some(place));
            }
            Delivery::Heartbeat(_) => self.pull.heartbeat(now),
            Delivery::Status { code, description, undelivered } => {
                match self.pull.status(code, description, undelivered, now) {
                    Status::GoOn => {}
                    Status::Later => tokio::time::sleep(LATER).await,
                    Status::Gone => return Err(Ended::Gone),
                }
            }
            Delivery::FlowControl(_) | Delivery::Foreign => {}
        }
        Ok(None)
    }

    /// Asks for more, if it is time to.
    fn ask(&mut self) {
        if !self.worker.link.is_up() {
            return;
        }
        if let Some(body) = self.pull.request(now(&self.worker)) {
            let reply = self.inbox.as_bytes();
            let request = Outgoing { reply, ..Outgoing::new(&self.subject, body.as_bytes()) };
            // One that is lost has no heartbeat.
            let _ = self.worker.traffic.publish(&request);
        }
    }
}

fn now(worker: &Worker) -> Duration {
    Duration::from_millis(worker.clock.tick().0)
}
