//! A quick reading of well-formed objects, in one pass.
//!
//! serde_json hands out the members of an object through a visitor that costs more than the reading
//! itself. This scanner shows each member's name to a closure, which reads the value by one of the methods
//! here. It knows one answer: "this is an object, and so it was read". To whatever it has the least doubt
//! about (a fault, an escape in a name, deep nesting) it gives none, and the text is read from its beginning
//! by other means, in the end by serde_json; so what is refused, and in which words, is not for the scanner
//! to say. Laws hold it against serde_json on texts that are nearly right.

use std::borrow::Cow;

use super::stop::{short_stop, stop};
use super::{boolean, is_number, number, text};

/// Deeper nesting below a member is left to the other reader.
const MAX_DEPTH: u32 = 30;

/// A place in a text.
pub(in crate::wire) struct Scan<'a> {
    text: &'a str,
    /// What of it is not read yet.
    rest: &'a [u8],
}

/// Reads `text`, if it is one well-formed object and nothing else: see [`Scan::object`].
#[inline]
pub(in crate::wire) fn object<'a>(
    text: &'a str,
    member: impl FnMut(&mut Scan<'a>, &'a [u8]) -> Option<()>,
) -> Option<()> {
    let mut scan = Scan { text, rest: text.as_bytes() };
    scan.object(member)?;
    scan.next().is_none().then_some(())
}

