//! Which snapshots a start tries, first to last.
//!
//! Usage is metered by the verdicts of the fold, and a fold knows none of what lies before the snapshot that it began
//! with. So the best one is the newest that lies behind what was metered: the rest is judged again. A whole log that is
//! short needs none. Of the snapshots beyond what was metered, the oldest leaves the fewest results without a verdict.

use crate::nats::usage::Metered;

/// A log of so many entries is read from its beginning for the sake of usage: that takes two seconds or so.
const MOST_REPLAYED: u64 = 200_000;

/// Orders the snapshots of a log that ends at `last`, given the newest first; none where the log is to be read from its
/// beginning. `metered` is absent where nothing is metered.
pub(super) fn of(newest_first: Vec<u64>, last: u64, metered: Option<Metered>) -> Vec<u64> {
    let Some(Metered { up_to, whole }) = metered else { return newest_first };
    let (mut order, beyond): (Vec<_>, Vec<_>) =
        newest_first.into_iter().partition(|position| *position <= up_to);
    if order.is_empty() && whole && last <= MOST_REPLAYED {
        return order;
    }
    order.extend(beyond.into_iter().rev());
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(metered: Option<(u64, bool)>, last: u64) -> Vec<u64> {
        of(vec![300, 200, 100], last, metered.map(|(up_to, whole)| Metered { up_to, whole }))
    }

    #[test]
    fn where_nothing_is_metered_the_newest_snapshot_is_the_best() {
        assert_eq!(tried(None, 350), [300, 200, 100]);
    }

    #[test]
    fn a_fold_begins_behind_what_was_metered_if_it_can() {
        assert_eq!(tried(Some((u64::MAX, true)), 350), [300, 200, 100], "all of it was");
        assert_eq!(tried(Some((250, true)), 350), [200, 100, 300]);
        assert_eq!(tried(Some((200, false)), 350), [200, 100, 300]);
    }

    #[test]
    fn a_short_log_that_is_whole_is_read_from_its_beginning_and_any_other_from_the_oldest_snapshot() {
        assert_eq!(tried(Some((50, true)), 350), [0; 0]);
        assert_eq!(tried(Some((50, false)), 350), [100, 200, 300]);
        assert_eq!(tried(Some((50, true)), MOST_REPLAYED + 1), [100, 200, 300]);
    }
}
