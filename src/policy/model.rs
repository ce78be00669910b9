use std::sync::Arc;

use crate::breaker;
use crate::domain::{PolicyId, ProviderId};

use super::retry::Backoff;

/// A checked policy. Built by [`super::parse`] alone; what the room's theory promises holds of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) id: PolicyId,
    pub(super) version: String,
    pub(super) candidates: Vec<Candidate>,
    /// Kept while switched off, so that `effective` loses nothing.
    pub(super) sticky: Option<Sticky>,
    pub(super) sticky_enabled: bool,
    pub(super) fallbacks: Vec<Fallback>,
    pub(super) breaker: Arc<breaker::Settings>,
    pub(super) assignment_subjects: Vec<String>,
}

/// One provider that a policy names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who it is.
    pub provider: ProviderId,
    /// Its share of the draw: millionths of the document's number, so 70 is 70 000 000. At most
    /// 100 000 000.
    pub weight: u32,
    /// Whether it stands in `providers`; otherwise it is only a fallback's target.
    pub listed: bool,
}

/// Requests of one session stay with one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The key whose value in a request's context or metadata names the session.
    pub session_key: String,
    /// Accepted from documents of the older router; nothing is stored, so it has no effect.
    pub ttl_ms: Option<u64>,
}

/// What to do when an attempt ended badly or a breaker refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Which endings and message types it is for.
    pub when: When,
    /// How many more attempts stay on the provider before `to` is used.
    pub retry: u32,
    /// The candidate that serves then: an index into [`Policy::candidates`].
    pub to: usize,
    /// How long the caller waits before each retry.
    pub backoff: Option<Backoff>,
}

/// The condition of a fallback. All its keys must match; an absent one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// How the previous attempt ended; `circuit_breaker_open` for a refusal.
    pub statuses: Option<Vec<StatusMatch>>,
    /// Task types.
    pub message_types: Option<Vec<String>>,
}

/// One word of `when.status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusMatch {
    /// This word, letter for letter.
    Exact(String),
    /// Any three-digit number that starts with this digit: `5xx` is 5. From 1 to 5.
    Class(u8),
}

/// How a refusal is named in `when.status`.
const REFUSED: &str = "circuit_breaker_open";

impl Policy {
    /// Whether a refused request has somewhere else to go: by a fallback for it, or to another provider by weight.
    #[must_use]
    pub fn survives_refusal(&self) -> bool {
        let by_weight = self.candidates.iter().filter(|candidate| candidate.weight > 0).count() > 1;
        by_weight || self.fallbacks.iter().any(|fallback| fallback.when.is_for(REFUSED))
    }

    /// The providers to which a request may go that one provider refuses: by a fallback for it, or by weight.
    pub fn after_refusal<'p>(&'p self, refusing: &'p ProviderId) -> impl Iterator<Item = &'p ProviderId> {
        let by_rule = self.fallbacks.iter().filter(|fallback| fallback.when.is_for(REFUSED));
        let by_rule = by_rule.filter_map(|fallback| self.candidates.get(fallback.to));
        let by_weight = self.candidates.iter().filter(|candidate| candidate.weight > 0);
        by_rule.chain(by_weight).map(|candidate| &candidate.provider).filter(move |p| *p != refusing)
    }

    /// Its id, unique within the tenant.
    #[must_use]
    pub const fn id(&self) -> &PolicyId {
        &self.id
    }

    /// The document's own version, which means nothing to the router.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every provider that the policy names: those of `providers` first, in document order, then
    /// targets that only fallbacks name.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Stickiness, where it is switched on.
    #[must_use]
    pub const fn sticky(&self) -> Option<&Sticky> {
        if self.sticky_enabled { self.sticky.as_ref() } else { None }
    }

    /// The fallbacks in document order.
    #[must_use]
    pub fn fallbacks(&self) -> &[Fallback] {
        &self.fallbacks
    }

