//! The log is purged, holed or made anew under a worker, or its reader's consumer is taken away.

use std::time::Duration;

use serde_json::json;

use crate::support::{SOON, Stage, Worker, eventually, request};
use crate::traffic::{Asking, RECOVERY, agree, policy, result};

/// A tenant with two providers, of which the first is open for five minutes.
async fn with_open_breaker() -> Stage {
    let stage = Stage::start().await;
    let breaker = json!({"enabled": true, "failure_threshold": 3, "timeout_ms": 300_000});
    stage.caller.put_policy("acme", &policy(&["a", "b"], breaker)).await;
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
    stage
}

/// A result of the healthy provider.
fn fine(id: &str) -> serde_json::Value {
    result("acme", "b", id, "success")
}

/// Takes the reader's consumer away, so that nothing reads until the worker has made another.
async fn blind(stage: &Stage) {
    let log = stage.caller.log().await;
    for reader in stage.caller.log_readers().await {
        log.delete_consumer(&reader).await.unwrap();
    }
}

#[tokio::test]
async fn a_reader_whose_consumer_was_deleted_goes_on_where_it_was() {
    let stage = with_open_breaker().await;
    assert_eq!(stage.caller.log_readers().await.len(), 1);
    let (before, _) = stage.worker.standing().await;
    blind(&stage).await;
    for n in 0..5 {
        stage.caller.result(&fine(&format!("n-{n}"))).await;
    }
    stage.worker.applied(before + 5).await;
    assert_eq!(stage.caller.log_readers().await.len(), 1);
    let metrics = stage.worker.metrics().await;
    let fine = [("status", "success"), ("disposition", "applied")];
    assert_eq!(metrics.value("router_results_total", &fine), Some(5.0), "each is applied once");
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
    assert!(!stage.worker.events("log_consumer_remade").is_empty());
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test]
async fn a_purge_of_what_was_read_changes_nothing() {
    let mut stage = with_open_breaker().await;
    stage
        .caller
        .command("breaker.force", &json!({"tenant_id": "acme", "provider_id": "b", "state": "closed"}))
        .await;
    let off = json!({"scope": "tenant", "tenant_id": "umbra", "circuit_breaker_enabled": false});
    stage.caller.command("flag.set", &off).await;
    let before = stage.worker.standing().await;

    stage.caller.log().await.purge().await.unwrap();
    let next = stage.caller.result(&fine("n-1")).await;
    assert_eq!(next, before.0 + 1, "a purge keeps the count");
    stage.worker.applied(next).await;
    stage.state_is("acme", "a", "open").await;
    assert_eq!(stage.caller.breaker("acme", "b").await["forced"]["state"], "closed");
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "b");
    assert_eq!(stage.worker.count("router_log_rebuilds_total").await, 0);
    assert_eq!(stage.worker.count("router_log_gaps_total").await, 0);

    // One that starts behind the purge has policies and flags, for the buckets hold them.
    stage.caller.log().await.purge().await.unwrap();
    stage.worker.kill();
    let mut again = Worker::start(&stage.broker, |l| l).await;
    std::mem::swap(&mut stage.worker, &mut again);
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["policy_id"], "default");
    assert!(!stage.caller.flag(Some("umbra")).await, "the switch is still off");
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test]
async fn a_worker_that_missed_what_was_purged_rebuilds_and_has_its_policies() {
    let stage = with_open_breaker().await;
    blind(&stage).await;
    stage.caller.result(&fine("missed-1")).await;
    stage.caller.result(&fine("missed-2")).await;
    stage.caller.log().await.purge().await.unwrap();
    let last = stage.caller.result(&fine("n-1")).await;

    eventually("the worker rebuilds", RECOVERY, async || {
        stage.worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    stage.worker.applied(last + 1).await; // the policy, from the bucket
    stage.worker.recovers().await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["policy_id"], "default");
    stage.state_is("acme", "a", "closed").await;
    let last = stage.caller.failures("acme", "a", 3).await;
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_made_anew_is_read_from_its_beginning_with_the_policies_of_the_bucket() {
    let stage = with_open_breaker().await;
    let off = json!({"scope": "tenant", "tenant_id": "umbra", "circuit_breaker_enabled": false});
    stage.caller.command("flag.set", &off).await;
    let asking = Asking::start(&stage.caller.client, "acme", 100, Duration::from_secs(2));

    // The worker makes it anew.
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    eventually("the worker rebuilds", RECOVERY, async || {
        stage.worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    stage.worker.recovers().await;
    eventually("the policy is back", SOON, async || {
        stage.caller.decide(&request("acme", "r-1")).await["decision"]["policy_id"] == "default"
    })
    .await;
    let asked = asking.stop().await;
    assert_eq!(
        asked.refused.get("policy_not_found"),
        None,
        "a worker that rebuilds does not know: {asked:?}"
    );

    assert!(!stage.caller.flag(Some("umbra")).await, "the switch is still off");
    stage.state_is("acme", "a", "closed").await;
    let last = stage.caller.failures("acme", "a", 3).await;
    assert!(last < 10, "the count began again");
    stage.worker.applied(last).await;
    stage.state_is("acme", "a", "open").await;
    let counted = stage.worker.metrics().await.sum("router_results_total", &[("status", "error")]);
    assert_eq!(counted, 6.0);
    // And metered: those from before and those from after.
    let mut usage = stage.caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
    eventually("usage is metered on the new log", RECOVERY, async || {
        usage.info().await.unwrap().state.messages == 6
    })
    .await;
}

#[tokio::test]
async fn a_log_made_anew_and_longer_than_it_was_is_not_taken_for_the_old_one() {
    let stage = with_open_breaker().await;
    let (before, _) = stage.worker.standing().await;
    let config = stage.caller.log().await.cached_info().config.clone();
    stage.worker.pause();
    stage.caller.jetstream.delete_stream("BEAMLINE_LOG").await.unwrap();
    stage.caller.jetstream.create_stream(config).await.unwrap();
    let mut last = 0;
    for n in 0..2 * before {
        last = stage.caller.result(&fine(&format!("anew-{n}"))).await;
    }
    assert_eq!(last, 2 * before);
    stage.worker.resume();
    eventually("the worker rebuilds", RECOVERY, async || {
        stage.worker.count("router_log_rebuilds_total").await == 1
    })
    .await;
    stage.worker.recovers().await;
    let fresh = Worker::start(&stage.broker, |l| l).await;
    agree(&[&stage.worker, &fresh], last + 1).await;
    stage.state_is("acme", "a", "closed").await;
    assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["policy_id"], "default");
}

#[tokio::test]
async fn an_entry_deleted_before_it_was_read_is_passed_and_told() {
    let stage = with_open_breaker().await;
    let (before, _) = stage.worker.standing().await;
    blind(&stage).await;
    for n in 1..=3 {
        assert_eq!(stage.caller.result(&fine(&format!("n-{n}"))).await, before + n);
    }
    assert!(stage.caller.log().await.delete_message(before + 2).await.unwrap());
    stage.worker.applied(before + 3).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.sum("router_log_gaps_total", &[]), 1.0);
    assert_eq!(metrics.sum("router_log_rebuilds_total", &[]), 0.0);
    assert_eq!(metrics.sum("router_results_total", &[("status", "success")]), 2.0);
    let gone = stage.worker.events("log_entries_gone");
    assert_eq!(gone.len(), 1);
    assert_eq!((&gone[0]["from"], &gone[0]["to"]), (&json!(before + 2), &json!(before + 2)));
    stage.worker.recovers().await;
    stage.state_is("acme", "a", "open").await;
}

#[tokio::test]
async fn a_worker_is_ready_though_the_logs_last_entry_was_deleted_unread() {
    let mut stage = with_open_breaker().await;
    let (before, _) = stage.worker.standing().await;
    blind(&stage).await;
    assert_eq!(stage.caller.result(&fine("n-1")).await, before + 1);
    assert!(stage.caller.log().await.delete_message(before + 1).await.unwrap());
    // Nothing is left to be read, and nothing comes that would show it.
    eventually("it is passed", SOON, async || stage.worker.events("log_entries_gone").len() == 1).await;
    eventually("nothing lags", SOON, async || stage.worker.count("router_log_lag_entries").await == 0).await;
    stage.worker.recovers().await;
    assert_eq!(stage.worker.count("router_log_gaps_total").await, 1);
    assert!(stage.worker.events("serving_paused").is_empty());

    stage.worker.kill();
    let mut again = Worker::start(&stage.broker, |l| l).await;
    std::mem::swap(&mut stage.worker, &mut again);
    stage.state_is("acme", "a", "open").await;
    let next = stage.caller.result(&fine("n-2")).await;
    stage.worker.applied(next).await;
}

#[tokio::test]
async fn a_restarted_worker_reads_a_log_with_holes() {
    let mut stage = with_open_breaker().await;
    let mut sequences = Vec::new();
    for n in 0..10 {
        sequences.push(stage.caller.result(&fine(&format!("n-{n}"))).await);
    }
    stage.worker.applied(sequences[9]).await;
    stage.worker.kill();
    for n in [1, 2, 5] {
        stage.caller.log().await.delete_message(sequences[n]).await.unwrap();
    }
    let mut again = Worker::start(&stage.broker, |l| l).await;
    std::mem::swap(&mut stage.worker, &mut again);
    stage.worker.applied(sequences[9]).await;
    assert_eq!(stage.worker.count("router_log_gaps_total").await, 2);
    stage.state_is("acme", "a", "open").await;
    assert_eq!(stage.caller.breaker("acme", "b").await["window_requests"], 7);
}
