//! Which control requests are worked on, which wait, and which are refused.
//!
//! Two lanes, each with its own places and its own queue, so that no number of ordinary changes delays an emergency
//! verb. A request that finds all places of its lane taken waits; the oldest goes next. One that has waited for
//! [`LONGEST_WAIT_MS`] is refused: its asker may have given up, and a change that nobody expects any more must not
//! happen.
//!
//! While a request waits, all places of its lane are taken.

use std::collections::VecDeque;

use crate::domain::Tick;
use crate::telemetry::labels::{Label as _, Lane, Verb};

/// How many requests of a lane are worked on at once.
const PLACES: usize = 64;
/// How many wait in a lane: a crowd of 300 at one moment is served without a refusal.
const MOST_WAITING: usize = 256;
/// How many bytes wait in a lane; one body may have 1 MiB.
const MOST_BYTES: usize = 16 << 20;
/// How long a request waits for a place at most. A change may take another 5 s to be in force. Common clients give up
/// after 5 s (`nats request`) or 10 s (the command line of this program), so one that has waited this long still
/// finds its asker there.
pub(super) const LONGEST_WAIT_MS: u64 = 1_000;

/// The lane of a verb: what an operator needs when something is wrong has one of its own.
pub(super) const fn lane_of(verb: Verb) -> Lane {
    match verb {
        Verb::BreakerList
        | Verb::BreakerGet
        | Verb::BreakerForce
        | Verb::BreakerReset
        | Verb::FlagSet
        | Verb::FlagGet
        | Verb::RolloutPause
        | Verb::RolloutRollback
        | Verb::RolloutAbort => Lane::Emergency,
        Verb::PolicyPut
        | Verb::PolicyPatch
        | Verb::PolicyGet
        | Verb::PolicyList
        | Verb::PolicyHistory
        | Verb::PolicyDelete
        | Verb::PolicyRollback
        | Verb::PolicyValidate
        | Verb::TenantDelete
        | Verb::RolloutPut
        | Verb::RolloutLint
        | Verb::RolloutPlan
        | Verb::RolloutStart
        | Verb::RolloutApprove
        | Verb::RolloutPromote
        | Verb::RolloutExtend
        | Verb::RolloutResume
        | Verb::RolloutDrill
        | Verb::RolloutIssue
        | Verb::RolloutGraduate
        | Verb::RolloutDelete
        | Verb::RolloutGet
        | Verb::RolloutList
        | Verb::RolloutStatus
        | Verb::RolloutHistory
        | Verb::RolloutReport
        | Verb::Other => Lane::Ordinary,
    }
}

/// What becomes of a request that has just come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered<R> {
    /// It has a place.
    Begins(R),
    /// It waits for one.
    Waits,
    /// The queue is full.
    Refused(R),
}

/// What follows when a place becomes free.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<R> {
    /// Those that have waited too long.
    pub(super) late: Vec<R>,
    /// The one that has the place now.
    pub(super) begins: Option<R>,
}

/// Both lanes. `R` is a request.
#[derive(Debug)]
pub(super) struct Lanes<R>([Queue<R>; Lane::ALL.len()]);

#[derive(Debug)]
struct Queue<R> {
    working: usize,
    waiting: VecDeque<Waiting<R>>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting<R> {
    since: Tick,
    size: usize,
    request: R,
}

impl<R> Default for Queue<R> {
    fn default() -> Self {
        Self { working: 0, waiting: VecDeque::new(), bytes: 0 }
    }
}

impl<R> Default for Lanes<R> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Queue::default()))
    }
}

impl<R> Lanes<R> {
    /// A request of so many bytes comes.
    pub(super) fn offer(&mut self, lane: Lane, request: R, size: usize, now: Tick) -> Offered<R> {
        let queue = self.of(lane);
        if queue.working < PLACES {
            queue.working += 1;
            return Offered::Begins(request);
        }
        if queue.waiting.len() >= MOST_WAITING || queue.bytes.saturating_add(size) > MOST_BYTES {
            return Offered::Refused(request);
        }
        queue.bytes += size;
        queue.waiting.push_back(Waiting { since: now, size, request });
        Offered::Waits
    }

    /// A request is done; its place goes to the oldest of its lane that has not waited too long.
    pub(super) fn done(&mut self, lane: Lane, now: Tick) -> Next<R> {
        let queue = self.of(lane);
        let late = queue.late(now);
        let begins = queue.pop();
        if begins.is_none() {
            queue.working = queue.working.saturating_sub(1);
        }
        Next { late, begins }
    }

    /// Takes those out that have waited too long.
    pub(super) fn late(&mut self, now: Tick) -> Vec<R> {
        self.0.iter_mut().flat_map(|queue| queue.late(now)).collect()
    }

    /// When [`Self::late`] has something next.
    pub(super) fn next_late(&self) -> Option<Tick> {
        let first = self.0.iter().filter_map(|queue| queue.waiting.front());
        first.map(|waiting| Tick(waiting.since.0.saturating_add(LONGEST_WAIT_MS))).min()
    }

    /// How many wait in a lane.
    pub(super) fn waiting(&self, lane: Lane) -> usize {
        self.0.get(lane.index()).map_or(0, |queue| queue.waiting.len())
    }

