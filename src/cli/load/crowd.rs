//! Clients that ask all at once, and the executors of what the router pushes.
//!
//! A client asks, calls (which takes no time), reports, and asks again. Every other round of requests has
//! `push_assignment`: then an executor accepts, calls and reports, while the client goes on. Results that
//! the broker has not acknowledged yet are bounded, so that executors cannot fall behind without end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::bodies::{Assignment, Call, Reply, ack, request};
use super::failed::LoadFailed;
use super::ground::{SOON, Scene};
use super::probes::Probes;
use crate::clock::Clock;
use crate::nats::simulation::{Inbox, Simulation};

/// Connections that clients share.
const CONNECTIONS: usize = 2;

/// How often a client that is held looks whether it still is.
const HELD: Duration = Duration::from_millis(5);

/// The provider that fails for a while, and the one that never does.
pub(super) const FLAKY: &str = "flaky";
pub(super) const STEADY: &str = "steady";

/// What all of them counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) asked: AtomicU64,
    pub(super) decided: AtomicU64,
    pub(super) fail_fast: AtomicU64,
    /// Other errors.
    pub(super) refused: AtomicU64,
    pub(super) unanswered: AtomicU64,
    /// Decisions whose assignment the router pushed, and what executors heard of them.
    pub(super) pushed: AtomicU64,
    pub(super) assignments: AtomicU64,
    /// Results that the broker acknowledged, and that it did not.
    pub(super) results: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// One value of each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) decided: u64,
    pub(super) fail_fast: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) pushed: u64,
    pub(super) assignments: u64,
    pub(super) results: u64,
    pub(super) lost: u64,
}

impl Counts {
    /// What came since.
    pub(super) fn less(&self, before: &Self) -> Self {
        Self {
            asked: self.asked - before.asked,
            decided: self.decided - before.decided,
            fail_fast: self.fail_fast - before.fail_fast,
            refused: self.refused - before.refused,
            unanswered: self.unanswered - before.unanswered,
            pushed: self.pushed - before.pushed,
            assignments: self.assignments - before.assignments,
            results: self.results - before.results,
            lost: self.lost - before.lost,
        }
    }
}

impl Tally {
    fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            asked: read(&self.asked),
            decided: read(&self.decided),
            fail_fast: read(&self.fail_fast),
            refused: read(&self.refused),
            unanswered: read(&self.unanswered),
            pushed: read(&self.pushed),
            assignments: read(&self.assignments),
            results: read(&self.results),
            lost: read(&self.lost),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// All of them.
#[derive(Debug)]
pub(super) struct Crowd {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Shared {
    clients: Vec<Simulation>,
    executors: Simulation,
    clock: Clock,
    tenants: u64,
    /// The next request's number; numbers go on from run to run.
    next: AtomicU64,
    /// The numbers at which the flaky provider fails.
    fails: [AtomicU64; 2],
    held: AtomicBool,
    room: Semaphore,
    tally: Tally,
    probes: Mutex<Probes>,
}

/// One run: so many clients until so many requests are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) clients: u32,
    pub(super) requests: u64,
    /// Whether the flaky provider fails in the middle fifth.
    pub(super) failures: bool,
}

impl Crowd {
    /// Connects all, and lets the executors listen.
    pub(super) async fn gather(scene: &Scene, tenants: u64) -> Result<Self, LoadFailed> {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Simulation::connect(&scene.settings).await?);
        }
        let executors = Simulation::connect(&scene.settings).await?;
        let inbox = executors.assignments().await?;
        executors.flush().await?;
        let shared = Arc::new(Shared {
            clients,
            executors,
            clock: scene.clock.clone(),
            tenants,
            next: AtomicU64::new(0),
            fails: [AtomicU64::new(0), AtomicU64::new(0)],
            held: AtomicBool::new(false),
            room: Semaphore::new(0),
            tally: Tally::default(),
            probes: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let executing = Arc::clone(&shared).take_assignments(inbox, stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(executing));
        Ok(Self { shared, _stop: stop.drop_guard() })
    }

    pub(super) fn counts(&self) -> Counts {
        self.shared.tally.counts()
    }

    /// The most probes in flight at one breaker, and all probes.
    pub(super) fn probes(&self) -> (u64, u64) {
        let probes = self.shared.probes();
        (probes.most, probes.all)
    }

    /// Holds all clients, or lets them go on.
    pub(super) fn hold(&self, held: bool) {
        self.shared.held.store(held, Ordering::Relaxed);
    }

    /// Lets the clients ask until all is asked, answered and reported: how long each answer took, in
    /// microseconds.
    pub(super) async fn run(&self, run: Run) -> Result<Vec<u32>, LoadFailed> {
        let shared = &self.shared;
        let first = shared.next.load(Ordering::Relaxed);
        let until = first + run.requests;
        let fails =
            if run.failures { [2, 3].map(|fifths| first + run.requests * fifths / 5) } else { [0, 0] };
        for (bound, at) in shared.fails.iter().zip(fails) {
            bound.store(at, Ordering::Relaxed);
        }
        let room = 2 * run.clients;
        shared.room.add_permits(room as usize);
        let clients = (0..run.clients).map(|n| {
            let client = shared.clients.get(n as usize % CONNECTIONS).cloned();
            tokio::spawn(Arc::clone(shared).client(client, until))
        });
        let mut took = Vec::new();
        for client in futures_util::future::join_all(clients).await {
            took.extend(client.unwrap_or_default());
        }
        // Clients went past the end by one each.
        shared.next.store(until, Ordering::Relaxed);
        // With all the room free again every result is reported.
        match tokio::time::timeout(SOON, shared.room.acquire_many(room)).await {
            Ok(Ok(all)) => all.forget(),
            _ => {
                return Err(LoadFailed::Awaited {
                    what: "every assignment reaches an executor, and its result the broker".to_owned(),
                    seconds: SOON.as_secs(),
                });
            }
        }
        Ok(took)
    }
}

impl Shared {
    fn probes(&self) -> MutexGuard<'_, Probes> {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fails(&self, number: u64, provider: &str) -> bool {
        let [from, to] = self.fails.each_ref().map(|at| at.load(Ordering::Relaxed));
        provider == FLAKY && (from..to).contains(&number)
    }

