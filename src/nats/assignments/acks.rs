use std::sync::Arc;

use beamline_nats::{Message, Subscriber};
use tokio_util::sync::CancellationToken;

use super::tell;
use crate::domain::Status;
use crate::nats::Worker;
use crate::telemetry::labels::{AckRefused, Assignment as Counted, Label as _, Source};
use crate::wire::subjects::token_at_star;
use crate::wire::{Ack, AckStatus, Content, decode_ack};

/// Hears acknowledgements and acts on those of this worker's assignments.
pub async fn hear(worker: Arc<Worker>, stop: CancellationToken) {
    let Some(mut acks) = subscribe(&worker) else { return };
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = acks.next() => match message {
                Some(message) => message,
                None => return,
            },
        };
        take(&worker, &message);
    }
}

/// On the subject of all tenants, and on each tenant's own.
fn subscribe(worker: &Worker) -> Option<Subscriber> {
    let mut acks = worker.traffic.subscriber();
    for subject in [&worker.settings.names.exec_ack, &worker.settings.names.exec_ack_tenants] {
        acks.subscribe(subject, None).ok()?;
    }
    Some(acks)
}

fn take(worker: &Arc<Worker>, message: &Message) {
    let message = match message.as_ref().read() {
        Ok(message) => message,
        Err(malformed) => return worker.link.note_malformed(Source::Ack, malformed, &worker.metrics),
    };
    let Ok(content) = Content::of(&message.headers, message.payload) else { return };
    let Ok(ack) = decode_ack(content, message.payload) else { return };
    // Every worker hears it; the one that pushed the assignment acts.
    let Some(tenant_id) = worker.assignments.tenant_of(&ack.assignment_id) else { return };
    let by_subject = token_at_star(&worker.settings.names.exec_ack_tenants, message.subject);
    let settings = &worker.settings;
    // A tenant without a subject of its own has that of all.
    let required =
        settings.assignments.require_tenant && settings.names.exec_assign_tenant(&tenant_id).is_some();
    if let Err(reason) = admit(&ack, by_subject, required, &tenant_id) {
        return refuse(worker, &ack, message.subject, &tenant_id, reason);
    }
    let counted = match ack.status {
        AckStatus::Accepted => return worker.metrics.assignments.inc(Counted::Acked),
        AckStatus::Rejected => Counted::Rejected,
        AckStatus::Error => Counted::Error,
    };
    let Some(tracked) = worker.assignments.ended(&ack.assignment_id) else { return };
    let (worker, id) = (Arc::clone(worker), ack.assignment_id.into_owned());
    // At most as many as are tracked.
    tokio::spawn(async move { tell(&worker, &id, &tracked, Status::Error, counted).await });
}

/// Whether an acknowledgement may speak for an assignment of this tenant. `by_subject` is the tenant that its
/// subject names, and `required` whether it must name one.
fn admit(ack: &Ack<'_>, by_subject: Option<&str>, required: bool, tenant_id: &str) -> Result<(), AckRefused> {
    if by_subject.is_none() && required {
        return Err(AckRefused::Subject);
    }
    let mut named = [by_subject, ack.tenant_id.as_deref()].into_iter().flatten();
    if named.all(|named| named == tenant_id) { Ok(()) } else { Err(AckRefused::Tenant) }
}

fn refuse(worker: &Worker, ack: &Ack<'_>, subject: &str, tenant_id: &str, reason: AckRefused) {
    worker.metrics.acks_refused.inc(reason);
    let what = format!("{}: \"{subject}\"", reason.text());
    if let Some(stands_for) = worker.line_due("ack_refused", &what) {
        tracing::warn!(
            event = "ack_refused",
            reason = reason.text(),
            subject,
            tenant_id,
            assignment_id = &*ack.assignment_id,
            status = ack.status.as_str(),
            stands_for,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(tenant_id: Option<&str>) -> Ack<'_> {
        Ack {
            assignment_id: "a".into(),
            status: AckStatus::Rejected,
            tenant_id: tenant_id.map(Into::into),
            message: None,
        }
    }

    #[test]
    fn an_ack_speaks_for_its_own_tenants_assignments_only() {
        use AckRefused::{Subject, Tenant};
        for (body, by_subject, required, expected) in [
            (None, None, false, Ok(())),
            (Some("acme"), None, false, Ok(())),
            (Some("globex"), None, false, Err(Tenant)),
            (None, Some("acme"), true, Ok(())),
            (Some("acme"), Some("acme"), true, Ok(())),
            (Some("acme"), Some("globex"), false, Err(Tenant)),
            (Some("globex"), Some("acme"), false, Err(Tenant)),
            (None, Some("globex"), true, Err(Tenant)),
            (Some("acme"), None, true, Err(Subject)),
        ] {
            let admitted = admit(&ack(body), by_subject, required, "acme");
            assert_eq!(admitted, expected, "{body:?} on {by_subject:?}, required: {required}");
        }
    }
}
