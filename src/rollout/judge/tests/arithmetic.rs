use super::{close, config, outcomes, percent, vectors};
use crate::domain::logarithm::{ln, ln_ratio};
use crate::rollout::judge::bets::units_needed_at;
use crate::rollout::judge::paths::safe_cap;
use crate::rollout::judge::share::share_logs;
use crate::rollout::judge::{Alpha, BetConfig, LogE, ShareTest, auto_budget, auto_safe_margin, units_needed};

#[derive(serde::Deserialize)]
struct Arithmetic {
    ln: Vec<(f64, f64)>,
    ln_ratio: Vec<(f64, f64, f64)>,
    nano: Vec<(f64, i64)>,
    thresholds: Thresholds,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "UPPERCASE")]
struct Thresholds {
    ln20: i64,
    ln100: i64,
    ln1000: i64,
    safe_cap: i64,
}

#[test]
fn logarithms_and_rounding_are_those_of_the_reference() {
    let vectors: Arithmetic = vectors("arithmetic");
    for (x, log) in vectors.ln {
        assert!(close(ln(x), log), "ln {x}");
    }
    for (x, y, log) in vectors.ln_ratio {
        assert!(close(ln_ratio(x, y), log), "ln {x} / {y}");
    }
    for (nats, nano) in vectors.nano {
        assert_eq!(LogE::from_nats(nats), LogE(nano), "{nats}");
    }
    assert_eq!(Alpha::SAFE.log_threshold(), LogE(vectors.thresholds.ln20));
    assert_eq!(Alpha::HARM.log_threshold(), LogE(vectors.thresholds.ln100));
    assert_eq!(ShareTest::THRESHOLD, LogE(vectors.thresholds.ln1000));
    assert_eq!(safe_cap(&config()), LogE(vectors.thresholds.safe_cap));
    assert_eq!(LogE::from_nats(ln(1_000.0)), LogE::THOUSAND);
}

#[derive(serde::Deserialize)]
struct Auto {
    safe_margin_ppm: Vec<(u64, u64, u32)>,
    budget: Vec<(u64, u64, bool, u64)>,
}

#[test]
fn automatic_settings_are_those_of_the_reference() {
    let vectors: Auto = vectors("auto");
    for (failed, units, ppm) in vectors.safe_margin_ppm {
        assert_eq!(auto_safe_margin(outcomes(units, failed)).get(), ppm, "{failed} of {units}");
    }
    for (treated_per_minute, timeout_ms, fallback, budget) in vectors.budget {
        assert_eq!(auto_budget(treated_per_minute, timeout_ms, fallback), budget);
    }
}

#[derive(serde::Deserialize)]
struct Needed {
    history: f64,
    margin: f64,
    pi: f64,
    units: u64,
}

#[test]
fn the_units_that_safety_needs_are_those_of_the_reference() {
    for Needed { history, margin, pi, units } in vectors::<Vec<Needed>>("units_needed") {
        assert_eq!(units_needed_at(history, margin, pi, 20.0), units, "{history} {margin} {pi}");
    }
    // A rate of 1 % exactly: half a failure in 50 units.
    let config = BetConfig { history: outcomes(0, 0), ..config() };
    assert_eq!(units_needed(&config, percent(50)), 15_253);
}

#[derive(serde::Deserialize)]
struct Share {
    t: u64,
    c: u64,
    percent: u8,
    nn: [i64; 4],
}

#[test]
fn arm_sizes_are_weighed_as_by_the_reference() {
    for Share { t, c, percent: share, nn } in vectors::<Vec<Share>>("share_logs") {
        assert_eq!(share_logs(t, c, percent(share).probability()), nn.map(LogE), "{t} {c} {share}");
    }
}
