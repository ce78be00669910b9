use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::domain::{Ratio, Status, StatusSet};

/// Settings as a document gives them, before they are checked. [`Default`] is the documented default
/// of every field.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingsDraft {
    /// Whether the breaker judges at all.
    pub enabled: bool,
    /// Failures in a row that open.
    pub failure_threshold: u64,
    /// Failures ÷ requests in the window that opens, at or above.
    pub error_rate_threshold: f64,
    /// Length of the sliding window.
    pub error_rate_window_seconds: u64,
    /// Fewer requests than this in the window: the rates do not judge.
    pub minimum_requests: u64,
    /// How long it stays open before half-open.
    pub timeout_ms: u64,
    /// Successful probes in a row that close.
    pub success_threshold: u64,
    /// Probes in flight at once, over all workers.
    pub half_open_max_calls: u64,
    /// After this a probe without a result gives its slot back.
    pub probe_timeout_ms: u64,
    /// A call slower than this is slow.
    pub latency_threshold_ms: Option<u64>,
    /// Share of slow calls in the window that opens; only with `latency_threshold_ms`.
    pub slow_call_rate_threshold: f64,
    /// Each reopening without a close in between waits this many times longer.
    pub backoff_multiplier: f64,
    /// The longest that any backoff or retry hint holds it open.
    pub max_timeout_ms: u64,
    /// Spreads the open time by up to this share, either way.
    pub jitter_ratio: f64,
    /// Share of requests whose refusal is enforced; 0 is shadow mode.
    pub enforce_percent: u64,
    /// Result statuses that are failures.
    pub failure_statuses: Vec<Status>,
    /// Error codes that are neither success nor failure.
    pub ignored_error_codes: Vec<String>,
}

impl Default for SettingsDraft {
    fn default() -> Self {
        Self {
            enabled: false,
            failure_threshold: 5,
            error_rate_threshold: 0.5,
            error_rate_window_seconds: 60,
            minimum_requests: 10,
            timeout_ms: 60_000,
            success_threshold: 2,
            half_open_max_calls: 3,
            probe_timeout_ms: 30_000,
            latency_threshold_ms: None,
            slow_call_rate_threshold: 0.5,
            backoff_multiplier: 1.0,
            max_timeout_ms: 300_000,
            jitter_ratio: 0.0,
            enforce_percent: 100,
            failure_statuses: vec![Status::Error, Status::Timeout],
            ignored_error_codes: Vec::new(),
        }
    }
}

/// What is wrong with one field of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFault {
    /// The field's name.
    pub field: &'static str,
    /// What it must be.
    pub message: String,
}

/// Checked settings of a breaker. Cannot be built out of range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Whether the breaker judges at all.
    pub(super) enabled: bool,
    pub(super) failure_threshold: u32,
    pub(super) error_rate: Ratio,
    pub(super) window_ms: u64,
    pub(super) minimum_requests: u32,
    pub(super) timeout_ms: u64,
    pub(super) success_threshold: u32,
    pub(super) half_open_max_calls: u32,
    pub(super) probe_timeout_ms: u64,
    pub(super) latency_threshold_ms: Option<u64>,
    pub(super) slow_call_rate: Ratio,
    pub(super) backoff_multiplier: Ratio,
    pub(super) max_timeout_ms: u64,
    pub(super) jitter: Ratio,
    pub(super) enforce_percent: u8,
    pub(super) failure_statuses: StatusSet,
    pub(super) ignored_error_codes: Vec<String>,
    pub(super) digest: u64,
}

/// The most error codes that may be ignored, and the longest of them: they are compared for each
/// failure and kept for each policy.
const MAX_IGNORED_CODES: usize = 64;
const MAX_CODE: usize = 128;

