//! What goes over the broker beside the router: clients that ask, executors that answer, and the two
//! listeners that feed the board. All of it is as real as any program of a deployment, but for the
//! calls to providers (see [`super::executors`]).

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::board::Seen;
use super::executors::{Call, Job, TASK};
use super::failed::DemoFailed;
use super::story::Story;
use super::tally::Ending;
use super::tenants::{CLIENTS, TENANTS, Tenant};
use crate::cli::rng::Rng;
use crate::clock::Clock;
use crate::config::ClientSettings;
use crate::nats::control_client::ControlClient;
use crate::nats::simulation::{Heard, Inbox, Simulation};

/// One request in so many asks the router to push the assignment itself.
const PUSHED_ONE_IN: u64 = 5;

/// Users of a sticky tenant.
const USERS: u64 = 200;

/// What waits for the board: some seconds of all there is to see.
const QUEUE: usize = 8_192;

/// An assignment is delivered within this, on one machine.
const DELIVERY: Duration = Duration::from_millis(150);

/// How often the breakers are listed.
const LIST: Duration = Duration::from_millis(500);

/// All that runs over the broker, until it is stopped.
#[derive(Debug)]
pub(super) struct Traffic {
    asking: CancellationToken,
    listening: CancellationToken,
    /// Requests and calls under way.
    under_way: TaskTracker,
}

/// What the tasks share.
#[derive(Debug)]
struct Cast {
    clients: Simulation,
    executors: Simulation,
    story: Story,
    clock: Clock,
    seen: mpsc::Sender<Seen>,
    under_way: TaskTracker,
}

/// A reply of the router, as far as a client of the demo looks at it.
#[derive(Debug, Default, Deserialize)]
struct Reply {
    #[serde(default)]
    decision: Option<Decision>,
    #[serde(default)]
    error: Option<RouterError>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    provider_id: String,
    reason: String,
    #[serde(default)]
    probe: bool,
    #[serde(default)]
    assignment_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RouterError {
    code: String,
}

/// An assignment, as far as an executor of the demo looks at it.
#[derive(Debug, Deserialize)]
struct Assignment {
    assignment_id: String,
    request_id: String,
    tenant_id: String,
    executor: Executor,
}

#[derive(Debug, Deserialize)]
struct Executor {
    provider_id: String,
}

impl Traffic {
    /// Starts it: the clock's time 0 is the story's. What is seen arrives at the receiver.
    pub(super) async fn start(
        settings: &ClientSettings,
        story: Story,
        clock: Clock,
    ) -> Result<(Self, mpsc::Receiver<Seen>), DemoFailed> {
        let (seen, board) = mpsc::channel(QUEUE);
        let cast = Arc::new(Cast {
            clients: Simulation::connect(settings).await?,
            executors: Simulation::connect(settings).await?,
            story,
            clock,
            seen,
            under_way: TaskTracker::new(),
        });
        let control = ControlClient::connect(settings).await?;
        let assignments = cast.executors.assignments().await?;
        let events = cast.executors.breaker_events().await?;
        // Nothing is asked before the broker knows who listens.
        cast.executors.flush().await?;

        let traffic = Self {
            asking: CancellationToken::new(),
            listening: CancellationToken::new(),
            under_way: cast.under_way.clone(),
        };
        let listening = || traffic.listening.clone().cancelled_owned();
        tokio::spawn(until(listening(), Arc::clone(&cast).take_assignments(assignments)));
        tokio::spawn(until(listening(), hear_events(cast.seen.clone(), events)));
        tokio::spawn(until(listening(), list_breakers(cast.seen.clone(), control)));
        for (seed, tenant) in TENANTS.iter().flat_map(|tenant| (0..CLIENTS).map(move |_| tenant)).enumerate()
        {
            let rng = Rng::seeded(seed as u64);
            let client = Arc::clone(&cast).client(tenant, rng);
            tokio::spawn(until(traffic.asking.clone().cancelled_owned(), client));
        }
        Ok((traffic, board))
    }

    /// Ends the asking. Done when what was asked is answered, and each call reported.
    pub(super) async fn settle(&self) {
        self.asking.cancel();
        self.under_way.close();
        loop {
            self.under_way.wait().await;
            // The last assignment may still be on its way to its executor.
            tokio::time::sleep(DELIVERY).await;
            if self.under_way.is_empty() {
                return;
            }
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.asking.cancel();
        self.listening.cancel();
    }
}

async fn until(end: impl Future<Output = ()>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = end => {}
        () = work => {}
    }
}

impl Cast {
    fn at(&self) -> Duration {
        Duration::from_nanos(self.clock.nanos())
    }

    /// The board is gone only when the demo ends.
    async fn tell(&self, seen: Seen) {
        let _gone = self.seen.send(seen).await;
    }

    /// Asks at its own pace, whether answers are quick or not, as the callers of a service do.
    async fn client(self: Arc<Self>, tenant: &'static Tenant, mut rng: Rng) {
        let pause_ms = 1_000 * CLIENTS / tenant.per_second.max(1);
        loop {
            tokio::time::sleep(Duration::from_millis(rng.around(pause_ms))).await;
            let rng = rng.split();
            let cast = Arc::clone(&self);
            self.under_way.spawn(async move { cast.request(tenant, rng).await });
        }
    }

