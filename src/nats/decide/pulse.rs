use std::pin::Pin;
use std::time::Duration;

use beamline_nats::Client;
use tokio::time::{Interval, MissedTickBehavior};

use crate::domain::Tick;
use crate::nats::Worker;

/// A shorter standstill is not told from a busy machine, whatever a request may wait.
const LEAST_STILL: Duration = Duration::from_secs(1);
/// How often the intake wakes where nothing comes: far more often than it may stand still.
const BEAT: Duration = Duration::from_millis(200);
/// A broker that does not answer in this time has nothing else to send either.
const ECHO_PATIENCE: Duration = Duration::from_secs(5);

/// Whether the intake itself runs.
///
/// A request is stamped when the intake takes it, so one that waits in the socket of a process that is
/// stopped (SIGSTOP, a frozen container, a laptop that sleeps) looks fresh when the process goes on. How
/// long it waited nobody can tell: requests bear no stamp. But the intake can tell that it stood still
/// for longer than a request may wait. What was on its way then is *stale*, and refused as overloaded. It
/// ends where the broker's answer to a PING comes that was sent after the standstill: a connection keeps
/// its order.
pub(super) struct Pulse {
    interval: Interval,
    longest: Duration,
    last: Tick,
    echo: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Pulse {
    pub(super) fn begin(worker: &Worker) -> Self {
        let mut interval = tokio::time::interval(BEAT);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let longest = worker.settings.decide.max_queue.max(LEAST_STILL);
        Self { interval, longest, last: worker.clock.tick(), echo: None }
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
        let now = worker.clock.tick();
        let still_ms = now.since(self.last);
        self.last = now;
        let stood_still = u128::from(still_ms) > self.longest.as_millis();
        if stood_still {
            tracing::warn!(event = "worker_stood_still", still_ms);
            self.echo = Some(Box::pin(echo(client.clone())));
        }
        stood_still
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
