//! Messages that no client library would send, written to the broker byte by byte: each is answered where
//! it can be, and no worker, command line or honest client is the worse for it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use crate::support::{
    Broker, Caller, Listener, PATIENCE, Raw, SOON, Stage, Terminal, Worker, cli, eventually, request,
};
use crate::traffic::{Asking, agree, policy, quick_breaker, result};

const DECIDE: &[u8] = b"beamline.router.v1.decide";
const RESULT: &[u8] = b"caf.exec.result.v1";
const ACK: &[u8] = b"caf.exec.assign.v1.ack";

/// Header blocks that cannot be read, each in another way.
const BLOCKS: [&[u8]; 12] = [
    b"NATS/1.0\r\nX: a\rb\r\n\r\n",
    b"NATS/1.0\r\ncontent-type: application/json\r\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\nX: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\na b: c\r\n\r\n",
    b"NATS/1.0\r\nn\xc3\xa4me: c\r\n\r\n",
    b"NATS/1.0\r\n: c\r\n\r\n",
    b"NATS/1.0\r\nX: a\r\n folded\r\n\r\n",
    b"NATS/1.0 abc\r\nA: b\r\n\r\n",
    b"NATS/1.0 99999\r\nA: b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\r\n\r\n",
];

/// A block that can be read, with a status that only the broker should write.
const STATUSES: [&[u8]; 3] = [
    b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Stream: 99999\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\nA: b\r\n\r\n",
    b"NATS/1.0 503\r\nA: b\r\n\r\n",
];

async fn stage() -> Stage {
    let stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
    stage
}

/// What came on a subject below an inbox, by its last token.
async fn answers(listener: &mut Listener, count: usize) -> BTreeMap<String, Value> {
    let mut answers = BTreeMap::new();
    while answers.len() < count {
        let message = listener.next().await;
        let last = message.subject.rsplit('.').next().unwrap().to_owned();
        answers.insert(last, serde_json::from_slice(&message.payload).unwrap());
    }
    answers
}

/// Whether nothing happened to the worker's connections, and it decides.
async fn is_well(stage: &mut Stage) {
    assert!(stage.worker.runs());
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.value("router_nats_reconnects_total", &[]), Some(0.0));
    assert_eq!(stage.caller.decided(&request("acme", "r-after")).await["provider_id"], "a");
    assert!(stage.worker.events("nats_disconnected").is_empty(), "{:?}", stage.worker.logs());
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_answered_where_that_is_possible() {
    let mut stage = stage().await;
    let mut listener = stage.caller.listen("_INBOX.hostile.>").await;
    let mut raw = Raw::connect(&stage.broker).await;
    let body = request("acme", "r-1").to_string();
    for (n, block) in BLOCKS.iter().enumerate() {
        raw.publish(DECIDE, format!("_INBOX.hostile.{n}").as_bytes(), block, body.as_bytes()).await;
    }
    let subject = b"beamline.router.v1.tenant.\xff.decide";
    raw.publish(subject, b"_INBOX.hostile.subject", b"", body.as_bytes()).await;
    // Nobody can be reached there.
    raw.publish(DECIDE, b"_INBOX.hostile.\xff", b"", body.as_bytes()).await;
    raw.publish(DECIDE, b"_INBOX.hostile.\xfe", BLOCKS[0], body.as_bytes()).await;
    raw.flush().await;
    for (which, answer) in answers(&mut listener, BLOCKS.len() + 1).await {
        assert_eq!(answer["error"]["code"], "invalid_request", "{which}: {answer}");
        let field = if which == "subject" { "subject" } else { "headers" };
        assert_eq!(answer["error"]["details"]["field"], field, "{which}: {answer}");
        assert_eq!(answer["context"]["request_id"], "r-1", "{which}: {answer}");
    }
    // A status is the broker's own word, and none of a request's.
    for (n, block) in STATUSES.iter().enumerate() {
        raw.publish(DECIDE, format!("_INBOX.hostile.s{n}").as_bytes(), block, body.as_bytes()).await;
    }
    for (which, answer) in answers(&mut listener, STATUSES.len()).await {
        assert_eq!(answer["ok"], true, "{which}: {answer}");
    }
    let metrics = stage.worker.metrics().await;
    let malformed = (BLOCKS.len() + 3) as f64;
    assert_eq!(metrics.value("router_nats_malformed_total", &[("source", "decide")]), Some(malformed));
    let lines = stage.worker.events("nats_message_malformed");
    assert!(!lines.is_empty() && lines.len() <= 8, "{lines:#?}");
    is_well(&mut stage).await;
}

