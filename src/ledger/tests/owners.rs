//! Whose settings hold where several policies name one provider.

use super::*;

fn over(providers: &[&str], failure_threshold: u64, enabled: bool) -> Value {
    with_breaker(providers, json!({"enabled": enabled, "failure_threshold": failure_threshold}))
}

/// The policy whose settings hold for `acme`'s provider, and the failure threshold that it gives.
fn owner(log: &Log, provider_id: &str) -> (String, u64) {
    let cell = log.cell("acme", provider_id);
    let guarded = cell.lock();
    (guarded.policy_id.to_string(), guarded.breaker.settings().to_draft().failure_threshold)
}

fn owned(policy: &str, threshold: u64) -> (String, u64) {
    (policy.to_owned(), threshold)
}

#[test]
fn the_newest_enabled_policys_settings_hold_and_the_next_newests_when_it_goes() {
    let mut log = Log::new();
    log.put("acme", "first", over(&["a", "b"], 11, true));
    log.put("acme", "second", over(&["a"], 22, true));
    log.put("acme", "third", over(&["a", "c"], 33, true));
    assert_eq!(owner(&log, "a"), owned("third", 33));
    assert_eq!(owner(&log, "b"), owned("first", 11));
    log.delete("acme", "third");
    assert_eq!(owner(&log, "a"), owned("second", 22));
    assert_eq!(log.standing(), ["acme/a", "acme/b"]);
    // A new revision of an old policy is the newest.
    log.put("acme", "first", over(&["a", "b"], 44, true));
    assert_eq!(owner(&log, "a"), owned("first", 44));
    // It goes on naming b and lets go of a.
    log.put("acme", "first", over(&["b"], 55, true));
    assert_eq!(owner(&log, "a"), owned("second", 22));
    assert_eq!(owner(&log, "b"), owned("first", 55));
}

#[test]
fn a_newer_policy_that_leaves_breakers_off_has_no_say_while_an_enabled_one_stands() {
    let mut log = Log::new();
    log.put("acme", "on", over(&["a"], 11, true));
    log.put("acme", "off", over(&["a"], 22, false));
    assert_eq!(owner(&log, "a"), owned("on", 11));
    log.put("acme", "on", over(&["a"], 33, false));
    assert_eq!(owner(&log, "a"), owned("on", 33));
    log.put("acme", "off", over(&["a"], 44, true));
    assert_eq!(owner(&log, "a"), owned("off", 44));
    log.delete("acme", "off");
    assert_eq!(owner(&log, "a"), owned("on", 33));
}

#[test]
fn policies_of_another_tenant_have_no_say() {
    let mut log = Log::new();
    log.put("acme", "p", over(&["a"], 11, true));
    log.put("beta", "p", over(&["a"], 22, true));
    assert_eq!(owner(&log, "a"), owned("p", 11));
    log.delete("beta", "p");
    assert_eq!(owner(&log, "a"), owned("p", 11));
}

#[test]
fn a_change_of_owner_changes_settings_and_not_evidence() {
    let mut log = Log::new();
    log.put("acme", "first", over(&["a"], 11, true));
    log.fail("acme", "a", 4);
    log.put("acme", "second", over(&["a"], 22, true));
    log.delete("acme", "first");
    let view = log.view("acme", "a");
    assert_eq!((view.failures_in_a_row, view.window.failures), (4, 4));
}

#[test]
fn transitions_tell_the_policy_whose_settings_hold() {
    let mut log = Log::new();
    log.put("acme", "first", over(&["a"], 1, true));
    log.put("acme", "second", over(&["a"], 2, true));
    log.delete("acme", "second");
    let applied = log.apply(Entry::Result(outcome("acme", "a", Status::Error, 1)));
    let [moved] = applied.moved.as_slice() else { panic!("{applied:?}") };
    assert_eq!(moved.policy_id, policy_id("first"));
    assert_eq!((moved.cell.tenant_id.as_str(), moved.cell.provider_id.as_str()), ("acme", "a"));
}

#[test]
fn rivals_are_enabled_policies_that_give_a_shared_provider_other_settings() {
    let mut log = Log::new();
    log.put("acme", "other", over(&["a", "b"], 11, true));
    log.put("acme", "same", over(&["a"], 22, true));
    log.put("acme", "off", over(&["a"], 33, false));
    log.put("acme", "apart", over(&["z"], 44, true));
    log.put("beta", "other", over(&["a"], 55, true));
    let rivals = |threshold, enabled| {
        let mut document = over(&["a", "c"], threshold, enabled);
        document["policy_id"] = json!("mine");
        let policy = crate::policy::parse(&document).unwrap().policy;
        log.fold.register().rivals(&tenant("acme"), &policy)
    };
    assert_eq!(rivals(22, true), [(provider("a"), policy_id("other"))]);
    assert_eq!(rivals(99, true), [(provider("a"), policy_id("other")), (provider("a"), policy_id("same"))]);
    assert!(rivals(99, false).is_empty());
}
