use super::Tracked;
use crate::nats::Worker;
use crate::nats::events::Event;

/// An assignment that nobody received.
#[derive(Clone, Copy, Debug)]
pub struct Unreceived<'a> {
    /// What was tracked of it.
    pub tracked: &'a Tracked,
    /// Which.
    pub assignment_id: &'a str,
    /// The policy that decided.
    pub policy_id: &'a str,
    /// Where it was sent.
    pub subject: &'a str,
}

impl Worker {
    /// Reports an assignment that nobody received, by a log line and an event. Executors that are away are so for every
    /// request: of those of a tenant on one subject, one in a while is reported.
    pub(in crate::nats) fn report_no_executor(&self, unreceived: &Unreceived<'_>) {
        let Unreceived { tracked, assignment_id, policy_id, subject } = unreceived;
        let what = format!("{} \"{subject}\"", tracked.tenant_id);
        let Some(stands_for) = self.line_due("assignment_without_executor", &what) else { return };
        tracing::warn!(
            event = "assignment_without_executor",
            tenant_id = &*tracked.tenant_id,
            policy_id,
            provider_id = &*tracked.provider_id,
            assignment_id,
            subject,
            stands_for,
            trace_id = tracked.trace.map(|t| t.trace_id_hex())
        );
        self.events.send(Event::no_executor(unreceived, stands_for, self.clock.wall_ms()), &self.metrics);
    }
}
