use std::sync::Arc;

use crate::breaker::{Settings, SettingsDraft};
use crate::domain::Ratio;

/// Failures in a row that open.
const FAILURE_THRESHOLDS: [u64; 4] = [3, 5, 10, 20];
/// The failures' share of the window that opens, in parts per million.
const ERROR_RATES_PPM: [u32; 3] = [250_000, 500_000, 750_000];
/// Fewer requests in the window: the share does not judge.
const MINIMUM_REQUESTS: [u64; 3] = [10, 20, 50];
/// How long it stays open.
const TIMEOUTS_MS: [u64; 3] = [10_000, 30_000, 60_000];

/// The settings that are compared: the present ones, then each combination of the grid that differs from them. What
/// the grid does not name is as in the present settings; all judge. `max_timeout_ms` is raised to `timeout_ms` where it
/// is below.
#[must_use]
pub fn candidates(present: &Settings) -> Vec<Arc<Settings>> {
    let draft = SettingsDraft { enabled: true, ..present.to_draft() };
    let mut all: Vec<Arc<Settings>> = Settings::try_new(&draft).map(Arc::new).into_iter().collect();
    for failure_threshold in FAILURE_THRESHOLDS {
        for error_rate in ERROR_RATES_PPM {
            for minimum_requests in MINIMUM_REQUESTS {
                for timeout_ms in TIMEOUTS_MS {
                    let draft = SettingsDraft {
                        failure_threshold,
                        error_rate_threshold: Ratio::from_ppm(error_rate).as_f64(),
                        minimum_requests,
                        timeout_ms,
                        max_timeout_ms: draft.max_timeout_ms.max(timeout_ms),
                        ..draft.clone()
                    };
                    // All of the grid is within the ranges; a test holds that.
                    let Ok(settings) = Settings::try_new(&draft) else { continue };
                    if all.iter().all(|other| **other != settings) {
                        all.push(Arc::new(settings));
                    }
                }
            }
        }
    }
    all
}

/// How many of the grid's fields two settings differ in.
pub(super) fn differing(one: &Settings, other: &Settings) -> u32 {
    let (one, other) = (one.to_draft(), other.to_draft());
    [
        one.failure_threshold != other.failure_threshold,
        one.error_rate_threshold.total_cmp(&other.error_rate_threshold).is_ne(),
        one.minimum_requests != other.minimum_requests,
        one.timeout_ms != other.timeout_ms,
    ]
    .into_iter()
    .map(u32::from)
    .sum()
}
