//! Three brokers with every stream on each, of which the log's leader dies under load.

use std::time::Duration;

use async_nats::RequestErrorKind;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Broker, Caller, Launch, PATIENCE, SOON, Worker, eventually, free_port, get, request};
use crate::traffic::{Asking, Publishing, RECOVERY, agree, policy, result};

/// An election, and the reader's own notice of it, on a busy machine.
pub(crate) const ELECTION: Duration = Duration::from_secs(60);

/// Brokers that form one cluster.
pub(crate) struct Cluster {
    brokers: Vec<Broker>,
    /// Where each tells of its connections.
    monitors: Vec<u16>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let routes: [u16; 3] = std::array::from_fn(|_| free_port());
        let monitors: Vec<u16> = routes.iter().map(|_| free_port()).collect();
        let all = routes.map(|port| format!("nats-route://127.0.0.1:{port}")).join(", ");
        let mut brokers: Vec<_> = routes
            .iter()
            .zip(&monitors)
            .map(|(route, monitor)| {
                let more = format!(
                    "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{all}] }}\n\
                     http: \"127.0.0.1:{monitor}\"\nlame_duck_grace_period: \"1s\""
                );
                Broker::prepare(free_port(), &more)
            })
            .collect();
        join_all(brokers.iter_mut().map(Broker::restart)).await;
        let cluster = Self { brokers, monitors };
        let caller = Caller::to(&cluster.urls()).await;
        eventually("the cluster has a leader", ELECTION, async || {
            let info = caller.jetstream.query_account();
            tokio::time::timeout(Duration::from_secs(1), info).await.is_ok_and(|i| i.is_ok())
        })
        .await;
        cluster
    }

    pub(crate) fn urls(&self) -> String {
        self.brokers.iter().map(Broker::url).collect::<Vec<_>>().join(",")
    }

    fn settings(&self) -> impl Fn(Launch) -> Launch {
        let urls = self.urls();
        move |l| l.env("NATS_URL", &urls).flag("--replicas", 3)
    }

    pub(crate) async fn worker(&self) -> Worker {
        let mut worker = Worker::launch(&self.brokers[0], self.settings());
        eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
        assert!(worker.runs());
        worker
    }

    /// How many of the workers' connections for what others send a broker has: those of this program that
    /// bear its own version.
    async fn connections(&self, at: usize) -> usize {
        let page = get(self.monitors[at], "/connz?limit=1000").await.expect("the monitor answers");
        let page: Value = serde_json::from_str(&page.body).unwrap();
        let connections = page["connections"].as_array().unwrap();
        let ours = |c: &&Value| c["name"] == "beamline-router" && c["version"] == beamline_nats::VERSION;
        connections.iter().filter(ours).count()
    }

    /// Kills the broker that leads a stream, and tells which it was.
    async fn kill_leader(&mut self, caller: &Caller, stream: &str) -> usize {
        let leader = leader(caller, stream).await.expect("the stream has a leader");
        // Brokers are named after their ports.
        let at = self.brokers.iter().position(|b| leader == format!("test-{}", b.port())).unwrap();
        self.brokers[at].kill();
        at
    }
}

/// Who leads a stream, if anybody does just now.
async fn leader(caller: &Caller, stream: &str) -> Option<String> {
    let info =
        async { caller.jetstream.get_stream(stream).await.ok()?.cached_info().cluster.clone()?.leader };
    tokio::time::timeout(Duration::from_secs(2), info).await.ok().flatten()
}

/// Puts a policy once, and again only while no worker is there to hear it: the answer.
async fn put_somehow(caller: &Caller, tenant: &str, policy: &Value) -> Value {
    let body = json!({"tenant_id": tenant, "policy": policy}).to_string();
    eventually("a put is answered", ELECTION, async || {
        let asked = async_nats::Request::new().payload(body.clone().into()).timeout(Some(RECOVERY));
        match caller.client.send_request("beamline.router.control.v1.policy.put", asked).await {
            Ok(answer) => Some(serde_json::from_slice(&answer.payload).unwrap()),
            Err(error) if error.kind() == RequestErrorKind::NoResponders => None,
            Err(error) => panic!("{tenant}: {error}"),
        }
    })
    .await
}

