use serde_json::{Map, Value, json};

use crate::document::written_in_hours;

use super::breaker_block;
use super::document::ASSIGNMENT_SUBJECTS;
use super::model::{Candidate, Fallback, Policy, When};
use super::retry::Backoff;

impl Policy {
    /// The whole document in the present form, every default filled in. It parses to an equal policy.
    #[must_use]
    pub fn effective(&self) -> Value {
        let providers: Vec<_> = self.candidates.iter().filter(|c| c.listed).map(provider).collect();
        let fallbacks: Vec<_> = self.fallbacks.iter().map(|f| self.fallback(f)).collect();
        let mut document = json!({
            "policy_id": self.id.as_str(),
            "version": self.version,
            "providers": providers,
            "sticky": self.sticky_block(),
            "fallbacks": fallbacks,
            "circuit_breaker": breaker_block::shown(&self.breaker),
        });
        // The standard subjects are those of the worker that reads the document.
        if !self.assignment_subjects.is_empty() {
            document[ASSIGNMENT_SUBJECTS] = json!(self.assignment_subjects);
        }
        document
    }

    fn sticky_block(&self) -> Value {
        let mut block = json!({ "enabled": self.sticky_enabled });
        if let Some(sticky) = &self.sticky {
            block["session_key"] = json!(sticky.session_key);
            if let Some(ms) = sticky.ttl_ms {
                block["ttl"] = json!(written_in_hours(ms));
            }
        }
        block
    }

    fn fallback(&self, fallback: &Fallback) -> Value {
        let to = self.candidates.get(fallback.to).map(|c| c.provider.as_str());
        let mut block = json!({ "when": condition(&fallback.when), "retry": fallback.retry, "to": to });
        if let Some(Backoff { strategy, base_ms, max_ms, jitter }) = fallback.backoff {
            block["backoff"] = json!({
                "strategy": strategy.as_str(), "base_ms": base_ms, "max_ms": max_ms, "jitter": jitter,
            });
        }
        block
    }
}

fn provider(candidate: &Candidate) -> Value {
    let weight = match candidate.weight {
        whole if whole % 1_000_000 == 0 => json!(whole / 1_000_000),
        part => json!(f64::from(part) / 1_000_000.0),
    };
    json!({ "name": candidate.provider.as_str(), "weight": weight })
}

fn condition(when: &When) -> Value {
    let mut block = Map::new();
    if let Some(statuses) = &when.statuses {
        block.insert("status".to_owned(), statuses.iter().map(|s| Value::from(s.as_text())).collect());
    }
    if let Some(message_types) = &when.message_types {
        block.insert("message_type".to_owned(), message_types.iter().map(String::as_str).collect());
    }
    Value::Object(block)
}
