//! Reading many revisions of a bucket: with one consumer over the connection that survives what others write.
//!
//! One request for each revision takes a round trip each. The consumer is made anew from where it was if it
//! dies or if a delivery is missing.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use beamline_nats::encode::Outgoing;
use beamline_nats::jetstream::{Delivery, Place};
use beamline_nats::{MessageRef, Subscriber};

use super::course::{Course, Missed, Start};
use super::{Bucket, BucketError, Source, Stored, stored};
use crate::domain::Stamp;
use crate::nats::Worker;
use crate::nats::delivered::{PATIENCE, SILENCE, Wanted, deliver};

/// How long a consumer outlives its reader that could not remove it.
const INACTIVE: Duration = Duration::from_secs(10);
/// Between two consumers.
const RETRY: Duration = Duration::from_millis(250);

impl Bucket {
    /// Reads up to where the bucket ends now, at `end`, and gives each revision with its key. A revision may
    /// be followed by a newer one of its key, whatever the start.
    ///
    /// # Errors
    /// [`BucketError::Broker`].
    pub async fn read(
        &self,
        worker: &Worker,
        start: Start,
        end: u64,
        mut take: impl FnMut(String, Stored),
    ) -> Result<(), BucketError> {
        let mut course = Course::new(start, end);
        let mut failed = String::new();
        while let Some(start) = course.begin() {
            match self.follow(worker, start, &mut course, &mut take).await {
                Ok(()) => return Ok(()),
                Err(reason) => failed = reason,
            }
            tokio::time::sleep(RETRY).await;
        }
        Err(BucketError::Broker(failed))
    }

    /// Makes a consumer and takes what it delivers, to the end or until something is wrong.
    async fn follow(
        &self,
        worker: &Worker,
        start: Start,
        course: &mut Course,
        take: &mut impl FnMut(String, Stored),
    ) -> Result<(), String> {
        let wanted = Wanted {
            from: match start {
                Start::At(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
                Start::LastOfEach => DeliverPolicy::LastPerSubject,
            },
            subjects: self.subject(">"),
            outlives: INACTIVE,
            description: format!("comparison by {}", worker.settings.worker_name),
        };
        let (mut deliveries, info) = deliver(worker, &format!("KV_{}", self.name), wanted).await?;
        let result = if info.num_pending == 0 {
            Ok(())
        } else {
            self.take_all(worker, &mut deliveries, course, take).await
        };
        drop(deliveries);
        // It goes by itself a little later, too.
        let _ = tokio::time::timeout(PATIENCE, self.stream.delete_consumer(&info.name)).await;
        result
    }

    async fn take_all(
        &self,
        worker: &Worker,
        deliveries: &mut Subscriber,
        course: &mut Course,
        take: &mut impl FnMut(String, Stored),
    ) -> Result<(), String> {
        let mut silent = std::pin::pin!(tokio::time::sleep(SILENCE));
        loop {
            let batch = tokio::select! {
                batch = deliveries.next_batch() => batch.ok_or("the connection is closed")?,
                () = &mut silent => return Err("the consumer delivers nothing".to_owned()),
            };
            for message in batch.iter() {
                let reply = match Delivery::of(&message) {
                    Delivery::Message(place) => {
                        let last = course.take(&place).map_err(|Missed| "a delivery is missing")?;
                        let (key, stored) = self.delivered(&message, &place);
                        take(key, stored);
                        if last {
                            return Ok(());
                        }
                        silent.set(tokio::time::sleep(SILENCE));
                        continue;
                    }
                    Delivery::FlowControl(reply) => reply,
                    Delivery::Heartbeat(heartbeat) => match heartbeat.stalled {
                        Some(reply) => reply,
                        None => continue,
                    },
                    Delivery::Status { .. } | Delivery::Foreign => continue,
                };
                // The consumer waits for it; without an answer it is made anew.
                let _ = worker.traffic.publish(&Outgoing::new(reply, b""));
            }
        }
    }

    fn delivered(&self, message: &MessageRef<'_>, place: &Place) -> (String, Stored) {
        let subject = String::from_utf8_lossy(message.subject_bytes());
        let key = self.key_of(&subject).to_owned();
        let source = Source {
            revision: place.stream,
            at: String::new(),
            stamp: Stamp(place.nanos / 1_000_000),
            payload: message.payload().to_vec().into(),
        };
        (key, stored(source, message.headers()))
    }
}
