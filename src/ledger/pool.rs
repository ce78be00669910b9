use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::policy::Policy;

/// Policies that are the same for several tenants, held once: a thousand tenants with copies of one
/// document then share one policy in memory, and in the processor's cache. Shares memory and nothing
/// else: no entry is judged by it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    /// By what tells most policies apart. A policy that none holds any more is passed over.
    known: HashMap<Key, Weak<Policy>>,
    /// At how many entries those that none holds are next thrown out.
    full: usize,
}

/// Id, first provider, and how many there are.
type Key = (String, String, usize, u64);

/// Fewer entries are not looked through.
const LEAST: usize = 64;

impl Pool {
    /// The one that is equal to a policy, or else itself.
    pub(super) fn one_of(&mut self, policy: Policy) -> Arc<Policy> {
        let key = key_of(&policy);
        if let Some(known) = self.known.get(&key).and_then(Weak::upgrade)
            && *known == policy
        {
            return known;
        }
        let policy = Arc::new(policy);
        if self.known.len() >= self.full.max(LEAST) {
            self.known.retain(|_, policy| policy.strong_count() > 0);
            self.full = 2 * self.known.len();
        }
        self.known.insert(key, Arc::downgrade(&policy));
        policy
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

    fn policy(id: &str, weight: u32) -> Policy {
        let document = json!({
            "policy_id": id, "providers": [{"name": "a", "weight": weight}, {"name": "b", "weight": 100 - weight}],
        });
        crate::policy::parse(&document).unwrap().policy
    }

    #[test]
    fn equal_policies_are_held_once_and_others_are_not_mixed_up() {
        let mut pool = Pool::default();
        let first = pool.one_of(policy("p", 70));
        assert!(Arc::ptr_eq(&first, &pool.one_of(policy("p", 70))));
        // Alike in all that the key knows.
        let other = pool.one_of(policy("p", 60));
        assert_eq!(*other, policy("p", 60));
        assert_eq!(*first, policy("p", 70));
        assert!(!Arc::ptr_eq(&first, &pool.one_of(policy("q", 70))));
    }

    #[test]
    fn what_none_holds_is_forgotten() {
        let mut pool = Pool::default();
        let held = pool.one_of(policy("held", 70));
        (0..10_000).for_each(|n| drop(pool.one_of(policy(&format!("p{n}"), 70))));
        assert!(pool.known.len() <= 2 * LEAST, "{}", pool.known.len());
        assert!(Arc::ptr_eq(&held, &pool.one_of(policy("held", 70))));
    }
}
