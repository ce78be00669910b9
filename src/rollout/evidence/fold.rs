use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::block::EvidenceBlock;
use super::calls::CallEntry;
use super::clock::{Clock, Moment};
use super::facts::{EntryFacts, Leaving};
use super::watch::{Losses, Watch};
use super::workers::Workers;
use crate::domain::{RolloutId, Stamp, arm_hash};
use crate::log::{At, Entry, MetEntry, StepEntry, StepNumber, TallyEntry};

/// How many rollouts are known, ended ones included. Beyond that the ended one with the lowest number is
/// forgotten; where all are running, a new one is not watched.
pub const MAX_ROLLOUTS: usize = 256;

/// See [`super`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    clock: Clock,
    pub(super) workers: Workers,
    watches: BTreeMap<RolloutId, Watch>,
    ended: BTreeMap<RolloutId, EndedRollout>,
    /// Steps of rollouts that found no place.
    refused: u64,
    /// Changes of the lists of closed windows, of rollouts that are not running any more.
    closed_changes: u64,
}

/// What is kept of a rollout that lays nothing over policies any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct EndedRollout {
    number: StepNumber,
    /// The window it would have come to next.
    next_window: u64,
}

impl Evidence {
    /// Applies an entry that only moves the clock, as nearly all do where no rollout is running. `false` if it is
    /// another one, which nothing was done with: [`Self::apply`] does it, with its facts.
    #[inline]
    pub fn passes_over(&mut self, entry: &Entry<'_>, now: Stamp) -> bool {
        let passes =
            self.watches.is_empty() && !matches!(entry, Entry::Step(_) | Entry::Met(_) | Entry::Tally(_));
        if passes {
            self.clock.advance(now);
        }
        passes
    }

    /// Applies the entry that follows the last one. `now` is fold time after it. Returns how many windows it
    /// closed.
    pub fn apply(&mut self, entry: &Entry<'_>, facts: &EntryFacts<'_>, at: At, now: Stamp) -> u64 {
        if self.passes_over(entry, now) {
            return 0;
        }
        let passage = self.clock.advance(now);
        let moment = Moment { time: passage.to, position: at.position };
        for watch in self.watches.values_mut() {
            watch.pass(&passage, facts.gap, moment, &self.workers);
        }
        match entry {
            Entry::Result(_) | Entry::Ended(_) => self.call(entry, facts, at, now),
            Entry::Policy(entry) if facts.policy_changed => {
                self.each_watch(|watch| watch.cut(&entry.tenant_id, moment.time));
            }
            Entry::Step(entry) => self.step(entry, moment),
            Entry::Met(entry) => self.met(entry, moment.time),
            Entry::Tally(entry) => self.tally(entry, moment),
            Entry::Policy(_)
            | Entry::Flag(_)
            | Entry::Claim(_)
            | Entry::Release(_)
            | Entry::Force(_)
            | Entry::Reset(_)
            | Entry::FoldVersion(_)
            | Entry::Mark
            | Entry::Rejected
            | Entry::Unknown => {}
        }
        for moved in facts.moves {
            let open_until = moved.transition.open_until.map(|until| self.clock.log_time(until));
            self.each_watch(|watch| watch.moved(moved, open_until, moment));
        }
        for (tenant_id, untreated) in facts.untreated {
            self.each_watch(|watch| watch.untreated(tenant_id, *untreated));
        }
        for rollout in facts.lapsed {
            self.watches.get_mut(rollout).into_iter().for_each(Watch::lapse);
        }
        for (tenant_id, why) in facts.left {
            self.each_watch(|watch| watch.leave(tenant_id, *why));
        }
        if let Entry::Step(entry) = entry
            && let Some(watch) = self.watches.get_mut(&entry.rollout)
        {
            facts.taken.iter().for_each(|tenant_id| watch.leave(tenant_id, Leaving::LeftOut));
        }
        let mut closed = 0;
        for (rollout, watch) in &mut self.watches {
            closed += watch.close(rollout, moment.time, &self.workers);
        }
        closed
    }

