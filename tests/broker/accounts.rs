//! The configurations of `deploy/nats`, with the program as the router: what works through accounts, what the
//! reply subject of a publisher reaches with them and without, and how a deployment moves to them.

use std::time::Duration;

use async_nats::{ConnectOptions, HeaderMap};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};

use crate::support::{Answer, Broker, Caller, Launch, SOON, Worker, eventually, request, run};
use crate::traffic::{Asking, Publishing, agree, policy, result};

const RESULT: &str = "caf.exec.result.v1";
const ACK: &str = "caf.exec.assign.v1.ack";
const TENANTS_DECIDE: &str = "beamline.router.v1.tenant.acme.decide";

fn as_router(launch: Launch) -> Launch {
    let named = launch.env("NATS_USER", "router").env("NATS_PASSWORD", "router");
    named.env("NATS_INBOX_PREFIX", "_INBOX.router")
}

/// A client of one of the users of `deploy/nats`.
async fn user(broker: &Broker, name: &str) -> Caller {
    let options = ConnectOptions::with_user_and_password(name.to_owned(), name.to_owned());
    Caller::with(options.custom_inbox_prefix(format!("_INBOX.{name}")), &broker.url()).await
}

fn breaker() -> Value {
    json!({"enabled": true, "failure_threshold": 5, "timeout_ms": 300_000})
}

fn pushed(request_id: &str) -> Value {
    let mut body = request("acme", request_id);
    body["push_assignment"] = json!(true);
    body
}

#[tokio::test]
async fn the_router_does_all_of_its_work_through_accounts() {
    let broker = Broker::deployed("nats.conf").await;
    let one = Worker::start(&broker, as_router).await;
    let two = Worker::start(&broker, as_router).await;
    let operator = user(&broker, "operator").await;
    let executor = user(&broker, "executor").await;
    let gateway = user(&broker, "gateway").await;
    let acme = user(&broker, "acme").await;
    let mut events = operator.listen("beamline.router.v1.events.breaker.acme.>").await;
    let mut usage = operator.listen("beamline.usage.v1.metered").await;
    let mut assignments = executor.listen("caf.exec.assign.>").await;

    // Control, and decisions of a tenant and of a gateway.
    operator.put_policy("acme", &policy(&["a"], breaker())).await;
    agree(&[&one, &two], 1).await;
    let body = request("acme", "r-1").to_string();
    let answer = acme.ask(TENANTS_DECIDE, HeaderMap::new(), body).await.json();
    assert_eq!(answer["decision"]["provider_id"], "a", "{answer}");
    gateway.decided(&request("acme", "r-2")).await;
    let mut shared = gateway.listen("beamline.router.v1.decide.reply").await;
    let without_reply = request("acme", "r-3").to_string();
    gateway.client.publish("beamline.router.v1.decide", without_reply.into()).await.unwrap();
    assert_eq!(shared.next_json().await["context"]["request_id"], "r-3");

    // An assignment with its headers, its acknowledgement, its result, and what is metered of it.
    let decision = gateway.decided(&pushed("r-4")).await;
    let id = decision["assignment_id"].as_str().unwrap();
    let message = assignments.next().await;
    assert_eq!(message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().as_str(), id);
    assert_eq!(Answer::of(message).json()["assignment_id"], id);
    let ack = json!({"assignment_id": id, "status": "accepted"}).to_string();
    executor.client.publish(ACK, ack.into()).await.unwrap();
    eventually("the worker that pushed counts the ack", SOON, async || {
        let count = async |worker: &Worker| {
            worker.metrics().await.sum("router_assignments_total", &[("outcome", "acked")])
        };
        count(&one).await + count(&two).await >= 1.0
    })
    .await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", format!("acme:{id}"));
    let body = result("acme", "a", id, "success").to_string();
    let publish = async |headers: HeaderMap, body: String| {
        let ack = executor.jetstream.publish_with_headers(RESULT, headers, body.into()).await.unwrap();
        ack.await.unwrap()
    };
    assert_eq!(publish(headers.clone(), body.clone()).await.stream, "BEAMLINE_LOG");
    assert!(publish(headers, body).await.duplicate, "the id does not come through");
    assert_eq!(usage.next_json().await["assignment_id"], id);

    // Failures open the breaker on both workers, and a command closes it.
    let mut last = 0;
    for n in 0..5 {
        last = executor
            .result_on("caf.exec.result.v1.acme", &result("acme", "a", &format!("f-{n}"), "error"))
            .await;
    }
    agree(&[&one, &two], last).await;
    assert_eq!(operator.breaker("acme", "a").await["state"], "open");
    assert_eq!(events.next_json().await["to"], "open");
    let answer = acme.ask(TENANTS_DECIDE, HeaderMap::new(), request("acme", "r-5").to_string()).await.json();
    assert_eq!(answer["error"]["code"], "circuit_open", "{answer}");
    let reset = json!({"tenant_id": "acme", "provider_id": "a", "reason": "test"});
    operator.command("breaker.reset", &reset).await;
    operator.breaker_becomes("acme", "a", "closed").await;

    // An ack that refuses reaches the worker that pushed, whichever it was.
    for n in 0..5 {
        let decision = gateway.decided(&pushed(&format!("p-{n}"))).await;
        let ack = json!({"assignment_id": decision["assignment_id"], "status": "rejected"}).to_string();
        executor.client.publish(ACK, ack.into()).await.unwrap();
    }
    operator.breaker_becomes("acme", "a", "open").await;
}