fn switch(n: u64) -> Value {
    let breaker = json!({"enabled": true, "failure_threshold": 50, "error_rate_threshold": 1.0});
    let mut policy = policy(&["a", "b"], breaker);
    policy["version"] = json!(format!("v{n}"));
    policy
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_loses_its_leader_loses_no_entry_and_no_policy() {
    let mut cluster = Cluster::start().await;
    let (first, second) = tokio::join!(cluster.worker(), cluster.worker());
    let caller = Caller::to(&cluster.urls()).await;
    let log = caller.jetstream.get_stream("BEAMLINE_LOG").await.unwrap();
    assert_eq!(log.cached_info().config.num_replicas, 3);
    caller.put_policy("acme", &switch(0)).await;
    let publishing = Publishing::start(&caller, 150, |n| {
        result("acme", ["a", "b"][n as usize % 2], &format!("n-{n}"), "success")
    });
    publishing.reaches(150).await;
    let asking = Asking::start(&caller.client, "acme", 50, Duration::from_secs(10));

    let dead = cluster.kill_leader(&caller, "BEAMLINE_LOG").await;
    // Policies are put while nobody leads: each ends in force, or is answered with why not.
    let mut answers = Vec::new();
    for n in 1..=3 {
        answers.push(put_somehow(&caller, &format!("t-{n}"), &switch(n)).await);
    }
    eventually("another leads", ELECTION, async || leader(&caller, "BEAMLINE_LOG").await.is_some()).await;
    publishing.goes_on(300).await;
    for worker in [&first, &second] {
        eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
    }
    let asked = asking.stop().await;
    assert!(asked.refused.is_empty(), "{asked:?}");
    assert!(asked.decided * 2 > asked.sent, "decisions went on: {asked:?}");

    for (n, answer) in (1..).zip(answers) {
        let tenant = format!("t-{n}");
        let revision = |answer: &Value| answer["revision"].as_u64();
        if answer["ok"] == true {
            assert!(answer["in_force"] == true || answer["warnings"][0].is_string(), "{answer}");
            // Durable is in force at last, by the comparison of bucket and log.
            eventually("what was acknowledged is in force", RECOVERY, async || {
                let decided = caller.decide(&request(&tenant, "r-1")).await;
                decided["decision"]["policy_revision"].as_u64() == revision(&answer)
            })
            .await;
        } else {
            // It may be in the bucket all the same, or not.
            assert!(answer["error"]["code"].is_string(), "{answer}");
        }
        let answer = eventually("it can be put again", RECOVERY, async || {
            let body = json!({"tenant_id": tenant, "policy": switch(n + 10)});
            let answer = caller.control("policy.put", &body).await;
            (answer["ok"] == true && answer["in_force"] == true).then_some(answer)
        })
        .await;
        // In force on the worker that answered; the other one reads it from the log.
        eventually("both decide by it", SOON, async || {
            let decided = caller.decide(&request(&tenant, "r-1")).await;
            decided["decision"]["policy_revision"] == answer["revision"]
        })
        .await;
    }

    // The dead one comes back, and the next leader dies.
    cluster.brokers[dead].restart().await;
    publishing.goes_on(150).await;
    eventually("all replicas are current", ELECTION, async || {
        let info =
            async { caller.jetstream.get_stream("BEAMLINE_LOG").await.ok()?.cached_info().cluster.clone() };
        let cluster = tokio::time::timeout(Duration::from_secs(2), info).await.ok().flatten();
        cluster.is_some_and(|c| c.replicas.len() == 2 && c.replicas.iter().all(|r| r.current && !r.offline))
    })
    .await;
    cluster.kill_leader(&caller, "BEAMLINE_LOG").await;
    publishing.goes_on(300).await;

    let published = publishing.stop().await;
    for worker in [&first, &second] {
        eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
    }
    agree(&[&first, &second], published.last).await;
    for worker in [&first, &second] {
        let metrics = worker.metrics().await;
        let copies = metrics.sum("router_results_total", &[("disposition", "duplicate")]);
        let all = metrics.sum("router_results_total", &[]);
        assert_eq!(all - copies, published.results as f64, "what was acknowledged counts once");
        for lost in ["router_log_rebuilds_total", "router_log_gaps_total"] {
            assert_eq!(metrics.sum(lost, &[]), 0.0, "{lost}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_on_another_node_is_answered_as_soon_as_the_worker_is_ready() {
    let cluster = Cluster::start().await;
    let first = Worker::launch(&cluster.brokers[0], cluster.settings());
    let caller = Caller::to(&cluster.urls()).await;
    eventually("the worker is ready", ELECTION, async || first.reasons().await.is_empty()).await;
    caller.put_policy("acme", &switch(0)).await;
    drop(first);
    let others = [Caller::connect(&cluster.brokers[1]).await, Caller::connect(&cluster.brokers[2]).await];
    for round in 0..6 {
        // On the first broker alone, so that the others know of it over a route.
        let url = cluster.brokers[0].url();
        let worker = Worker::launch(&cluster.brokers[0], |l| l.env("NATS_URL", url).flag("--replicas", 3));
        eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
        for caller in &others {
            let asked = async_nats::Request::new()
                .payload(request("acme", &format!("r-{round}")).to_string().into())
                .timeout(Some(PATIENCE));
            let answer = caller.client.send_request("beamline.router.v1.decide", asked).await;
            let answer = answer.unwrap_or_else(|error| panic!("round {round}: {error}"));
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["ok"], true, "{answer}");
            let listed = caller.control("policy.list", &json!({})).await;
            assert_eq!(listed["ok"], true, "{listed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_announces_its_end_is_left_and_a_rolling_restart_loses_no_request() {
    let mut cluster = Cluster::start().await;
    let (first, second) = tokio::join!(cluster.worker(), cluster.worker());
    let caller = Caller::to(&cluster.urls()).await;
    caller.put_policy("acme", &switch(0)).await;
    for worker in [&first, &second] {
        worker.follows(&caller).await;
    }
    for at in 0..3 {
        // Who asks is on another server: what is shown is that no worker loses a request.
        let asker = Caller::connect(&cluster.brokers[(at + 1) % 3]).await;
        let asking = Asking::start(&asker.client, "acme", 400, PATIENCE);
        asking.goes_on(200).await;
        cluster.brokers[at].lame_duck();
        eventually("its connections have moved", RECOVERY, async || cluster.connections(at).await == 0).await;
        let all = cluster.connections((at + 1) % 3).await + cluster.connections((at + 2) % 3).await;
        assert_eq!(all, 4, "each worker has two");
        cluster.brokers[at].kill();
        cluster.brokers[at].restart().await;
        for worker in [&first, &second] {
            eventually("the worker is ready", ELECTION, async || worker.reasons().await.is_empty()).await;
        }
        asking.goes_on(200).await;
        let asked = asking.stop().await;
        assert!(asked.refused.is_empty() && asked.unanswered.is_empty(), "{at}: {asked:?}");
    }
    for worker in [&first, &second] {
        assert!(!worker.events("nats_lame_duck").is_empty());
        let metrics = worker.metrics().await;
        for lost in ["router_log_rebuilds_total", "router_log_gaps_total"] {
            assert_eq!(metrics.sum(lost, &[]), 0.0, "{lost}");
        }
    }
}
