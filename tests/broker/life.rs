//! Starts, ends, and what lies between.

use async_nats::RequestErrorKind;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, SOON, Stage, Worker, bare, eventually, free_port, get, request};

fn policy() -> Value {
    json!({"policy_id": "default", "providers": [{"name": "a", "weight": 60}, {"name": "b", "weight": 40}]})
}

#[tokio::test]
async fn a_worker_without_a_broker_says_so_and_is_ready_when_it_comes() {
    let mut broker = Broker::prepare(free_port(), "");
    let mut worker = Worker::launch(&broker, |l| l);
    eventually("it answers", SOON, async || worker.get("/healthz").await.is_some_and(|p| p.status == 200))
        .await;
    let page = worker.get("/readyz").await.unwrap();
    assert_eq!(page.status, 503);
    let reasons = page.json();
    for reason in ["not connected", "policies", "log"] {
        assert!(
            reasons.as_array().unwrap().iter().any(|r| r.as_str().unwrap().contains(reason)),
            "{reasons}"
        );
    }
    let metrics = worker.metrics().await;
    assert_eq!(metrics.value("router_nats_connected", &[]), Some(0.0));
    assert_eq!(metrics.value("router_ready", &[]), Some(0.0));
    broker.restart().await;
    worker.ready().await;
    let caller = Caller::connect(&broker).await;
    caller.put_policy("acme", &policy()).await;
    caller.decided(&request("acme", "r")).await;
}

#[tokio::test]
async fn a_worker_without_a_broker_ends_at_once_when_told() {
    let broker = Broker::prepare(free_port(), "");
    let mut worker = Worker::launch(&broker, |l| l);
    eventually("it answers", SOON, async || worker.get("/healthz").await.is_some()).await;
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_port_of_the_systems_choice_is_told() {
    let broker = Broker::prepare(free_port(), "");
    let mut worker = Worker::launch(&broker, |l| l.flag("--http-addr", "127.0.0.1:0"));
    let started = eventually("it starts", SOON, async || worker.events("worker_starting").pop()).await;
    let (host, port) = started["http"].as_str().unwrap().rsplit_once(':').unwrap();
    assert_eq!(host, "127.0.0.1");
    let port = port.parse().unwrap();
    eventually("it answers there", SOON, async || {
        get(port, "/healthz").await.is_some_and(|page| page.body.contains("alive"))
    })
    .await;
    assert_eq!(worker.stop().await, 0);
}

#[tokio::test]
async fn a_broker_that_goes_and_comes_back_is_found_again() {
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    stage.broker.stop().await;
    eventually("it says so", SOON, async || {
        let page = stage.worker.get("/readyz").await.unwrap();
        page.status == 503 && page.body.contains("not connected")
    })
    .await;
    stage.broker.restart().await;
    stage.worker.ready().await;
    let caller = Caller::connect(&stage.broker).await;
    caller.decided(&request("acme", "r")).await;
    let metrics = stage.worker.metrics().await;
    assert_eq!(metrics.value("router_nats_reconnects_total", &[]), Some(1.0));
    assert_eq!(metrics.value("router_log_rebuilds_total", &[]), Some(0.0));
}

/// Asks until stopped, sixty-four at a time: how many were answered, and how many found nobody there.
async fn ask_on(caller: &Caller, until: impl Fn(usize) -> bool) -> (usize, usize) {
    let (mut answered, mut nobody, mut asked) = (0, 0, 0);
    let mut waiting = FuturesUnordered::new();
    loop {
        while waiting.len() < 64 && !until(asked) {
            asked += 1;
            let body = request("acme", &format!("r-{asked}")).to_string();
            waiting.push(caller.client.request("beamline.router.v1.decide", body.into()));
        }
        match waiting.next().await {
            None => return (answered, nobody),
            Some(Ok(message)) => {
                let answer: Value = serde_json::from_slice(&message.payload).unwrap();
                assert_eq!(answer["ok"], true, "{answer}");
                answered += 1;
            }
            Some(Err(error)) => {
                // Nobody took it: the client knows at once. A timeout would be a request that was lost.
                assert_eq!(error.kind(), RequestErrorKind::NoResponders, "{error}");
                nobody += 1;
            }
        }
    }
}

#[tokio::test]
async fn a_drain_answers_every_request_that_was_taken() {
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &policy()).await;
    let worker = &mut stage.worker;
    let caller = &stage.caller;
    let ended = std::sync::atomic::AtomicBool::new(false);
    let load = ask_on(caller, |asked| asked >= 200_000 || ended.load(std::sync::atomic::Ordering::Relaxed));
    let end = async {
        eventually("it is at work", SOON, async || {
            worker.metrics().await.sum("router_decisions_total", &[]) > 500.0
        })
        .await;
        let code = worker.stop().await;
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        code
    };
    let ((answered, nobody), code) = tokio::join!(load, end);
    assert_eq!(code, 0);
    assert!(answered > 500 && nobody > 0, "{answered} answered, {nobody} found nobody");
}

