//! What this worker has pushed and not seen the end of.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Shares, Tick};
use crate::telemetry::TraceParent;

/// A pushed assignment that has not ended.
#[derive(Clone, Debug)]
pub struct Tracked {
    /// Whose.
    pub tenant_id: Arc<str>,
    /// Who serves it.
    pub provider_id: Arc<str>,
    /// The request.
    pub request_id: Arc<str>,
    /// When it was pushed.
    pub issued: Tick,
    /// When it should have ended.
    pub deadline: Tick,
    /// The decision's span, if it was recorded.
    pub trace: Option<TraceParent>,
}

/// What this worker has pushed and not seen the end of.
#[derive(Debug)]
pub struct Assignments {
    inner: Mutex<Inner>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    tracked: HashMap<Arc<str>, Tracked>,
    shares: Shares,
    deadlines: BinaryHeap<Reverse<(Tick, Arc<str>)>>,
}

impl Assignments {
    /// Tracks at most `most` at once, shared by the tenants as [`Shares`] has it.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let inner =
            Inner { tracked: HashMap::new(), shares: Shares::new(most), deadlines: BinaryHeap::new() };
        Self { inner: Mutex::new(inner), count: AtomicUsize::new(0) }
    }

    /// Begins to track; `false` if the tenant's share is tracked already.
    pub fn track(&self, assignment_id: &str, tracked: Tracked) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if !inner.shares.take(&tracked.tenant_id, 1) {
            return false;
        }
        let id: Arc<str> = assignment_id.into();
        inner.deadlines.push(Reverse((tracked.deadline, Arc::clone(&id))));
        inner.tracked.insert(id, tracked);
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        true
    }

    /// Ends an assignment, if it was tracked. Its deadline is forgotten when it comes.
    pub fn ended(&self, assignment_id: &str) -> Option<Tracked> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let tracked = inner.remove(assignment_id);
        // Deadlines of what has ended are kept until they are due; where most are, they are cleared.
        if inner.deadlines.len() > 64 && inner.deadlines.len() > inner.tracked.len() * 4 {
            let Inner { tracked, deadlines, .. } = &mut *inner;
            deadlines.retain(|Reverse((_, id))| tracked.contains_key(id));
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        tracked
    }

    /// Whose an assignment is, if it is tracked.
    pub(super) fn tenant_of(&self, assignment_id: &str) -> Option<Arc<str>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.tracked.get(assignment_id).map(|tracked| Arc::clone(&tracked.tenant_id))
    }

    /// How many are tracked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn due(&self, now: Tick) -> Vec<(Arc<str>, Tracked)> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        while inner.deadlines.peek().is_some_and(|Reverse((deadline, _))| *deadline <= now) {
            if let Some(Reverse((_, id))) = inner.deadlines.pop()
                && let Some(tracked) = inner.remove(&id)
            {
                due.push((id, tracked));
            }
        }
        self.count.store(inner.tracked.len(), Ordering::Relaxed);
        due
    }
}

impl Inner {
    fn remove(&mut self, assignment_id: &str) -> Option<Tracked> {
        let tracked = self.tracked.remove(assignment_id)?;
        self.shares.give_back(&tracked.tenant_id, 1);
        Some(tracked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tenant_id: &str, deadline: u64) -> Tracked {
        Tracked {
            tenant_id: tenant_id.into(),
            provider_id: "a".into(),
            request_id: "r".into(),
            issued: Tick(0),
            deadline: Tick(deadline),
            trace: None,
        }
    }

    #[test]
    fn one_tenants_flood_leaves_places_to_others_and_what_ends_frees_its_own() {
        let table = Assignments::new(100);
        let taken = (0..200).filter(|n| table.track(&format!("flood-{n}"), of("flood", 10))).count();
        assert_eq!((taken, table.len()), (80, 80));
        assert!((0..16).all(|n| table.track(&format!("quiet-{n}"), of("quiet", 20))));
        assert_eq!(table.tenant_of("quiet-3").as_deref(), Some("quiet"));
        assert!(!table.track("flood-200", of("flood", 10)));
        assert_eq!(table.due(Tick(10)).len(), 80);
        assert!(table.track("flood-201", of("flood", 10)));
        assert!(table.ended("quiet-0").is_some() && table.ended("quiet-0").is_none());
        assert_eq!(table.len(), 16);
    }
}
