//! What it changes to put the document of a policy in force once more.

use super::steps::overlay;
use super::*;
use crate::ledger::Repeated;

#[test]
fn a_document_that_is_put_once_more_changes_what_is_told_and_nothing_else() {
    let mut log = Log::new();
    let policy = |n: u64, enabled: bool| {
        with_breaker(&["a", "b"], json!({"enabled": enabled, "failure_threshold": n}))
    };
    log.put("acme", "same", policy(5, true));
    log.put("acme", "other", policy(5, true));
    log.put("acme", "off", policy(9, false));
    log.put("beta", "p", policy(3, true));
    log.fail("acme", "a", 2);
    let again = |log: &mut Log, t: &str, p: &str| {
        let (t, p) = (tenant(t), policy_id(p));
        let told = log.fold.repeated(&t, &p);
        let held = |log: &Log| {
            let of = |provider: &str| {
                let cell = log.cell("acme", provider);
                let settings = cell.lock().breaker.settings_shared();
                (settings, log.view("acme", provider))
            };
            (of("a"), of("b"), log.fold.overlays().over(&t, &p).is_some())
        };
        let before = held(log);
        let document = log.fold.register().get(&t, &p).unwrap().live.clone().unwrap().document;
        log.put(t.as_str(), p.as_str(), (*document).clone());
        assert_eq!(told.is_none(), held(log) == before, "{told:?}");
        told
    };
    for (t, p) in [("acme", "same"), ("acme", "other"), ("acme", "off"), ("beta", "p")] {
        assert_eq!(again(&mut log, t, p), None, "{t}/{p}");
    }
    // The newest of two that are enabled gives its settings.
    log.put("acme", "other", policy(7, true));
    assert_eq!(again(&mut log, "acme", "other"), None);
    assert_eq!(again(&mut log, "acme", "same"), Some(Repeated::TakesBreaker));
    assert_eq!(again(&mut log, "acme", "same"), None, "now it is the newest");
    assert_eq!(log.fold.repeated(&tenant("acme"), &policy_id("none")), None);
}

#[test]
fn a_document_that_states_its_share_takes_its_tenant_out_when_it_is_put_once_more() {
    let mut log = Log::new();
    let document = with_breaker(&["a"], json!({"enabled": true, "enforce_percent": 0}));
    log.put("acme", "p", document.clone());
    log.put("beta", "p", with_breaker(&["a"], json!({})));
    log.step("cb", 1, Some(overlay(&[("acme", 10), ("beta", 10)])));
    let repeated = |log: &Log, t: &str| log.fold.repeated(&tenant(t), &policy_id("p"));
    assert_eq!(repeated(&log, "acme"), Some(Repeated::LeavesRollout));
    assert_eq!(repeated(&log, "beta"), None);
    log.put("acme", "p", document);
    assert!(log.fold.overlays().over(&tenant("acme"), &policy_id("p")).is_none());
    assert_eq!(repeated(&log, "acme"), None);
}
