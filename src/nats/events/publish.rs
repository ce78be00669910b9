use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::late::{Late, Window, missing};
use super::{Event, QUEUE};
use crate::nats::Worker;
use crate::telemetry::labels::Publish;

/// Between tries.
const RETRY: Duration = Duration::from_millis(500);

/// Publishes what is queued, one after the other, each until the broker has it.
pub async fn run(worker: Arc<Worker>, queue: mpsc::Receiver<Event>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = publish_all(&worker, queue) => {}
    }
}

async fn publish_all(worker: &Worker, mut queue: mpsc::Receiver<Event>) {
    let mut window = Window::default();
    while let Some(event) = queue.recv().await {
        if !is_late(worker, &mut window, &event).await {
            publish(worker, &event).await;
            continue;
        }
        // Those behind it are late too, and one look is enough for all.
        let mut events = vec![event];
        while events.len() < QUEUE
            && let Ok(event) = queue.try_recv()
        {
            events.push(event);
        }
        for event in unpublished(worker, events).await {
            publish(worker, &event).await;
        }
    }
}

/// Whether the stream may not drop a copy of this event any more.
async fn is_late(worker: &Worker, window: &mut Window, event: &Event) -> bool {
    loop {
        let age_ms = event.entry.map_or(0, |entry| worker.clock.stamp().since(entry));
        if let Some(late) = window.is_late(age_ms, worker.clock.tick()) {
            return late;
        }
        if !window.read(worker).await {
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Those of late events that the stream does not hold, in order.
async fn unpublished(worker: &Worker, events: Vec<Event>) -> VecDeque<Event> {
    let late = events.len();
    loop {
        match missing(worker, Late::new(&events)).await {
            Ok(missing) => {
                let rest: VecDeque<_> =
                    events.into_iter().filter(|event| missing.contains(&event.id)).collect();
                tracing::info!(event = "events_late", late, standing = late - rest.len());
                return rest;
            }
            Err(error) => {
                let error = error.to_string();
                if let Some(stands_for) = worker.line_due("event_not_published", &error) {
                    tracing::warn!(event = "event_not_published", error, subject = "", stands_for);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Publishes one until the broker has it.
async fn publish(worker: &Worker, event: &Event) {
    loop {
        let subject = format!("{}{}", worker.settings.names.events_prefix, event.subject);
        let body = serde_json::to_vec(&event.body).unwrap_or_default();
        let message = PublishMessage::build().payload(body.into()).message_id(&event.id);
        match worker.publish(&subject, message).await {
            Ok(_) => return,
            Err(error) => {
                worker.metrics.nats_publish_failures.inc(Publish::Event);
                let (error, subject) = (error.to_string(), event.subject.as_str());
                if let Some(stands_for) = worker.line_due("event_not_published", &error) {
                    tracing::warn!(event = "event_not_published", error, subject, stands_for);
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
