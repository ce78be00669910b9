//! Decisions in their JSON form, written by hand, since they are what the router writes most. A law below
//! holds this against serde.
//!
//! Room for all that a reply may take is made at once, and filled from the front: texts that need escapes
//! get them before, so that the rest is copying.

use std::borrow::Cow;
use std::{io, mem};

use bytes::BytesMut;

use super::DecisionReply;
use crate::wire::json::is_plain;

/// What all fixed parts take together with the longest numbers and words is 405 bytes.
const FIXED: usize = 416;

/// Appends a decision.
pub(super) fn put(reply: &DecisionReply<'_>, out: &mut BytesMut) {
    let decision = reply.decision;
    // The alphabet of these ids has nothing that JSON would escape.
    let (provider_id, policy_id) = (decision.provider_id, decision.policy_id);
    debug_assert!(is_plain(provider_id) && is_plain(policy_id));
    let request_id = escaped(reply.request_id);
    let sticky_key = decision.sticky_key.map(escaped);
    let assignment_id = decision.assignment_id.map(escaped);
    let trace_id = reply.trace_id.map(escaped);
    let explanation = reply.explanation.map(|raw| Cow::Borrowed(raw.get()));
    let length = |text: &Option<Cow<'_, str>>| text.as_ref().map_or(0, |text| text.len());
    let most = FIXED
        + (provider_id.len() + policy_id.len() + request_id.len())
        + (length(&sticky_key) + length(&assignment_id) + length(&trace_id) + length(&explanation));

    let start = out.len();
    out.resize(start + most, 0);
    let mut line = Line { room: out.get_mut(start..).unwrap_or_default() };
    line.put(b"{\"ok\":true,\"decision\":{\"provider_id\":\"");
    line.put(provider_id.as_bytes());
    line.put(b"\",\"priority\":");
    line.put_whole(decision.reason.priority());
    line.put(b",\"expected_latency_ms\":");
    line.put_whole(decision.expected_latency_ms);
    line.put(b",\"expected_cost\":");
    line.put_number(decision.expected_cost);
    line.put(b",\"reason\":\"");
    line.put(decision.reason.as_str().as_bytes());
    line.put(b"\",\"policy_id\":\"");
    line.put(policy_id.as_bytes());
    line.put(b"\",\"policy_revision\":");
    line.put_whole(decision.policy_revision);
    line.put(b",\"fallback_used\":");
    line.put_flag(decision.reason.is_fallback());
    if let Some(key) = sticky_key {
        line.put(b",\"sticky_key\":\"");
        line.put(key.as_bytes());
        line.put(b"\"");
    }
    if let Some(id) = assignment_id {
        line.put(b",\"assignment_id\":\"");
        line.put(id.as_bytes());
        line.put(b"\"");
    }
    line.put(b",\"probe\":");
    line.put_flag(decision.probe);
    if let Some(ms) = decision.backoff_ms {
        line.put(b",\"backoff_ms\":");
        line.put_whole(ms);
    }
    if decision.stale {
        line.put(b",\"stale\":true");
    }
    if let Some(explanation) = explanation {
        line.put(b",\"explanation\":");
        line.put(explanation.as_bytes());
    }
    line.put(b"},\"context\":{\"request_id\":\"");
    line.put(request_id.as_bytes());
    if let Some(id) = trace_id {
        line.put(b"\",\"trace_id\":\"");
        line.put(id.as_bytes());
    }
    line.put(b"\"}}");
    let left = line.room.len();
    out.truncate(out.len() - left);
}

/// What stands for a text between quotes.
fn escaped(text: &str) -> Cow<'_, str> {
    if is_plain(text) {
        return Cow::Borrowed(text);
    }
    // A text is always written, in quotes.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    Cow::Owned(quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned())
}

/// Where a reply is written, from the front: what is left of its room.
struct Line<'b> {
    room: &'b mut [u8],
}

