//! A bounded queue from which those who fill it are served in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::fair_share::Shares;

/// Items of several flows. Each flow has its share of the room, as [`Shares`] has it, and its turn: however much one
/// has waiting, an item of another waits for one turn of each.
///
/// The order is deficit round robin: M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round-Robin",
/// IEEE/ACM Transactions on Networking 4(3), 1996.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: HashMap<Arc<str>, Flow<T>>,
    /// The flows that have something waiting; whose turn it is stands first.
    turns: VecDeque<Arc<str>>,
    shares: Shares,
    /// What a flow may use in one turn.
    quantum: usize,
}

#[derive(Debug)]
struct Flow<T> {
    items: VecDeque<(usize, T)>,
    /// What is left of its turns.
    credit: usize,
}

impl<T> FairQueue<T> {
    /// Holds items that cost up to `room` together. In one turn a flow may use up `quantum`, which should be what the
    /// costliest item costs.
    #[must_use]
    pub fn new(room: usize, quantum: usize) -> Self {
        Self { flows: HashMap::new(), turns: VecDeque::new(), shares: Shares::new(room), quantum }
    }

    /// Adds an item behind those of its flow.
    ///
    /// # Errors
    /// The item, if the flow's share or all room is taken.
    pub fn offer(&mut self, flow: &Arc<str>, cost: usize, item: T) -> Result<(), T> {
        let cost = cost.max(1);
        if !self.shares.take(flow, cost) {
            return Err(item);
        }
        let waiting = self.flows.entry(Arc::clone(flow)).or_insert_with(|| {
            self.turns.push_back(Arc::clone(flow));
            Flow { items: VecDeque::new(), credit: 0 }
        });
        waiting.items.push_back((cost, item));
        Ok(())
    }

    /// Takes the item whose turn it is.
    pub fn take(&mut self) -> Option<T> {
        loop {
            let turn = self.turns.front()?;
            let flow = self.flows.get_mut(turn)?;
            if flow.items.front().is_some_and(|(cost, _)| *cost > flow.credit) {
                flow.credit += self.quantum.max(1);
                self.turns.rotate_left(1);
                continue;
            }
            let (cost, item) = flow.items.pop_front()?;
            flow.credit -= cost;
            self.shares.give_back(turn, cost);
            if flow.items.is_empty() {
                self.flows.remove(turn);
                self.turns.pop_front();
            }
            return Some(item);
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flow(name: &str) -> Arc<str> {
        name.into()
    }

    #[test]
    fn who_has_much_waiting_does_not_delay_another() {
        let mut queue = FairQueue::new(1_000, 10);
        for n in 0..50 {
            assert_eq!(queue.offer(&flow("flood"), 10, ("flood", n)), Ok(()));
        }
        queue.offer(&flow("quiet"), 2, ("quiet", 0)).unwrap();
        queue.offer(&flow("quiet"), 2, ("quiet", 1)).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| queue.take()).collect();
        let of_quiet: Vec<_> = order.iter().enumerate().filter(|(_, (who, _))| *who == "quiet").collect();
        assert_eq!(of_quiet.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(order.len(), 52);
    }

    #[test]
    fn turns_are_shared_out_by_cost_and_not_by_number() {
        let mut queue = FairQueue::new(10_000, 100);
        for n in 0..100 {
            queue.offer(&flow("large"), 50, ("large", n)).unwrap();
            queue.offer(&flow("small"), 5, ("small", n)).unwrap();
        }
        let first: Vec<_> = std::iter::from_fn(|| queue.take()).take(44).collect();
        let large = first.iter().filter(|(who, _)| *who == "large").count();
        assert_eq!(large, 4, "{first:?}");
    }

    #[test]
    fn a_full_share_refuses_and_gives_the_item_back() {
        let mut queue = FairQueue::new(100, 10);
        let taken = (0..100).take_while(|n| queue.offer(&flow("flood"), 1, *n).is_ok()).count();
        assert_eq!(taken, 80);
        assert_eq!(queue.offer(&flow("flood"), 1, 80), Err(80));
        assert_eq!(queue.offer(&flow("quiet"), 21, 0), Err(0), "longer than the room that is free");
        assert_eq!(queue.offer(&flow("quiet"), 20, 0), Ok(()));
    }

    proptest! {
        #[test]
        fn what_is_taken_comes_out_once_and_in_the_order_of_its_flow(
            offers in prop::collection::vec((0_u8..4, 0_usize..40), 0..200),
            between in 0_usize..3,
        ) {
            let mut queue = FairQueue::new(500, 40);
            let (mut taken, mut came) = (Vec::new(), Vec::new());
            for (n, (who, cost)) in offers.into_iter().enumerate() {
                if queue.offer(&flow(&who.to_string()), cost, (who, n)).is_ok() {
                    taken.push((who, n));
                }
                if n % 3 < between {
                    came.extend(queue.take());
                }
            }
            came.extend(std::iter::from_fn(|| queue.take()));
            prop_assert!(queue.is_empty());
            taken.sort_unstable();
            // Stable: what a flow had first comes first.
            came.sort_by_key(|(who, _)| *who);
            prop_assert_eq!(came, taken);
        }
    }
}
