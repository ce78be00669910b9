//! What one measurement says, and what several say together.

use serde_json::{Value, json};

use super::process::Used;
use crate::nats::measuring::{Asked, Latencies};

/// One measurement.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) bad: u64,
    pub(super) a_bad_one: Option<String>,
    /// Answers in the measured time.
    pub(super) measured: u64,
    pub(super) nanos: u64,
    pub(super) latencies: Latencies,
    pub(super) before: Used,
    pub(super) after: Used,
    /// Of all responders together, at the end.
    pub(super) resident_bytes: u64,
    /// Where results flow.
    pub(super) followed: Option<Followed>,
}

/// How workers followed the results of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    /// Results published.
    pub(super) published: u64,
    /// Entries that the log has grown by.
    pub(super) entries: u64,
    /// Usage events that were stored.
    pub(super) usage_events: u64,
    /// From the first request until all was applied, and metered if it is, in nanoseconds.
    pub(super) nanos: u64,
    /// From the last request until then.
    pub(super) behind_nanos: u64,
}

impl Run {
    pub(super) fn of(asked: Asked<Used>, resident_bytes: u64, followed: Option<Followed>) -> Self {
        let Asked { sent, answered, bad, a_bad_one, measured, nanos, latencies, before, after, .. } = asked;
        Self {
            sent,
            answered,
            bad,
            a_bad_one,
            measured,
            nanos,
            latencies,
            before,
            after,
            resident_bytes,
            followed,
        }
    }

    pub(super) fn figure(&self, figure: Figure) -> f64 {
        let cpu = |used: fn(&Used) -> u64| {
            per(used(&self.after).saturating_sub(used(&self.before)), self.measured) / 1e3
        };
        let quantile = |of_ten_thousand| float(self.latencies.quantile(of_ten_thousand)) / 1e3;
        match figure {
            Figure::PerSecond => per(self.measured, self.nanos) * 1e9,
            Figure::P50 => quantile(5_000),
            Figure::P95 => quantile(9_500),
            Figure::P99 => quantile(9_900),
            Figure::P999 => quantile(9_990),
            Figure::ResponderCpu => cpu(|used| used.responders),
            Figure::BrokerCpu => cpu(|used| used.broker),
            Figure::AskerCpu => cpu(|used| used.asker),
            Figure::Resident => float(self.resident_bytes) / 1e6,
            Figure::FollowedPerSecond => {
                self.followed.map_or(0.0, |f| per(f.entries.min(f.published), f.nanos) * 1e9)
            }
            Figure::Behind => self.followed.map_or(0.0, |f| float(f.behind_nanos) / 1e6),
        }
    }
}

/// What a measurement tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    /// Answers a second.
    PerSecond,
    /// Microseconds, as all latencies.
    P50,
    P95,
    P99,
    P999,
    /// Microseconds of CPU for each answer, the whole process.
    ResponderCpu,
    BrokerCpu,
    AskerCpu,
    /// Megabytes.
    Resident,
    /// Results a second, until the last was applied.
    FollowedPerSecond,
    /// Milliseconds.
    Behind,
}

impl Figure {
    pub(super) const ALL: [Self; 11] = [
        Self::PerSecond,
        Self::P50,
        Self::P95,
        Self::P99,
        Self::P999,
        Self::ResponderCpu,
        Self::BrokerCpu,
        Self::AskerCpu,
        Self::Resident,
        Self::FollowedPerSecond,
        Self::Behind,
    ];

    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::PerSecond => "per_second",
            Self::P50 => "p50_us",
            Self::P95 => "p95_us",
            Self::P99 => "p99_us",
            Self::P999 => "p999_us",
            Self::ResponderCpu => "responder_cpu_us",
            Self::BrokerCpu => "broker_cpu_us",
            Self::AskerCpu => "asker_cpu_us",
            Self::Resident => "resident_mb",
            Self::FollowedPerSecond => "results_followed_per_second",
            Self::Behind => "results_behind_ms",
        }
    }

    /// Whether it means something only where results flow.
    pub(super) const fn is_of_results(self) -> bool {
        matches!(self, Self::FollowedPerSecond | Self::Behind)
    }
}

/// The middle of several figures, the least and the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |n: usize| values.get(n).copied().unwrap_or(0.0);
        let count = values.len();
        let middle = if count % 2 == 1 {
            at(count / 2)
        } else {
            f64::midpoint(at((count / 2).saturating_sub(1)), at(count / 2))
        };
        Self { median: middle, min: at(0), max: at(count.saturating_sub(1)) }
    }

    pub(super) fn json(self) -> Value {
        let rounded = |value: f64| (value * 1e4).round() / 1e4;
        json!({"median": rounded(self.median), "min": rounded(self.min), "max": rounded(self.max)})
    }
}

pub(super) fn per(amount: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { float(amount) / float(of) }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people; far below 2^53")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_middle_least_and_greatest() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(spread(&[]), Spread::default());
    }

    #[test]
    fn figures_are_of_the_measured_time() {
        let mut latencies = Latencies::default();
        (1..=1_000).for_each(|n| latencies.add(n * 1_000));
        let run = Run {
            sent: 1_100,
            answered: 1_100,
            bad: 0,
            a_bad_one: None,
            measured: 1_000,
            nanos: 500_000_000,
            latencies,
            before: Used { responders: 10, broker: 20, asker: 30 },
            after: Used { responders: 1_500_010, broker: 2_000_020, asker: 30 },
            resident_bytes: 12_000_000,
            followed: Some(Followed {
                published: 900,
                entries: 900,
                usage_events: 0,
                nanos: 1_000_000_000,
                behind_nanos: 7_000_000,
            }),
        };
        let told = |figure| run.figure(figure);
        assert_eq!(told(Figure::PerSecond), 2_000.0);
        assert_eq!((told(Figure::ResponderCpu), told(Figure::BrokerCpu)), (1.5, 2.0));
        assert_eq!(told(Figure::Resident), 12.0);
        assert_eq!((told(Figure::FollowedPerSecond), told(Figure::Behind)), (900.0, 7.0));
        assert!((told(Figure::P50) - 500.0).abs() < 3.0 && (told(Figure::P999) - 999.0).abs() < 5.0);
    }
}
