use std::collections::HashMap;
use std::sync::{Arc, Weak};

use serde_json::Value;

use crate::policy::Policy;

/// Policies that are the same for several tenants, held once: a thousand tenants with copies of one
/// document then share one policy in memory, and in the processor's cache. Shares memory and nothing
/// else: no entry is judged by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// By what tells most policies apart. A policy that none holds any more is passed over.
    known: HashMap<Key, (Weak<Policy>, Weak<Value>)>,
    /// At how many entries those that none holds are next thrown out.
    full: usize,
}

/// Id, first provider, how many there are, and their weights together.
type Key = (String, String, usize, u64);

/// Fewer entries are not looked through.
const LEAST: usize = 64;

impl Pool {
    /// A policy and its document: those that are equal to them, or else themselves.
    pub(super) fn one_of(&mut self, policy: Policy, document: &Arc<Value>) -> (Arc<Policy>, Arc<Value>) {
        let key = key_of(&policy);
        if let Some((known, source)) = self.known.get(&key)
            && let (Some(known), Some(source)) = (known.upgrade(), source.upgrade())
            && *known == policy
            && source == *document
        {
            return (known, source);
        }
        let policy = Arc::new(policy);
        if self.known.len() >= self.full.max(LEAST) {
            self.known.retain(|_, (policy, _)| policy.strong_count() > 0);
            self.full = 2 * self.known.len();
        }
        self.known.insert(key, (Arc::downgrade(&policy), Arc::downgrade(document)));
        (policy, Arc::clone(document))
    }
}

fn key_of(policy: &Policy) -> Key {
    let first = policy.candidates().first().map(|c| c.provider.as_str().to_owned()).unwrap_or_default();
    (policy.id().as_str().to_owned(), first, policy.candidates().len(), policy.total_weight())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(pool: &mut Pool, id: &str, weight: u32) -> (Arc<Policy>, Arc<Value>) {
        let document = json!({
            "policy_id": id, "providers": [{"name": "a", "weight": weight}, {"name": "b", "weight": 100 - weight}],
        });
        let policy = crate::policy::parse(&document).unwrap().policy;
        let expected = (policy.clone(), document.clone());
        let held = pool.one_of(policy, &Arc::new(document));
        assert_eq!((&*held.0, &*held.1), (&expected.0, &expected.1));
        held
    }

    fn is_same(a: &(Arc<Policy>, Arc<Value>), b: &(Arc<Policy>, Arc<Value>)) -> bool {
        assert_eq!(Arc::ptr_eq(&a.0, &b.0), Arc::ptr_eq(&a.1, &b.1));
        Arc::ptr_eq(&a.0, &b.0)
    }

    #[test]
    fn equal_policies_are_held_once_and_others_are_not_mixed_up() {
        let mut pool = Pool::default();
        let first = held(&mut pool, "p", 70);
        assert!(is_same(&first, &held(&mut pool, "p", 70)));
        // Alike in all that the key knows.
        assert!(!is_same(&first, &held(&mut pool, "p", 60)));
        assert!(!is_same(&first, &held(&mut pool, "q", 70)));
    }

    #[test]
    fn what_none_holds_is_forgotten() {
        let mut pool = Pool::default();
        let kept = held(&mut pool, "kept", 70);
        (0..10_000).for_each(|n| drop(held(&mut pool, &format!("p{n}"), 70)));
        assert!(pool.known.len() <= 2 * LEAST, "{}", pool.known.len());
        assert!(is_same(&kept, &held(&mut pool, "kept", 70)));
    }
}
