//! Subjects and keys: what may be published to, who is named in a subject, and how ids are written
//! where they must be part of one.
//!
//! Two encodings. An *event subject* is for people and filters: what a token can't hold is written
//! `%2E` and the like, and never read back, since the body carries the id as it is. A *bucket key* is
//! read back: a KV key holds `[-/_=.a-zA-Z0-9]`, ids hold no `=`, so `.` becomes `=2E` and `:` becomes
//! `=3A`, and every key has exactly one reading.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::domain::is_literal;

/// Where NATS clients and leaf nodes listen for answers.
const INBOXES: [&str; 2] = ["_INBOX", "_R_"];

/// Whether a request may be answered at a subject: an inbox, or what lies below one of the configured
/// prefixes. All else could be a way to make the router publish where only it may.
#[must_use]
pub fn reply_allowed(subject: &str, extra_prefixes: &[impl AsRef<str>]) -> bool {
    let below = |prefix: &str| subject.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
    let allowed = INBOXES.into_iter().any(below)
        || extra_prefixes
            .iter()
            .map(|prefix| prefix.as_ref().trim_end_matches('.'))
            .any(|p| !p.is_empty() && below(p));
    allowed && is_literal(subject)
}

/// Whether a subject is another, or lies below it.
#[must_use]
pub fn lies_at(subject: &str, other: &str) -> bool {
    subject.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The token of `subject` where `pattern` has its `*`, if all else is equal: the tenant, given
/// `beamline.router.v1.tenant.*.decide` or `caf.exec.result.v1.*`.
#[must_use]
pub fn token_at_star<'s>(pattern: &str, subject: &'s str) -> Option<&'s str> {
    let (before, after) = pattern.split_once('*')?;
    let token = subject.strip_prefix(before)?.strip_suffix(after)?;
    (!token.is_empty() && !token.contains('.')).then_some(token)
}

/// An id as one token of an event subject: `a.b c` is `a%2Eb%20c`.
#[must_use]
pub fn escape_token(id: &str) -> Cow<'_, str> {
    let fits = |b: u8| b.is_ascii_graphic() && !matches!(b, b'.' | b'*' | b'>' | b'%');
    escape(id, '%', fits)
}

/// The bucket key of a policy: `<tenant>.<policy>`, the ids encoded.
#[must_use]
pub fn encode_key(tenant_id: &str, policy_id: &str) -> String {
    let [tenant, policy] = [tenant_id, policy_id].map(encode_key_token);
    format!("{tenant}.{policy}")
}

/// One id as it stands in a bucket key.
#[must_use]
pub fn encode_key_token(id: &str) -> Cow<'_, str> {
    escape(id, '=', |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// The tenant and the policy of a bucket key; `None` for a key that [`encode_key`] would not write.
/// Whether they are ids is not looked at.
#[must_use]
pub fn decode_key(key: &str) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    let (tenant, policy) = key.split_once('.')?;
    Some((decode_key_token(tenant)?, decode_key_token(policy)?))
}

/// The id that [`encode_key_token`] writes so; `None` if it writes none so.
#[must_use]
pub fn decode_key_token(token: &str) -> Option<Cow<'_, str>> {
    if token.is_empty() {
        return None;
    }
    let mut pieces = token.split('=');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        bytes.push(u8::from_str_radix(piece.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(piece.get(2..)?.as_bytes());
    }
    let id = String::from_utf8(bytes).ok()?;
    (encode_key_token(&id) == token).then_some(if id == token {
        Cow::Borrowed(token)
    } else {
        Cow::Owned(id)
    })
}

/// Free text as a header value can carry it: percent-encoded where it is not printable ASCII.
#[must_use]
pub fn escape_text(text: &str) -> Cow<'_, str> {
    escape(text, '%', |b| (0x20..=0x7E).contains(&b) && b != b'%')
}

/// The text that [`escape_text`] writes so; what it would not write is taken as it is.
#[must_use]
pub fn unescape_text(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let Some(byte) = piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return Cow::Borrowed(text);
        };
        bytes.push(byte);
        bytes.extend_from_slice(piece.get(2..).unwrap_or_default().as_bytes());
    }
    String::from_utf8(bytes).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Every byte that doesn't fit as the mark and two upper-case hex digits.
