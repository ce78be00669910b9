use serde_json::Value;

/// What came of requests.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Seen {
    pub(in crate::cli) asked: u64,
    /// Answered with a provider.
    pub(in crate::cli) decided: u64,
    /// Answered without one: every circuit refuses.
    pub(in crate::cli) fail_fast: u64,
    /// Answered with another error.
    pub(in crate::cli) other_errors: u64,
    /// The greatest place of the log that a decision rested on.
    pub(in crate::cli) position: u64,
    /// Decisions that met a circuit which was not closed.
    pub(in crate::cli) met: Vec<Met>,
    /// The places of the log that all decisions rested on, where they are kept.
    pub(in crate::cli) positions: Option<Vec<u64>>,
}

/// A decision that met a circuit which refuses, as its explanation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Met {
    pub(in crate::cli) request_id: String,
    /// The place of the log that it rested on, at least.
    pub(in crate::cli) position: u64,
    /// The decision of the rollout whose step was in force.
    pub(in crate::cli) step: Option<u64>,
    /// Whether the refusal was enforced.
    pub(in crate::cli) refused: bool,
}

impl Seen {
    /// Counts an answer. The provider, if it names one.
    pub(in crate::cli) fn note(&mut self, request_id: &str, answer: &Value) -> Option<String> {
        let Some(decision) = answer.get("decision") else {
            match answer.pointer("/error/code").and_then(Value::as_str) {
                Some("circuit_open") => self.fail_fast += 1,
                _ => self.other_errors += 1,
            }
            return None;
        };
        self.decided += 1;
        let explanation = decision.get("explanation").unwrap_or(&Value::Null);
        let position = explanation["position"].as_u64().unwrap_or(0);
        self.position = self.position.max(position);
        if let Some(positions) = &mut self.positions {
            positions.push(position);
        }
        let checks = explanation["steps"].as_array().into_iter().flatten();
        let results = || checks.clone().filter_map(|check| check["result"].as_str());
        let refused = results().any(|result| result == "rejected");
        if refused || results().any(|result| result == "would_reject") {
            let step = explanation.pointer("/rollout/step").and_then(Value::as_u64);
            self.met.push(Met { request_id: request_id.to_owned(), position, step, refused });
        }
        decision["provider_id"].as_str().map(str::to_owned)
    }

    /// Requests without an answer.
    pub(in crate::cli) const fn unanswered(&self) -> u64 {
        self.asked.saturating_sub(self.decided + self.fail_fast + self.other_errors)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decided(position: u64, result: &str) -> Value {
        json!({"ok": true, "decision": {"provider_id": "local", "explanation": {
            "position": position, "rollout": {"id": "r", "step": 7, "percent": 50},
            "steps": [
                {"step": "circuit_breaker_check", "provider_id": "openai", "result": result},
                {"step": "fallback", "provider_id": "local"},
                {"step": "circuit_breaker_check", "provider_id": "local", "result": "allowed"},
            ],
        }}})
    }

    #[test]
    fn answers_are_counted_by_what_they_say() {
        let mut seen = Seen { asked: 6, ..Seen::default() };
        assert_eq!(seen.note("r-1", &decided(5, "allowed")).as_deref(), Some("local"));
        seen.note("r-2", &decided(9, "rejected"));
        seen.note("r-3", &decided(8, "would_reject"));
        assert_eq!(seen.note("r-4", &json!({"ok": false, "error": {"code": "circuit_open"}})), None);
        seen.note("r-5", &json!({"ok": false, "error": {"code": "overloaded"}}));
        assert_eq!((seen.decided, seen.fail_fast, seen.other_errors, seen.unanswered()), (3, 1, 1, 1));
        assert_eq!(seen.position, 9);
        let met = |request_id: &str, position, refused| Met {
            request_id: request_id.to_owned(),
            position,
            step: Some(7),
            refused,
        };
        assert_eq!(seen.met, [met("r-2", 9, true), met("r-3", 8, false)]);
    }
}