    /// Settings of the breakers of all candidates; disabled where the document has no block.
    #[must_use]
    pub const fn breaker(&self) -> &Arc<breaker::Settings> {
        &self.breaker
    }

    /// Where assignments may go, first where they go by default; none where the standard subjects hold.
    #[must_use]
    pub fn assignment_subjects(&self) -> &[String] {
        &self.assignment_subjects
    }

    /// The sum of all weights; above 0.
    #[must_use]
    pub fn total_weight(&self) -> u64 {
        self.candidates.iter().map(|c| u64::from(c.weight)).sum()
    }
}

impl When {
    /// Whether an attempt that ended so, for a task of this type, is what the fallback is for.
    #[must_use]
    pub fn matches(&self, status: &str, message_type: &str) -> bool {
        self.is_for_status(status)
            && self.message_types.as_ref().is_none_or(|list| list.iter().any(|m| m == message_type))
    }

    /// Whether an attempt that ended so is what the fallback is for, whatever the task's type.
    #[must_use]
    pub fn is_for(&self, status: &str) -> bool {
        self.message_types.is_none() && self.is_for_status(status)
    }

    fn is_for_status(&self, status: &str) -> bool {
        self.statuses.as_ref().is_none_or(|list| list.iter().any(|m| m.matches(status)))
    }
}

impl StatusMatch {
    /// What a word of a document means: `1xx` to `5xx` are classes, all else is itself.
    #[must_use]
    pub fn new(word: &str) -> Self {
        match word.as_bytes() {
            [digit @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => Self::Class(digit - b'0'),
            _ => Self::Exact(word.to_owned()),
        }
    }

    /// Whether a status is meant.
    #[must_use]
    pub fn matches(&self, status: &str) -> bool {
        match self {
            Self::Exact(word) => word == status,
            Self::Class(class) => match status.as_bytes() {
                [first, rest @ ..] => {
                    *first == b'0' + class && rest.len() == 2 && rest.iter().all(u8::is_ascii_digit)
                }
                [] => false,
            },
        }
    }

    /// The word in a document.
    #[must_use]
    pub fn as_text(&self) -> String {
        match self {
            Self::Exact(word) => word.clone(),
            Self::Class(class) => format!("{class}xx"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_matches_its_hundred_numbers_and_nothing_else() {
        let class = StatusMatch::new("5xx");
        assert!((0..=9_999).all(|n: u32| class.matches(&n.to_string()) == (500..=599).contains(&n)));
        for status in ["", "5", "5xx", "5000", "50a", "5\u{0660}", " 500", "error"] {
            assert!(!class.matches(status), "{status}");
        }
        assert_eq!(StatusMatch::new("5XX"), class);
    }

    #[test]
    fn any_other_word_matches_itself_letter_for_letter() {
        for word in ["timeout", "503", "0xx", "6xx", "xx", "5xxx", ""] {
            assert!(StatusMatch::new(word).matches(word), "{word}");
            assert_eq!(StatusMatch::new(word).as_text(), word);
        }
        assert!(!StatusMatch::new("timeout").matches("Timeout"));
    }

    #[test]
    fn all_keys_of_a_condition_must_match_and_an_absent_one_matches_everything() {
        let statuses = Some(vec![StatusMatch::new("timeout"), StatusMatch::new("5xx")]);
        let message_types = Some(vec!["chat".to_owned(), "embed".to_owned()]);

        assert!(When::default().matches("anything", "at.all"));
        let by_status = When { statuses: statuses.clone(), message_types: None };
        assert!(by_status.matches("timeout", "chat") && by_status.matches("503", "x"));
        assert!(!by_status.matches("error", "chat"));
        let by_type = When { statuses: None, message_types: message_types.clone() };
        assert!(by_type.matches("error", "embed") && !by_type.matches("error", "Embed"));
        let by_both = When { statuses, message_types };
        assert!(by_both.matches("timeout", "chat"));
        assert!(!by_both.matches("timeout", "x") && !by_both.matches("error", "chat"));
    }
}