    // ---- readers ----

    /// Whether a call of this tenant to this provider is evidence. Where it is not, the facts of its entry need
    /// not say how it ended.
    #[must_use]
    #[inline]
    pub fn looks_at(&self, tenant_id: &str, provider_id: &str) -> bool {
        !self.watches.is_empty() && self.watches.values().any(|watch| watch.looks_at(tenant_id, provider_id))
    }

    /// The running rollouts, each with its last step.
    pub fn rollouts(&self) -> impl Iterator<Item = (&RolloutId, StepNumber)> {
        self.watches.iter().map(|(rollout, watch)| (rollout, watch.number))
    }

    /// The closed windows of a rollout that not every live worker has judged, oldest first.
    pub fn closed<'e>(
        &'e self,
        rollout: &RolloutId,
    ) -> impl Iterator<Item = &'e Arc<EvidenceBlock>> + use<'e> {
        self.watches.get(rollout).into_iter().flat_map(|watch| &watch.windows.closed)
    }

    /// Those of all rollouts, oldest first.
    #[must_use]
    pub fn all_closed(&self) -> Vec<Arc<EvidenceBlock>> {
        let mut all: Vec<_> =
            self.watches.values().flat_map(|watch| &watch.windows.closed).map(Arc::clone).collect();
        // Stable: those that end at the same time stand in the order of their rollouts.
        all.sort_by_key(|block| block.end);
        all
    }

    /// Grows with each change of what [`Evidence::all_closed`] returns.
    #[must_use]
    pub fn closed_revision(&self) -> u64 {
        let of_running = self.watches.values().map(|watch| watch.windows.closed_changes);
        of_running.fold(self.closed_changes, u64::saturating_add)
    }

    /// For how long a running rollout has been without a judged window: since the end of the greatest window that
    /// some worker's tally reports as judged; since its first step, where there is none.
    #[must_use]
    pub fn unjudged_ms(&self, rollout: &RolloutId) -> Option<u64> {
        self.watches.get(rollout).map(|watch| watch.unjudged_ms(self.clock.now()))
    }

    /// What bounds made a running rollout's evidence lose.
    #[must_use]
    pub fn losses(&self, rollout: &RolloutId) -> Option<Losses> {
        self.watches.get(rollout).map(|watch| watch.losses)
    }

    pub(super) fn all_losses(&self) -> impl Iterator<Item = Losses> {
        self.watches.values().map(|watch| watch.losses)
    }

    /// Steps that were not taken since too many rollouts are running.
    #[must_use]
    pub const fn refused_steps(&self) -> u64 {
        self.refused
    }

    /// Runs of workers that were forgotten though they had not ended, since too many were known.
    #[must_use]
    pub const fn forgotten_workers(&self) -> u64 {
        self.workers.forgotten
    }

    // ---- the kinds of entry ----

    fn call(&mut self, entry: &Entry<'_>, facts: &EntryFacts<'_>, at: At, now: Stamp) {
        let Some(call) = facts.call else { return };
        let (tenant_id, provider_id, request_id, began, latency_ms) = match entry {
            Entry::Result(outcome) => {
                let (tenant_id, provider_id) = (&*outcome.tenant_id, &*outcome.provider_id);
                let request_id = outcome.request_id.as_deref();
                (tenant_id, provider_id, request_id, outcome.began(at.stamp), outcome.latency_ms)
            }
            Entry::Ended(ended) => {
                let (tenant_id, provider_id) = (&*ended.tenant_id, &*ended.provider_id);
                (tenant_id, provider_id, Some(&*ended.request_id), now.minus(ended.elapsed_ms), None)
            }
            _ => return,
        };
        if !self.looks_at(tenant_id, provider_id) {
            return;
        }
        let hash = request_id.map(arm_hash);
        let began = self.clock.log_time(began);
        let entry = CallEntry {
            tenant_id,
            provider_id,
            hash,
            call,
            began,
            latency_ms,
            bounded_opens: facts.bounded_opens,
        };
        let time = self.clock.now();
        self.each_watch(|watch| watch.call(&entry, time));
    }

    fn step(&mut self, entry: &StepEntry, moment: Moment) {
        let running = self.watches.get(&entry.rollout).map(|watch| (watch.number, watch.windows.current()));
        let ended = self.ended.get(&entry.rollout).map(|ended| (ended.number, ended.next_window));
        if running.or(ended).is_some_and(|(number, _)| entry.number <= number) {
            return;
        }
        let same_stream = |number: StepNumber| number.made == entry.number.made;
        let Some(overlay) = &entry.overlay else {
            let of_stream = running.filter(|(number, _)| same_stream(*number));
            let next_window = of_stream.map_or(0, |(_, window)| window.saturating_add(1));
            self.end(&entry.rollout, EndedRollout { number: entry.number, next_window });
            return;
        };
        if let Some(watch) = self.watches.get_mut(&entry.rollout)
            && same_stream(watch.number)
        {
            watch.step(entry.number, overlay, moment);
            return;
        }
        let first_window =
            ended.filter(|(number, _)| same_stream(*number)).map_or(0, |(_, next_window)| next_window);
        self.ended.remove(&entry.rollout);
        self.stop_watching(&entry.rollout);
        if !self.has_room() {
            self.refused = self.refused.saturating_add(1);
            return;
        }
        let watch = Watch::new(entry.number, overlay, first_window, moment);
        self.watches.insert(entry.rollout.clone(), watch);
    }

    fn end(&mut self, rollout: &RolloutId, ended: EndedRollout) {
        let before = self.ended.remove(rollout);
        let running = self.stop_watching(rollout);
        let goes_on = before.filter(|before| !running && before.number.made == ended.number.made);
        let next_window = goes_on.map_or(ended.next_window, |before| before.next_window);
        if self.has_room() {
            self.ended.insert(rollout.clone(), EndedRollout { next_window, ..ended });
        }
    }

    /// Drops what is known of a running rollout; `false` where it is not running.
    fn stop_watching(&mut self, rollout: &RolloutId) -> bool {
        let Some(watch) = self.watches.remove(rollout) else { return false };
        // Its closed windows go with it.
        let dropped = u64::from(!watch.windows.closed.is_empty());
        let changes = watch.windows.closed_changes.saturating_add(dropped);
        self.closed_changes = self.closed_changes.saturating_add(changes);
        true
    }

    /// Makes room for one more rollout; `false` where all are running.
    fn has_room(&mut self) -> bool {
        if self.watches.len() + self.ended.len() < MAX_ROLLOUTS {
            return true;
        }
        let oldest = self.ended.iter().min_by_key(|(_, ended)| ended.number).map(|(id, _)| id.clone());
        oldest.is_some_and(|oldest| self.ended.remove(&oldest).is_some())
    }

    fn met(&mut self, entry: &MetEntry, time: Stamp) {
        let known = self.workers.met(&entry.run, entry.number);
        self.each_watch(|watch| {
            if !known {
                watch.windows.incomplete.add(watch.windows.current(), watch.windows.current());
            }
            for met in &entry.met {
                watch.met(&entry.tenant_id, *met, time);
            }
        });
    }

    fn tally(&mut self, entry: &TallyEntry, moment: Moment) {
        let forgotten = self.workers.forgotten;
        let Some(tallied) = self.workers.tally(entry, moment) else { return };
        for (rollout, watch) in &mut self.watches {
            if self.workers.forgotten > forgotten {
                watch.windows.incomplete.add(watch.windows.current(), watch.windows.current());
            }
            watch.tallied(rollout, &entry.run, &tallied, moment, &self.workers);
        }
    }

    fn each_watch(&mut self, change: impl FnMut(&mut Watch)) {
        self.watches.values_mut().for_each(change);
    }
}