#[tokio::test]
async fn acks_verbs_and_questions_that_cannot_be_read_end_nothing() {
    let mut stage = stage().await;
    let mut listener = stage.caller.listen("_INBOX.hostile.>").await;
    let mut raw = Raw::connect(&stage.broker).await;
    let put = json!({"tenant_id": "acme", "policy": policy(&["b"], quick_breaker())}).to_string();
    let ack = json!({"assignment_id": "x", "status": "accepted"}).to_string();
    for (n, block) in BLOCKS.iter().enumerate() {
        let reply = format!("_INBOX.hostile.{n}");
        raw.publish(b"beamline.router.control.v1.policy.put", reply.as_bytes(), block, put.as_bytes()).await;
        raw.publish(ACK, b"", block, ack.as_bytes()).await;
        raw.publish(b"$SRV.PING", b"_INBOX.silent", block, b"").await;
    }
    raw.publish(b"beamline.router.control.v1.policy.put", b"_INBOX.\xff", b"", put.as_bytes()).await;
    raw.publish(b"beamline.router.control.v1.\xff", b"_INBOX.hostile.verb", b"", b"{}").await;
    raw.publish(b"$SRV.PING", b"_INBOX.\xff", b"", b"").await;
    raw.flush().await;
    for (which, answer) in answers(&mut listener, BLOCKS.len() + 1).await {
        assert_eq!(answer["error"]["code"], "invalid_request", "{which}: {answer}");
    }
    eventually("all are counted", SOON, async || {
        let metrics = stage.worker.metrics().await;
        let count = |source| metrics.value("router_nats_malformed_total", &[("source", source)]);
        let blocks = BLOCKS.len() as f64;
        count("control") == Some(blocks + 2.0)
            && count("ack") == Some(blocks)
            && count("discovery") == Some(blocks + 1.0)
    })
    .await;
    let revision =
        stage.caller.command("policy.get", &json!({"tenant_id": "acme", "policy_id": "default"})).await;
    assert_eq!(revision["revision"], 1, "no verb was carried out");
    is_well(&mut stage).await;
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_rejected_by_every_worker_alike() {
    let mut stage = stage().await;
    let second = Worker::start(&stage.broker, |l| l).await;
    let mut raw = Raw::connect(&stage.broker).await;
    let error = |n: usize| result("acme", "a", &format!("e-{n}"), "error").to_string();
    let mut written = 0.0;
    // The server takes a status off what it stores.
    let stored = BLOCKS.iter().filter(|block| !block.starts_with(b"NATS/1.0 "));
    for (n, block) in stored.enumerate() {
        raw.publish(RESULT, b"", block, error(n).as_bytes()).await;
        raw.publish(b"caf.exec.result.v1.acme", b"", block, error(n + 100).as_bytes()).await;
        raw.publish(b"beamline.router.v1.log.mark", b"", block, b"{\"v\":1,\"entry\":{}}").await;
        written += 3.0;
    }
    raw.publish(b"caf.exec.result.v1.\xff", b"", b"", error(200).as_bytes()).await;
    written += 1.0;
    // A result is one whatever status its publisher wrote.
    for (n, block) in STATUSES.iter().enumerate() {
        raw.publish(
            RESULT,
            b"",
            block,
            result("acme", "a", &format!("s-{n}"), "success").to_string().as_bytes(),
        )
        .await;
    }
    raw.flush().await;
    let last = stage.caller.result(&result("acme", "a", "honest", "success")).await;
    agree(&[&stage.worker, &second], last).await;
    for worker in [&stage.worker, &second] {
        let metrics = worker.metrics().await;
        assert_eq!(metrics.sum("router_results_total", &[("disposition", "rejected")]), written);
        assert_eq!(metrics.sum("router_results_total", &[("status", "success")]), 4.0);
        assert_eq!(metrics.value("router_nats_malformed_total", &[("source", "log")]), Some(written));
        for lost in ["router_log_gaps_total", "router_log_rebuilds_total", "router_nats_reconnects_total"] {
            assert_eq!(metrics.value(lost, &[]), Some(0.0), "{lost}");
        }
    }
    // What is metered is what counted, and a worker that starts reads past all of it.
    eventually("four are metered", SOON, async || {
        let stream = stage.caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
        stream.cached_info().state.messages == 4
    })
    .await;
    drop(second);
    let third = Worker::start(&stage.broker, |l| l).await;
    agree(&[&stage.worker, &third], last).await;
    is_well(&mut stage).await;
}

#[tokio::test]
async fn a_hostile_message_last_in_each_stream_and_bucket_stops_nobody() {
    for block in [BLOCKS[0], BLOCKS[2], BLOCKS[3], BLOCKS[11]] {
        let mut stage =
            Stage::with(|l| l.flag("--snapshot-every", 100).flag("--reconcile-interval-ms", 200)).await;
        stage.caller.put_policy("acme", &policy(&["a"], quick_breaker())).await;
        stage.results("acme", "a", "success", 100).await;
        stage.caller.command("flag.set", &json!({"scope": "global", "circuit_breaker_enabled": true})).await;
        eventually("a snapshot is stored", SOON, async || !stage.worker.events("snapshot_stored").is_empty())
            .await;
        let manifest = {
            let snapshots = stage.caller.jetstream.get_key_value("BEAMLINE_SNAPSHOTS").await.unwrap();
            let keys: Vec<String> = snapshots.keys().await.unwrap().try_collect().await.unwrap();
            let manifest = keys.iter().find(|key| key.ends_with(".manifest")).unwrap();
            format!("$KV.BEAMLINE_SNAPSHOTS.{manifest}")
        };
        let mut raw = Raw::connect(&stage.broker).await;
        for subject in [
            "caf.exec.result.v1",
            "beamline.router.v1.events.breaker.acme.a",
            "beamline.usage.v1.metered",
            "$KV.BEAMLINE_POLICIES.acme.default",
            "$KV.BEAMLINE_POLICIES.acme.other",
            "$KV.BEAMLINE_FLAGS.global",
            "$KV.BEAMLINE_FLAGS.tenant.acme",
            &manifest,
        ] {
            raw.publish(subject.as_bytes(), b"", block, b"{\"policy_id\":\"other\"}").await;
        }
        raw.flush().await;
        eventually("it is seen", SOON, async || {
            let metrics = stage.worker.metrics().await;
            metrics.value("router_nats_malformed_total", &[("source", "bucket")]) >= Some(4.0)
        })
        .await;
        // The usage consumer is made anew behind the last usage event, whatever that is.
        let log = stage.caller.jetstream.get_stream("BEAMLINE_LOG").await.unwrap();
        log.delete_consumer("usage").await.unwrap();
        is_well(&mut stage).await;
        assert_eq!(stage.worker.stop().await, 0);

        let worker = Worker::start(&stage.broker, |l| l.flag("--snapshot-every", 100)).await;
        for args in [
            &["policy", "list"][..],
            &["policy", "history", "--tenant", "acme"],
            &["breaker", "list"],
            &["flag", "get"],
            &["top", "--once"],
        ] {
            let done = cli(&stage.broker, args).await;
            assert_eq!(done.code, 0, "{args:?}: {done:?}");
        }
        // What is in force stays, and an operator can put over what cannot be read.
        assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "a");
        let get = json!({"tenant_id": "acme", "policy_id": "default"});
        assert_eq!(stage.caller.control("policy.get", &get).await["ok"], false);
        stage.caller.put_policy("acme", &policy(&["b"], quick_breaker())).await;
        assert_eq!(stage.caller.decided(&request("acme", "r-1")).await["provider_id"], "b");
        let page = worker.get("/api/v1/breakers/acme/b").await.unwrap();
        assert_eq!(page.status, 200, "{}", page.body);
        let metered = async || {
            let stream = stage.caller.jetstream.get_stream("BEAMLINE_USAGE").await.unwrap();
            stream.cached_info().state.messages
        };
        let before = metered().await;
        stage.caller.result(&result("acme", "b", "u-1", "success")).await;
        eventually("usage goes on", SOON, async || metered().await > before).await;
    }
}

