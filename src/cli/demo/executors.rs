//! The simulated executors, the only part of the demo that is not real: what a call to a provider
//! would have come to, and how long it would have taken. Pure; the traffic waits and reports.

use std::time::Duration;

use serde_json::{Value, json};

use super::story::{Fault, Story};
use crate::cli::rng::Rng;

/// What a call to a provider comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) latency_ms: u64,
    pub(super) status: &'static str,
    pub(super) error_code: Option<&'static str>,
    pub(super) retry_after_ms: Option<u64>,
    cost: f64,
}

impl Call {
    /// Calls a provider at a moment of the story.
    pub(super) fn simulated(story: &Story, provider: &str, at: Duration, rng: &mut Rng) -> Self {
        // Usual latency in milliseconds, and price.
        let (usual, cost) = match provider {
            "openai" => (120, 0.012),
            "anthropic" => (90, 0.009),
            _ => (40, 0.001),
        };
        let latency_ms = rng.around(usual);
        let failed = |latency_ms, status, error_code, retry_after_ms| Self {
            latency_ms,
            status,
            error_code: Some(error_code),
            retry_after_ms,
            cost: 0.0,
        };
        match story.fault(provider, at) {
            None => Self { latency_ms, status: "success", error_code: None, retry_after_ms: None, cost },
            Some(Fault::Unavailable) if rng.below(4) == 0 => {
                failed(latency_ms * 2, "timeout", "timeout", None)
            }
            Some(Fault::Unavailable) => failed(latency_ms / 4, "error", "503", None),
            Some(Fault::RateLimited) => failed(latency_ms / 4, "error", "429", Some(story.hint_ms())),
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.status != "success"
    }

    /// The result as an executor publishes it.
    pub(super) fn result(&self, of: &Job<'_>, wall_ms: u64) -> Value {
        let mut result = json!({
            "assignment_id": of.assignment_id,
            "request_id": of.request_id,
            "tenant_id": of.tenant_id,
            "provider_id": of.provider_id,
            "job": {"type": TASK},
            "status": self.status,
            "latency_ms": self.latency_ms,
            "cost": self.cost,
            "timestamp": wall_ms,
        });
        if let Some(code) = self.error_code {
            result["error_code"] = code.into();
        }
        if let Some(ms) = self.retry_after_ms {
            result["retry_after_ms"] = ms.into();
        }
        result
    }
}

/// `task.type` of all requests.
pub(super) const TASK: &str = "text.generate";

/// What a call is made for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job<'a> {
    pub(super) assignment_id: &'a str,
    pub(super) request_id: &'a str,
    pub(super) tenant_id: &'a str,
    pub(super) provider_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Content, decode_result};

    #[test]
    fn results_are_those_that_the_router_reads() {
        let story = Story::lasting(Duration::from_secs(40));
        let mut rng = Rng::seeded(1);
        for (provider, second, failed) in [("openai", 0, false), ("openai", 6, true), ("anthropic", 24, true)]
        {
            for _ in 0..50 {
                let call = Call::simulated(&story, provider, Duration::from_secs(second), &mut rng);
                assert_eq!(call.has_failed(), failed);
                assert!((1..=400).contains(&call.latency_ms), "{call:?}");
                let (assignment_id, request_id) = (rng.uuid(), rng.uuid());
                let job = Job {
                    assignment_id: &assignment_id,
                    request_id: &request_id,
                    tenant_id: "acme",
                    provider_id: provider,
                };
                let body = call.result(&job, 1_800_000_000_000).to_string();
                let outcome = decode_result(Content::Json, body.as_bytes(), None).unwrap();
                assert_eq!(outcome.retry_after_ms, call.retry_after_ms);
            }
        }
    }
}
