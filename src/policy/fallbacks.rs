use std::collections::HashMap;

use serde_json::Value;

use crate::document::{Block, Faults, Shape, Words, described, item};
use crate::domain::ProviderId;

use super::candidates::provider;
use super::model::{Candidate, Fallback, StatusMatch, When};
use super::retry::{Backoff, Growth};

/// They are tried in order for each request that needs one.
const MAX_FALLBACKS: usize = 256;
/// Words in one key of a condition, compared one by one.
const MAX_WORDS: usize = 64;
/// The longest word of a condition: that of an id.
const MAX_WORD: usize = 255;
/// More attempts than this on one provider are a caller that hammers.
const MAX_RETRY: u64 = 100;
/// An hour: no caller waits longer for a retry.
const MAX_BACKOFF_MS: u64 = 3_600_000;
const DEFAULT_BASE_MS: u64 = 100;
const DEFAULT_MAX_MS: u64 = 5_000;

const FALLBACK: Shape<'_> = Shape { known: &["when", "retry", "to", "backoff"], refused: &[] };
const WHEN: Shape<'_> = Shape { known: &["status", "message_type"], refused: &[] };
const BACKOFF: Shape<'_> = Shape { known: &["strategy", "base_ms", "max_ms", "jitter"], refused: &[] };
const OLDER: Shape<'_> = Shape {
    known: &["provider"],
    refused: &[(
        "conditions",
        "is not implemented by this router: the older form fallback is for every ending; use \
         fallbacks: [{\"when\": {\"status\": [...]}, \"to\": ...}]",
    )],
};

/// The fallbacks of a document, in either form. Targets that are no candidate yet become one, with
/// weight 0.
pub(super) fn read(
    document: &Block<'_>,
    candidates: &mut Vec<Candidate>,
    faults: &mut Faults,
) -> Vec<Fallback> {
    let mut targets = Targets::of(candidates);
    match (document.get("fallbacks"), document.get("fallback")) {
        (Some(list), older) => {
            if older.is_some() {
                let message = "give either fallbacks or the older form fallback, not both";
                faults.add(document.at("fallback"), message);
            }
            from_list(document, list, &mut targets, faults)
        }
        (None, Some(_)) => {
            let Some(block) = document.block("fallback", &OLDER, faults) else { return Vec::new() };
            let to = target(&block, "provider", &mut targets, faults);
            to.map(|to| Fallback { when: When::default(), retry: 0, to, backoff: None }).into_iter().collect()
        }
        (None, None) => Vec::new(),
    }
}

/// Candidates and where each stands.
struct Targets<'a> {
    candidates: &'a mut Vec<Candidate>,
    index_by_provider: HashMap<ProviderId, usize>,
}

impl<'a> Targets<'a> {
    fn of(candidates: &'a mut Vec<Candidate>) -> Self {
        let index_by_provider = candidates.iter().enumerate().map(|(i, c)| (c.provider.clone(), i)).collect();
        Self { candidates, index_by_provider }
    }

    fn index(&mut self, provider: ProviderId) -> usize {
        *self.index_by_provider.entry(provider).or_insert_with_key(|provider| {
            self.candidates.push(Candidate { provider: provider.clone(), weight: 0, listed: false });
            self.candidates.len() - 1
        })
    }
}

fn from_list(
    document: &Block<'_>,
    value: &Value,
    targets: &mut Targets<'_>,
    faults: &mut Faults,
) -> Vec<Fallback> {
    let path = &document.at("fallbacks");
    let Value::Array(list) = value else {
        faults.add(path, format!("must be an array of {{\"when\", \"to\"}}, not {}", described(value)));
        return Vec::new();
    };
    if list.len() > MAX_FALLBACKS {
        faults.add(path, format!("may hold at most {MAX_FALLBACKS} fallbacks, not {}", list.len()));
        return Vec::new();
    }
    let mut fallbacks = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        let Some(block) = document.open(item(path, index), value, &FALLBACK, faults) else { continue };
        let when = when(&block, faults);
        let retry = block.whole("retry", 0..=MAX_RETRY, 0, faults);
        let to = target(&block, "to", targets, faults);
        let backoff = backoff(&block, faults);
        if let (Some(to), Ok(retry)) = (to, u32::try_from(retry)) {
            fallbacks.push(Fallback { when, retry, to, backoff });
        }
    }
    fallbacks
}

fn target(block: &Block<'_>, name: &str, targets: &mut Targets<'_>, faults: &mut Faults) -> Option<usize> {
    let value = block.required(name, faults)?;
    let provider = provider(&block.at(name), value, faults)?;
    Some(targets.index(provider))
}

fn when(fallback: &Block<'_>, faults: &mut Faults) -> When {
    let Some(block) = fallback.block("when", &WHEN, faults) else { return When::default() };
    let mut words = |name, numbers| {
        let words = Words { bare: true, numbers, most: Some(MAX_WORDS), longest: MAX_WORD };
        block.get(name).map(|value| words.read(&block.at(name), value, faults))
    };
    When {
        statuses: words("status", true).map(|list| list.iter().map(|word| StatusMatch::new(word)).collect()),
        message_types: words("message_type", false),
    }
}

fn backoff(fallback: &Block<'_>, faults: &mut Faults) -> Option<Backoff> {
    let block = fallback.block("backoff", &BACKOFF, faults)?;
    let before = faults.count();
    let base_ms = block.whole("base_ms", 0..=MAX_BACKOFF_MS, DEFAULT_BASE_MS, faults);
    // A base above the default longest wait alone is no mistake.
    let max_ms = block.whole("max_ms", 0..=MAX_BACKOFF_MS, DEFAULT_MAX_MS.max(base_ms), faults);
    if max_ms < base_ms && faults.count() == before {
        let message = format!("must not be below base_ms, which is {base_ms}");
        faults.add(block.at("max_ms"), message);
    }
    let strategy = block.one_of("strategy", &Growth::ALL, Growth::as_str, Growth::Exponential, faults);
    Some(Backoff { strategy, base_ms, max_ms, jitter: block.flag("jitter", true, faults) })
}
