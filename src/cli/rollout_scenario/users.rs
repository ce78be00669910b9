use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::Calls;
use super::course::Providers;
use super::seen::Seen;
use crate::cli::rng::Rng;
use crate::config::ClientSettings;
use crate::nats::connect::ConnectFailed;
use crate::nats::simulation::Simulation;

/// Requests of one tenant a second.
const PER_SECOND: u64 = 40;

/// `task.type` of all requests.
pub(super) const TASK: &str = "text.generate";

/// What was seen, by tenant.
type Book = BTreeMap<&'static str, Seen>;

/// Programs of the tenants, which ask and report until they are stopped.
#[derive(Debug)]
pub(in crate::cli) struct Users {
    calls: Arc<Calls>,
    book: Arc<Mutex<Book>>,
    asking: CancellationToken,
    under_way: TaskTracker,
}

impl Users {
    pub(in crate::cli) async fn start(
        settings: &ClientSettings,
        tenants: &[&'static str],
    ) -> Result<Self, ConnectFailed> {
        let users = Self {
            calls: Arc::default(),
            book: Arc::default(),
            asking: CancellationToken::new(),
            under_way: TaskTracker::new(),
        };
        for (seed, tenant) in (1..).zip(tenants) {
            let simulation = Simulation::connect(settings).await?;
            let program = Program {
                tenant,
                simulation,
                calls: Arc::clone(&users.calls),
                book: Arc::clone(&users.book),
            };
            let (asking, under_way) = (users.asking.clone(), users.under_way.clone());
            tokio::spawn(async move {
                let mut rng = Rng::seeded(seed);
                loop {
                    let pause = Duration::from_millis(rng.around(1_000 / PER_SECOND));
                    tokio::select! {
                        () = asking.cancelled() => return,
                        () = tokio::time::sleep(pause) => {}
                    }
                    let (program, rng) = (program.clone(), rng.split());
                    under_way.spawn(async move { program.request(rng).await });
                }
            });
        }
        Ok(users)
    }

    /// Providers are so from now on.
    pub(super) fn set(&self, providers: Providers) {
        self.calls.set(providers);
    }

    /// The calls, for others who ask.
    pub(in crate::cli) fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }

    /// The greatest place of the log that a decision rested on so far.
    pub(in crate::cli) fn position(&self) -> u64 {
        lock(&self.book).values().map(|seen| seen.position).max().unwrap_or(0)
    }

    /// Ends the asking. What was seen, once what was asked is reported.
    pub(in crate::cli) async fn stop(self) -> Book {
        self.asking.cancel();
        self.under_way.close();
        self.under_way.wait().await;
        std::mem::take(&mut *lock(&self.book))
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.asking.cancel();
    }
}

/// One tenant's program.
#[derive(Clone)]
struct Program {
    tenant: &'static str,
    simulation: Simulation,
    calls: Arc<Calls>,
    book: Arc<Mutex<Book>>,
}

impl Program {
    /// One request, its call, and the report.
    async fn request(&self, mut rng: Rng) {
        let request_id = rng.uuid();
        lock(&self.book).entry(self.tenant).or_default().asked += 1;
        let Ok(answer) = self.simulation.decide(&asked(self.tenant, &request_id)).await else { return };
        let provider = lock(&self.book).entry(self.tenant).or_default().note(&request_id, &answer);
        let Some(provider) = provider else { return };
        self.calls.make(&self.simulation, self.tenant, &request_id, &provider, rng).await;
    }
}

/// What is asked.
pub(in crate::cli) fn asked(tenant: &str, request_id: &str) -> Value {
    json!({
        "version": "1", "request_id": request_id, "tenant_id": tenant, "explain": true,
        "task": {"type": TASK, "payload_ref": "scenario://prompt"},
    })
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