impl Settings {
    /// Checks a draft against the documented ranges.
    ///
    /// # Errors
    /// All faults at once, each with the name of its field.
    pub fn try_new(draft: &SettingsDraft) -> Result<Self, Vec<SettingsFault>> {
        let mut check = Check::default();
        let mut settings = Self {
            enabled: draft.enabled,
            failure_threshold: check.whole("failure_threshold", draft.failure_threshold, 1, 100),
            error_rate: check.share("error_rate_threshold", draft.error_rate_threshold, Above::Zero, 1.0),
            window_ms: u64::from(check.whole(
                "error_rate_window_seconds",
                draft.error_rate_window_seconds,
                1,
                3_600,
            )) * 1_000,
            minimum_requests: check.whole("minimum_requests", draft.minimum_requests, 1, 10_000),
            timeout_ms: u64::from(check.whole("timeout_ms", draft.timeout_ms, 1_000, 300_000)),
            success_threshold: check.whole("success_threshold", draft.success_threshold, 1, 10),
            half_open_max_calls: check.whole("half_open_max_calls", draft.half_open_max_calls, 1, 100),
            probe_timeout_ms: u64::from(check.whole(
                "probe_timeout_ms",
                draft.probe_timeout_ms,
                1_000,
                300_000,
            )),
            latency_threshold_ms: draft
                .latency_threshold_ms
                .map(|ms| u64::from(check.whole("latency_threshold_ms", ms, 1, 300_000))),
            slow_call_rate: check.share(
                "slow_call_rate_threshold",
                draft.slow_call_rate_threshold,
                Above::Zero,
                1.0,
            ),
            backoff_multiplier: check.share("backoff_multiplier", draft.backoff_multiplier, Above::One, 10.0),
            max_timeout_ms: u64::from(check.whole("max_timeout_ms", draft.max_timeout_ms, 1_000, 3_600_000)),
            jitter: check.share("jitter_ratio", draft.jitter_ratio, Above::ZeroInclusive, 0.5),
            enforce_percent: u8::try_from(check.whole("enforce_percent", draft.enforce_percent, 0, 100))
                .unwrap_or(100),
            failure_statuses: draft.failure_statuses.iter().fold(StatusSet::default(), |set, s| set.with(*s)),
            ignored_error_codes: draft.ignored_error_codes.clone(),
            digest: 0,
        };
        let judged = |field| check.faults.iter().all(|f| f.field != field);
        if settings.max_timeout_ms < settings.timeout_ms && judged("timeout_ms") && judged("max_timeout_ms") {
            check.fault("max_timeout_ms", "must not be below timeout_ms".to_owned());
        }
        if settings.failure_statuses.contains(Status::Success) {
            check.fault("failure_statuses", "success cannot be a failure".to_owned());
        }
        if settings.ignored_error_codes.len() > MAX_IGNORED_CODES {
            check.fault("ignored_error_codes", format!("may hold at most {MAX_IGNORED_CODES} codes"));
        }
        if settings.ignored_error_codes.iter().any(|c| c.is_empty() || c.len() > MAX_CODE) {
            check.fault("ignored_error_codes", format!("each code must have 1 to {MAX_CODE} bytes"));
        }
        if check.faults.is_empty() {
            settings.digest = settings.hash();
            Ok(settings)
        } else {
            Err(check.faults)
        }
    }

    /// Settings of a breaker that no policy has switched on.
    #[must_use]
    pub fn disabled() -> Self {
        // The defaults are within their own ranges; a test holds that.
        Self::try_new(&SettingsDraft::default()).unwrap_or_else(|_| unreachable!("defaults are in range"))
    }

    /// The draft that these settings were checked from, every default filled in.
    #[must_use]
    pub fn to_draft(&self) -> SettingsDraft {
        SettingsDraft {
            enabled: self.enabled,
            failure_threshold: u64::from(self.failure_threshold),
            error_rate_threshold: self.error_rate.as_f64(),
            error_rate_window_seconds: self.window_ms / 1_000,
            minimum_requests: u64::from(self.minimum_requests),
            timeout_ms: self.timeout_ms,
            success_threshold: u64::from(self.success_threshold),
            half_open_max_calls: u64::from(self.half_open_max_calls),
            probe_timeout_ms: self.probe_timeout_ms,
            latency_threshold_ms: self.latency_threshold_ms,
            slow_call_rate_threshold: self.slow_call_rate.as_f64(),
            backoff_multiplier: self.backoff_multiplier.as_f64(),
            max_timeout_ms: self.max_timeout_ms,
            jitter_ratio: self.jitter.as_f64(),
            enforce_percent: u64::from(self.enforce_percent),
            failure_statuses: self.failure_statuses.iter().collect(),
            ignored_error_codes: self.ignored_error_codes.clone(),
        }
    }

    /// Whether the breaker judges at all.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// The window's length.
    #[must_use]
    pub const fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// The failures' share of the window that opens.
    #[must_use]
    pub const fn error_rate(&self) -> Ratio {
        self.error_rate
    }

    /// The slow calls' share of the window that opens.
    #[must_use]
    pub const fn slow_call_rate(&self) -> Ratio {
        self.slow_call_rate
    }

    /// A call slower than this is slow; `None` where slow calls do not count.
    #[must_use]
    pub const fn latency_threshold_ms(&self) -> Option<u64> {
        self.latency_threshold_ms
    }

    /// Successful probes in a row that close.
    #[must_use]
    pub const fn success_threshold(&self) -> u32 {
        self.success_threshold
    }

    /// Share of requests, in percent, whose refusal is enforced.
    #[must_use]
    pub const fn enforce_percent(&self) -> u8 {
        self.enforce_percent
    }

    /// With fewer requests in the window the rates do not judge.
    #[must_use]
    pub const fn minimum_requests(&self) -> u32 {
        self.minimum_requests
    }

    /// Probes in flight at once, over all workers.
    #[must_use]
    pub const fn half_open_max_calls(&self) -> u32 {
        self.half_open_max_calls
    }