/// What came of forged reply subjects.
#[derive(Debug)]
struct Harm {
    /// How many values 64 results left in the bucket of policies.
    values: u64,
    /// How many events results left in their stream.
    events: u64,
    /// How many answers to a tenant an operator heard.
    answers: usize,
}

/// Attacks a worker behind a configuration of `deploy/nats`.
async fn attack(config: &str) -> Harm {
    let broker = Broker::deployed(config).await;
    let worker = Worker::start(&broker, as_router).await;
    let [operator, executor, acme] =
        [user(&broker, "operator").await, user(&broker, "executor").await, user(&broker, "acme").await];
    operator.put_policy("acme", &policy(&["a"], breaker())).await;
    // No user but the router may look into a bucket.
    let router = user(&broker, "router").await;
    let last = async |stream: &str| {
        let stream = router.jetstream.get_stream(stream).await.unwrap();
        stream.cached_info().state.last_sequence
    };
    let (values, events) = (last("KV_BEAMLINE_POLICIES").await, last("BEAMLINE_EVENTS").await);
    let forge = async |reply: &str| {
        let body = result("acme", "a", &uuid::Uuid::new_v4().to_string(), "success").to_string();
        executor.client.publish_with_reply(RESULT, reply.to_owned(), body.into()).await.unwrap();
    };
    for _ in 0..64 {
        forge("$KV.BEAMLINE_POLICIES.acme.default").await;
        forge("beamline.router.v1.events.breaker.acme.a").await;
    }
    let mut heard = operator.client.subscribe("_INBOX.operator.stolen.*").await.unwrap();
    operator.client.flush().await.unwrap();
    let body = request("acme", "r-1").to_string();
    for reply in
        ["_INBOX.operator.stolen.1", "$KV.BEAMLINE_POLICIES.acme.other", "beamline.router.v1.log.flag"]
    {
        acme.client.publish_with_reply(TENANTS_DECIDE, reply, body.clone().into()).await.unwrap();
    }
    // What follows on the same connections is answered after that.
    let end = executor.result(&result("acme", "a", "last", "success")).await;
    acme.ask(TENANTS_DECIDE, HeaderMap::new(), body).await;
    worker.applied(end).await;
    operator.command("flag.get", &json!({})).await;
    let mut answers = 0;
    while let Some(Some(_)) = heard.next().now_or_never() {
        answers += 1;
    }
    Harm {
        values: last("KV_BEAMLINE_POLICIES").await - values,
        events: last("BEAMLINE_EVENTS").await - events,
        answers,
    }
}

