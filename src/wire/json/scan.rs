//! A quick reading of well-formed objects.
//!
//! serde_json hands out the members of an object through a visitor that costs more than the reading
//! itself. This scanner knows one answer: "this is an object, and here are its members". To whatever it
//! has the least doubt about (a fault, an escape in a key, deep nesting) it gives none, and serde_json
//! reads the text from its beginning; so what is refused, and in which words, is serde_json's to say. A
//! law below holds the two against each other on texts that are nearly right.

/// Deeper nesting is left to the other reader.
const MAX_DEPTH: u32 = 30;

/// What a quick reading found.
pub(super) struct Scanned<'a, const N: usize> {
    /// In the order of the names; the first where one is given twice.
    pub(super) values: [Option<&'a str>; N],
    /// The place of the first name that was given twice.
    pub(super) doubled: Option<usize>,
}

/// Reads `text`, if it is one well-formed object and nothing else.
pub(super) fn object<'a, const N: usize>(names: &[&'static str; N], text: &'a str) -> Option<Scanned<'a, N>> {
    let mut found = Scanned { values: [None; N], doubled: None };
    let mut scan = Scan { text, bytes: text.as_bytes(), at: 0 };
    scan.blanks();
    scan.take(b'{')?;
    scan.blanks();
    if scan.peek()? != b'}' {
        loop {
            let key = scan.key()?;
            scan.blanks();
            scan.take(b':')?;
            scan.blanks();
            let start = scan.at;
            scan.value()?;
            if let Some(at) = names.iter().position(|name| *name == key) {
                let slot = found.values.get_mut(at)?;
                if slot.is_some() {
                    found.doubled.get_or_insert(at);
                } else {
                    *slot = Some(text.get(start..scan.at)?);
                }
            }
            scan.blanks();
            match scan.peek()? {
                b',' => scan.at += 1,
                b'}' => break,
                _ => return None,
            }
            scan.blanks();
        }
    }
    scan.at += 1;
    scan.blanks();
    (scan.at == scan.bytes.len()).then_some(found)
}

/// Whether a text stands in JSON as it is.
pub(in crate::wire) fn is_plain(text: &str) -> bool {
    stop(text.as_bytes(), 0) == text.len()
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Where the next quote, backslash or control character stands from `at` on; the end if there is none.
/// Eight bytes at a time (Mycroft's test: of the bytes it marks, the lowest is always a true one).
fn stop(bytes: &[u8], mut at: usize) -> usize {
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let marked = control | zeros(word ^ (ONES * 0x22)) | zeros(word ^ (ONES * 0x5C));
        if marked != 0 {
            return at + usize::try_from(marked.trailing_zeros() / 8).unwrap_or(0);
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(|b| matches!(b, b'"' | b'\\' | ..0x20)).map_or(bytes.len(), |n| at + n)
}

struct Scan<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    /// A key without escapes.
    fn key(&mut self) -> Option<&'a str> {
        self.take(b'"')?;
        let start = self.at;
        self.at = stop(self.bytes, start);
        let key = self.text.get(start..self.at)?;
        self.take(b'"')?;
        Some(key)
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.at = stop(self.bytes, self.at);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    let escaped = *self.bytes.get(self.at + 1)?;
                    self.at += 2;
                    match escaped {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                        b'u' => {
                            let digits = self.bytes.get(self.at..self.at + 4)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return None;
                            }
                            self.at += 4;
                        }
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let end = self.at + word.len();
        (self.bytes.get(self.at..end)? == word).then(|| self.at = end)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
            if self.peek().is_some_and(|b| b.is_ascii_digit()) {
                return None;
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn scalar(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => None,
        }
    }

    /// A value of any kind. What is open is kept as bits: the lowest is the innermost, 1 for an object.
    fn value(&mut self) -> Option<()> {
        let (mut open, mut depth) = (0_u32, 0_u32);
        loop {
            let opener = self.peek()?;
            if matches!(opener, b'{' | b'[') {
                if depth == MAX_DEPTH {
                    return None;
                }
                (open, depth) = (open << 1 | u32::from(opener == b'{'), depth + 1);
                self.at += 1;
                self.blanks();
                if !matches!((opener, self.peek()?), (b'{', b'}') | (b'[', b']')) {
                    self.name_of_member(open)?;
                    continue;
                }
            } else {
                self.scalar()?;
            }
            // A value has ended, or an empty one is about to: close what closes here.
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.blanks();
                match (self.peek()?, open & 1) {
                    (b'}', 1) | (b']', 0) => {
                        (open, depth) = (open >> 1, depth - 1);
                        self.at += 1;
                    }
                    (b',', _) => {
                        self.at += 1;
                        self.blanks();
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
            self.string()?;
            self.blanks();
            self.take(b':')?;
            self.blanks();
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::wire::json::Members;

    const NAMES: [&str; 4] = ["a", "bb", "request_id", "ok"];

    /// What the scanner finds is what serde_json finds; it may find nothing.
    fn agree(text: &str) -> Result<bool, TestCaseError> {
        let Some(found) = object(&NAMES, text) else { return Ok(false) };
        let (slow, error) = Members::read_slowly(&NAMES, text);
        prop_assert!(error.is_none(), "{text:?}: {error:?}");
        let quick = found.values.map(|raw| raw.filter(|raw| *raw != "null"));
        prop_assert_eq!(quick, slow.values, "{:?}", text);
        prop_assert_eq!(found.doubled, slow.doubled, "{:?}", text);
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
            assert!(object(&NAMES, text).is_none(), "{text}");
        }
        assert!(object(&NAMES, r#"{"\u0061":1}"#).is_none(), "an escape in a key");
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(object(&NAMES, &nested(30)).is_some() && object(&NAMES, &nested(31)).is_none());
    }

    #[test]
    fn the_stop_is_the_first_byte_that_matters() {
        for length in 0..40 {
            let text = "é~ \u{7f}xyz".chars().cycle().take(length).collect::<String>();
            assert!(is_plain(&text), "{text:?}");
            for bad in ['"', '\\', '\0', '\u{1f}', '\n'] {
                let marked = format!("{text}{bad}{bad}more of it");
                assert_eq!(stop(marked.as_bytes(), 0), text.len(), "{marked:?}");
            }
        }
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
