//! What running rollouts lay over policies.
//!
//! A step of a rollout is one entry, and takes effect for all its tenants at once: documents stay as they are.
//! Steps are ordered by [`StepNumber`], so that one that comes late or twice changes nothing.
//!
//! **What cannot be watched is not treated.** Tallies report which window was judged last. Where none is judged
//! for too long, the share of all tenants falls to 0 until the next step; breakers go on judging.
//!
//! **A tenant without policies leaves.** Whoever is deleted is out of the rollouts that are running, whatever is put
//! later.
//!
//! **A tenant is in one rollout.** A step that takes in a tenant which another rollout has does not get it: the tenant
//! leaves the step's rollout, whatever becomes of the other one later.
//!
//! **The operator is stronger.** A policy that is put while a step holds, and states `enabled` or
//! `enforce_percent` itself, takes its tenant out; once the rollout is complete, only itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{PolicyId, RolloutId, Stamp, TenantId};
use crate::log::{
    EvidenceSettings, JudgedWindow, OverlaySettings, Share, StepEntry, StepInForce, StepNumber, TallyEntry,
};
use crate::policy::Overlay;
use crate::rollout::collector::Pace;
use crate::rollout::evidence::TALLY_MS;
use crate::rollout::stream::Logged;

/// Requests that met a breaker are written at least as often.
const MET_MS: u64 = 1_000;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlays {
    rollouts: BTreeMap<RolloutId, Rollout>,
}

/// One rollout as the log has told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The last step taken.
    pub number: StepNumber,
    /// Where its decision stands in the stream of rollouts.
    pub at_seq: u64,
    /// When it was taken.
    pub since: Stamp,
    /// Where in the log the first step of its stream stands.
    began_at: u64,
    /// What it lays over policies; nothing once the rollout has ended.
    pub settings: Option<Arc<OverlaySettings>>,
    /// The latest window judged.
    pub judged: Option<JudgedWindow>,
    /// Whether shares are at 0 because nothing was judged for too long.
    pub stale: bool,
    left_tenants: BTreeSet<TenantId>,
    left_policies: BTreeSet<(TenantId, PolicyId)>,
}

/// What a step did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// The tenants whose policies it may lie over, or lay over before.
    pub concerned: BTreeSet<TenantId>,
    /// Tenants that it names for the first time and that another rollout has.
    pub taken: Vec<TenantId>,
}

/// What leaves a rollout with a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leaver {
    /// The policy alone: the rollout is complete.
    Policy,
    /// Its tenant.
    Tenant,
}

/// What lies over one policy. Equal steps of one stream lay the same.
#[derive(Clone, Debug)]
pub struct LaidOver {
    /// The step that lays it.
    pub step: Arc<StepInForce>,
    made: i64,
    settings: Arc<OverlaySettings>,
}

impl PartialEq for LaidOver {
    fn eq(&self, other: &Self) -> bool {
        let Self { step, made, settings: _ } = self;
        (step, made) == (&other.step, &other.made)
    }
}

impl LaidOver {
    /// As it lies over a document.
    #[must_use]
    pub fn overlay(&self) -> Overlay<'_> {
        Overlay { circuit_breaker: &self.settings.circuit_breaker, enforce_percent: self.step.percent }
    }
}

impl Rollout {
    /// When shares fall to 0 unless a window is judged before; `None` where that cannot be.
    fn deadline(&self) -> Option<Stamp> {
        let settings = self.settings.as_ref().filter(|s| !s.completed)?;
        if self.stale || settings.tenants.values().all(|share| share.percent == 0) {
            return None;
        }
        let evidence = &settings.evidence;
        let judged = self.judged.map_or(self.since, |judged| judged.end.max(self.since));
        // The next window ends one block later, and is complete when it has settled.
        Some(judged.plus(evidence.block_ms).plus(evidence.settle_ms).plus(evidence.max_stale_ms))
    }

    /// The tenant's share, unless it has left.
    fn share_of(&self, tenant_id: &TenantId) -> Option<Share> {
        let settings = self.settings.as_ref().filter(|_| !self.left_tenants.contains(tenant_id))?;
        settings.tenants.get(tenant_id).copied()
    }

    fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.settings.iter().flat_map(|settings| settings.tenants.keys())
    }

    fn over(&self, rollout: &RolloutId, tenant_id: &TenantId, policy_id: &PolicyId) -> Option<LaidOver> {
        let settings = self.settings.as_ref()?;
        let share = self.share_of(tenant_id)?;
        let left = self.left_policies.contains(&(tenant_id.clone(), policy_id.clone()));
        (!left).then(|| LaidOver {
            step: Arc::new(StepInForce {
                rollout: rollout.clone(),
                step: self.number.n,
                percent: if self.stale { 0 } else { share.percent },
                split: share.split,
                sample_ppm: settings.evidence.sample_ppm,
            }),
            made: self.number.made,
            settings: Arc::clone(settings),
        })
    }
}

impl Overlays {
    /// Takes a step; `None` if it is not newer than the last. Where steps are not exclusive, as before version 2 of the
    /// fold, the first rollout by id has a tenant that several name.
    pub fn step(&mut self, entry: &StepEntry, position: u64, now: Stamp, exclusive: bool) -> Option<Stepped> {
        let known = self.rollouts.get(&entry.rollout);
        if known.is_some_and(|known| entry.number <= known.number) {
            return None;
        }
        let mut concerned: BTreeSet<_> = known.into_iter().flat_map(Rollout::tenants).cloned().collect();
        // A rollout of a stream made anew is another one under its name.
        let goes_on = known.filter(|known| known.number.made == entry.number.made);
        // A rollout that lays nothing over policies any more has nobody to leave it.
        let (mut left_tenants, left_policies) = goes_on
            .filter(|_| entry.overlay.is_some())
            .map(|known| (known.left_tenants.clone(), known.left_policies.clone()))
            .unwrap_or_default();
        let named = entry.overlay.iter().flat_map(|settings| settings.tenants.keys());
        let taken: Vec<TenantId> = named
            .filter(|tenant_id| {
                exclusive
                    && !left_tenants.contains(*tenant_id)
                    && self.is_elsewhere(&entry.rollout, tenant_id)
            })
            .cloned()
            .collect();
        left_tenants.extend(taken.iter().cloned());
        let stepped = Rollout {
            number: entry.number,
            at_seq: entry.at_seq,
            since: now,
            began_at: goes_on.map_or(position, |known| known.began_at),
            settings: entry.overlay.clone().map(Arc::new),
            judged: goes_on.and_then(|known| known.judged),
            stale: false,
            left_tenants,
            left_policies,
        };
        concerned.extend(stepped.tenants().cloned());
        self.rollouts.insert(entry.rollout.clone(), stepped);
        Some(Stepped { concerned, taken })
    }

    /// Whether another rollout has a tenant.
    fn is_elsewhere(&self, rollout: &RolloutId, tenant_id: &TenantId) -> bool {
        let mut others = self.rollouts.iter().filter(|(id, _)| *id != rollout);
        others.any(|(_, other)| other.share_of(tenant_id).is_some())
    }

    /// A worker's controller has judged windows.
    pub fn judged(&mut self, tally: &TallyEntry, now: Stamp) {
        for (rollout, window) in &tally.judged {
            let Some(known) = self.rollouts.get_mut(rollout) else { continue };
            // Ends are in the log time of evidence, which does not go back with a clock that is set back. Numbers
            // begin again where evidence does.
            let window = JudgedWindow { number: window.number, end: window.end.min(now) };
            let is_newer =
                known.judged.is_none_or(|judged| window.number != judged.number && window.end > judged.end);
            // Before the first step was read, a number is of another stream.
            if is_newer && tally.position >= known.began_at {
                known.judged = Some(window);
            }
        }
    }

    /// Time passes. Gives the rollouts for which nothing was judged for too long, and their tenants.
    pub fn expire(&mut self, now: Stamp) -> (Vec<RolloutId>, BTreeSet<TenantId>) {
        let (mut lapsed, mut concerned) = (Vec::new(), BTreeSet::new());
        for (id, rollout) in &mut self.rollouts {
            if rollout.deadline().is_some_and(|deadline| now > deadline) {
                rollout.stale = true;
                lapsed.push(id.clone());
                concerned.extend(rollout.tenants().cloned());
            }
        }
        (lapsed, concerned)
    }

    /// The clock that stamped entries was wrong: no time that a deadline counts from lies ahead.
    pub fn set_back(&mut self, now: Stamp) {
        for rollout in self.rollouts.values_mut() {
            rollout.since = rollout.since.min(now);
            if let Some(judged) = &mut rollout.judged {
                judged.end = judged.end.min(now);
            }
        }
    }

