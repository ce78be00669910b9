use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Users, ground, one_percent_fails, short_plan};
use crate::support::{Broker, Caller, Worker, cli, eventually};
use crate::traffic::{RECOVERY, agree};

/// Kills while the rollout is started and aborted again and again, so that decisions and steps are under way; and
/// while it goes its way.
const KILLS: [usize; 2] = [12, 8];
/// A verb whose worker was killed is not answered.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Random moments that a seed repeats.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let named = std::env::var("KILLS_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = named.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
        eprintln!("KILLS_SEED={seed} repeats these moments");
        Self(seed)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes()) % most
    }

    /// Kills one of the workers, and starts another in its place.
    async fn kill_one(&mut self, broker: &Broker, workers: &mut [Worker; 2]) {
        tokio::time::sleep(Duration::from_millis(self.below(1_200))).await;
        let worker = &mut workers[usize::from(self.below(2) == 1)];
        worker.kill();
        for event in ["rollout_decision_differs", "rollout_block_differs"] {
            assert_eq!(worker.events(event), [] as [Value; 0]);
        }
        *worker = Worker::launch(broker, |launch| launch.flag("--reconcile-interval-ms", 500));
    }
}

impl Caller {
    /// A verb whose worker may be killed meanwhile; `None` where nobody answers.
    async fn try_command(&self, verb: &str, body: &Value) -> Option<Value> {
        let subject = format!("beamline.router.control.v1.{verb}");
        let answer = self.client.request(subject, body.to_string().into());
        let answer = tokio::time::timeout(ANSWER_PATIENCE, answer).await.ok()?.ok()?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    }

    /// Starts the rollout, and once it enforces something, aborts and deletes it; then anew, until stopped.
    async fn start_and_abort(&self, plan: &Value, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let Some(status) = self.try_command("rollout.status", &json!({"rollout": "cb"})).await else {
                continue;
            };
            let body = json!({"rollout": "cb"});
            match status["state"].as_str().unwrap_or("deleted") {
                "deleted" => drop(self.try_command("rollout.put", &json!({"plan": plan})).await),
                "draft" => drop(self.try_command("rollout.start", &body).await),
                "running" if status["percent"] == 50 => {
                    drop(self.try_command("rollout.abort", &body).await);
                }
                "paused" | "awaiting_approval" => drop(self.try_command("rollout.abort", &body).await),
                "aborted" => drop(self.try_command("rollout.delete", &body).await),
                _ => {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts the rollout, whatever state it is in.
    async fn start_after_kills(&self, plan: &Value) {
        eventually("the last one is started", RECOVERY, async || {
            let body = json!({"rollout": "cb"});
            let status = self.try_command("rollout.status", &body).await?;
            let verb = match status["state"].as_str() {
                None | Some("deleted") => "rollout.put",
                Some("draft") => "rollout.start",
                Some("aborted") => "rollout.delete",
                Some("preparing" | "running" | "paused") => return Some(()),
                other => panic!("{other:?}: {status}"),
            };
            self.try_command(verb, &if verb == "rollout.put" { json!({"plan": plan}) } else { body }).await;
            None
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_of_workers_lose_no_decision_and_repeat_none() {
    let (stage, second) = ground().await;
    let (caller, broker) = (&stage.caller, &stage.broker);
    let mut workers = [stage.worker, second];
    let mut moments = Moments::new();
    let users = Users::start(caller, &["t1"], 100, one_percent_fails());
    users.go_on("t1", 100).await;
    let plan = short_plan(1, &json!({"approval": "each_phase", "analysis": {"coverage": 0.5}}));
    let stop = CancellationToken::new();
    let many = tokio::spawn({
        let (caller, plan, stop) = (caller.clone(), plan.clone(), stop.clone());
        async move { caller.start_and_abort(&plan, &stop).await }
    });
    for _ in 0..KILLS[0] {
        moments.kill_one(broker, &mut workers).await;
    }
    stop.cancel();
    many.await.unwrap();
    caller.start_after_kills(&plan).await;
    for _ in 0..KILLS[1] {
        moments.kill_one(broker, &mut workers).await;
    }
    for worker in &mut workers {
        worker.ready().await;
    }
    caller.rollout_is("awaiting_approval").await;
    caller.command("rollout.approve", &json!({"rollout": "cb"})).await;
    caller.rollout_is("completed").await;
    users.stop().await;

    // One that saw nothing of it knows the same.
    let third = Worker::start(broker, |launch| launch).await;
    let all = [&workers[0], &workers[1], &third];
    agree(&all, caller.log_end().await).await;
    caller.enforced_becomes("t1", Some(100)).await;
    let figures = workers[0].rollout_figures().await;
    assert!(!figures.is_empty());
    for worker in all {
        eventually("all show the same", RECOVERY, async || worker.rollout_figures().await == figures).await;
        worker.agreed().await;
    }
    each_decision_and_step_counts_once(caller).await;
    pages_are_made_again(caller, broker).await;
}

async fn each_decision_and_step_counts_once(caller: &Caller) {
    let recorded = caller.recorded().await;
    let last = recorded.decided.len() as u64;
    assert_eq!(recorded.decided, (1..=last).collect::<Vec<_>>());
    assert_eq!(recorded.differing, [] as [String; 0]);
    assert!(last > 10, "{recorded:?}");
    let logged = caller.logged_steps().await;
    let mut in_force = 0;
    for step in &logged {
        // A step that is no newer than the last one has no effect.
        assert_eq!(Some(step), recorded.steps.get(&step.number.n), "it is the one that was decided");
        in_force = in_force.max(step.number.n);
    }
    let counted: Vec<u64> = logged.iter().map(|step| step.number.n).collect();
    assert_eq!(Some(&in_force), recorded.steps.keys().last(), "{counted:?}");
    eprintln!("{last} decisions in {} records, steps in the log: {counted:?}", recorded.records);
}

/// The pages that `report` writes are those that a worker and `rebuild` make, once no message is added any more.
async fn pages_are_made_again(caller: &Caller, broker: &Broker) {
    caller.command("rollout.delete", &json!({"rollout": "cb"})).await;
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().to_str().unwrap();
    eventually("the pages are the same", RECOVERY, async || {
        let written = cli(broker, &["rollout", "report", "cb", "--out", pages]).await;
        assert_eq!(written.code, 0, "{written:?}");
        let rebuilt = cli(broker, &["rollout", "rebuild", "cb", "--check", pages]).await;
        let log = caller.command("rollout.report", &json!({"rollout": "cb", "kind": "log"})).await;
        let file = std::fs::read_to_string(folder.path().join("EXECUTION_LOG.md")).unwrap();
        rebuilt.code == 0 && log["pages"][0]["text"] == file.as_str()
    })
    .await;
}
