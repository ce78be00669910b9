//! A header block, located lazily in the bytes of its message.
//!
//! A block begins with a version line, `NATS/1.0`, to which the broker adds a status where it speaks for
//! itself (`NATS/1.0 503`). Lines `name: value` follow, each ended by CR LF. A broker takes and forwards
//! any bytes of the announced length, so a block is checked here, once, before anything is read from it:
//! [`Headers::parse`] says what is wrong. Values are then found by a scan of the block, which is short;
//! nothing is copied.
//!
//! A bare CR within a line, a line without a colon, a name with a blank, a control or a non-ASCII character,
//! and a block that is not UTF-8 are refused (NATS ADR-4). A continuation line, which HTTP has given up, is
//! a line whose name begins with a blank, and so refused too.

use crate::malformed::Malformed;

const VERSION: &[u8] = b"NATS/1.0";

/// A checked header block; an empty one for a message without headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Headers<'a> {
    /// Behind the version line.
    lines: &'a str,
    /// The status and its description.
    status: Option<(u16, &'a str)>,
}

impl<'a> Headers<'a> {
    /// Checks a block. An empty one has no headers.
    ///
    /// # Errors
    /// What cannot be read.
    #[inline]
    pub fn parse(block: &'a [u8]) -> Result<Self, Malformed> {
        if block.is_empty() { Ok(Self::default()) } else { Self::check(block) }
    }

    fn check(block: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(block).map_err(|_| Malformed::HeaderText)?;
        let (version, lines) = text.split_once('\n').unwrap_or((text, ""));
        let version = version.strip_suffix('\r').unwrap_or(version);
        let status = status(version)?;
        for line in split(lines) {
            let (name, value) = line.split_once(':').ok_or(Malformed::HeaderLine)?;
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(Malformed::HeaderName);
            }
            if value.contains('\r') {
                return Err(Malformed::HeaderValue);
            }
        }
        Ok(Self { lines, status })
    }

    /// The first value of a header whose name is written exactly so; without one, the first whose name
    /// differs in letter case only. Blanks around it are not part of it.
    #[inline]
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        // Most requests have none, and are asked for several.
        if self.lines.is_empty() { None } else { self.find(name) }
    }

    fn find(&self, name: &str) -> Option<&'a str> {
        let mut other = None;
        for (key, value) in self.iter() {
            if key == name {
                return Some(value);
            }
            if other.is_none() && key.eq_ignore_ascii_case(name) {
                other = Some(value);
            }
        }
        other
    }

    /// All headers, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        split(self.lines).filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name, value.trim()))
        })
    }

    /// The status of a message that the broker made itself, such as 503 for "no responders". Whoever
    /// publishes can write one too, so it means something only on subjects where only the broker answers.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status.map(|(code, _)| code)
    }

    /// The words behind the status.
    #[must_use]
    pub fn description(&self) -> &'a str {
        self.status.map_or("", |(_, description)| description)
    }
}

fn split(lines: &str) -> impl Iterator<Item = &str> {
    lines.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).filter(|line| !line.is_empty())
}

