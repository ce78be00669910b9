use std::pin::Pin;
use std::time::Duration;

use beamline_nats::Client;
use tokio::time::{Interval, MissedTickBehavior};

use super::Worker;
use crate::domain::Tick;

/// A shorter standstill is not told from a busy machine, whatever a request may wait.
const LEAST_STILL: Duration = Duration::from_secs(1);
/// How often an intake wakes where nothing comes: far more often than it may stand still.
const BEAT: Duration = Duration::from_millis(200);
/// A broker that does not answer in this time has nothing else to send either.
const ECHO_PATIENCE: Duration = Duration::from_secs(5);

/// Whether an intake of requests itself runs.
///
/// A request is stamped when the intake takes it, so one that waits in the socket of a process that is
/// stopped (SIGSTOP, a frozen container, a laptop that sleeps) looks fresh when the process goes on. How
/// long it waited nobody can tell: requests bear no stamp. But the intake can tell that it stood still
/// for longer than a request may wait. What was on its way then is *stale*, and refused as overloaded. It
/// ends where the broker's answer to a PING comes that was sent after the standstill: a connection keeps
/// its order.
pub(super) struct Pulse {
    requests: &'static str,
    interval: Interval,
    stillness: Stillness,
    echo: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Pulse {
    /// Of an intake whose requests may wait for so long; `requests` names them in the log.
    pub(super) fn begin(worker: &Worker, longest_wait: Duration, requests: &'static str) -> Self {
        let mut interval = tokio::time::interval(BEAT);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { requests, interval, stillness: Stillness::new(longest_wait, worker.clock.tick()), echo: None }
    }

    /// Ends with the next beat, or, while stale, with `true` when all that was on its way has come.
    pub(super) async fn beat(&mut self) -> bool {
        match &mut self.echo {
            Some(echo) => tokio::select! {
                () = echo => true,
                _ = self.interval.tick() => false,
            },
            None => {
                self.interval.tick().await;
                false
            }
        }
    }

    /// Called each time that the intake runs, before it looks at what came. `true` if it stood still.
    pub(super) fn feel(&mut self, worker: &Worker, client: &Client) -> bool {
        let Some(still_ms) = self.stillness.runs(worker.clock.tick()) else { return false };
        tracing::warn!(event = "worker_stood_still", requests = self.requests, still_ms);
        self.echo = Some(Box::pin(echo(client.clone())));
        true
    }

    /// Whether what comes now may have waited for too long.
    pub(super) const fn is_stale(&self) -> bool {
        self.echo.is_some()
    }

    pub(super) fn end_stale(&mut self) {
        self.echo = None;
    }
}

/// Ends when a PING that is sent now is answered, or cannot be.
async fn echo(client: Client) {
    let _ = tokio::time::timeout(ECHO_PATIENCE, client.flush()).await;
}

/// How long a task that wakes often did not run.
#[derive(Debug)]
struct Stillness {
    longest_ms: u64,
    last: Tick,
}

impl Stillness {
    fn new(longest_wait: Duration, now: Tick) -> Self {
        let longest = longest_wait.max(LEAST_STILL);
        Self { longest_ms: u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), last: now }
    }

    /// The task runs. How long it stood still, if for longer than a request may wait.
    fn runs(&mut self, now: Tick) -> Option<u64> {
        let still_ms = now.since(self.last);
        self.last = now;
        (still_ms > self.longest_ms).then_some(still_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_stood_still_if_it_did_not_run_for_longer_than_a_request_may_wait() {
        let mut stillness = Stillness::new(Duration::from_secs(3), Tick(10_000));
        assert_eq!(stillness.runs(Tick(13_000)), None);
        assert_eq!(stillness.runs(Tick(16_001)), Some(3_001));
        assert_eq!(stillness.runs(Tick(16_201)), None, "each standstill counts once");
    }

    #[test]
    fn a_short_standstill_is_a_busy_machine_whatever_a_request_may_wait() {
        let mut stillness = Stillness::new(Duration::from_millis(5), Tick(10_000));
        assert_eq!(stillness.runs(Tick(11_000)), None);
        assert_eq!(stillness.runs(Tick(12_001)), Some(1_001));
    }
}