    /// When the first of them expires.
    #[must_use]
    pub fn deadline(&self) -> Option<Stamp> {
        self.rollouts.values().filter_map(Rollout::deadline).min()
    }

    /// A policy states its share itself. Gives what that takes out of a rollout.
    pub fn leave(&mut self, tenant_id: &TenantId, policy_id: &PolicyId) -> Option<Leaver> {
        let mut left = None;
        for rollout in self.rollouts.values_mut() {
            let Some(settings) = &rollout.settings else { continue };
            if !settings.tenants.contains_key(tenant_id) {
                continue;
            }
            let leaver = if settings.completed {
                let policy = (tenant_id.clone(), policy_id.clone());
                rollout.left_policies.insert(policy).then_some(Leaver::Policy)
            } else {
                rollout.left_tenants.insert(tenant_id.clone()).then_some(Leaver::Tenant)
            };
            left = left.max(leaver);
        }
        left
    }

    /// A tenant's last policy is deleted. Gives whether that takes it out of a running rollout.
    pub fn delete(&mut self, tenant_id: &TenantId) -> bool {
        let mut left = false;
        for rollout in self.rollouts.values_mut() {
            let running = rollout.settings.as_ref().filter(|settings| !settings.completed);
            if running.is_some_and(|settings| settings.tenants.contains_key(tenant_id)) {
                left |= rollout.left_tenants.insert(tenant_id.clone());
            }
        }
        left
    }

    /// The tenants that rollouts name; one that two name, twice.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.rollouts.values().flat_map(Rollout::tenants)
    }

    /// Whether a rollout names a tenant.
    #[must_use]
    pub fn names(&self, tenant_id: &TenantId) -> bool {
        let mut settings = self.rollouts.values().filter_map(|rollout| rollout.settings.as_ref());
        settings.any(|settings| settings.tenants.contains_key(tenant_id))
    }

    /// Whether a rollout's shares fell to 0 since nothing was judged for too long.
    #[must_use]
    pub fn is_stale(&self, rollout: &RolloutId) -> bool {
        self.rollouts.get(rollout).is_some_and(|rollout| rollout.stale)
    }

    /// Whether a tenant's share fell to 0 since nothing was judged for too long.
    #[must_use]
    pub fn is_lapsed(&self, tenant_id: &TenantId) -> bool {
        let mut shares = self.rollouts.values().filter_map(|r| Some((r.stale, r.share_of(tenant_id)?)));
        // At most one rollout has it; before version 2 of the fold, the first by id.
        shares.next().is_some_and(|(stale, share)| stale && share.percent > 0)
    }

    /// What lies over a policy. Where several rollouts name the tenant, the first by id.
    #[must_use]
    pub fn over(&self, tenant_id: &TenantId, policy_id: &PolicyId) -> Option<LaidOver> {
        self.rollouts.iter().find_map(|(id, rollout)| rollout.over(id, tenant_id, policy_id))
    }

    /// How often workers write evidence; `None` where nothing is watched.
    #[must_use]
    pub fn pace(&self) -> Option<Pace> {
        let watched = self.rollouts.values().filter_map(|rollout| rollout.settings.as_ref());
        let pace = |settings: &Arc<OverlaySettings>| {
            let EvidenceSettings { block_ms, settle_ms, .. } = settings.evidence;
            Pace { met_ms: (settle_ms / 4).clamp(10, MET_MS), tally_ms: block_ms.clamp(100, TALLY_MS) }
        };
        watched
            .map(pace)
            .reduce(|a, b| Pace { met_ms: a.met_ms.min(b.met_ms), tally_ms: a.tally_ms.min(b.tally_ms) })
    }

    /// How far the log is with each rollout.
    #[must_use]
    pub fn logged(&self) -> BTreeMap<RolloutId, Logged> {
        let logged =
            |rollout: &Rollout| Logged { number: rollout.number, is_running: rollout.settings.is_some() };
        self.rollouts.iter().map(|(id, rollout)| (id.clone(), logged(rollout))).collect()
    }

    /// All rollouts that the log has told of, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&RolloutId, &Rollout)> {
        self.rollouts.iter()
    }
}
