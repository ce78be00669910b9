//! W3C Trace Context: the headers `traceparent` and `tracestate`, in and out.

use std::borrow::Cow;
use std::fmt;

/// The most bytes of `tracestate` that are passed on; what the standard asks to carry at least.
pub const MAX_TRACESTATE: usize = 512;
/// List members longer than this are the first to go when a `tracestate` is too long.
const LONG_MEMBER: usize = 128;

const SAMPLED: u8 = 0b01;
/// Level 2 of the standard: the id's last seven bytes are random.
const RANDOM: u8 = 0b10;
const KNOWN_FLAGS: u8 = SAMPLED | RANDOM;

/// Which span caused this message: the value of `traceparent`. Neither id is all zeros when it was
/// parsed or made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span within it.
    pub span_id: [u8; 8],
    /// Bit 0: the sender records its spans.
    pub flags: u8,
}

impl TraceParent {
    /// Reads a header value. Version 00 has exactly four fields; a higher version may have more
    /// after a further dash, of which nothing is known. Anything else is no `traceparent`: upper-case
    /// digits, version ff, an id of zeros.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.trim_matches([' ', '\t']).as_bytes();
        let (head, rest) = bytes.split_at_checked(55)?;
        let &[v0, v1, b'-', ref ids @ ..] = head else { return None };
        let (trace, ids) = ids.split_at_checked(32)?;
        let (span, flags) = ids.strip_prefix(b"-")?.split_at_checked(16)?;
        let version = octet(v0, v1)?;
        if version == 0xFF || !(rest.is_empty() || version > 0 && rest.starts_with(b"-")) {
            return None;
        }
        let trace_id = hex::<16>(trace)?;
        let span_id = hex::<8>(span)?;
        let [flags] = hex::<1>(flags.strip_prefix(b"-")?)?;
        let valid = trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self { trace_id, span_id, flags })
    }

    /// Whether the sender records its spans.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace as a span of ours continues it: flags that nobody has defined yet go no further.
    #[must_use]
    pub(super) const fn continued(&self, span_id: [u8; 8], sampled: bool) -> Self {
        let kept = self.flags & KNOWN_FLAGS & !SAMPLED;
        Self { trace_id: self.trace_id, span_id, flags: if sampled { kept | SAMPLED } else { kept } }
    }

    /// The trace id as 32 hexadecimal digits, for log lines.
    #[must_use]
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.trace_id))
    }
}

/// The header value, version 00.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-{:02x}", self.flags)
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in out.iter_mut().zip(pairs) {
        *byte = octet(*high, *low)?;
    }
    Some(out)
}

fn octet(high: u8, low: u8) -> Option<u8> {
    Some(nibble(high)? << 4 | nibble(low)?)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The trace headers of a message that came in. Reading them allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    parent: Option<(TraceParent, &'a str)>,
    state: Option<&'a str>,
}

impl<'a> Incoming<'a> {
    /// From the values of `traceparent` and `tracestate`. Where the first is no `traceparent` the
    /// second means nothing, and both are as good as absent.
    #[must_use]
    pub fn read(traceparent: Option<&'a str>, tracestate: Option<&'a str>) -> Self {
        let parent = traceparent.and_then(|text| Some((TraceParent::parse(text)?, text)));
        let state = tracestate.filter(|text| parent.is_some() && is_tracestate(text));
        Self { parent, state }
    }

    /// No headers.
    #[must_use]
    pub const fn none() -> Self {
        Self { parent: None, state: None }
    }

    /// The span that caused the message.
    #[must_use]
    pub fn parent(&self) -> Option<TraceParent> {
        self.parent.map(|(parent, _)| parent)
    }

    /// `tracestate`, cut to [`MAX_TRACESTATE`].
    #[must_use]
    pub fn state(&self) -> Option<Cow<'a, str>> {
        self.state.map(bounded).filter(|state| !state.is_empty())
    }

    /// The headers for a message that this one causes, as they came.
    #[must_use]
    pub fn pass_on(&self) -> Outgoing<'a> {
        Outgoing {
            traceparent: self.parent.map(|(_, text)| Cow::Borrowed(text.trim_matches([' ', '\t']))),
            tracestate: self.state(),
        }
    }
}

/// The trace headers for a message that goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing<'a> {
    /// `traceparent`.
    pub traceparent: Option<Cow<'a, str>>,
    /// `tracestate`; never without `traceparent`.
    pub tracestate: Option<Cow<'a, str>>,
}

/// Not empty and printable: all that a carrier has to know.
fn is_tracestate(text: &str) -> bool {
    !text.trim().is_empty() && text.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7E))
}