fn escape(text: &str, mark: char, fits: impl Fn(u8) -> bool) -> Cow<'_, str> {
    if text.bytes().all(&fits) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if fits(byte) {
            out.push(char::from(byte));
        } else {
            // A String takes all that is written to it.
            let _ = write!(out, "{mark}{byte:02X}");
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn replies_go_to_inboxes_and_configured_prefixes_only() {
        let extra = ["my.replies", "other.inbox."];
        for subject in ["_INBOX.a", "_INBOX.abc.1", "_R_.x", "my.replies.1", "other.inbox.b.c"] {
            assert!(reply_allowed(subject, &extra), "{subject}");
        }
        for subject in [
            "",
            "_INBOX",
            "_INBOX.",
            "_INBOXES.a",
            "_INBOX.*",
            "_INBOX.>",
            "_INBOX.a.>",
            "_INBOX.a..b",
            "_INBOX.a b",
            "_INBOX.a\r\nPUB x 1",
            "_INBOX.é",
            "my.repliesx.1",
            "my.replies",
            "beamline.router.control.v1.flag.set",
            "$JS.API.STREAM.DELETE.BEAMLINE_LOG",
        ] {
            assert!(!reply_allowed(subject, &extra), "{subject}");
        }
        assert!(!reply_allowed("anything.at.all", &["", "."]), "an empty prefix allows nothing");
    }

    #[test]
    fn a_subject_lies_at_itself_and_what_it_continues() {
        let ack = "caf.exec.assign.v1.ack";
        assert!(lies_at(ack, ack) && lies_at("caf.exec.assign.v1.ack.acme", ack));
        assert!(!lies_at("caf.exec.assign.v1.acknowledge", ack) && !lies_at("caf.exec.assign.v1", ack));
    }

    #[test]
    fn a_tenant_is_read_where_the_pattern_has_its_star() {
        let decide = "beamline.router.v1.tenant.*.decide";
        assert_eq!(token_at_star(decide, "beamline.router.v1.tenant.acme.decide"), Some("acme"));
        assert_eq!(token_at_star(decide, "beamline.router.v1.tenant.a.b.decide"), None);
        assert_eq!(token_at_star(decide, "beamline.router.v1.tenant..decide"), None);
        assert_eq!(token_at_star(decide, "beamline.router.v1.tenant.decide"), None);
        assert_eq!(token_at_star(decide, "beamline.router.v1.decide"), None);
        assert_eq!(token_at_star("caf.exec.result.v1.*", "caf.exec.result.v1.acme"), Some("acme"));
        assert_eq!(token_at_star("caf.exec.result.v1.*", "caf.exec.result.v1"), None);
    }

    #[test]
    fn a_token_holds_what_a_subject_may() {
        assert_eq!(escape_token("acme"), "acme");
        assert_eq!(escape_token("a.b c"), "a%2Eb%20c");
        assert_eq!(escape_token("*>%"), "%2A%3E%25");
        assert_eq!(escape_token("é\n"), "%C3%A9%0A");
        assert_eq!(escape_token("a:b_c-d"), "a:b_c-d");
    }

    #[test]
    fn a_key_has_one_reading() {
        assert_eq!(encode_key("acme", "default"), "acme.default");
        assert_eq!(encode_key("a.b", "c:d"), "a=2Eb.c=3Ad");
        let both = |t: &'static str, p: &'static str| Some((Cow::from(t), Cow::from(p)));
        assert_eq!(decode_key("a=2Eb.c=3Ad"), both("a.b", "c:d"));
        for key in
            ["", "acme", "acme.", ".default", "a.b.c", "a=2eb.c", "a=41.b", "a=.b", "a=2.b", "a=é.b", "a/b.c"]
        {
            assert_eq!(decode_key(key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn every_pair_of_ids_survives_its_key(tenant in "[A-Za-z0-9_.:-]{1,40}", policy in "[A-Za-z0-9_.:-]{1,40}") {
            let key = encode_key(&tenant, &policy);
            prop_assert!(key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b)));
            prop_assert_eq!(decode_key(&key), Some((Cow::from(tenant.as_str()), Cow::from(policy.as_str()))));
        }

        #[test]
        fn no_text_breaks_out_of_its_token(id in ".{1,40}") {
            let subject = format!("events.{}.x", escape_token(&id));
            prop_assert!(is_literal(&subject), "{}", subject);
        }

        #[test]
        fn keys_of_others_do_not_panic(key in ".{0,40}") {
            let _ = decode_key(&key);
        }
    }
}
