use serde::Serialize;

use crate::domain::MAX_ID;

/// Which tenants are meant: an id in which `*` stands for any run of characters, an empty one too.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty, or longer than an id.
    #[error("must have 1 to {} characters", MAX_ID)]
    Length,
    /// A character that no tenant's id has.
    #[error("may hold only letters, digits, _ . : - and *")]
    Alphabet,
}

impl Pattern {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`PatternError`] says why the text is no pattern.
    pub fn try_new(text: impl Into<String>) -> Result<Self, PatternError> {
        let text = text.into();
        if !(1..=MAX_ID).contains(&text.len()) {
            return Err(PatternError::Length);
        }
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"_.:-*".contains(&b);
        if text.bytes().all(fits) { Ok(Self(text)) } else { Err(PatternError::Alphabet) }
    }

    /// The pattern that every tenant matches.
    #[must_use]
    pub fn everyone() -> Self {
        Self("*".to_owned())
    }

    /// Whether a tenant is meant.
    #[must_use]
    pub fn matches(&self, tenant: &str) -> bool {
        let Some((head, rest)) = self.0.split_once('*') else { return self.0 == tenant };
        let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
        let between = tenant.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
        let mut parts = middle.split('*');
        between.is_some_and(|text| parts.try_fold(text, behind).is_some())
    }

    /// The pattern as it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What stands behind the leftmost place of a part: that leaves the most for the parts that follow.
fn behind<'t>(text: &'t str, part: &str) -> Option<&'t str> {
    let at = text.find(part)?;
    text.get(at + part.len()..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, tenant: &str) -> bool {
        Pattern::try_new(pattern).unwrap().matches(tenant)
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, these, not_these) in [
            ("acme", &["acme"][..], &["acm", "acme1", "Acme"][..]),
            ("*", &["a", "acme.eu"], &[]),
            ("**", &["a"], &[]),
            ("eu-*", &["eu-", "eu-a", "eu-eu-a"], &["eu", "a-eu-b"]),
            ("*.test", &[".test", "a.test", "a.test.test"], &["a.test.b", "test"]),
            ("a*a", &["aa", "aba", "aXaXa"], &["a", "ab"]),
            ("a*b*c", &["abc", "aXbYc", "abbc", "abcbc"], &["acb", "ab", "bc"]),
            ("*a*ab*", &["aab", "abab", "xaxabx"], &["ab", "aba"]),
            ("ab*ba", &["abba", "ab-ba"], &["aba"]),
        ] {
            for tenant in these {
                assert!(matches(pattern, tenant), "{pattern} {tenant}");
            }
            for tenant in not_these {
                assert!(!matches(pattern, tenant), "{pattern} {tenant}");
            }
        }
    }

    #[test]
    fn a_pattern_holds_what_ids_hold_and_stars() {
        for text in ["*", "Acme_1.eu:x-*", &"a".repeat(255)] {
            assert!(Pattern::try_new(text).is_ok(), "{text}");
        }
        for (text, error) in [
            ("", PatternError::Length),
            (&"a".repeat(256), PatternError::Length),
            ("a b", PatternError::Alphabet),
            ("a?", PatternError::Alphabet),
            ("é", PatternError::Alphabet),
        ] {
            assert_eq!(Pattern::try_new(text), Err(error), "{text}");
        }
    }

    /// The definition, one character after the other.
    fn defined(pattern: &[u8], tenant: &[u8]) -> bool {
        match pattern {
            [] => tenant.is_empty(),
            [b'*', rest @ ..] => (0..=tenant.len()).any(|at| defined(rest, &tenant[at..])),
            [first, rest @ ..] => tenant.first() == Some(first) && defined(rest, &tenant[1..]),
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_definition_says(pattern in "[ab*]{1,8}", tenant in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &tenant), defined(pattern.as_bytes(), tenant.as_bytes()));
        }
    }
}