#[tokio::test]
async fn forged_reply_subjects_reach_the_router_in_one_account() {
    let harm = attack("single-account.conf").await;
    assert!(harm.values >= 64 && harm.events >= 64 && harm.answers == 1, "{harm:?}");
}

#[tokio::test]
async fn forged_reply_subjects_reach_nothing_through_accounts() {
    let harm = attack("nats.conf").await;
    assert!(harm.values == 0 && harm.events == 0 && harm.answers == 0, "{harm:?}");
}

#[tokio::test]
async fn a_deployment_moves_to_accounts_with_live_streams() {
    let broker = Broker::deployed("single-account.conf").await;
    let one = Worker::start(&broker, as_router).await;
    let two = Worker::start(&broker, as_router).await;
    let [operator, executor, gateway] =
        [user(&broker, "operator").await, user(&broker, "executor").await, user(&broker, "gateway").await];
    let revision = operator.put_policy("acme", &policy(&["a", "b"], breaker())).await;
    let force = json!({"tenant_id": "acme", "provider_id": "b", "state": "open", "reason": "test"});
    operator.command("breaker.force", &force).await;
    let publishing = Publishing::start(&executor, 200, |n| result("acme", "a", &format!("m-{n}"), "success"));
    let asking = Asking::start(&gateway.client, "acme", 200, Duration::from_secs(2));
    publishing.reaches(100).await;
    asking.goes_on(100).await;

    broker.reload_deployed("nats.conf");
    publishing.goes_on(400).await;
    asking.goes_on(400).await;
    let (published, asked) = (publishing.stop().await, asking.stop().await);
    let (position, _) = agree(&[&one, &two], published.last).await;
    eprintln!("published {published:?}, asked {asked:?}, log at {position}");
    // Clients of the other accounts are cut off and come back; requests under way then are not answered.
    assert!(asked.decided + 200 > asked.sent && asked.refused.is_empty(), "{asked:?}");
    for worker in [&one, &two] {
        assert_eq!(worker.count("router_nats_reconnects_total").await, 0, "a worker was cut off");
        assert_eq!(worker.events("stream_remade").len(), 0);
    }
    let applied = one.metrics().await.sum("router_results_total", &[("disposition", "applied")]) as u64;
    assert_eq!(applied, published.results, "each result is judged once");

    // What stood in streams and buckets before holds, and forged reply subjects are over.
    assert_eq!(operator.breaker("acme", "b").await["forced"]["state"], "open");
    let default = json!({"tenant_id": "acme", "policy_id": "default"});
    executor
        .client
        .publish_with_reply(RESULT, "$KV.BEAMLINE_POLICIES.acme.default", "{}".into())
        .await
        .unwrap();
    executor.result(&result("acme", "a", "last", "success")).await;
    assert_eq!(operator.command("policy.get", &default).await["revision"], revision);
    let history = operator.command("policy.history", &default).await;
    assert_eq!(history["revisions"].as_array().unwrap().len(), 1, "{history}");
}

/// Keys and credentials that `deploy/nats/tenants.py` makes.
struct Keys(tempfile::TempDir);

impl Keys {
    async fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.run("init", &[]).await;
        keys
    }

    /// Gives the path that the command prints.
    async fn run(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = std::process::Command::new("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nats/tenants.py"));
        command.arg(verb).arg(self.0.path()).args(arguments);
        let done = run(command, "").await;
        assert_eq!(done.code, 0, "{done:?}");
        done.stdout.trim().to_owned()
    }

    async fn user(&self, broker: &Broker, role: &str, name: &str) -> Caller {
        let path = self.run("add", &[role, name]).await;
        let options = ConnectOptions::with_credentials_file(path).await.unwrap();
        Caller::with(options.custom_inbox_prefix(format!("_INBOX.{name}")), &broker.url()).await
    }
}

