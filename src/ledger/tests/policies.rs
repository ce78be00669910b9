use super::*;

const fn revision(created: i64, revision: u64) -> Revision {
    Revision { created, revision }
}

fn threshold(n: u64) -> Option<Value> {
    Some(with_breaker(&["a"], json!({"enabled": true, "failure_threshold": n})))
}

/// The failure threshold in force for `acme`'s provider `a`.
fn in_force(log: &Log) -> u64 {
    log.cell("acme", "a").lock().breaker.settings().to_draft().failure_threshold
}

#[test]
fn the_newest_revision_of_a_policy_holds_whatever_the_order_they_come_in() {
    let mut log = Log::new();
    assert_eq!(log.policy("acme", "p", revision(1, 5), threshold(5)), PolicyChange::Put);
    for old in [4, 1, 5] {
        assert_eq!(log.policy("acme", "p", revision(1, old), threshold(9)), PolicyChange::Stale);
        assert_eq!(in_force(&log), 5);
    }
    assert_eq!(log.policy("acme", "p", revision(1, 6), threshold(6)), PolicyChange::Put);
    assert_eq!(in_force(&log), 6);
    assert_eq!(log.state.catalog().find("acme", "p").unwrap().revision, 6);
}

#[test]
fn revisions_of_one_policy_say_nothing_of_another() {
    let mut log = Log::new();
    log.policy("acme", "p", revision(1, 9), threshold(5));
    assert_eq!(log.policy("acme", "q", revision(1, 2), threshold(4)), PolicyChange::Put);
    assert_eq!(log.policy("beta", "p", revision(1, 2), threshold(4)), PolicyChange::Put);
}

#[test]
fn a_deleted_policy_is_gone_and_an_older_revision_does_not_bring_it_back() {
    let mut log = Log::new();
    log.policy("acme", "p", revision(1, 2), threshold(5));
    assert_eq!(log.policy("acme", "p", revision(1, 1), None), PolicyChange::Stale);
    assert!(log.state.catalog().find("acme", "p").is_some());
    assert_eq!(log.policy("acme", "p", revision(1, 4), None), PolicyChange::Deleted);
    assert!(log.state.catalog().find("acme", "p").is_none());
    assert!(log.standing().is_empty());
    assert_eq!(log.fold.register().live_count(), 0);
    assert_eq!(log.policy("acme", "p", revision(1, 3), threshold(5)), PolicyChange::Stale);
    assert!(log.state.catalog().find("acme", "p").is_none());
    assert_eq!(log.policy("acme", "p", revision(1, 5), threshold(5)), PolicyChange::Put);
    assert_eq!(in_force(&log), 5);
}

#[test]
fn a_delete_that_comes_before_its_put_keeps_it_out() {
    let mut log = Log::new();
    assert_eq!(log.policy("acme", "p", revision(1, 2), None), PolicyChange::Deleted);
    assert_eq!(log.policy("acme", "p", revision(1, 1), threshold(5)), PolicyChange::Stale);
    assert!(log.standing().is_empty());
}

#[test]
fn a_bucket_made_anew_starts_its_revisions_again_and_is_newer_all_the_same() {
    let mut log = Log::new();
    log.policy("acme", "p", revision(1, 900), threshold(5));
    assert_eq!(log.policy("acme", "p", revision(2, 1), threshold(6)), PolicyChange::Put);
    assert_eq!(in_force(&log), 6);
    assert_eq!(log.policy("acme", "p", revision(1, 901), threshold(7)), PolicyChange::Stale);
    assert_eq!(in_force(&log), 6);
}

#[test]
fn a_document_that_is_refused_leaves_what_runs() {
    let mut log = Log::new();
    log.policy("acme", "p", revision(1, 1), threshold(5));
    log.fail("acme", "a", 2);
    let faulty = json!({"providers": [], "rate_limit": {}});
    let PolicyChange::Refused(faults) = log.policy("acme", "p", revision(1, 2), Some(faulty)) else {
        panic!()
    };
    assert!(faults.iter().any(|f| f.path == "/providers") && faults.iter().any(|f| f.path == "/rate_limit"));
    assert_eq!(in_force(&log), 5);
    assert_eq!(log.view("acme", "a").failures_in_a_row, 2);
    assert_eq!(log.state.catalog().find("acme", "p").unwrap().revision, 1);
    // It was seen, so an older one does not come after it.
    let record = log.fold.register().get(&tenant("acme"), &policy_id("p")).unwrap();
    assert_eq!((record.seen, record.live.as_ref().unwrap().revision), (revision(1, 2), revision(1, 1)));
    assert_eq!(log.policy("acme", "p", revision(1, 2), threshold(9)), PolicyChange::Stale);
    assert_eq!(log.policy("acme", "p", revision(1, 3), threshold(9)), PolicyChange::Put);
    assert_eq!(in_force(&log), 9);
}

#[test]
fn a_first_document_that_is_refused_makes_nothing() {
    let mut log = Log::new();
    assert!(matches!(log.policy("acme", "p", revision(1, 1), Some(json!({}))), PolicyChange::Refused(_)));
    assert!(log.standing().is_empty());
    assert!(log.state.catalog().find("acme", "p").is_none());
}

#[test]
fn a_policy_in_force_holds_the_breakers_of_its_candidates_in_order() {
    let mut log = Log::new();
    let mut document = document(&["z", "a", "m"]);
    document["fallbacks"] = json!([{"to": "local"}, {"to": "a"}]);
    log.put("acme", "p", document);
    let routable = log.state.catalog().find("acme", "p").unwrap();
    let held: Vec<_> = routable.cells.iter().map(|c| c.provider_id.as_str()).collect();
    assert_eq!(held, ["z", "a", "m", "local"]);
    for cell in &routable.cells {
        assert!(Arc::ptr_eq(cell, &log.cell("acme", cell.provider_id.as_str())));
    }
}

#[test]
fn the_register_is_told_by_tenant_and_policy_and_page_by_page() {
    let mut log = Log::new();
    for (t, p) in [("b", "p"), ("a.b", "p"), ("a", "q"), ("a", "p"), ("b", "gone")] {
        log.put(t, p, document(&["x"]));
    }
    log.delete("b", "gone");
    let register = log.fold.register();
    let ids = |t: &str| register.of_tenant(&tenant(t)).map(|(p, _)| p.to_string()).collect::<Vec<_>>();
    assert_eq!(ids("a"), ["p", "q"]);
    assert_eq!(ids("b"), ["p"]);
    assert!(ids("nobody").is_empty());
    assert_eq!(register.live_count(), 4);
    let keys: Vec<_> = register.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys.len(), 5);
    for (n, key) in keys.iter().enumerate() {
        let rest: Vec<_> = register.after(Some(key)).map(|(k, _)| k.clone()).collect();
        assert_eq!(rest, keys[n + 1..]);
    }
    assert_eq!(register.after(None).count(), 5);
}
