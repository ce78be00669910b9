//! What results in the log say and lack.

use std::collections::BTreeMap;

use crate::log::Entry;

/// Results, and what they lack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResultCount {
    pub(super) results: u64,
    pub(super) without_request: Lacking,
    pub(super) without_latency: Lacking,
}

/// Results that lack a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) results: u64,
    /// By tenant and provider, which lead to the executor.
    sources: BTreeMap<String, u64>,
}

impl ResultCount {
    pub(super) fn take(&mut self, entry: &Entry<'_>) {
        let Entry::Result(outcome) = entry else { return };
        self.results += 1;
        let source = || format!("{}/{}", outcome.tenant_id, outcome.provider_id);
        if outcome.request_id.is_none() {
            self.without_request.note(source());
        }
        if outcome.latency_ms.is_none() {
            self.without_latency.note(source());
        }
    }
}

impl Lacking {
    fn note(&mut self, source: String) {
        self.results += 1;
        *self.sources.entry(source).or_default() += 1;
    }

    /// The source of most of them.
    pub(super) fn worst(&self) -> Option<(&str, u64)> {
        let most = self.sources.iter().max_by_key(|(_, results)| **results);
        most.map(|(source, results)| (source.as_str(), *results))
    }
}
