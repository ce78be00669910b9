use super::*;
use crate::state::{Cells, Reader};

const TENANTS: usize = 3_000;

fn routable(policy: &Arc<Policy>, revision: u64) -> Arc<Routable> {
    Arc::new(Routable { policy: Arc::clone(policy), revision, cells: Cells::new(), step: None })
}

fn named(id: &str) -> Arc<Policy> {
    let document = json!({"policy_id": id, "providers": [{"name": "a", "weight": 1}]});
    Arc::new(parse(&document).unwrap().policy)
}

#[test]
fn every_tenant_finds_its_own_policies_among_many() {
    let state = State::new(true);
    let catalog = state.catalog();
    let (p, q) = (named("p"), named("q"));
    // Of many lengths, some too long for a slot.
    let name = |n: usize| tenant(&format!("tenant-{n}{}", "x".repeat(n % 60)));
    for n in 0..TENANTS {
        catalog.put(&name(n), routable(&p, n as u64));
        catalog.put(&name(n), routable(&q, 1_000_000 + n as u64));
    }
    // A look-up of its own, and one by a reader that has met older tables.
    let reader = std::cell::RefCell::new(Reader::default());
    let found = |n: usize, id: &str| {
        let fresh = catalog.find(name(n).as_str(), id).map(|r| r.revision);
        reader.borrow_mut().refresh(catalog);
        let kept = reader.borrow().find(name(n).as_str(), id).map(|r| r.revision);
        assert_eq!(fresh, kept);
        fresh
    };
    for n in 0..TENANTS {
        assert_eq!(found(n, "p"), Some(n as u64));
        assert_eq!(found(n, "q"), Some(1_000_000 + n as u64));
        assert_eq!(found(n, "r"), None);
    }
    assert!(catalog.find("tenant-3000", "p").is_none());
    assert!(catalog.find("", "p").is_none());

    for n in (0..TENANTS).step_by(2) {
        catalog.remove(&name(n), &policy_id("p"));
        catalog.remove(&name(n), &policy_id("unknown"));
    }
    for n in (0..TENANTS).step_by(3) {
        catalog.put(&name(n), routable(&q, 7));
    }
    for n in 0..TENANTS {
        assert_eq!(found(n, "p"), (n % 2 == 1).then_some(n as u64));
        assert_eq!(found(n, "q"), Some(if n % 3 == 0 { 7 } else { 1_000_000 + n as u64 }));
    }
    state.clear();
    assert!((0..TENANTS).all(|n| found(n, "q").is_none()));
}

#[test]
fn a_policy_that_was_taken_out_still_serves_those_who_hold_it() {
    let state = State::new(true);
    state.catalog().put(&tenant("acme"), routable(&named("p"), 3));
    let held = state.catalog().find("acme", "p").unwrap();
    state.catalog().remove(&tenant("acme"), &policy_id("p"));
    assert!(state.catalog().find("acme", "p").is_none());
    assert_eq!(held.revision, 3);
}

#[test]
fn breakers_are_found_by_tenant_and_provider_in_whatever_order_they_came() {
    let state = State::new(true);
    for tenant in ["zeta", "acme"] {
        for provider in ["m", "a", "z", "b"] {
            state.insert(cell(tenant, provider, |_| {}));
        }
    }
    assert_eq!(state.breaker_count(), 8);
    assert_eq!(state.tenants(), [tenant("acme"), tenant("zeta")]);
    let names = |id| state.breakers_of(id).iter().map(|c| c.provider_id.to_string()).collect::<Vec<_>>();
    assert_eq!(names("acme"), ["a", "b", "m", "z"]);
    for provider in ["a", "b", "m", "z"] {
        assert_eq!(state.breaker("zeta", provider).unwrap().provider_id.as_str(), provider);
        assert_eq!(
            state.with_breaker("zeta", provider, |c| c.tenant_id.to_string()),
            Some("zeta".to_owned())
        );
    }
    assert!(state.breaker("zeta", "c").is_none() && state.breaker("nobody", "a").is_none());
    assert!(state.with_breaker("nobody", "a", |_| ()).is_none());

    let replacement = cell("acme", "b", |_| {});
    state.insert(Arc::clone(&replacement));
    assert!(Arc::ptr_eq(&state.breaker("acme", "b").unwrap(), &replacement));
    assert_eq!(state.breaker_count(), 8);
}

#[test]
fn a_tenant_without_breakers_leaves_nothing_behind() {
    let state = State::new(true);
    state.insert(cell("acme", "a", |_| {}));
    state.insert(cell("acme", "b", |_| {}));
    assert!(state.remove(&tenant("acme"), &provider("c")).is_none());
    assert!(state.remove(&tenant("nobody"), &provider("a")).is_none());
    assert!(state.remove(&tenant("acme"), &provider("a")).is_some());
    assert_eq!((state.breaker_count(), state.tenants().len()), (1, 1));
    assert!(state.remove(&tenant("acme"), &provider("b")).is_some());
    assert_eq!((state.breaker_count(), state.tenants().len()), (0, 0));
    let mut seen = 0;
    state.for_each_breaker(|_| seen += 1);
    assert_eq!(seen, 0);
}
