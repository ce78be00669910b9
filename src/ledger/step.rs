use std::sync::Arc;

use super::applied::Moved;
use super::digest::Digest;
use crate::breaker::{Effect, Input};
use crate::domain::{Offset, RolloutId, Stamp, TenantId};
use crate::rollout::evidence::{Call, Leaving, Lost};
use crate::state::Cell;

/// What holds for all that one entry does, and the transitions that it has caused so far.
pub(super) struct Step {
    pub(super) now: Stamp,
    pub(super) offset: Offset,
    pub(super) live: bool,
    pub(super) moved: Vec<Moved>,
    /// How the provider call of the entry ended, where that is evidence of a rollout.
    pub(super) call: Option<Call>,
    /// The tenant that leaves its rollout.
    pub(super) left: Option<(TenantId, Leaving)>,
    /// Tenants of the entry's step that another rollout has.
    pub(super) taken: Vec<TenantId>,
    /// Rollouts whose shares fall to 0, since nothing was judged for too long.
    pub(super) lapsed: Vec<RolloutId>,
    /// What the evidence of rollouts lost by bounds.
    pub(super) lost: Option<Box<Lost>>,
    /// Whether refusals of any tenant may be enforced no more, or again, by a passage of time.
    pub(super) swept: bool,
}

impl Step {
    pub(super) const fn new(now: Stamp, offset: Offset, live: bool) -> Self {
        Self {
            now,
            offset,
            live,
            moved: Vec::new(),
            call: None,
            left: None,
            taken: Vec::new(),
            lapsed: Vec::new(),
            lost: None,
            swept: false,
        }
    }

    /// Gives a breaker an input, and shows, counts and tells what came of it.
    pub(super) fn input(&mut self, cell: &Arc<Cell>, input: &Input<'_>, digest: &mut Digest) -> Effect {
        let mut guarded = cell.lock();
        // All others may count in a window or empty it.
        let spares_window = matches!(input, Input::Claim(_) | Input::Release(_));
        let effect = guarded.breaker.apply(input, self.now);
        cell.publish(&guarded, self.offset);
        if !spares_window || !effect.transitions.is_empty() {
            cell.publish_means(&guarded, self.now, self.offset);
        }
        digest.note_changed(cell, &mut guarded);
        if self.live {
            guarded.counters.expired_probes += u64::from(effect.expired_leases);
            if let Some(judged) = effect.judged {
                guarded.counters.result(judged.disposition, judged.failure);
            }
        }
        for transition in &effect.transitions {
            if self.live {
                guarded.counters.transition(transition);
            }
            self.moved.push(Moved {
                cell: Arc::clone(cell),
                policy_id: guarded.policy_id.clone(),
                transition: *transition,
            });
        }
        effect
    }
}