#[tokio::test]
async fn workers_share_the_load_and_none_is_lost_when_one_leaves() {
    let mut stage = Stage::start().await;
    let second = Worker::start(&stage.broker, |l| l).await;
    stage.caller.put_policy("acme", &policy()).await;
    stage.worker.follows(&stage.caller).await;
    second.follows(&stage.caller).await;
    let (answered, nobody) = ask_on(&stage.caller, |asked| asked >= 600).await;
    assert_eq!((answered, nobody), (600, 0));
    for worker in [&stage.worker, &second] {
        let decided = worker.metrics().await.sum("router_decisions_total", &[]);
        assert!(decided > 150.0, "{decided} of 600");
    }
    let ended = std::sync::atomic::AtomicBool::new(false);
    let load = ask_on(&stage.caller, |_| ended.load(std::sync::atomic::Ordering::Relaxed));
    let end = async {
        let code = stage.worker.stop().await;
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        code
    };
    let ((_, nobody), code) = tokio::join!(load, end);
    assert_eq!((nobody, code), (0, 0));
}

#[tokio::test]
async fn a_worker_with_several_connections_answers_each_request_once() {
    let stage = Stage::with(|l| l.flag("--decide-connections", 4)).await;
    stage.caller.put_policy("acme", &policy()).await;
    let mut replies = stage.caller.listen("_INBOX.all.*").await;
    for n in 0..400 {
        let body = request("acme", &format!("r-{n}")).to_string();
        let reply = format!("_INBOX.all.{n}");
        stage
            .caller
            .client
            .publish_with_reply("beamline.router.v1.decide", reply, body.into())
            .await
            .unwrap();
    }
    let mut answered = std::collections::BTreeSet::new();
    while answered.len() < 400 {
        assert!(answered.insert(replies.next().await.subject), "one is answered twice");
    }
    assert_eq!(replies.come().await.len(), 0);
    assert_eq!(stage.worker.metrics().await.sum("router_decisions_total", &[]), 400.0);
}

#[tokio::test]
async fn faults_of_settings_are_told_all_at_once_and_the_code_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["serve", "--http-addr", "here", "--replicas", "2", "--policy-dir", "/no/such/folder"];
    let env = [
        ("NATS_URL", "http://x"),
        ("BEAMLINE_MAX_QUEUE_MS", "soon"),
        ("ROUTER_CIRCUIT_BREAKER_ENABLED", "maybe"),
        ("BEAMLINE_ROUTER_PREFIX", "a.*"),
        ("NATS_PASSWORD", "hunter2"),
    ];
    let done = bare(&args, &env, folder.path()).await;
    assert_eq!(done.code, 2, "{done:?}");
    for named in [
        "--http-addr",
        "BEAMLINE_HTTP_ADDR",
        "--replicas",
        "--policy-dir",
        "--nats-url",
        "NATS_URL",
        "--max-queue-ms",
        "BEAMLINE_MAX_QUEUE_MS",
        "ROUTER_CIRCUIT_BREAKER_ENABLED",
        "--router-prefix",
        "NATS_PASSWORD",
    ] {
        assert!(done.stderr.contains(named), "{named}: {}", done.stderr);
    }
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    let done = bare(&["serve", "--no-such-flag"], &[], folder.path()).await;
    assert_eq!(done.code, 2);
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start() {
    let stage = Stage::start().await;
    let taken = format!("127.0.0.1:{}", stage.worker.http_port());
    let mut second = Worker::launch(&stage.broker, |l| l.flag("--http-addr", &taken));
    assert_eq!(second.exit_code(SOON).await, 1);
    assert!(second.stdout().contains(&taken) || second.stderr().contains(&taken), "{}", second.stdout());
}