    /// How long the circuit stays open when it opens for the `trip`-th time, the `reopenings`-th
    /// without a close in between. The timeout grows by the multiplier for each reopening, is spread
    /// by the jitter, and never exceeds `max_timeout_ms`. `seed` is a fixed hash of the breaker's key,
    /// so that all workers derive the same spread.
    #[must_use]
    pub fn open_ms(&self, reopenings: u32, trip: u32, seed: u64) -> u64 {
        let mut ms = self.timeout_ms;
        for _ in 0..reopenings {
            let longer = self.backoff_multiplier.scale(ms);
            // What once adds nothing, rounded down to a millisecond, never will.
            if ms >= self.max_timeout_ms || longer == ms {
                break;
            }
            ms = longer;
        }
        let ms = ms.min(self.max_timeout_ms);
        let reach = self.jitter.scale(ms);
        if reach == 0 {
            return ms;
        }
        let draw = xxhash_rust::xxh3::xxh3_64_with_seed(&trip.to_le_bytes(), seed);
        (ms - reach + draw % (2 * reach + 1)).min(self.max_timeout_ms)
    }

    /// A fixed hash over all fields.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    fn hash(&self) -> u64 {
        let mut hash = Xxh3::new();
        for n in [
            u64::from(self.enabled),
            u64::from(self.failure_threshold),
            u64::from(self.error_rate.ppm()),
            self.window_ms,
            u64::from(self.minimum_requests),
            self.timeout_ms,
            u64::from(self.success_threshold),
            u64::from(self.half_open_max_calls),
            self.probe_timeout_ms,
            self.latency_threshold_ms.unwrap_or(0),
            u64::from(self.slow_call_rate.ppm()),
            u64::from(self.backoff_multiplier.ppm()),
            self.max_timeout_ms,
            u64::from(self.jitter.ppm()),
            u64::from(self.enforce_percent),
            u64::from(self.failure_statuses.bits()),
        ] {
            hash.update(&n.to_le_bytes());
        }
        for code in &self.ignored_error_codes {
            hash.update(code.as_bytes());
            hash.update(&[0]);
        }
        hash.digest()
    }
}

enum Above {
    Zero,
    ZeroInclusive,
    One,
}

#[derive(Default)]
struct Check {
    faults: Vec<SettingsFault>,
}

impl Check {
    fn fault(&mut self, field: &'static str, message: String) {
        self.faults.push(SettingsFault { field, message });
    }

    fn whole(&mut self, field: &'static str, value: u64, least: u32, most: u32) -> u32 {
        match u32::try_from(value) {
            Ok(v) if (least..=most).contains(&v) => v,
            _ => {
                self.fault(field, format!("must be a whole number from {least} to {most}"));
                least
            }
        }
    }

    fn share(&mut self, field: &'static str, value: f64, above: Above, most: f64) -> Ratio {
        let (low_enough, range) = match above {
            Above::Zero => (value > 0.0, format!("above 0 and at most {most}")),
            Above::ZeroInclusive => (value >= 0.0, format!("from 0 to {most}")),
            Above::One => (value >= 1.0, format!("from 1 to {most}")),
        };
        match Ratio::from_f64(value) {
            // A threshold too small to tell from zero is the smallest one.
            Some(ratio) if low_enough && value <= most => match above {
                Above::Zero => ratio.max(Ratio::from_ppm(1)),
                _ => ratio,
            },
            _ => {
                self.fault(field, format!("must be a number {range}"));
                Ratio::ONE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_survive_the_round_trip() {
        let settings = Settings::try_new(&SettingsDraft::default()).unwrap();
        assert_eq!(settings.to_draft(), SettingsDraft::default());
        assert!(!Settings::disabled().enabled());
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_field() {
        let draft = SettingsDraft {
            failure_threshold: 0,
            error_rate_threshold: 0.0,
            error_rate_window_seconds: 3_601,
            timeout_ms: 999,
            jitter_ratio: 0.51,
            backoff_multiplier: f64::NAN,
            enforce_percent: 101,
            failure_statuses: vec![Status::Success],
            ..SettingsDraft::default()
        };
        let fields: Vec<_> = Settings::try_new(&draft).unwrap_err().into_iter().map(|f| f.field).collect();
        assert_eq!(
            fields,
            [
                "failure_threshold",
                "error_rate_threshold",
                "error_rate_window_seconds",
                "timeout_ms",
                "backoff_multiplier",
                "jitter_ratio",
                "enforce_percent",
                "failure_statuses"
            ]
        );
    }

    #[test]
    fn the_open_time_backs_off_up_to_the_longest_and_is_spread_within_the_jitter() {
        let draft = SettingsDraft {
            timeout_ms: 10_000,
            backoff_multiplier: 2.0,
            max_timeout_ms: 35_000,
            ..SettingsDraft::default()
        };
        let settings = Settings::try_new(&draft).unwrap();
        let times: Vec<_> = (0..5).map(|n| settings.open_ms(n, n, 7)).collect();
        assert_eq!(times, [10_000, 20_000, 35_000, 35_000, 35_000]);

        let spread = Settings::try_new(&SettingsDraft { jitter_ratio: 0.2, ..draft }).unwrap();
        let times: Vec<_> = (0..200).map(|seed| spread.open_ms(0, 1, seed)).collect();
        assert!(times.iter().all(|ms| (8_000..=12_000).contains(ms)));
        assert!(times.iter().min() < Some(&8_400) && times.iter().max() > Some(&11_600));
        assert_eq!(spread.open_ms(0, 1, 3), spread.open_ms(0, 1, 3));
    }
}