/// The status of a version line.
fn status(line: &str) -> Result<Option<(u16, &str)>, Malformed> {
    let rest = line.as_bytes().strip_prefix(VERSION).ok_or(Malformed::HeaderVersion)?;
    let text = line.get(line.len() - rest.len()..).unwrap_or_default();
    if text.contains('\r') || !(text.is_empty() || text.starts_with([' ', '\t'])) {
        return Err(Malformed::HeaderVersion);
    }
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (code, description) = text.split_once([' ', '\t']).unwrap_or((text, ""));
    match code.parse() {
        Ok(number @ 100..=999) if code.len() == 3 => Ok(Some((number, description.trim()))),
        _ => Err(Malformed::HeaderVersion),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(block: &str) -> Headers<'_> {
        Headers::parse(block.as_bytes()).unwrap()
    }

    #[test]
    fn a_value_is_found_by_its_name() {
        let headers =
            headers("NATS/1.0\r\nA: 1\r\nb:  two words \r\nB:3\r\nA: 4\r\nempty:\r\ntime: a:b\r\n\r\n");
        assert_eq!(headers.get("A"), Some("1"));
        assert_eq!(headers.get("B"), Some("3"), "written exactly so");
        assert_eq!(headers.get("b"), Some("two words"));
        assert_eq!(headers.get("a"), Some("1"), "in other letter case");
        assert_eq!(
            (headers.get("EMPTY"), headers.get("time"), headers.get("c")),
            (Some(""), Some("a:b"), None)
        );
        assert_eq!(headers.iter().count(), 6);
        assert_eq!((headers.status(), headers.description()), (None, ""));
    }

    #[test]
    fn no_block_has_no_headers() {
        let headers = Headers::parse(b"").unwrap();
        assert_eq!((headers.get("a"), headers.status(), headers.iter().count()), (None, None, 0));
    }

    #[test]
    fn a_status_is_read_from_the_version_line() {
        let told = |block| (headers(block).status(), headers(block).description());
        assert_eq!(told("NATS/1.0 503\r\n\r\n"), (Some(503), ""));
        assert_eq!(told("NATS/1.0 100 Idle Heartbeat\r\nA: b\r\n\r\n"), (Some(100), "Idle Heartbeat"));
        assert_eq!(told("NATS/1.0 \r\n\r\n"), (None, ""));
        assert_eq!(told("NATS/1.0"), (None, ""));
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (block, wrong) in [
            (&b"\r\n\r\n"[..], Malformed::HeaderVersion),
            (b"nats/1.0\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.1\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0x\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0 abc\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0 99\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0 1000\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0 +50\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0 5\r3\r\n\r\n", Malformed::HeaderVersion),
            (b"NATS/1.0\r\nno colon\r\n\r\n", Malformed::HeaderLine),
            (b"NATS/1.0\r\nX: a\nb\r\n\r\n", Malformed::HeaderLine),
            (b"NATS/1.0\r\nX: a\rb\r\n\r\n", Malformed::HeaderValue),
            (b"NATS/1.0\r\nX: a\r\r\n\r\n", Malformed::HeaderValue),
            (b"NATS/1.0\r\n: a\r\n\r\n", Malformed::HeaderName),
            (b"NATS/1.0\r\na b: c\r\n\r\n", Malformed::HeaderName),
            (b"NATS/1.0\r\na\rb: c\r\n\r\n", Malformed::HeaderName),
            (b"NATS/1.0\r\nA: b\r\n c: d\r\n\r\n", Malformed::HeaderName),
            ("NATS/1.0\r\nn\u{e4}me: a\r\n\r\n".as_bytes(), Malformed::HeaderName),
            (b"NATS/1.0\r\nX: \xff\r\n\r\n", Malformed::HeaderText),
        ] {
            assert_eq!(Headers::parse(block).err(), Some(wrong), "{}", block.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_block_does_harm_and_no_value_holds_a_line_end(block in proptest::collection::vec(any::<u8>(), 0..200)) {
            let framed = [b"NATS/1.0\r\n", &block[..]].concat();
            for block in [&block, &framed] {
                if let Ok(headers) = Headers::parse(block) {
                    for (name, value) in headers.iter() {
                        prop_assert!(!value.contains(['\r', '\n']) && name.bytes().all(|b| b.is_ascii_graphic()));
                        prop_assert!(headers.get(name).is_some());
                    }
                }
            }
        }

        #[test]
        fn what_is_written_is_read(
            pairs in proptest::collection::vec(("[!-9;-~]{1,12}", "[^\r\n]{0,20}"), 0..6),
        ) {
            let mut block = "NATS/1.0\r\n".to_owned();
            for (name, value) in &pairs {
                block.push_str(&format!("{name}: {value}\r\n"));
            }
            block.push_str("\r\n");
            let headers = Headers::parse(block.as_bytes()).unwrap();
            let read: Vec<_> = headers.iter().collect();
            let want: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.trim())).collect();
            prop_assert_eq!(read, want);
        }
    }
}
