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
