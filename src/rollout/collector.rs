//! What one worker counts of the requests of watched tenants, and when it writes that into the log.
//!
//! Results say how calls ended. They do not say that a request got no provider, nor that it met a breaker which
//! was not closed. So each worker writes [`MetEntry`]s, and running totals as [`TallyEntry`]s, from which the
//! [evidence](super::evidence) also sees which workers are there and how far each has read.
//!
//! Met entries are numbered. A request that finds no room, or an entry that is not stored, leaves a number out. A
//! missing number marks the evidence of that time as incomplete.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;

use crate::domain::{OneShot, PolicyId, RolloutId, TenantId, Tick};
use crate::log::{ArmTotals, Fate, JudgedWindow, Met, MetEntry, TallyEntry, WorkerRun};

/// How many requests that met a breaker may wait to be written: a second of an outage at ten times the rate that
/// a rollout's sample allows.
const MAX_WAITING: usize = 10_000;
/// How many requests one entry holds: below 64 KiB as JSON.
const MAX_IN_ENTRY: usize = 1_000;

/// A request of a watched tenant that was answered. It is in the sample.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Whose, as the request says it: that text is in the caches already.
    pub tenant_id: &'a str,
    /// The policy that decided.
    pub policy_id: &'a PolicyId,
    /// The hash of its id that its arm is drawn by.
    pub hash: u64,
    /// Whether it is in the treated arm.
    pub treated: bool,
    /// What became of it, if it met a breaker that was not closed.
    pub met: Option<Fate>,
    /// Whether it reported how an attempt before ended.
    pub retry: bool,
}

/// How often a worker writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks for met requests.
    pub met_ms: u64,
    /// Between two tallies.
    pub tally_ms: u64,
}

/// What a tally says beside the counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How far the log was read.
    pub position: u64,
    /// Whether breakers of this worker refuse.
    pub enforcing: bool,
    /// The latest window judged, by rollout.
    pub judged: BTreeMap<RolloutId, JudgedWindow>,
}

/// The most requests that may wait to be written do so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// See the module.
#[derive(Debug)]
pub struct Collector {
    run: WorkerRun,
    /// The number of the last met entry.
    number: u64,
    /// Not in order: decisions look a tenant up each time.
    totals: HashMap<TenantId, ArmTotals, BuildHasherDefault<OneShot>>,
    met: BTreeMap<(TenantId, PolicyId), Vec<Met>>,
    waiting: usize,
    /// Whether requests were dropped since the last met entries were taken.
    lossy: bool,
    next_met: Tick,
    next_tally: Tick,
}

