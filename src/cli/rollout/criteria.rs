//! A criterion's figures as people read them.

use super::words::{age, nats};
use crate::rollout::controller::CriterionStatus;
use crate::rollout::judge::LogE;

/// The figures of a criterion; those that are 0 and count something are left out.
pub(super) fn figures(criterion: &CriterionStatus) -> String {
    let high = |name: &str| criterion.figures.get(&format!("{name}_high"));
    let shown = criterion.figures.iter().filter_map(|(name, value)| match name.strip_suffix("_low") {
        Some(quantile) => Some(format!("{quantile} {}", longer(*value, *high(quantile)?))),
        None if name.ends_with("_high") => None,
        None => figure(name, *value),
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn figure(name: &str, value: i64) -> Option<String> {
    let count = u64::try_from(value).unwrap_or(0);
    match name {
        "log_e" => Some(format!("log_e {}", nats(LogE(value)))),
        "permille" => Some(format!("{}.{} %", count / 10, count % 10)),
        _ if value == 0 => None,
        "stale_ms" => Some(format!("overdue by {}", age(count))),
        name => Some(format!("{} {value}", name.replace('_', " "))),
    }
}

/// The bounds of a ratio of latencies, given as millionths of its logarithm, as what it is longer by.
fn longer(low: i64, high: i64) -> String {
    /// A bound beyond a factor of 1,000 says nothing.
    const FAR: u64 = 6_907_755;
    if low.unsigned_abs().max(high.unsigned_abs()) > FAR {
        return "not known yet".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal for people")]
    let [low, high] = [low, high].map(|millionths| ((millionths as f64 / 1e6).exp() - 1.0) * 100.0);
    format!("{low:+.1} to {high:+.1} %")
}
