//! How many probes are in flight at each breaker, as the clients and executors know it.
//!
//! A probe is in flight from its reply until its result is handed to the broker: within the time for
//! which it holds a slot. So what is counted here is never more than what the router let through.

use std::collections::{HashMap, HashSet};

/// See the module. A breaker is named by its tenant's number: one provider of each fails.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// Requests that probe, and whose breaker.
    flying: HashMap<u64, usize>,
    counts: HashMap<usize, u64>,
    /// Requests whose result was handed over before their reply came: executors may be quicker.
    early: HashSet<u64>,
    /// The most that flew at once at one breaker.
    pub(super) most: u64,
    /// All probes.
    pub(super) all: u64,
}

impl Probes {
    /// A reply said that a request is a probe.
    pub(super) fn replied(&mut self, request: u64, breaker: usize) {
        self.all += 1;
        if self.early.remove(&request) {
            return;
        }
        self.flying.insert(request, breaker);
        let count = self.counts.entry(breaker).or_default();
        *count += 1;
        self.most = self.most.max(*count);
    }

    /// The result of a request is about to be handed to the broker. `early` if its reply may not have
    /// come yet.
    pub(super) fn resulting(&mut self, request: u64, early: bool) {
        match self.flying.remove(&request) {
            Some(breaker) => {
                if let Some(count) = self.counts.get_mut(&breaker) {
                    *count = count.saturating_sub(1);
                }
            }
            None if early => {
                self.early.insert(request);
            }
            None => {}
        }
    }

    /// A reply said that a request is no probe.
    pub(super) fn ordinary(&mut self, request: u64) {
        self.early.remove(&request);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_in_flight_is_counted_for_each_breaker() {
        let mut probes = Probes::default();
        for request in 0..3 {
            probes.replied(request, 7);
        }
        probes.replied(3, 8);
        probes.resulting(0, false);
        probes.replied(4, 7);
        assert_eq!((probes.most, probes.all), (3, 5));
        // A result that overtakes its reply was never in flight here.
        probes.resulting(5, true);
        probes.replied(5, 7);
        assert_eq!(probes.most, 3);
        probes.replied(6, 7);
        assert_eq!((probes.most, probes.early.len()), (4, 0));
    }
}