    fn of(&mut self, lane: Lane) -> &mut Queue<R> {
        let [emergency, ordinary] = &mut self.0;
        match lane {
            Lane::Emergency => emergency,
            Lane::Ordinary => ordinary,
        }
    }
}

impl<R> Queue<R> {
    fn pop(&mut self) -> Option<R> {
        let Waiting { size, request, .. } = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(size);
        Some(request)
    }

    fn late(&mut self, now: Tick) -> Vec<R> {
        let mut late = Vec::new();
        while self.waiting.front().is_some_and(|waiting| now.since(waiting.since) >= LONGEST_WAIT_MS) {
            late.extend(self.pop());
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Tick = Tick(5_000);

    fn after(ms: u64) -> Tick {
        Tick(AT.0 + ms)
    }

    /// Lanes whose ordinary places are all taken.
    fn busy() -> Lanes<usize> {
        let mut lanes = Lanes::default();
        for n in 0..PLACES {
            assert_eq!(lanes.offer(Lane::Ordinary, n, 10, AT), Offered::Begins(n));
        }
        lanes
    }

    #[test]
    fn a_full_ordinary_lane_leaves_the_emergency_lane_its_places() {
        let mut lanes = busy();
        for n in 0..MOST_WAITING {
            assert_eq!(lanes.offer(Lane::Ordinary, n, 10, AT), Offered::Waits);
        }
        assert_eq!(lanes.offer(Lane::Ordinary, 999, 10, AT), Offered::Refused(999));
        for n in 0..PLACES {
            assert_eq!(lanes.offer(Lane::Emergency, n, 10, AT), Offered::Begins(n));
        }
        assert_eq!(lanes.offer(Lane::Emergency, 7, 10, AT), Offered::Waits);
        assert_eq!((lanes.waiting(Lane::Ordinary), lanes.waiting(Lane::Emergency)), (MOST_WAITING, 1));
    }

    #[test]
    fn a_free_place_goes_to_the_oldest_of_its_lane() {
        let mut lanes = busy();
        for (n, at) in [(100, after(1)), (101, after(2))] {
            assert_eq!(lanes.offer(Lane::Ordinary, n, 10, at), Offered::Waits);
        }
        let next = |begins| Next { late: vec![], begins };
        assert_eq!(lanes.done(Lane::Ordinary, after(10)), next(Some(100)));
        assert_eq!(lanes.offer(Lane::Ordinary, 102, 10, after(11)), Offered::Waits, "no place is free");
        assert_eq!(lanes.done(Lane::Ordinary, after(12)), next(Some(101)));
        assert_eq!(lanes.done(Lane::Ordinary, after(12)), next(Some(102)));
        assert_eq!(lanes.done(Lane::Ordinary, after(13)), next(None));
        assert_eq!(lanes.offer(Lane::Ordinary, 103, 10, after(14)), Offered::Begins(103));
        assert_eq!(lanes.offer(Lane::Ordinary, 104, 10, after(14)), Offered::Waits);
    }

    #[test]
    fn who_has_waited_too_long_is_refused_and_not_worked_on() {
        let mut lanes = busy();
        assert_eq!(lanes.next_late(), None);
        for (n, at) in [(100, AT), (101, after(1)), (102, after(500))] {
            assert_eq!(lanes.offer(Lane::Ordinary, n, 10, at), Offered::Waits);
        }
        assert_eq!(lanes.next_late(), Some(after(LONGEST_WAIT_MS)));
        assert!(lanes.late(after(LONGEST_WAIT_MS - 1)).is_empty());
        assert_eq!(lanes.late(after(LONGEST_WAIT_MS)), [100]);
        let next = lanes.done(Lane::Ordinary, after(LONGEST_WAIT_MS + 1));
        assert_eq!(next, Next { late: vec![101], begins: Some(102) });
        assert_eq!(lanes.next_late(), None);
    }

    #[test]
    fn what_waits_is_bounded_in_bytes() {
        let mut lanes = busy();
        let half = MOST_BYTES / 2;
        assert_eq!(lanes.offer(Lane::Ordinary, 100, half, AT), Offered::Waits);
        assert_eq!(lanes.offer(Lane::Ordinary, 101, half, AT), Offered::Waits);
        assert_eq!(lanes.offer(Lane::Ordinary, 102, 1, AT), Offered::Refused(102));
        assert_eq!(lanes.done(Lane::Ordinary, AT).begins, Some(100));
        assert_eq!(lanes.offer(Lane::Ordinary, 103, half, AT), Offered::Waits, "its bytes are free again");
        assert_eq!(lanes.late(after(LONGEST_WAIT_MS)), [101, 103]);
        assert_eq!(lanes.offer(Lane::Ordinary, 104, MOST_BYTES, AT), Offered::Waits);
    }

    #[test]
    fn what_stops_a_harm_is_an_emergency() {
        let emergency: Vec<_> = Verb::ALL
            .iter()
            .filter(|verb| lane_of(**verb) == Lane::Emergency)
            .map(|verb| verb.text())
            .collect();
        assert_eq!(
            emergency,
            [
                "breaker.list",
                "breaker.get",
                "breaker.force",
                "breaker.reset",
                "rollout.pause",
                "rollout.rollback",
                "rollout.abort",
                "flag.set",
                "flag.get"
            ]
        );
    }
}
