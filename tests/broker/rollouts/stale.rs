use serde_json::{Value, json};

use super::{Users, ground, one_percent_fails, short_plan};
use crate::support::{Caller, eventually};
use crate::traffic::RECOVERY;

/// The stream of rollouts takes nothing more; or everything again.
async fn limit(caller: &Caller, is_full: bool) {
    let mut stream = caller.jetstream.get_stream("BEAMLINE_ROLLOUTS").await.unwrap();
    let info = stream.info().await.unwrap();
    let full = i64::try_from(info.state.messages).unwrap();
    let mut config = info.config.clone();
    config.max_messages = if is_full { full } else { -1 };
    caller.jetstream.update_stream(config).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_enforced_while_nobody_judges_and_the_share_comes_back() {
    let (stage, second) = ground().await;
    let caller = &stage.caller;
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    // It stays at half until somebody approves.
    let plan = short_plan(1, &json!({"analysis": {"max_stale": "4s"}, "approval": "each_phase"}));
    caller.start_rollout(&plan).await;
    caller.enforced_becomes("t1", Some(50)).await;
    limit(caller, true).await;
    caller.enforced_becomes("t1", Some(0)).await;
    // The share that is in force, and why, on every worker.
    let shares = |status: &Value| [&status["percent"], &status["tenants"][0]["percent"]].map(|p| p.as_u64());
    let stale = caller.rollout_becomes("it shows 0 %", RECOVERY, |s| shares(s) == [Some(0); 2]).await;
    assert_eq!(
        (&stale["state"], &stale["reasons"]),
        (&json!("running"), &json!(["stale_telemetry"])),
        "{stale}"
    );
    for worker in [&stage.worker, &second] {
        eventually("the metric shows it", RECOVERY, async || {
            worker.metrics().await.value("router_rollout_percent", &[("rollout", "cb")]) == Some(0.0)
        })
        .await;
    }
    limit(caller, false).await;
    caller.enforced_becomes("t1", Some(50)).await;
    let again = caller.rollout_becomes("it shows 50 %", RECOVERY, |s| shares(s) == [Some(50); 2]).await;
    assert!(!again["reasons"].to_string().contains("stale_telemetry"), "{again}");
    let kinds = caller.decision_kinds().await;
    assert!(kinds.contains(&"renew".to_owned()), "{kinds:?}");
    caller.rollout_is("awaiting_approval").await;
    for worker in [&stage.worker, &second] {
        worker.agreed().await;
    }
}
