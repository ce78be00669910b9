//! What is logged of many refusals, of the broker's and of ours, and of text that means harm.

use async_nats::HeaderMap;
use serde_json::json;

use crate::support::{Broker, Caller, Stage, Worker, eventually, request};
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

#[tokio::test]
async fn a_flood_that_others_cause_makes_few_lines_that_say_how_many_they_stand_for() {
    const FLOOD: u64 = 3_000;
    let stage = Stage::start().await;
    let begin = std::time::Instant::now();
    let client = &stage.caller.client;
    for n in 0..FLOOD {
        client.publish(format!("beamline.router.v1.log.new-{n}"), "{}".into()).await.unwrap();
        // Nobody waits for an answer, so the log says that it was refused.
        client.publish(format!("beamline.router.control.v1.verb-{n}"), "{}".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    let is_in = async || stage.caller.log_end().await >= FLOOD;
    eventually("the log has the entries", TWO_LINES, is_in).await;
    stage.worker.applied(stage.caller.log_end().await).await;
    let refused = async || stage.worker.count("router_control_requests_total").await >= FLOOD;
    eventually("all are refused", TWO_LINES, refused).await;
    for event in ["log_entry_unknown", "control_refused"] {
        let lines = stage.worker.events(event);
        let most = 8 * (1 + begin.elapsed().as_secs() / 10);
        assert!((1..=most).contains(&(lines.len() as u64)), "{event}: {most} at most: {lines:#?}");
        let stands_for = |line: &serde_json::Value| line["stands_for"].as_u64().unwrap();
        assert_eq!(stands_for(&lines[0]), 1, "the first at once");
        assert!(lines.iter().map(stands_for).sum::<u64>() <= FLOOD, "{lines:#?}");
    }
    // Two more, once those are old.
    let more = eventually("a line stands for the others", TWO_LINES, async || {
        client.publish("beamline.router.v1.log.late", "{}".into()).await.unwrap();
        let lines = stage.worker.events("log_entry_unknown");
        lines.into_iter().find(|line| line["stands_for"].as_u64() > Some(FLOOD - 100))
    });
    assert!(more.await["subject"].as_str().is_some());
}

/// A router that may not answer below `_INBOX.mute.`.
const MUTE: &str = "authorization { users: [
    { user: router, password: p, permissions: { publish: { deny: \"_INBOX.mute.>\" } } }
    { user: client, password: p }
] }";

#[tokio::test]
async fn what_the_broker_forbids_is_told_in_few_lines_and_no_text_moves_the_cursor() {
    let broker = Broker::with_config(MUTE).await;
    let worker = Worker::start(&broker, |l| l.env("NATS_USER", "router").env("NATS_PASSWORD", "p")).await;
    let options = async_nats::ConnectOptions::new().user_and_password("client".into(), "p".into());
    let caller = Caller::with(options, &broker.url()).await;
    let begin = std::time::Instant::now();
    let ask = async |inbox: String| {
        let subject = "beamline.router.v1.decide";
        caller.client.publish_with_reply(subject, inbox, "{}".into()).await.unwrap();
    };
    for _ in 0..30 {
        ask("_INBOX.mute.same".to_owned()).await;
    }
    eventually("the first is told", TWO_LINES, async || !worker.events("nats_server_error").is_empty()).await;
    let mut asked = 30_u64;
    let stands_for = |line: &serde_json::Value| line["stands_for"].as_u64().unwrap();
    let lines = eventually("the next lines tell of those that made none", TWO_LINES, async || {
        asked += 1;
        ask(format!("_INBOX.mute.{asked}")).await;
        let lines = worker.events("nats_server_error");
        (lines.iter().map(stands_for).sum::<u64>() > 45).then_some(lines)
    })
    .await;
    let most = 8 * (1 + begin.elapsed().as_secs() / 10);
    assert!(lines.len() as u64 <= most, "{most} lines at most: {lines:#?}");
    assert_eq!(stands_for(&lines[0]), 1, "the first at once");
    assert!(lines.iter().map(stands_for).sum::<u64>() <= asked, "{asked}: {lines:#?}");
    assert!(lines[0]["error"].as_str().unwrap().contains("_INBOX.mute.same"), "{lines:#?}");

    // Moves the cursor, clears the screen, and turns round what follows.
    let actor = "\u{9b}2J\u{202e}\u{7f}mallory é";
    let command = json!({"scope": "global", "circuit_breaker_enabled": false, "actor": actor});
    caller.command("flag.set", &command).await;
    let told = eventually("it is told", TWO_LINES, async || worker.events("circuit_breaker_flag_set").pop());
    assert_eq!(told.await["actor"], actor);
    let said = worker.stdout();
    let shown = |c: &char| *c == '\n' || !(c.is_control() || ('\u{202a}'..='\u{202e}').contains(c));
    assert_eq!(said.chars().find(|c| !shown(c)), None, "{said:?}");
    assert!(said.contains("mallory é"), "{said:?}");
}