    async fn client(self: Arc<Self>, client: Option<Simulation>, until: u64) -> Vec<u32> {
        let mut took = Vec::new();
        let Some(client) = client else { return took };
        loop {
            while self.held.load(Ordering::Relaxed) {
                tokio::time::sleep(HELD).await;
            }
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= until {
                return took;
            }
            let Ok(room) = self.room.acquire().await else { return took };
            let tenant = tenant(number % self.tenants);
            let request_id = format!("crowd-{number}");
            let push = (number / self.tenants).is_multiple_of(2);
            count(&self.tally.asked);
            let sent = self.clock.nanos();
            let answer = client.ask(request(&tenant, &request_id, push)).await;
            let micros = (self.clock.nanos() - sent) / 1_000;
            let Ok(body) = answer else {
                count(&self.tally.unanswered);
                continue;
            };
            took.push(u32::try_from(micros).unwrap_or(u32::MAX));
            let reply: Reply<'_> = serde_json::from_slice(&body).unwrap_or_default();
            let decision = match (reply.decision, reply.error) {
                (Some(decision), _) => decision,
                (None, Some(error)) if error.code == "circuit_open" => {
                    count(&self.tally.fail_fast);
                    continue;
                }
                _ => {
                    count(&self.tally.refused);
                    continue;
                }
            };
            count(&self.tally.decided);
            let pushed = decision.assignment_id.is_some();
            if decision.probe {
                self.probes().replied(number, usize::try_from(number % self.tenants).unwrap_or(0));
            } else if pushed {
                self.probes().ordinary(number);
            }
            if pushed {
                count(&self.tally.pushed);
                // The executor gives it back.
                room.forget();
                continue;
            }
            if decision.probe {
                self.probes().resulting(number, false);
            }
            let provider = decision.provider_id.as_ref();
            let assignment_id = uuid::Uuid::new_v4().to_string();
            let call = Call {
                tenant: &tenant,
                provider,
                request_id: &request_id,
                assignment_id: &assignment_id,
                failed: self.fails(number, provider),
            };
            self.report(&client, &call).await;
        }
    }

    async fn report(&self, by: &Simulation, call: &Call<'_>) {
        match by.report_bytes(call.tenant, call.assignment_id, call.result()).await {
            Ok(_) => count(&self.tally.results),
            Err(_) => count(&self.tally.lost),
        }
    }

    /// The executors: accept each assignment, call, report.
    async fn take_assignments(self: Arc<Self>, mut inbox: Inbox, stop: CancellationToken) {
        let calls = TaskTracker::new();
        while let Some(raw) = inbox.next_raw().await {
            let shared = Arc::clone(&self);
            let stopped = stop.clone();
            let call = async move { shared.execute(&raw.body).await };
            calls.spawn(stopped.run_until_cancelled_owned(call));
        }
    }

    async fn execute(&self, body: &[u8]) {
        let Ok(assignment) = serde_json::from_slice::<Assignment<'_>>(body) else { return };
        let Some(number) = assignment.request_id.strip_prefix("crowd-").and_then(|n| n.parse().ok()) else {
            return;
        };
        count(&self.tally.assignments);
        // One that is lost shows in the workers' count.
        let _lost = self.executors.acknowledge_bytes(ack(&assignment.assignment_id)).await;
        self.probes().resulting(number, true);
        let provider = assignment.executor.provider_id.as_ref();
        let call = Call {
            tenant: &assignment.tenant_id,
            provider,
            request_id: &assignment.request_id,
            assignment_id: &assignment.assignment_id,
            failed: self.fails(number, provider),
        };
        self.report(&self.executors, &call).await;
        self.room.add_permits(1);
    }
}

/// The tenant of a number.
pub(super) fn tenant(number: u64) -> String {
    format!("crowd-{number}")
}