    /// One request, and a second attempt if the first one's call failed and a rule says where to go.
    async fn request(&self, tenant: &'static Tenant, mut rng: Rng) {
        let request_id = rng.uuid();
        let mut request = json!({
            "version": "1",
            "request_id": request_id,
            "tenant_id": tenant.id,
            "task": {"type": TASK, "payload_ref": "demo://prompt"},
            "context": {"user_id": format!("user-{}", rng.below(USERS))},
            "push_assignment": rng.below(PUSHED_ONE_IN) == 0,
        });
        for attempt in 2.. {
            let Some(decision) = self.ask(&request).await else { return };
            // An executor has it, and reports.
            if decision.assignment_id.is_some() {
                return;
            }
            let assignment_id = rng.uuid();
            let job = Job {
                assignment_id: &assignment_id,
                request_id: &request_id,
                tenant_id: tenant.id,
                provider_id: &decision.provider_id,
            };
            let call = self.call(&job, false, &mut rng).await;
            match call.error_code {
                Some(code) if tenant.fallback.is_some() && attempt == 2 => {
                    request["context"]["status"] = code.into();
                    request["context"]["attempt"] = attempt.into();
                }
                _ => return,
            }
        }
    }

    async fn ask(&self, request: &Value) -> Option<Decision> {
        let asked = self.clock.nanos();
        let answer = self.clients.decide(request).await;
        let took = Duration::from_nanos(self.clock.nanos().saturating_sub(asked));
        let (ending, decision) = match answer {
            Ok(body) => ending_of(serde_json::from_value(body).unwrap_or_default()),
            Err(_) => (Ending::Unanswered, None),
        };
        let provider = decision.as_ref().map(|decision| decision.provider_id.clone());
        let probe = decision.as_ref().is_some_and(|decision| decision.probe);
        self.tell(Seen::Ended { ending, provider, probe, took }).await;
        decision
    }

    /// Plays a call and reports it.
    async fn call(&self, job: &Job<'_>, pushed: bool, rng: &mut Rng) -> Call {
        let call = Call::simulated(&self.story, job.provider_id, self.at(), rng);
        tokio::time::sleep(Duration::from_millis(call.latency_ms)).await;
        let result = call.result(job, self.clock.wall_ms());
        let reported = self.executors.report(job.tenant_id, job.assignment_id, &result).await.is_ok();
        let (tenant, provider) = (job.tenant_id.to_owned(), job.provider_id.to_owned());
        self.tell(Seen::Called { tenant, provider, failed: call.has_failed(), pushed, reported }).await;
        call
    }

    /// The executors of pushed assignments: accept each, call, report.
    async fn take_assignments(self: Arc<Self>, mut inbox: Inbox) {
        let mut rng = Rng::seeded(u64::MAX);
        while let Some(Heard { body, .. }) = inbox.next().await {
            let Ok(assignment) = serde_json::from_value::<Assignment>(body) else { continue };
            let mut rng = rng.split();
            let cast = Arc::clone(&self);
            self.under_way.spawn(async move {
                let ack = json!({"assignment_id": assignment.assignment_id, "status": "accepted"});
                // One that is lost changes nothing: the result stands for it.
                let _lost = cast.executors.acknowledge(&ack).await;
                let job = Job {
                    assignment_id: &assignment.assignment_id,
                    request_id: &assignment.request_id,
                    tenant_id: &assignment.tenant_id,
                    provider_id: &assignment.executor.provider_id,
                };
                cast.call(&job, true, &mut rng).await;
            });
        }
    }
}

fn ending_of(reply: Reply) -> (Ending, Option<Decision>) {
    match (reply.decision, reply.error) {
        (Some(decision), _) => (Ending::of_reason(&decision.reason), Some(decision)),
        (None, Some(error)) if error.code == "circuit_open" => (Ending::FailFast, None),
        (None, _) => (Ending::Refused, None),
    }
}

async fn hear_events(seen: mpsc::Sender<Seen>, mut inbox: Inbox) {
    while let Some(Heard { id, body }) = inbox.next().await {
        let Ok(event) = serde_json::from_value(body) else { continue };
        if seen.send(Seen::Moved { id, event }).await.is_err() {
            return;
        }
    }
}

async fn list_breakers(seen: mpsc::Sender<Seen>, control: ControlClient) {
    loop {
        // A list that is not answered is asked for again; the events tell what moves in between.
        if let Ok(mut answer) = control.request_all("breaker.list", &json!({}), "breakers").await {
            let views = serde_json::from_value(answer["breakers"].take()).unwrap_or_default();
            if seen.send(Seen::Breakers(views)).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(LIST).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(reply: Value) -> (Ending, Option<Decision>) {
        ending_of(serde_json::from_value(reply).unwrap_or_default())
    }

    #[test]
    fn replies_are_told_apart() {
        let decided = json!({"ok": true, "decision": {"provider_id": "openai", "reason": "sticky", "probe": true,
            "assignment_id": "a"}, "context": {}});
        let (kind, decision) = ending(decided);
        assert_eq!(kind, Ending::Sticky);
        assert!(decision.is_some_and(|d| d.probe && d.assignment_id.is_some() && d.provider_id == "openai"));
        let refused = |code: &str| ending(json!({"ok": false, "error": {"code": code, "message": ""}})).0;
        assert_eq!((refused("circuit_open"), refused("internal")), (Ending::FailFast, Ending::Refused));
        assert_eq!(ending(json!(7)).0, Ending::Refused);
    }
}
