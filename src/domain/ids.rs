use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The longest tenant, provider or policy id, in bytes.
pub const MAX_ID: usize = 255;
/// The longest request id, in bytes.
pub const MAX_REQUEST_ID: usize = 128;
/// The longest id of a rollout, in bytes.
pub const MAX_ROLLOUT_ID: usize = 64;

/// Why a text is no id. Shown to callers as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, or longer than the bound given.
    #[error("must have 1 to {0} characters")]
    Length(usize),
    /// A character outside the alphabet of tenant, provider and policy ids.
    #[error("may hold only letters, digits and _ . : -")]
    Alphabet,
    /// A character outside the alphabet of rollout ids.
    #[error("may hold only lower-case letters, digits and -")]
    Lowercase,
    /// A character outside printable ASCII.
    #[error("may hold only printable ASCII without spaces (0x21 to 0x7E)")]
    Printable,
}

/// Whether a text may be a tenant, provider or policy id: 1–255 of `[A-Za-z0-9_.:-]`.
///
/// # Errors
/// [`IdError`] says what is wrong with it.
pub fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > MAX_ID {
        return Err(IdError::Length(MAX_ID));
    }
    // No early end: nearly all fit.
    if text.bytes().fold(true, |all, b| all & ALPHABET[usize::from(b)]) {
        Ok(())
    } else {
        Err(IdError::Alphabet)
    }
}

/// What ids of tenants, providers and policies may hold: a table, since most are too short for the compiler
/// to look at many bytes at once.
const ALPHABET: [bool; 256] = {
    let mut alphabet = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let b = byte as u8;
        alphabet[byte] = b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'-');
        byte += 1;
    }
    alphabet
};

/// Whether a text may be the id of a rollout or the name of a phase: 1–64 of `[a-z0-9-]`, which is also a
/// token of a subject and a file's name.
///
/// # Errors
/// [`IdError`] says what is wrong with it.
pub fn check_rollout_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > MAX_ROLLOUT_ID {
        return Err(IdError::Length(MAX_ROLLOUT_ID));
    }
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if text.bytes().all(fits) { Ok(()) } else { Err(IdError::Lowercase) }
}

/// Whether a text may be a request id: 1–128 characters of printable ASCII without space.
///
/// # Errors
/// [`IdError`] says what is wrong with it.
pub fn check_request_id(text: &str) -> Result<(), IdError> {
    printable(text, MAX_REQUEST_ID)
}

/// Whether a text may be an assignment id: as a request id, up to 255 characters.
///
/// # Errors
/// [`IdError`] says what is wrong with it.
pub fn check_assignment_id(text: &str) -> Result<(), IdError> {
    printable(text, MAX_ID)
}

fn printable(text: &str, longest: usize) -> Result<(), IdError> {
    if text.is_empty() || text.len() > longest {
        return Err(IdError::Length(longest));
    }
    if is_graphic(text) { Ok(()) } else { Err(IdError::Printable) }
}

/// Whether a text holds nothing but printable ASCII without spaces: 0x21 to 0x7E.
#[must_use]
pub fn is_graphic(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes.last_chunk() {
        // Eight at a time; the last eight may be some of those before.
        Some(last) => {
            bytes.as_chunks().0.iter().fold(outside(last), |found, eight| found | outside(eight)) == 0
        }
        None => bytes.iter().all(u8::is_ascii_graphic),
    }
}

/// Not 0 if a byte is less than 0x21 or more than 0x7E. (Borrows reach beyond a byte only from one that is less.)
fn outside(eight: &[u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*eight);
    let more = word | word.wrapping_add(EACH);
    let less = word.wrapping_sub(EACH * 0x21) & !word;
    (more | less) & (EACH * 0x80)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks and takes a text.
            ///
            /// # Errors
            /// [`IdError`] says why the text is no such id.
            pub fn try_new(text: impl AsRef<str>) -> Result<Self, IdError> {
                $check(text.as_ref())?;
                Ok(Self(SmolStr::new(text.as_ref())))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::try_new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.into()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

id!(
    /// Who asks: the owner of policies and breakers.
    TenantId,
    check_id
);
id!(
    /// Who serves: one upstream that requests may be sent to.
    ProviderId,
    check_id
);
id!(
    /// One policy of a tenant.
    PolicyId,
    check_id
);
impl PolicyId {
    /// Sorts before every policy id, and is none: the lower end of a range.
    #[must_use]
    pub fn least() -> Self {
        Self(SmolStr::default())
    }
}

id!(
    /// One rollout of circuit breakers.
    RolloutId,
    check_rollout_id
);
id!(
    /// One phase of a rollout, unique within it.
    PhaseName,
    check_rollout_id
);

id!(
    /// One pushed assignment; a UUID v4 where the router makes it.
    AssignmentId,
    check_assignment_id
);

/// One attempt to get a probe slot; made by the worker that claims, unique over all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClaimId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the borders of words, every place in it, every byte there.
    #[test]
    fn a_byte_out_of_bounds_is_seen_wherever_it_stands() {
        for length in 1..27 {
            for at in 0..length {
                for byte in 0..128_u8 {
                    let mut text = vec![b'!'; length];
                    text[at] = byte;
                    let text = String::from_utf8(text).unwrap();
                    assert_eq!(is_graphic(&text), (0x21..=0x7E).contains(&byte), "{text:?}");
                    let fits = byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte);
                    assert_eq!(check_id(&text.replace('!', "a")).is_ok(), fits || byte == b'!', "{text:?}");
                }
                let mut text = "~".repeat(length);
                text.replace_range(at..=at, "é");
                assert!(!is_graphic(&text) && check_id(&text).is_err(), "{text:?}");
            }
        }
        assert!(is_graphic(""));
    }

    #[test]
    fn a_rollout_id_is_a_token_of_a_subject() {
        for id in ["a", "cb-2026", "-", &"a".repeat(64)] {
            assert_eq!(check_rollout_id(id), Ok(()), "{id}");
        }
        for id in ["", &"a".repeat(65)] {
            assert_eq!(check_rollout_id(id), Err(IdError::Length(64)), "{id}");
        }
        for id in ["A", "a.b", "a_b", "a b", "a*", ">", "é"] {
            assert_eq!(check_rollout_id(id), Err(IdError::Lowercase), "{id}");
        }
    }
}