/// Each method reads what its name says and the blanks before it, or gives none. Where a value may be `null`
/// as well, the inner option is none.
impl<'a> Scan<'a> {
    /// An object. `member` is shown the name of each member, and must read its value.
    #[inline]
    pub(in crate::wire) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        self.take(b'{')?;
        if let (b'}', after) = self.next()? {
            self.rest = after;
            return Some(());
        }
        loop {
            let name = self.name()?;
            member(self, name)?;
            let (byte, after) = self.next()?;
            self.rest = after;
            match byte {
                b',' => {}
                b'}' => return Some(()),
                _ => return None,
            }
        }
    }

    /// `null`; false if there is something else, which is left.
    #[inline]
    pub(in crate::wire) fn null(&mut self) -> Option<bool> {
        if self.next()?.0 != b'n' {
            return Some(false);
        }
        self.word(b"null").map(|()| true)
    }

    /// A string, or `null`.
    #[inline]
    pub(in crate::wire) fn text(&mut self) -> Option<Option<Cow<'a, str>>> {
        self.next()?;
        match self.plain_text() {
            Some(plain) => Some(Some(Cow::Borrowed(plain))),
            None => self.odd_text(),
        }
    }

    /// One with escapes, or `null`.
    #[inline(never)]
    fn odd_text(&mut self) -> Option<Option<Cow<'a, str>>> {
        self.or_null(text)
    }

    /// A string, a number as it stands there, or `null`.
    pub(in crate::wire) fn text_or_number(&mut self) -> Option<Option<Cow<'a, str>>> {
        self.or_null(|raw| if is_number(raw) { Some(Cow::Borrowed(raw)) } else { text(raw) })
    }

    /// A number, or `null`.
    pub(in crate::wire) fn number(&mut self) -> Option<Option<f64>> {
        self.or_null(number)
    }

    /// `true`, `false`, or `null`.
    pub(in crate::wire) fn boolean(&mut self) -> Option<Option<bool>> {
        self.or_null(boolean)
    }

    /// A value for which `read` has a meaning, or `null`.
    pub(in crate::wire) fn or_null<T>(
        &mut self,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.raw()? {
            "null" => Some(None),
            raw => read(raw).map(Some),
        }
    }

    /// A value of any kind, as it stands there.
    pub(in crate::wire) fn raw(&mut self) -> Option<&'a str> {
        self.next()?;
        let start = self.place();
        self.skip()?;
        self.text.get(start..self.place())
    }

    /// An object, and as it stands there.
    #[inline]
    pub(in crate::wire) fn raw_object(
        &mut self,
        member: impl FnMut(&mut Self, &'a [u8]) -> Option<()>,
    ) -> Option<&'a str> {
        self.next()?;
        let start = self.place();
        self.object(member)?;
        self.text.get(start..self.place())
    }

    fn place(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn pass(&mut self) {
        if let [_, after @ ..] = self.rest {
            self.rest = after;
        }
    }

    /// The next byte that is no blank, and what comes after it. The byte is left.
    #[inline]
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        match self.rest {
            [byte @ 0x21..=0xFF, after @ ..] => Some((*byte, after)),
            _ => self.next_after_blanks(),
        }
    }

    #[inline(never)]
    fn next_after_blanks(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let (byte, after) = self.rest.split_first()?;
            match byte {
                b' ' | b'\n' | b'\t' | b'\r' => self.rest = after,
                byte => return Some((*byte, after)),
            }
        }
    }

    #[inline]
    fn take(&mut self, byte: u8) -> Option<()> {
        let (found, after) = self.next()?;
        self.rest = after;
        (found == byte).then_some(())
    }

    /// The name of a member, without escapes, and the colon.
    #[inline]
    fn name(&mut self) -> Option<&'a [u8]> {
        self.take(b'"')?;
        // Nearly all are short, and the colon follows at once.
        if let Some((name, rest)) =
            short_stop(self.rest).and_then(|length| self.rest.split_at_checked(length))
            && let Some(rest) = rest.strip_prefix(b"\":")
        {
            self.rest = rest;
            return Some(name);
        }
        self.odd_name()
    }

    #[inline(never)]
    fn odd_name(&mut self) -> Option<&'a [u8]> {
        let (name, rest) = self.rest.split_at_checked(stop(self.rest))?;
        self.rest = rest.strip_prefix(b"\"")?;
        self.take(b':')?;
        Some(name)
    }

    /// A string without escapes. Where it gives none, nothing is read.
    #[inline(never)]
    fn plain_text(&mut self) -> Option<&'a str> {
        let (b'"', inner) = self.rest.split_first()? else { return None };
        match short_stop(inner) {
            Some(length) => self.take_text(inner, length),
            None => self.long_text(inner),
        }
    }

    #[inline(never)]
    fn long_text(&mut self, inner: &'a [u8]) -> Option<&'a str> {
        self.take_text(inner, stop(inner))
    }

    /// The text of which `inner` begins with so many bytes, if a quote follows.
    #[inline]
    fn take_text(&mut self, inner: &'a [u8], length: usize) -> Option<&'a str> {
        let (b'"', rest) = inner.get(length..)?.split_first()? else { return None };
        let text = self.text.get(self.text.len() - inner.len()..)?.get(..length)?;
        self.rest = rest;
        Some(text)
    }

    fn skip_string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            let (byte, rest) = self.rest.get(stop(self.rest)..)?.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(()),
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn skip_escape(&mut self) -> Option<()> {
        let (escaped, rest) = self.rest.split_first()?;
        self.rest = rest;
        match escaped {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let (digits, rest) = rest.split_first_chunk::<4>()?;
                self.rest = rest;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())
            }
            _ => None,
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(())
    }

    fn skip_digits(&mut self) -> Option<()> {
        let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.rest = self.rest.get(digits..)?;
        (digits > 0).then_some(())
    }

    fn skip_number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.pass();
        }
        if self.peek()? == b'0' {
            self.pass();
            if self.peek().is_some_and(|b| b.is_ascii_digit()) {
                return None;
            }
        } else {
            self.skip_digits()?;
        }
        if self.peek() == Some(b'.') {
            self.pass();
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.pass();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.pass();
            }
            self.skip_digits()?;
        }
        Some(())
    }

    fn skip_scalar(&mut self) -> Option<()> {
        match self.next()?.0 {
            b'"' => self.skip_string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.skip_number(),
            _ => None,
        }
    }

    /// A value of any kind. What is open is kept as bits: the lowest is the innermost, 1 for an object.
    pub(in crate::wire) fn skip(&mut self) -> Option<()> {
        let (mut open, mut depth) = (0_u32, 0_u32);
        loop {
            let (opener, after) = self.next()?;
            if matches!(opener, b'{' | b'[') {
                if depth == MAX_DEPTH {
                    return None;
                }
                (open, depth) = (open << 1 | u32::from(opener == b'{'), depth + 1);
                self.rest = after;
                if !matches!((opener, self.next()?.0), (b'{', b'}') | (b'[', b']')) {
                    self.name_of_member(open)?;
                    continue;
                }
            } else {
                self.skip_scalar()?;
            }
            // A value has ended, or an empty one is about to: close what closes here.
            loop {
                if depth == 0 {
                    return Some(());
                }
                let (byte, after) = self.next()?;
                self.rest = after;
                match (byte, open & 1) {
                    (b'}', 1) | (b']', 0) => (open, depth) = (open >> 1, depth - 1),
                    (b',', _) => {
                        self.name_of_member(open)?;
                        break;
                    }
                    _ => return None,
                }
            }
        }
    }

    /// In an object, what stands before a value.
    fn name_of_member(&mut self, open: u32) -> Option<()> {
        if open & 1 == 1 {
            self.skip_string()?;
            self.take(b':')?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use crate::wire::json::Members;

    const NAMES: [&str; 4] = ["a", "bb", "request_id", "ok"];

    /// What the scanner finds is what serde_json finds; it may find nothing.
    fn agree(text: &str) -> Result<bool, TestCaseError> {
        let Some(quick) = Members::read_quickly(&NAMES, text) else { return Ok(false) };
        let (slow, error) = Members::read_slowly(&NAMES, text);
        prop_assert!(error.is_none(), "{text:?}: {error:?}");
        prop_assert_eq!(quick.values, slow.values, "{:?}", text);
        prop_assert_eq!(quick.doubled, slow.doubled, "{:?}", text);
        Ok(true)
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[ -~é\u{0}-\u{1f}\"\\\\]{0,20}".prop_map(Value::from),
        ];
        let key = prop_oneof!["a", "bb", "request_id", "ok", "[a-z\"\\\\é]{0,4}"];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key.clone(), inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn usual_bodies_are_read_quickly() {
        for text in [
            r#"{}"#,
            " {\r\n\t\"a\" : [ ] , \"bb\":{ } } ",
            r#"{"a":"x","bb":-0.5e+7,"request_id":"é\n\u00e9\"","ok":{"a":[1,{"b":null},true]},"z":0}"#,
            r#"{"a":1,"a":2,"bb":null,"bb":3}"#,
        ] {
            assert!(agree(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_left_to_the_other_reader() {
        for text in [
            "",
            " ",
            "null",
            "[]",
            "{",
            "{}x",
            "{} {}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":.5}"#,
            r#"{"a":+1}"#,
            r#"{"a":1e}"#,
            r#"{"a":-}"#,
            r#"{"a":tru}"#,
            r#"{"a":nullx}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            "{\"a\":\"\n\"}",
            r#"{"a":[1,]}"#,
            r#"{"a":[1}}"#,
            r#"{"a":{"b":1]}"#,
            r#"{"a":{1:2}}"#,
            r#"{"a":[,1]}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "bb":2}"#,
            r#"{"a":"x}"#,
            r#"{'a':1}"#,
            "\u{feff}{}",
            r#"{"a":{"b"}}"#,
        ] {
            assert!(Members::read_quickly(&NAMES, text).is_none(), "{text}");
        }
        let read = |text: &str| Members::read_quickly(&NAMES, text).is_some();
        assert!(!read(r#"{"\u0061":1}"#), "an escape in a name");
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(read(&nested(30)) && !read(&nested(31)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_found_is_what_serde_json_finds(value in json()) {
            agree(&value.to_string())?;
            agree(&format!("{value:#}"))?;
        }

        #[test]
        fn nearly_right_texts_are_read_alike(
            value in json(), edits in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), "[\\x00-\\x7e]"), 1..4),
        ) {
            let mut text: Vec<char> = value.to_string().chars().collect();
            for (at, replace, with) in edits {
                let at = at.index(text.len() + 1);
                let with = with.chars().next().unwrap_or('x');
                if replace && at < text.len() {
                    text[at] = with;
                } else {
                    text.insert(at, with);
                }
            }
            agree(&text.into_iter().collect::<String>())?;
        }

        #[test]
        fn texts_of_json_letters_are_read_alike(text in r#"\{"a":[\[\]{}:,"\\ae0-9.+\- truefalsn]{0,24}\}"#) {
            agree(&text)?;
        }
    }
}