#[tokio::test]
async fn policies_of_a_folder_are_put_where_the_bucket_lacks_them() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let to = |provider: &str| json!({"policy_id": "default", "providers": [{"name": provider, "weight": 1}]});
    write("acme/default.json", &to("from-file").to_string());
    write("other/default.json", &to("from-file").to_string());
    write("third.json", &json!({"tenant_id": "third", "policy": to("from-file")}).to_string());
    write("acme/notes.txt", "no policy");
    let mut stage = Stage::start().await;
    stage.caller.put_policy("acme", &to("from-operator")).await;
    stage.worker.stop().await;
    let path = folder.path().to_str().unwrap().to_owned();
    for _ in 0..2 {
        stage.worker = Worker::start(&stage.broker, |l| l.flag("--policy-dir", &path)).await;
        for (tenant, provider) in [("acme", "from-operator"), ("other", "from-file"), ("third", "from-file")]
        {
            assert_eq!(
                stage.caller.decided(&request(tenant, "r")).await["provider_id"],
                provider,
                "{tenant}"
            );
        }
        assert_eq!(stage.worker.stop().await, 0);
    }
    // A bad file keeps neither the others out nor the worker from serving.
    write("fourth/default.json", "{\"policy_id\": \"default\"}");
    write("fifth/default.json", &to("from-file").to_string());
    stage.worker = Worker::start(&stage.broker, |l| l.flag("--policy-dir", &path)).await;
    assert_eq!(stage.caller.decided(&request("fifth", "r")).await["provider_id"], "from-file");
    let refused = stage.worker.events("policy_file_refused");
    assert!(refused.iter().any(|l| l.to_string().contains("fourth")), "{refused:?}");
}

#[tokio::test]
async fn two_deployments_share_a_broker() {
    let stage = Stage::start().await;
    let other = Worker::start(&stage.broker, |l| {
        l.flag("--router-prefix", "staging.router")
            .flag("--exec-prefix", "staging.exec")
            .flag("--usage-prefix", "staging.usage")
    })
    .await;
    stage.caller.put_policy("acme", &policy()).await;
    let put = json!({"tenant_id": "acme", "policy": {"policy_id": "default", "providers": [{"name": "s", "weight": 1}]}});
    let headers = async_nats::HeaderMap::new;
    let answer = stage.caller.ask("staging.router.control.v1.policy.put", headers(), put.to_string()).await;
    assert_eq!(answer.json()["ok"], true, "{}", answer.json());
    for _ in 0..20 {
        let body = request("acme", "r").to_string();
        let theirs = stage.caller.ask("staging.router.v1.decide", headers(), body).await.json();
        assert_eq!(theirs["decision"]["provider_id"], "s");
        let ours = stage.caller.decided(&request("acme", "r")).await;
        assert_ne!(ours["provider_id"], "s");
    }
    assert_eq!(other.metrics().await.sum("router_decisions_total", &[]), 20.0);
    assert_eq!(stage.worker.metrics().await.sum("router_decisions_total", &[]), 20.0);
    for stream in [
        "BEAMLINE_LOG",
        "BEAMLINE_EVENTS",
        "BEAMLINE_USAGE",
        "STAGING_LOG",
        "STAGING_EVENTS",
        "STAGING_USAGE",
    ] {
        stage.caller.jetstream.get_stream(stream).await.unwrap_or_else(|e| panic!("{stream}: {e}"));
    }
}

#[tokio::test]
async fn a_stream_of_others_in_the_way_is_named_and_the_start_ends() {
    let broker = Broker::start().await;
    let caller = Caller::connect(&broker).await;
    let config = async_nats::jetstream::stream::Config {
        name: "SOMEBODYS".to_owned(),
        subjects: vec!["caf.exec.>".to_owned()],
        ..Default::default()
    };
    caller.jetstream.create_stream(config).await.unwrap();
    let mut worker = Worker::launch(&broker, |l| l);
    assert_eq!(worker.exit_code(SOON).await, 1);
    assert!(worker.stdout().contains("SOMEBODYS"), "{}", worker.stdout());
}

#[tokio::test]
async fn what_is_logged_as_json_is_json_and_holds_no_secret() {
    let broker = Broker::with_config("authorization { user: u, password: \"s3cr3t-pw\" }").await;
    let mut worker =
        Worker::start(&broker, |l| l.env("NATS_USER", "u").env("NATS_PASSWORD", "s3cr3t-pw")).await;
    assert_eq!(worker.stop().await, 0);
    let text = worker.stdout();
    assert!(text.lines().count() > 2);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(!text.contains("s3cr3t-pw") && !worker.stderr().contains("s3cr3t-pw"));
    let for_people = |l: crate::support::Launch| {
        l.flag("--log-format", "text").env("NATS_USER", "u").env("NATS_PASSWORD", "s3cr3t-pw")
    };
    let worker = Worker::start(&broker, for_people).await;
    assert!(!worker.stdout().is_empty() && worker.logs().is_empty(), "{}", worker.stdout());
}