#[tokio::test]
async fn top_goes_on_while_hostile_events_arrive() {
    let stage = stage().await;
    let mut top = Terminal::run(&stage.broker, (24, 110), &["top", "--interval", "5m"], &[]);
    top.says("1 breaker").await;
    let mut raw = Raw::connect(&stage.broker).await;
    for block in BLOCKS.iter().chain(&STATUSES) {
        raw.publish(b"beamline.router.v1.events.breaker.acme.a", b"", block, b"{}").await;
        raw.publish(b"beamline.router.v1.events.\xff", b"", block, b"{}").await;
    }
    raw.flush().await;
    stage.fail("acme", "a", 6).await;
    top.says("1 open").await;
    top.press("q");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_of_every_kind_cost_no_honest_client_an_answer() {
    let mut stage = stage().await;
    let asking = Asking::start(&stage.caller.client, "acme", 300, PATIENCE);
    let mut raw = Raw::connect(&stage.broker).await;
    let body = request("acme", "r-1").to_string();
    let kinds = BLOCKS.len() as u64 + 2;
    for round in 0..1_000_u64 {
        for block in BLOCKS {
            raw.publish(DECIDE, b"_INBOX.nobody", block, body.as_bytes()).await;
        }
        raw.publish(b"beamline.router.v1.tenant.\xff.decide", b"_INBOX.nobody", b"", body.as_bytes()).await;
        raw.publish(DECIDE, b"_INBOX.\xff", b"", body.as_bytes()).await;
        if round % 20 == 0 {
            raw.flush().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    raw.flush().await;
    eventually("all are looked at", SOON, async || {
        let metrics = stage.worker.metrics().await;
        metrics.value("router_nats_malformed_total", &[("source", "decide")]) == Some((kinds * 1_000) as f64)
    })
    .await;
    let asked = asking.stop().await;
    assert!(asked.sent > 200, "{asked:?}");
    assert!(asked.refused.is_empty() && asked.unanswered.is_empty(), "{asked:?}");
    assert_eq!(asked.decided, asked.sent, "{asked:?}");
    let lines = stage.worker.events("nats_message_malformed");
    assert!(lines.len() < 100, "{} lines", lines.len());
    is_well(&mut stage).await;
}

/// The same on a broker that a command line reads from alone: what answers need not be a router.
#[tokio::test]
async fn an_answer_that_cannot_be_read_is_none_and_ends_no_program() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let mut verbs = caller.listen("beamline.router.control.v1.>").await;
    let answering = async {
        let mut raw = Raw::connect(&broker).await;
        for block in BLOCKS {
            let asked = verbs.next().await;
            raw.publish(asked.reply.unwrap().as_bytes(), b"", block, b"{\"ok\":true,\"policies\":[]}").await;
            raw.flush().await;
        }
    };
    let asking = async {
        for block in BLOCKS {
            let done = cli(&broker, &["policy", "list"]).await;
            assert!(!done.stderr.contains("panicked"), "{}: {done:?}", block.escape_ascii());
            assert_eq!(done.code, 0, "the body is what counts: {done:?}");
        }
    };
    tokio::join!(answering, asking);
}