impl Line<'_> {
    /// Room was made for all; what did not fit would be left out.
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        if let Some((here, rest)) = mem::take(&mut self.room).split_at_mut_checked(bytes.len()) {
            here.copy_from_slice(bytes);
            self.room = rest;
        }
    }

    fn put_whole(&mut self, number: impl itoa::Integer) {
        self.put(itoa::Buffer::new().format(number).as_bytes());
    }

    fn put_number(&mut self, number: f64) {
        if number.to_bits() == 0 {
            self.put(b"0.0");
        } else {
            // Room takes all there is to write.
            let _ = serde_json::to_writer(self, &number);
        }
    }

    fn put_flag(&mut self, flag: bool) {
        if flag { self.put(b"true") } else { self.put(b"false") }
    }
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use serde::Serialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::{Decision, Reason};
    use crate::wire::{Content, encode_decision};

    /// A decision's reply as serde writes it.
    #[derive(Serialize)]
    struct JsonReply<'a> {
        ok: bool,
        decision: JsonDecision<'a>,
        context: JsonContext<'a>,
    }

    #[derive(Serialize)]
    struct JsonDecision<'a> {
        provider_id: &'a str,
        priority: i32,
        expected_latency_ms: u64,
        expected_cost: f64,
        reason: &'a str,
        policy_id: &'a str,
        policy_revision: u64,
        fallback_used: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        sticky_key: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        assignment_id: Option<&'a str>,
        probe: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        backoff_ms: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stale: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        explanation: Option<&'a RawValue>,
    }

    #[derive(Serialize)]
    struct JsonContext<'a> {
        request_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace_id: Option<&'a str>,
    }

    fn by_serde(reply: &DecisionReply<'_>) -> String {
        let decision = reply.decision;
        let told = JsonReply {
            ok: true,
            decision: JsonDecision {
                provider_id: decision.provider_id,
                priority: decision.reason.priority(),
                expected_latency_ms: decision.expected_latency_ms,
                expected_cost: decision.expected_cost,
                reason: decision.reason.as_str(),
                policy_id: decision.policy_id,
                policy_revision: decision.policy_revision,
                fallback_used: decision.reason.is_fallback(),
                sticky_key: decision.sticky_key,
                assignment_id: decision.assignment_id,
                probe: decision.probe,
                backoff_ms: decision.backoff_ms,
                stale: decision.stale.then_some(true),
                explanation: reply.explanation,
            },
            context: JsonContext { request_id: reply.request_id, trace_id: reply.trace_id },
        };
        serde_json::to_string(&told).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_decision_is_written_as_serde_would(
            texts in prop::collection::vec("[ -~é\u{0}-\u{1f}\"\\\\]{0,24}", 4),
            some in any::<[bool; 4]>(),
            expected_latency_ms: u64,
            expected_cost in prop_oneof![Just(0.0), Just(-0.0), 0.0..1e9_f64, any::<f64>()],
            policy_revision: u64,
            backoff_ms in proptest::option::of(any::<u64>()),
            (probe, stale, reason) in (any::<bool>(), any::<bool>(), 0..4_usize),
        ) {
            let [request_id, trace_id, sticky_key, assignment_id] = texts.as_slice() else { unreachable!() };
            let raw = serde_json::value::to_raw_value(&texts).unwrap();
            let reasons = [Reason::Sticky, Reason::Weighted, Reason::Fallback, Reason::CircuitBreakerFallback];
            let decision = Decision {
                provider_id: "openai",
                reason: reasons[reason],
                expected_latency_ms,
                expected_cost,
                policy_id: "default",
                policy_revision,
                sticky_key: some[0].then_some(sticky_key),
                assignment_id: some[1].then_some(assignment_id),
                probe,
                backoff_ms,
                stale,
            };
            let reply = DecisionReply {
                decision: &decision,
                explanation: some[2].then_some(&raw),
                request_id,
                trace_id: some[3].then_some(trace_id),
            };
            let mut out = BytesMut::from("before");
            encode_decision(Content::Json, &reply, &mut out);
            let written = std::str::from_utf8(&out).unwrap().strip_prefix("before").unwrap();
            prop_assert_eq!(written, by_serde(&reply));
        }
    }
}
