use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::load::failed::LoadFailed;
use crate::cli::load::ground::{Scene, reply_prefix};
use crate::cli::rng::Rng;
use crate::cli::rollout_scenario::{Calls, HARMED, Seen, asked};
use crate::nats::simulation::{Inbox, Raw, Simulation};

/// Each worker is asked this often; of its requests, those that reach another worker have no answer.
const EVERY: Duration = Duration::from_millis(10);
/// Answers to what was asked last.
const LAST: Duration = Duration::from_millis(500);
/// Between the prefix of a worker and the request id of a reply subject.
const TOKEN: &str = "each";

/// Asks each worker by itself for the harmed tenant, from `begin` to `end`.
#[derive(Debug)]
pub(super) struct EachWorker {
    seen: Arc<Mutex<Vec<Seen>>>,
    begun: CancellationToken,
    ended: CancellationToken,
    listening: JoinHandle<()>,
}

impl EachWorker {
    /// Listens, and does not ask yet.
    pub(super) async fn ready(scene: &Scene, workers: usize, calls: Arc<Calls>) -> Result<Self, LoadFailed> {
        let simulation = scene.client.clone();
        let inbox = simulation.listen(&format!("load.*.{TOKEN}.*")).await?;
        simulation.flush().await?;
        let nothing = Seen { positions: Some(Vec::new()), ..Seen::default() };
        let seen = Arc::new(Mutex::new(vec![nothing; workers]));
        let (begun, ended) = (CancellationToken::new(), CancellationToken::new());
        let listening =
            tokio::spawn(listen(inbox, simulation.clone(), Arc::clone(&seen), calls, ended.clone()));
        tokio::spawn(ask(simulation, workers, begun.clone(), ended.clone()));
        Ok(Self { seen, begun, ended, listening })
    }

    pub(super) fn begin(&self) {
        self.begun.cancel();
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// What each worker answered, once it has ended.
    pub(super) async fn seen(mut self) -> Vec<Seen> {
        self.end();
        // A listener that failed has seen what it has.
        let _ended = (&mut self.listening).await;
        lock(&self.seen).clone()
    }
}

impl Drop for EachWorker {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

async fn ask(simulation: Simulation, workers: usize, begun: CancellationToken, ended: CancellationToken) {
    tokio::select! {
        () = begun.cancelled() => {}
        () = ended.cancelled() => return,
    }
    let mut rng = Rng::seeded(0);
    while !ended.is_cancelled() {
        for worker in 0..workers {
            let request_id = rng.uuid();
            let reply = format!("{}.{TOKEN}.{request_id}", reply_prefix(worker));
            // One that cannot be sent has no answer.
            let _lost = simulation.ask_at(reply, asked(HARMED, &request_id).to_string().into()).await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Notes answers, and makes the calls.
async fn listen(
    mut inbox: Inbox,
    simulation: Simulation,
    seen: Arc<Mutex<Vec<Seen>>>,
    calls: Arc<Calls>,
    ended: CancellationToken,
) {
    let under_way = TaskTracker::new();
    let mut rng = Rng::seeded(1);
    let over = async {
        ended.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::pin!(over);
    loop {
        let raw = tokio::select! {
            () = &mut over => break,
            raw = inbox.next_raw() => raw,
        };
        let Some(Raw { subject, body }) = raw else { break };
        let Some((worker, request_id)) = place(&subject) else { continue };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let provider = {
            let mut seen = lock(&seen);
            let Some(seen) = seen.get_mut(worker) else { continue };
            seen.asked += 1;
            seen.note(request_id, &answer)
        };
        let Some(provider) = provider else { continue };
        let (simulation, calls, rng) = (simulation.clone(), Arc::clone(&calls), rng.split());
        let request_id = request_id.to_owned();
        under_way.spawn(async move {
            calls.make(&simulation, HARMED, &request_id, &provider, rng).await;
        });
    }
    under_way.close();
    under_way.wait().await;
}

/// Worker and request of a reply subject.
fn place(subject: &str) -> Option<(usize, &str)> {
    let (worker, request_id) = subject.strip_prefix("load.w")?.split_once('.')?;
    Some((worker.parse().ok()?, request_id.strip_prefix(TOKEN)?.strip_prefix('.')?))
}

fn lock(seen: &Mutex<Vec<Seen>>) -> MutexGuard<'_, Vec<Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_names_worker_and_request() {
        assert_eq!(place(&format!("{}.{TOKEN}.r-1", reply_prefix(3))), Some((3, "r-1")));
        for subject in ["load.w1.t.5", "load.wx.each.r", "_INBOX.a"] {
            assert_eq!(place(subject), None, "{subject}");
        }
    }
}
