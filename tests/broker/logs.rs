//! What is logged of many refusals.

use async_nats::HeaderMap;
use serde_json::json;

use crate::support::{Stage, eventually, request};
use crate::traffic::policy;

/// Twice the time between two lines.
const TWO_LINES: std::time::Duration = std::time::Duration::from_secs(30);

#[tokio::test]
async fn a_crowd_of_refusals_makes_few_lines_that_say_how_many_they_stand_for() {
    let stage = Stage::start().await;
    let breaker = json!({"enabled": true, "failure_threshold": 1, "timeout_ms": 300_000});
    stage.caller.put_policy("acme", &policy(&["a"], breaker)).await;
    stage.fail("acme", "a", 1).await;
    let mut asked = 0_u64;
    let lines = eventually("a second line", TWO_LINES, async || {
        asked += 1;
        // Which request it was, told by its trace.
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", format!("00-{asked:032x}-b7ad6b7169203331-00").as_str());
        let body = request("acme", &format!("r-{asked}")).to_string();
        let answer = stage.caller.ask("beamline.router.v1.decide", headers, body).await.json();
        assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
        let lines = stage.worker.events("circuit_breaker_fail_fast");
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    let which = |n: usize| u64::from_str_radix(lines[n]["trace_id"].as_str().unwrap(), 16).unwrap();
    let stands_for = |n: usize| lines[n]["stands_for"].as_u64().unwrap();
    assert_eq!((which(0), stands_for(0)), (1, 1), "the first at once");
    assert_eq!(stands_for(0) + stands_for(1), which(1), "every refusal is in one line: {lines:?}");
    assert!(which(1) > 20, "{asked} were asked");
    for line in &lines {
        let told =
            ["tenant_id", "provider_id", "policy_id", "reason", "level"].map(|f| line[f].as_str().unwrap());
        assert_eq!(told, ["acme", "a", "default", "open", "WARN"], "{line}");
        assert_eq!((&line["failure_count"], &line["error_rate"]), (&json!(1), &json!(1.0)), "{line}");
    }
    assert_eq!(stage.worker.count("router_decisions_total").await, asked, "each was counted");
}
