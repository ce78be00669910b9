//! How far a log has been metered.
//!
//! Who makes the consumer anew begins behind that, and so does, if it can, a fold at its start: what is not metered yet
//! is then judged again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::context::ConsumerInfoErrorKind;
use beamline_nats::jetstream::Select;

use super::{AT_ONCE, CONSUMER};
use crate::nats::Worker;
use crate::nats::stored::StreamReader;

/// How long a start waits to learn how far the log has been metered.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// How many of the last events are looked at to see how far it had come: results are metered side by
/// side, so the last event need not be the furthest.
const LAST_EVENTS: u64 = AT_ONCE as u64;
/// Where an event's result stands: when the log was made, in nanoseconds since the Unix epoch, and the
/// sequence.
pub(super) const PLACE: &str = "Beamline-Log-Place";

/// How far the consumer has come in a log without a gap, as far as this worker has seen.
#[derive(Debug, Default)]
pub(super) struct Far(Mutex<Option<Place>>);

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// When the log was made.
    pub(super) made: i128,
    pub(super) position: u64,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (made, position) = text.split_once('.')?;
        Some(Self { made: made.parse().ok()?, position: position.parse().ok()? })
    }

    pub(super) fn text(self) -> String {
        format!("{}.{}", self.made, self.position)
    }
}

impl Far {
    pub(super) fn note(&self, place: Place, worker: &Worker) {
        // Nobody asks for the verdicts behind it any more.
        if worker.ledger.progress().borrow().made == place.made {
            worker.verdicts.forget_up_to(place.position);
        }
        // Lower than before, where the log was put back to an older state.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(place);
        worker.metrics.usage_position.set(place.position);
    }

    pub(super) fn of(&self, made: i128) -> Option<u64> {
        let far = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        far.filter(|place| place.made == made).map(|place| place.position)
    }
}

/// How far a log has been metered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::nats) struct Metered {
    /// All results up to there; the greatest number if there are no others.
    pub(in crate::nats) up_to: u64,
    /// Whether the log still has its first entry.
    pub(in crate::nats) whole: bool,
}

/// How far the log has been metered, for the fold to begin behind it. `None` where this worker meters nothing, or nobody
/// answers.
pub(in crate::nats) async fn metered(worker: &Worker) -> Option<Metered> {
    if !worker.settings.usage_metering {
        return None;
    }
    let asked = async {
        let stream = worker.jetstream.get_stream(&worker.settings.names.log_stream).await.ok()?;
        let up_to = match stream.consumer_info(CONSUMER).await {
            Ok(info) if info.num_pending == 0 && info.num_ack_pending == 0 => u64::MAX,
            Ok(info) => info.ack_floor.stream_sequence,
            Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
                last_metered(worker, stream.cached_info().created.unix_timestamp_nanos()).await.ok()?
            }
            Err(_) => return None,
        };
        Some(Metered { up_to, whole: stream.cached_info().state.first_sequence <= 1 })
    };
    tokio::time::timeout(START_PATIENCE, asked).await.ok().flatten()
}

/// The furthest place in this log that the last usage events name; 0 if none does.
pub(super) async fn last_metered(worker: &Worker, made: i128) -> Result<u64, async_nats::Error> {
    let kept = worker.jetstream.get_stream(&worker.settings.names.usage_stream).await?;
    let last = kept.cached_info().state.last_sequence;
    let messages = StreamReader::of(worker, &worker.settings.names.usage_stream);
    let mut furthest = 0;
    for sequence in last.saturating_sub(LAST_EVENTS - 1).max(1)..=last {
        // One that is gone names none.
        let Ok(event) = messages.get(Select::At(sequence)).await else { continue };
        let headers = event.headers().unwrap_or_default();
        let place = headers.get(PLACE).and_then(Place::parse);
        if let Some(place) = place.filter(|place| place.made == made) {
            furthest = furthest.max(place.position);
        }
    }
    Ok(furthest)
}