impl Collector {
    /// Of one run of a worker that has counted nothing.
    #[must_use]
    pub fn new(run: WorkerRun) -> Self {
        Self {
            run,
            number: 0,
            totals: HashMap::default(),
            met: BTreeMap::new(),
            waiting: 0,
            lossy: false,
            next_met: Tick(0),
            next_tally: Tick(0),
        }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// [`Full`] if it met a breaker and there is no room to record that. It counts in the totals all the same.
    pub fn note(&mut self, answered: &Answered<'_>) -> Result<(), Full> {
        let Answered { tenant_id, policy_id, hash, treated, met, retry } = *answered;
        // A tenant that is watched has a policy, and only an id has one.
        let id = || TenantId::try_new(tenant_id);
        let totals = match self.totals.get_mut(tenant_id) {
            Some(totals) => totals,
            None => {
                let Ok(id) = id() else { return Ok(()) };
                self.totals.entry(id).or_default()
            }
        };
        let ArmTotals { asked, no_provider, fell_back, spared } = totals;
        let arm = |counts: &mut [u64; 2]| {
            let [of_treated, of_control] = counts;
            *(if treated { of_treated } else { of_control }) += 1;
        };
        // A request that is asked again is one request: with each attempt counted, none would have an outcome.
        if !retry {
            arm(asked);
        }
        let Some(fate) = met else { return Ok(()) };
        match fate {
            Fate::NoProvider => arm(no_provider),
            Fate::FellBack => arm(fell_back),
            Fate::Spared => arm(spared),
            Fate::Probed => {}
        }
        if self.waiting >= MAX_WAITING {
            self.lossy = true;
            return Err(Full);
        }
        let Ok(id) = id() else { return Ok(()) };
        self.waiting += 1;
        let of_policy = self.met.entry((id, policy_id.clone())).or_default();
        of_policy.push(Met { hash, fate, retry });
        Ok(())
    }

    /// The met entries that are due; to be written in this order.
    pub fn met_due(&mut self, now: Tick, pace: Pace) -> Vec<MetEntry> {
        if now < self.next_met {
            return Vec::new();
        }
        self.next_met = Tick(now.0.saturating_add(pace.met_ms));
        self.take_met()
    }

    /// The tally that is due. The met entries before it have been stored by then.
    pub fn tally_due(&mut self, now: Tick, pace: Pace, standing: &Standing) -> Option<TallyEntry> {
        if now < self.next_tally {
            return None;
        }
        self.next_tally = Tick(now.0.saturating_add(pace.tally_ms));
        Some(self.tally(standing, false))
    }

    /// The last entries of this run.
    pub fn end(&mut self, standing: &Standing) -> (Vec<MetEntry>, TallyEntry) {
        let met = self.take_met();
        (met, self.tally(standing, true))
    }

    fn take_met(&mut self) -> Vec<MetEntry> {
        if std::mem::take(&mut self.lossy) {
            self.number += 1;
        }
        self.waiting = 0;
        let mut entries = Vec::new();
        for ((tenant_id, policy_id), met) in std::mem::take(&mut self.met) {
            for met in met.chunks(MAX_IN_ENTRY) {
                self.number += 1;
                entries.push(MetEntry {
                    tenant_id: tenant_id.clone(),
                    policy_id: policy_id.clone(),
                    run: self.run.clone(),
                    number: self.number,
                    met: met.to_vec(),
                });
            }
        }
        entries
    }

    fn tally(&self, standing: &Standing, last: bool) -> TallyEntry {
        let Standing { position, enforcing, judged } = standing.clone();
        TallyEntry {
            run: self.run.clone(),
            position,
            met: self.number,
            enforcing,
            judged,
            tenants: self.totals.iter().map(|(tenant_id, totals)| (tenant_id.clone(), *totals)).collect(),
            last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { met_ms: 1_000, tally_ms: 10_000 };

    fn collector() -> Collector {
        Collector::new(WorkerRun { worker: "w".to_owned(), boot: 7 })
    }

    fn note(collector: &mut Collector, tenant: &str, hash: u64, treated: bool, met: Option<Fate>) -> bool {
        let (tenant_id, policy_id, retry) =
            (tenant, &PolicyId::try_new("p").unwrap(), hash.is_multiple_of(2));
        collector.note(&Answered { tenant_id, policy_id, hash, treated, met, retry }).is_ok()
    }

    fn standing() -> Standing {
        Standing { position: 40, enforcing: true, judged: BTreeMap::new() }
    }

    #[test]
    fn requests_count_by_arm_and_fate() {
        let mut collector = collector();
        for (treated, met) in [
            (true, None),
            (true, Some(Fate::NoProvider)),
            (true, Some(Fate::FellBack)),
            (true, Some(Fate::Probed)),
            (false, Some(Fate::Spared)),
            (false, None),
        ] {
            assert!(note(&mut collector, "acme", 1, treated, met));
        }
        assert!(note(&mut collector, "acme", 2, false, Some(Fate::Spared)), "a retry");
        let tally = collector.tally_due(Tick(0), PACE, &standing()).unwrap();
        let expected = ArmTotals { asked: [4, 2], no_provider: [1, 0], fell_back: [1, 0], spared: [0, 2] };
        assert_eq!(tally.tenants.values().copied().collect::<Vec<_>>(), [expected]);
        assert_eq!((tally.position, tally.enforcing, tally.last), (40, true, false));
    }

    #[test]
    fn entries_come_at_their_pace_and_a_tally_counts_those_before_it() {
        let mut collector = collector();
        assert_eq!(
            collector.tally_due(Tick(5), PACE, &standing()).unwrap().met,
            0,
            "at once, before all else"
        );
        assert!(note(&mut collector, "acme", 2, true, Some(Fate::NoProvider)));
        assert!(note(&mut collector, "beta", 3, false, Some(Fate::Spared)));
        let met = collector.met_due(Tick(5), PACE);
        let shown: Vec<_> = met.iter().map(|e| (e.tenant_id.as_str(), e.number, e.met.clone())).collect();
        let (a, b) = (
            Met { hash: 2, fate: Fate::NoProvider, retry: true },
            Met { hash: 3, fate: Fate::Spared, retry: false },
        );
        assert_eq!(shown, [("acme", 1, vec![a]), ("beta", 2, vec![b])]);
        assert!(note(&mut collector, "acme", 4, true, Some(Fate::NoProvider)));
        assert_eq!(collector.met_due(Tick(1_004), PACE), []);
        assert_eq!(collector.tally_due(Tick(10_004), PACE, &standing()), None);
        assert_eq!(collector.met_due(Tick(1_005), PACE).len(), 1);
        assert_eq!(collector.tally_due(Tick(10_005), PACE, &standing()).unwrap().met, 3);
        assert!(note(&mut collector, "acme", 5, true, Some(Fate::NoProvider)));
        let (met, tally) = collector.end(&standing());
        assert_eq!((met.len(), met[0].number, tally.met, tally.last), (1, 4, 4, true));
    }

    #[test]
    fn many_are_split_and_too_many_leave_a_number_out() {
        let mut collector = collector();
        for hash in 0..MAX_WAITING as u64 {
            assert!(note(&mut collector, "acme", hash, true, Some(Fate::Spared)));
        }
        let numbers = |entries: &[MetEntry]| entries.iter().map(|e| e.number).collect::<Vec<_>>();
        let full = collector.met_due(Tick(0), PACE);
        assert_eq!(numbers(&full), (1..=10).collect::<Vec<_>>());
        assert!(full.iter().all(|e| e.met.len() == MAX_IN_ENTRY));
        let fit =
            (0..=MAX_WAITING as u64).filter(|n| note(&mut collector, "acme", *n, true, Some(Fate::Spared)));
        assert_eq!(fit.count(), MAX_WAITING);
        assert_eq!(
            numbers(&collector.met_due(Tick(1_000), PACE)),
            (12..=21).collect::<Vec<_>>(),
            "11 is missing"
        );
        assert_eq!(collector.tally_due(Tick(1_000), PACE, &standing()).unwrap().met, 21);
    }
}