#[tokio::test]
async fn tenants_work_by_credentials_that_are_made_beside_a_running_server() {
    let keys = Keys::new().await;
    let accounts = std::fs::read_to_string(keys.0.path().join("accounts.conf")).unwrap();
    let broker = Broker::with_config(&accounts).await;
    let creds = keys.run("add", &["router", "worker"]).await;
    let worker = Worker::start(&broker, |l| {
        l.env("NATS_CREDS", &creds)
            .env("NATS_INBOX_PREFIX", "_INBOX.router")
            .switch("--require-tenant-subject")
    })
    .await;
    let operator = keys.user(&broker, "operator", "operator").await;
    for tenant in ["acme", "globex"] {
        operator.put_policy(tenant, &policy(&["a"], breaker())).await;
    }
    let acme = keys.user(&broker, "tenant", "acme").await;
    let executor = keys.user(&broker, "tenant-executor", "acme").await;
    let answer = acme.ask(TENANTS_DECIDE, HeaderMap::new(), request("acme", "r-1").to_string()).await.json();
    assert_eq!(answer["decision"]["provider_id"], "a", "{answer}");
    let foreign = "beamline.router.v1.tenant.globex.decide";
    let asked = acme.client.request(foreign, request("globex", "r-2").to_string().into());
    assert!(!matches!(tokio::time::timeout(Duration::from_millis(500), asked).await, Ok(Ok(_))));
    for n in 0..5 {
        let failed = |tenant| result(tenant, "a", &format!("f-{n}"), "error");
        let foreign = failed("globex").to_string();
        executor.client.publish("caf.exec.result.v1.globex", foreign.into()).await.unwrap();
        let last = executor.result_on("caf.exec.result.v1.acme", &failed("acme")).await;
        worker.applied(last).await;
    }
    assert_eq!(operator.breaker("acme", "a").await["state"], "open");
    assert_eq!(operator.breaker("globex", "a").await["window_requests"], 0);
}

#[tokio::test]
async fn a_learned_id_suppresses_a_result_that_bears_it_and_no_other() {
    let broker = Broker::deployed("nats.conf").await;
    let worker = Worker::start(&broker, as_router).await;
    let (operator, executor) = (user(&broker, "operator").await, user(&broker, "executor").await);
    operator.put_policy("acme", &policy(&["a"], breaker())).await;
    operator.put_policy("globex", &policy(&["a"], breaker())).await;
    let publish = async |tenant: &str, id: &str, message_id: Option<String>| {
        let mut headers = HeaderMap::new();
        if let Some(message_id) = message_id {
            headers.insert("Nats-Msg-Id", message_id);
        }
        let (subject, body) = (format!("{RESULT}.{tenant}"), result(tenant, "a", id, "error").to_string());
        let ack = executor.jetstream.publish_with_headers(subject, headers, body.into()).await.unwrap();
        ack.await.unwrap()
    };
    // Tenants that count alike do not meet.
    assert!(!publish("globex", "1", Some("globex:1".to_owned())).await.duplicate);
    assert!(!publish("acme", "1", Some("acme:1".to_owned())).await.duplicate);
    // The known limit: globex's executor was first under acme's id.
    publish("globex", "2", Some("acme:learned".to_owned())).await;
    assert!(publish("acme", "learned", Some("acme:learned".to_owned())).await.duplicate);
    // Without the header nothing is dropped but by the router, which knows whose copy it is.
    publish("globex", "open", None).await;
    publish("acme", "open", None).await;
    let last = publish("acme", "open", None).await;
    worker.applied(last.sequence).await;
    for (tenant, failures) in [("acme", 2), ("globex", 3)] {
        assert_eq!(operator.breaker(tenant, "a").await["failure_count"], failures, "{tenant}");
    }
}