/// As the standard cuts: first the members that are long, then those at the end, always whole ones.
fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TRACESTATE {
        return Cow::Borrowed(text);
    }
    let members = text.split(',').map(str::trim).filter(|m| !m.is_empty() && m.len() <= LONG_MEMBER);
    let mut kept = String::new();
    for member in members {
        if kept.len() + member.len() + usize::from(!kept.is_empty()) > MAX_TRACESTATE {
            break;
        }
        if !kept.is_empty() {
            kept.push(',');
        }
        kept.push_str(member);
    }
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_reads_and_writes_as_it_came() {
        let parent = TraceParent::parse(GOOD).unwrap();
        assert_eq!(parent.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(parent.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(parent.trace_id_hex(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(!TraceParent::parse(&GOOD.replace("-01", "-00")).unwrap().is_sampled());
        assert_eq!(TraceParent::parse(&format!(" {GOOD}\t")), Some(parent));
    }

    #[test]
    fn what_the_standard_refuses_is_no_parent() {
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace("00-4", "ff-4"),
            &GOOD.replace("00-4", "0x-4"),
            &GOOD.replace('-', "_"),
            &GOOD.replace("b7-01", "b7-0g"),
            &GOOD.replace("b7-01", "b7-é"),
            &format!("{GOOD}-"),
            &format!("{GOOD}-what-the-future-will-be-like"),
            &format!("{}.what", GOOD.replace("00-4", "cc-4")),
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_version_to_come_is_read_as_far_as_it_is_known() {
        let later = GOOD.replace("00-4", "cc-4");
        let parent = TraceParent::parse(&later).unwrap();
        assert_eq!(Some(parent), TraceParent::parse(&format!("{later}-what-the-future-will-be-like")));
        assert_eq!(parent.to_string(), GOOD);
    }

    #[test]
    fn a_continued_trace_keeps_its_id_and_only_the_flags_that_are_defined() {
        let parent = TraceParent { flags: 0xFE, ..TraceParent::parse(GOOD).unwrap() };
        let child = parent.continued([1; 8], true);
        assert_eq!((child.trace_id, child.span_id, child.flags), (parent.trace_id, [1; 8], 0b11));
        assert_eq!(child.continued([2; 8], false).flags, 0b10);
    }

    #[test]
    fn headers_pass_on_unchanged() {
        let headers = Incoming::read(Some(GOOD), Some("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"));
        let out = headers.pass_on();
        assert_eq!(out.traceparent.as_deref(), Some(GOOD));
        assert_eq!(out.tracestate.as_deref(), Some("congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"));
    }

    #[test]
    fn state_without_a_parent_or_that_is_no_text_means_nothing() {
        assert_eq!(Incoming::read(Some("00-nonsense"), Some("a=1")).pass_on(), Outgoing::default());
        assert_eq!(Incoming::read(None, Some("a=1")).pass_on(), Outgoing::default());
        for bad in ["", " ", "a=1\r\nx-evil: 1", "a=ü", "a=\0"] {
            assert_eq!(Incoming::read(Some(GOOD), Some(bad)).state(), None, "{bad:?}");
        }
    }

    #[test]
    fn a_long_state_loses_long_members_first_and_then_the_last_ones() {
        let long = format!("big={},", "x".repeat(200));
        let short: String = (0..100).map(|i| format!("k{i:02}=v{i:02},")).collect();
        let text = format!("{long}{short}");
        let kept = Incoming::read(Some(GOOD), Some(&text)).state().unwrap().into_owned();
        assert!(kept.len() <= MAX_TRACESTATE && kept.len() > MAX_TRACESTATE - 8, "{}", kept.len());
        assert!(kept.starts_with("k00=v00,k01=v01,") && !kept.contains("big"), "{kept}");
        assert!(kept.split(',').all(|m| m.len() == 7));
    }

    proptest! {
        #[test]
        fn any_parent_survives_the_round_trip(trace in 1_u128.., span in 1_u64.., flags: u8) {
            let parent = TraceParent { trace_id: trace.to_be_bytes(), span_id: span.to_be_bytes(), flags };
            prop_assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent));
        }

        #[test]
        fn no_text_makes_it_fail(text in ".{0,80}", state in ".{0,700}") {
            let _ = TraceParent::parse(&text);
            let out = Incoming::read(Some(GOOD), Some(&state)).pass_on();
            prop_assert!(out.tracestate.is_none_or(|s| s.len() <= MAX_TRACESTATE));
        }
    }
}
