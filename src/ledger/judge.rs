//! How the fold takes results, refusals and timeouts.

use std::borrow::Cow;

use super::fold::Fold;
use super::identities::Named;
use super::seen::Kind;
use super::step::Step;
use crate::breaker::{Input, Judged};
use crate::domain::{Disposition, Outcome, Status, identity_of};
use crate::log::Ended;
use crate::rollout::evidence::{Call, CallEnd};
use crate::state::Cell;

impl Fold {
    /// Judges a result. Unknown breakers come first, so that a flood of invented tenants is not even
    /// remembered.
    pub(super) fn judge_result(&mut self, outcome: &Outcome<'_>, step: &mut Step) -> Disposition {
        let Some(cell) = self.roster.find(&outcome.tenant_id, &outcome.provider_id) else {
            return Disposition::Rejected;
        };
        let disposition = match self.identities.note(&mut self.seen, named(outcome), Kind::Result, step.now) {
            Some(Kind::Result) => Disposition::Duplicate,
            // Its timeout or refusal was judged in its stead; what the provider asks for is heard.
            Some(Kind::Ended) => {
                step.input(cell, &Input::Hint(outcome), &mut self.digest);
                Disposition::Late
            }
            None => {
                let judged = step.input(cell, &Input::Result(outcome), &mut self.digest).judged;
                if self.evidence.looks_at(&outcome.tenant_id, &outcome.provider_id) {
                    step.call = judged.map(|judged| call_of(outcome, judged, cell));
                }
                return judged.map_or(Disposition::Ignored, |j| j.disposition);
            }
        };
        if step.live {
            cell.lock().counters.result(disposition, false);
        }
        disposition
    }

    /// Judges a refusal or a timeout, unless a result came first. Tells whether it counted.
    pub(super) fn judge_ended(&mut self, ended: &Ended<'_>, step: &mut Step) -> bool {
        let Some(cell) = self.roster.find(&ended.tenant_id, &ended.provider_id) else { return false };
        let identity = identity_of(&ended.tenant_id, Some(&ended.assignment_id), &[]);
        let named = Named {
            tenant_id: &ended.tenant_id,
            assignment_id: Some(&ended.assignment_id),
            unkeyed: identity,
        };
        if self.identities.note(&mut self.seen, named, Kind::Ended, step.now).is_some() {
            return false;
        }
        let outcome = Outcome {
            request_id: Some(Cow::Borrowed(&ended.request_id)),
            assignment_id: Some(Cow::Borrowed(&ended.assignment_id)),
            ..Outcome::of(&*ended.tenant_id, &*ended.provider_id, ended.status, identity)
        };
        let input = Input::Ended { outcome: &outcome, elapsed_ms: ended.elapsed_ms };
        let judged = step.input(cell, &input, &mut self.digest).judged;
        step.call = judged.map(|judged| Call { ended: CallEnd::Failed, probe: judged.probe });
        true
    }
}

/// What a result is known by.
pub(super) fn named<'n>(outcome: &'n Outcome<'_>) -> Named<'n> {
    Named {
        tenant_id: &outcome.tenant_id,
        assignment_id: outcome.assignment_id.as_deref(),
        unkeyed: outcome.identity,
    }
}

/// How a call ended that a breaker has judged.
fn call_of(outcome: &Outcome<'_>, judged: Judged, cell: &Cell) -> Call {
    let ended = match outcome.status {
        Status::Success => CallEnd::Succeeded,
        _ if cell.lock().breaker.is_failure(outcome) => CallEnd::Failed,
        _ => CallEnd::Neutral,
    };
    Call { ended, probe: judged.probe }
}
