//! What is known of a deployment, and what of it is looked at. Pure: time is an argument.
//!
//! A list is whole only when its last page has come, and breakers move meanwhile: a page that was made
//! before a transition that is known already does not undo it. What a whole list did not tell of is gone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::breaker::{Key, Known, key_of};
use super::order::{Filter, Sort};
use crate::breaker::State;
use crate::domain::Tick;
use crate::nats::watch::{Seen, WorkerSeen};

/// A worker that did not tell of itself for this many lists is gone.
const LISTS_MISSED: u64 = 3;
/// Transitions that are remembered.
const MOVES: usize = 100;

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Model {
    breakers: BTreeMap<Key, Known>,
    workers: BTreeMap<String, Worker>,
    /// The latest last.
    pub(super) moves: VecDeque<(Tick, Value)>,
    /// Which list is being read, and since when.
    list: u64,
    began: Tick,
    /// Who answered pages of it: one that has not told of itself yet may be among them.
    answered: BTreeSet<String>,
    /// When the last whole list came.
    pub(super) listed: Option<Tick>,
    /// Since when the connection is lost.
    pub(super) lost: Option<Tick>,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
    /// What the broker did not permit since the connection was made: the rest goes on without it.
    pub(super) denied: Option<String>,
    pub(super) filter: Filter,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
}

#[derive(Clone, Debug)]
struct Worker {
    seen: WorkerSeen,
    at: Tick,
    list: u64,
    /// Decisions and refusals a second, between its last two answers.
    rates: Option<(f64, f64)>,
}

/// What all workers together do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) workers: usize,
    /// Decisions and refusals a second; absent until two answers of some worker are there.
    pub(super) rates: Option<(f64, f64)>,
}

/// How many breakers are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) open: usize,
    pub(super) half_open: usize,
    pub(super) closed: usize,
}

impl Model {
    /// Nothing is known yet.
    pub(super) fn new(filter: Filter, sort: Sort, reverse: bool) -> Self {
        Self { filter, sort, reverse, ..Self::default() }
    }

    /// Takes over what was seen at `now`.
    pub(super) fn apply(&mut self, seen: Seen, now: Tick) {
        match seen {
            Seen::Began => {
                self.list += 1;
                self.began = now;
                self.answered.clear();
            }
            Seen::Page { worker, breakers } => {
                breakers.into_iter().for_each(|told| self.listed(told, &worker, now));
                self.answered.insert(worker);
            }
            Seen::Listed => {
                let (list, began) = (self.list, self.began);
                let moved_since = |known: &Known| known.moved_at.is_some_and(|at| at >= began);
                self.breakers.retain(|_, known| known.list == list || moved_since(known));
                self.workers.retain(|_, worker| worker.list + LISTS_MISSED > list);
                let names: Vec<_> = self.workers.values().map(|w| w.seen.name.clone()).collect();
                if !names.is_empty() {
                    for known in self.breakers.values_mut() {
                        known.refused.retain(|worker, _| {
                            worker.is_empty() || names.contains(worker) || self.answered.contains(worker)
                        });
                    }
                }
                self.listed = Some(now);
                self.trouble = None;
            }
            Seen::Failed(why) => self.trouble = Some(why),
            Seen::Denied(why) => self.denied = Some(why),
            Seen::Moved(event) => self.moved(event, now),
            Seen::Worker(seen) => self.worker(seen, now),
            Seen::Connected => (self.lost, self.denied) = (None, None),
            Seen::Disconnected => self.lost = Some(self.lost.unwrap_or(now)),
        }
    }

    fn listed(&mut self, told: Value, worker: &str, now: Tick) {
        let Some(key) = key_of(&told) else { return };
        let Some(fresh) = Known::listed(told, worker, self.list, now) else { return };
        match self.breakers.get_mut(&key) {
            None => {
                self.breakers.insert(key, fresh);
            }
            Some(known) => {
                known.list = self.list;
                let mut refused = std::mem::take(&mut known.refused);
                refused.extend(fresh.refused.clone());
                if known.moved_at.is_some_and(|at| at >= self.began) {
                    known.refused = refused;
                } else {
                    *known = Known { refused, moved_at: known.moved_at, ..fresh };
                }
            }
        }
    }

    fn moved(&mut self, event: Value, now: Tick) {
        let Some(key) = key_of(&event) else { return };
        match self.breakers.get_mut(&key) {
            Some(known) => {
                // A copy from another worker, or one that the list told of already.
                if known.has_seen(&event) || known.moved(&event, now).is_none() {
                    return;
                }
            }
            None => {
                let Some(known) = Known::announced(&event, self.list, now) else { return };
                self.breakers.insert(key, known);
            }
        }
        if self.moves.len() >= MOVES {
            self.moves.pop_front();
        }
        self.moves.push_back((now, event));
    }

    fn worker(&mut self, seen: WorkerSeen, now: Tick) {
        let before = self.workers.get(&seen.id);
        let rates = before.and_then(|before| {
            let ms = now.since(before.at);
            let a_second = |now: u64, then: u64| {
                #[expect(clippy::cast_precision_loss, reason = "counts and times lie far below 2^53")]
                let rate = now.saturating_sub(then) as f64 * 1_000.0 / ms as f64;
                rate
            };
            (ms > 0).then(|| {
                (a_second(seen.requests, before.seen.requests), a_second(seen.refused, before.seen.refused))
            })
        });
        self.workers.insert(seen.id.clone(), Worker { seen, at: now, list: self.list, rates });
    }

    /// The breakers that are shown, in order.
    pub(super) fn shown(&self, now: Tick) -> Vec<(&Key, &Known)> {
        let taken = |(key, known): &(&Key, &Known)| self.filter.takes(key, known);
        let mut shown: Vec<_> = self.breakers.iter().filter(taken).collect();
        shown.sort_by(|a, b| {
            let order = self.sort.compare(now, *a, *b);
            if self.reverse { order.reverse() } else { order }
        });
        shown
    }

    /// One breaker.
    pub(super) fn breaker(&self, key: &Key) -> Option<&Known> {
        self.breakers.get(key)
    }

    /// All breakers, whatever the filter.
    pub(super) fn count(&self) -> Count {
        let mut count = Count::default();
        for known in self.breakers.values() {
            match known.state {
                State::Open => count.open += 1,
                State::HalfOpen => count.half_open += 1,
                State::Closed => count.closed += 1,
            }
        }
        count
    }

    /// What the workers do.
    pub(super) fn load(&self) -> Load {
        let rates = self.workers.values().filter_map(|worker| worker.rates);
        let sum = |(a, b): (f64, f64), (c, d): (f64, f64)| (a + c, b + d);
        Load { workers: self.workers.len(), rates: rates.reduce(sum) }
    }

    /// The workers, as they told of themselves.
    pub(super) fn workers(&self) -> impl Iterator<Item = &WorkerSeen> {
        self.workers.values().map(|worker| &worker.seen)
    }
}
