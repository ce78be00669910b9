use crate::log::At;
use crate::nats::Worker;
use crate::nats::events::Event;
use crate::rollout::controller::{self, Effects, Message};

/// Reports what a message of the stream made known: to the log, as a metric, and to whoever follows events.
pub(super) fn report(worker: &Worker, at: At, message: &Message, effects: &Effects) {
    let rollout = effects.rollout.as_ref().map(crate::domain::RolloutId::as_str);
    for event in &effects.events {
        match event {
            controller::Event::Decided { n, kind } => {
                let Message::Decision(decision) = message else { continue };
                let reasons = decision.reasons.join("; ");
                tracing::info!(event = "rollout_decided", rollout, n, decision = kind.as_str(), reasons);
                worker.events.send(Event::rollout(at, decision), &worker.metrics);
            }
            controller::Event::Differs { n, own, recorded } => {
                let (own, recorded) = (own.as_ref().map(controller::Kind::as_str), recorded.as_str());
                let what = rollout.unwrap_or_default();
                if let Some(stands_for) = worker.line_due("rollout_decision_differs", what) {
                    tracing::error!(
                        event = "rollout_decision_differs",
                        rollout,
                        n,
                        own,
                        recorded,
                        stands_for
                    );
                }
            }
            controller::Event::UnsupportedJudge { version } => {
                tracing::error!(event = "rollout_judge_unsupported", rollout, version);
            }
            controller::Event::TenantLeft { tenant, state } => {
                let (tenant_id, state) = (tenant.as_str(), state.as_str());
                tracing::warn!(event = "rollout_tenant_left", rollout, tenant_id, state);
            }
            other => {
                let why = other.to_string();
                if let Some(stands_for) = worker.line_due("rollout_message_passed_over", &why) {
                    tracing::warn!(
                        event = "rollout_message_passed_over",
                        rollout,
                        position = at.position,
                        why,
                        stands_for
                    );
                }
            }
        }
    }
    if let Message::Block(theirs) = message {
        let closed = worker.ledger.closed_blocks();
        let closed = closed.borrow();
        let own = closed.blocks.iter().find(|own| {
            own.rollout == theirs.rollout && own.number == theirs.number && own.start == theirs.start
        });
        if own.is_some_and(|own| **own != **theirs) {
            worker.metrics.rollout_blocks_differ.inc();
            let what = rollout.unwrap_or_default();
            if let Some(stands_for) = worker.line_due("rollout_block_differs", what) {
                tracing::error!(event = "rollout_block_differs", rollout, window = theirs.number, stands_for);
            }
        }
    }
}
