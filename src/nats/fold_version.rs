//! Raising the version of the fold once every worker has it.
//!
//! Workers say in service discovery which version they agree to. Each one looks, and where all agree to a newer one, at
//! two looks with the same workers, it appends the entry that raises it. One that was just starting at the first look
//! answers at the second. The first entry counts, whoever writes it.
//!
//! A log that was made anew begins with the first version, and refuses for good a policy that needs a newer one. So
//! what a bucket holds of such policies waits for the version (`waits_for`). The version waits for no policy: workers
//! answer discovery, and look, before they serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Worker;
use super::workers::{WorkerInfo, answering};
use crate::ledger::version_for;
use crate::log::{Entry, FoldVersion, FoldVersionEntry, IdentityKey, PolicyEntry};

/// The newest version that a worker agrees to.
pub(super) fn agreed_to(worker: &Worker) -> FoldVersion {
    let most = worker.settings.ledger.fold_version.map_or(FoldVersion::NEWEST, FoldVersion);
    most.min(FoldVersion::NEWEST)
}

/// The version that an entry of the log waits for, where version `holds` is to rise to one that takes it. One that this
/// worker does not agree to may never come, so nothing waits for it.
pub(super) fn waits_for(entry: &Entry<'_>, holds: FoldVersion, agreed: FoldVersion) -> Option<FoldVersion> {
    let Entry::Policy(PolicyEntry { document: Some(document), .. }) = entry else { return None };
    let needed = version_for(document);
    (holds < needed && needed <= agreed).then_some(needed)
}

/// What all workers agreed to when they were last looked at.
#[derive(Debug, Default)]
struct Agreement {
    last: Option<BTreeMap<String, FoldVersion>>,
}

impl Agreement {
    /// Takes who answers now. Gives the version to raise the fold to, if it is newer than `now`.
    fn look(&mut self, now: FoldVersion, workers: &[WorkerInfo]) -> Option<FoldVersion> {
        let answering: BTreeMap<_, _> = workers.iter().map(|w| (w.name.clone(), w.fold)).collect();
        let least = answering.values().min().copied();
        let same = self.last.replace(answering.clone()).is_some_and(|last| last == answering);
        least.filter(|least| same && *least > now)
    }
}

/// Looks until stopped.
pub async fn run(worker: Arc<Worker>, stop: CancellationToken) {
    let mut agreement = Agreement::default();
    let own = agreed_to(&worker);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(worker.settings.reconcile_interval) => {}
        }
        let progress = *worker.ledger.progress().borrow();
        let now = worker.ledger.fold_version();
        if !progress.caught_up || now >= own {
            agreement = Agreement::default();
            continue;
        }
        let Ok(workers) = answering(&worker.traffic, &worker.settings.names).await else { continue };
        if let Some(version) = agreement.look(now, &workers) {
            raise(&worker, progress.made, version).await;
        }
    }
}

async fn raise(worker: &Worker, made: i128, version: FoldVersion) {
    let (one, other) = Uuid::new_v4().as_u64_pair();
    let (further, _) = Uuid::new_v4().as_u64_pair();
    // A UUID has six bits that are not random.
    let identity_key = IdentityKey([one ^ further.rotate_left(32), other ^ further]);
    let entry = Entry::FoldVersion(FoldVersionEntry { version, identity_key });
    let unique = format!("fold_version.{made}.{version}");
    if let Err(error) = worker.append(&entry, Some(&unique)).await {
        tracing::warn!(event = "fold_version_not_raised", version = version.0, error = %error);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{PolicyId, TenantId};
    use crate::log::Revision;

    #[test]
    fn a_policy_waits_for_the_version_that_it_needs_if_this_worker_agrees_to_it() {
        let entry = |document: Option<Value>| {
            Entry::Policy(PolicyEntry {
                tenant_id: TenantId::try_new("acme").unwrap(),
                policy_id: PolicyId::try_new("p").unwrap(),
                revision: Revision { created: 1, revision: 1 },
                document: document.map(Arc::new),
                actor: None,
                reason: None,
                authenticated: None,
            })
        };
        let listed = entry(Some(json!({"assignment_subjects": ["caf.exec.assign.gpu"]})));
        let waits = |entry: &Entry<'_>, holds, agreed| {
            waits_for(entry, FoldVersion(holds), FoldVersion(agreed)).map(|version| version.0)
        };
        assert_eq!(waits(&listed, 1, 4), Some(3));
        assert_eq!(waits(&listed, 2, 3), Some(3));
        assert_eq!(waits(&listed, 3, 4), None, "it holds");
        assert_eq!(waits(&listed, 1, 2), None, "this worker keeps it from rising");
        assert_eq!(waits(&entry(Some(json!({}))), 1, 4), None);
        assert_eq!(waits(&entry(None), 1, 4), None, "a delete");
        assert_eq!(waits(&Entry::Mark, 1, 4), None);
    }

    fn workers(all: &[(&str, u32)]) -> Vec<WorkerInfo> {
        let worker = |(name, fold): &(&str, u32)| WorkerInfo {
            id: String::new(),
            name: (*name).to_owned(),
            version: String::new(),
            rollouts: None,
            fold: FoldVersion(*fold),
            decides: true,
        };
        all.iter().map(worker).collect()
    }

    #[test]
    fn the_version_rises_once_the_same_workers_have_agreed_twice() {
        let mut agreement = Agreement::default();
        let mut look =
            |now, all: &[(&str, u32)]| agreement.look(FoldVersion(now), &workers(all)).map(|v| v.0);
        assert_eq!(look(1, &[("a", 2)]), None, "the first look");
        assert_eq!(look(1, &[("a", 2), ("b", 1)]), None, "another worker has come");
        assert_eq!(look(1, &[("a", 2), ("b", 1)]), None, "which has only the first");
        assert_eq!(look(1, &[("a", 2), ("b", 2)]), None, "and is upgraded");
        assert_eq!(look(1, &[("a", 2), ("b", 2)]), Some(2));
        assert_eq!(look(2, &[("a", 2), ("b", 2)]), None, "it is raised");
        assert_eq!(look(1, &[]), None);
        assert_eq!(look(1, &[]), None, "nobody has agreed");
        assert_eq!(look(1, &[("a", 3), ("b", 2)]), None);
        assert_eq!(look(1, &[("a", 3), ("b", 2)]), Some(2), "the least");
    }
}
