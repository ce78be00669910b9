use std::sync::Arc;

use tokio::sync::watch;

use crate::ledger::Fold;
use crate::rollout::evidence::EvidenceBlock;

/// The closed windows of all running rollouts that not every live worker has judged, as the fold has them.
#[derive(Clone, Debug, Default)]
pub struct ClosedBlocks {
    revision: u64,
    /// Oldest first.
    pub blocks: Arc<Vec<Arc<EvidenceBlock>>>,
}

impl ClosedBlocks {
    /// Those of a fold, if they are not those that were shown last. To be shown once the fold is let go: whoever
    /// reads what is shown may wait for it.
    pub(super) fn changed(fold: &Fold, shown: &watch::Sender<Self>) -> Option<Self> {
        let evidence = fold.evidence();
        let revision = evidence.closed_revision();
        let differs = shown.borrow().revision != revision;
        differs.then(|| Self { revision, blocks: Arc::new(evidence.all_closed()) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;
    use crate::domain::{Offset, RolloutId, Stamp, TenantId};
    use crate::ledger::Verdicts;
    use crate::log::{
        At, Entry, EvidenceSettings, OverlaySettings, Share, StepEntry, StepNumber, TallyEntry, WorkerRun,
    };
    use crate::state::State;

    fn step() -> Entry<'static> {
        let share = Share { percent: 50, split: 50 };
        let evidence =
            EvidenceSettings { block_ms: 1_000, settle_ms: 100, max_stale_ms: 60_000, sample_ppm: 1_000_000 };
        let overlay = OverlaySettings {
            circuit_breaker: Map::new(),
            tenants: [(TenantId::try_new("acme").unwrap(), share)].into(),
            evidence,
            completed: false,
        };
        Entry::Step(StepEntry {
            rollout: RolloutId::try_new("cb").unwrap(),
            number: StepNumber { made: 1, n: 1 },
            at_seq: 1,
            overlay: Some(overlay),
        })
    }

    fn tally(position: u64) -> Entry<'static> {
        Entry::Tally(TallyEntry {
            run: WorkerRun { worker: "w".to_owned(), boot: 1 },
            position,
            met: 0,
            enforcing: true,
            judged: [].into(),
            tenants: [].into(),
            last: false,
        })
    }

    #[test]
    fn they_change_when_a_window_closes_and_are_empty_for_a_fresh_fold() {
        let fresh = || Fold::new(Arc::new(State::new(true)), Arc::new(Verdicts::default()));
        let (shown, mut fold) = (watch::Sender::new(ClosedBlocks::default()), fresh());
        let mut numbers = Vec::new();
        for position in 1..20 {
            let entry = if position == 1 { step() } else { tally(position - 1) };
            let at = At { position, stamp: Stamp(1_000_000 + 400 * position) };
            let closed = fold.apply(&entry, at, Offset(0), true).windows_closed;
            let changed = ClosedBlocks::changed(&fold, &shown);
            assert_eq!(changed.is_some(), closed > 0);
            if let Some(changed) = changed {
                numbers.push(changed.blocks.iter().map(|block| block.number).collect::<Vec<_>>());
                shown.send_replace(changed);
            }
        }
        assert_eq!(numbers[..3], [vec![0], vec![0, 1], vec![0, 1, 2]]);
        assert_eq!(ClosedBlocks::changed(&fresh(), &shown).map(|changed| changed.blocks.len()), Some(0));
    }
}
