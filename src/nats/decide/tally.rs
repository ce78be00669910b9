use crate::domain::{ErrorCode, Reason};
use crate::nats::Worker;
use crate::telemetry::Gathered;
use crate::telemetry::labels::Outcome;

/// What a decider has answered and not counted yet, in memory of its own: counters that all threads
/// share cost ten times as much to add to.
#[derive(Debug, Default)]
pub(super) struct Tally {
    decided: [u64; REASONS.len()],
    durations: Gathered,
    /// Decisions on the plain subject and on the tenants' own, and the nanoseconds that they took.
    plain: (u64, u64),
    tenants: (u64, u64),
}

const REASONS: [Reason; 4] =
    [Reason::Sticky, Reason::Weighted, Reason::Fallback, Reason::CircuitBreakerFallback];

impl Tally {
    /// Notes an answer that took so many nanoseconds. Refusals are rare, or else cost more than this;
    /// they are counted at once.
    pub(super) fn note(
        &mut self,
        worker: &Worker,
        outcome: Result<Reason, ErrorCode>,
        plain: bool,
        nanos: u64,
    ) {
        self.durations.observe_nanos(nanos);
        match outcome {
            Ok(reason) => {
                let at = REASONS.iter().position(|r| *r == reason);
                if let Some(count) = at.and_then(|at| self.decided.get_mut(at)) {
                    *count += 1;
                }
                let (count, sum) = if plain { &mut self.plain } else { &mut self.tenants };
                *count += 1;
                *sum += nanos;
            }
            Err(code) => {
                worker.metrics.refused(code);
                let endpoint = if plain { &worker.discovery.decide } else { &worker.discovery.tenant_decide };
                endpoint.record(nanos, Some(code.as_str()));
            }
        }
    }

    /// Counts all that was noted.
    pub(super) fn tell(&mut self, worker: &Worker) {
        for (reason, count) in REASONS.into_iter().zip(&mut self.decided) {
            if *count > 0 {
                worker.metrics.decisions.add(Outcome::Decided, Some(reason), std::mem::take(count));
            }
        }
        worker.metrics.decision_duration.add(&mut self.durations);
        for (endpoint, noted) in [
            (&worker.discovery.decide, &mut self.plain),
            (&worker.discovery.tenant_decide, &mut self.tenants),
        ] {
            let (count, nanos) = std::mem::take(noted);
            if count > 0 {
                endpoint.record_good(count, nanos);
            }
        }
    }
}
