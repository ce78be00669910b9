//! Which traces are recorded: the samplers of `OTEL_TRACES_SAMPLER`, decided from the ids and the
//! parent's flag alone, before anything of a span exists.

use super::context::TraceParent;

/// A sampler. The default is `parentbased_always_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    On,
    Off,
    /// Traces whose id's low 63 bits are below this, as every OpenTelemetry SDK reckons it, so that
    /// services with the same ratio keep the same traces.
    Below(u64),
}

impl Default for Sampler {
    fn default() -> Self {
        Self { root: Root::On, parent_based: true }
    }
}

impl Sampler {
    /// Every trace.
    pub const ALWAYS_ON: Self = Self { root: Root::On, parent_based: false };
    /// No trace.
    pub const ALWAYS_OFF: Self = Self { root: Root::Off, parent_based: false };

    /// The given share of traces, by their id; below 0 and no number is none, above 1 is all.
    #[must_use]
    pub fn ratio(share: f64) -> Self {
        let root = if share >= 1.0 {
            Root::On
        } else if share > 0.0 {
            // 0 < share < 1, so the product lies within 0..2^63.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range told above")]
            Root::Below((share * SCALE) as u64)
        } else {
            Root::Off
        };
        Self { root, parent_based: false }
    }

    /// The parent's choice where there is a parent, else this sampler's.
    #[must_use]
    pub const fn parent_based(self) -> Self {
        Self { root: self.root, parent_based: true }
    }

    /// The sampler that `OTEL_TRACES_SAMPLER` names. `share` is read only where a ratio is.
    #[must_use]
    pub fn named(name: &str, share: f64) -> Option<Self> {
        Some(match name {
            "always_on" => Self::ALWAYS_ON,
            "always_off" => Self::ALWAYS_OFF,
            "traceidratio" => Self::ratio(share),
            "parentbased_always_on" => Self::ALWAYS_ON.parent_based(),
            "parentbased_always_off" => Self::ALWAYS_OFF.parent_based(),
            "parentbased_traceidratio" => Self::ratio(share).parent_based(),
            _ => return None,
        })
    }

    /// Whether a span with this parent is recorded.
    #[must_use]
    pub fn follows(&self, parent: &TraceParent) -> bool {
        if self.parent_based { parent.is_sampled() } else { self.takes(parent.trace_id) }
    }

    /// The id of a new trace, if it is recorded. Where the answer is known without one, none is drawn.
    pub fn begins(&self, draw: impl FnOnce() -> [u8; 16]) -> Option<[u8; 16]> {
        if self.root == Root::Off {
            return None;
        }
        let trace_id = draw();
        self.takes(trace_id).then_some(trace_id)
    }

    fn takes(&self, trace_id: [u8; 16]) -> bool {
        match self.root {
            Root::On => true,
            Root::Off => false,
            Root::Below(bound) => {
                let [.., a, b, c, d, e, f, g, h] = trace_id;
                u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < bound
            }
        }
    }
}

/// 2^63
const SCALE: f64 = 9_223_372_036_854_775_808.0;

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TraceId;
    use opentelemetry_sdk::trace::{
        IdGenerator, RandomIdGenerator, Sampler as Sdk, SamplingDecision, ShouldSample,
    };

    use super::*;

    fn parent(flags: u8) -> TraceParent {
        TraceParent { trace_id: [0xFF; 16], span_id: [1; 8], flags }
    }

    #[test]
    fn a_parent_based_sampler_does_as_the_parent_does() {
        for root in [Sampler::ALWAYS_ON, Sampler::ALWAYS_OFF, Sampler::ratio(0.0)] {
            assert!(root.parent_based().follows(&parent(1)));
            assert!(!root.parent_based().follows(&parent(0)));
        }
        assert!(Sampler::ALWAYS_ON.follows(&parent(0)));
        assert!(!Sampler::ALWAYS_OFF.follows(&parent(1)));
    }

    #[test]
    fn no_id_is_drawn_for_a_trace_that_cannot_be_recorded() {
        assert_eq!(Sampler::ALWAYS_OFF.begins(|| panic!("drawn")), None);
        assert_eq!(Sampler::ratio(0.0).parent_based().begins(|| panic!("drawn")), None);
        assert_eq!(Sampler::default().begins(|| [7; 16]), Some([7; 16]));
    }

    #[test]
    fn a_ratio_keeps_the_traces_that_the_sdk_keeps() {
        let ids = RandomIdGenerator::default();
        for share in [0.0, 0.1, 0.5, 0.999, 1.0, 7.0, -1.0] {
            let (ours, sdk) = (Sampler::ratio(share), Sdk::TraceIdRatioBased(share));
            for _ in 0..2_000 {
                let id: TraceId = ids.new_trace_id();
                let kind = opentelemetry::trace::SpanKind::Consumer;
                let theirs = sdk.should_sample(None, id, "", &kind, &[], &[]).decision;
                let kept = ours.begins(|| id.to_bytes()).is_some();
                assert_eq!(kept, theirs == SamplingDecision::RecordAndSample, "{share} {id}");
            }
        }
        assert_eq!(Sampler::ratio(f64::NAN), Sampler::ratio(0.0));
    }

    #[test]
    fn a_sampler_is_known_by_its_name() {
        assert_eq!(Sampler::named("parentbased_always_on", 0.0), Some(Sampler::default()));
        assert_eq!(
            Sampler::named("parentbased_traceidratio", 0.25),
            Some(Sampler::ratio(0.25).parent_based())
        );
        assert_eq!(Sampler::named("jaeger_remote", 0.0), None);
    }
}
