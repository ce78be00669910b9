//! What the judge promises. `bets`, `criteria` and `arithmetic` compare it with the vectors of the reference;
//! `laws` holds over any counts; `simulation` counts wrong verdicts over seeded weeks.

mod arithmetic;
mod bets;
mod criteria;
mod laws;
mod phase_harm;
mod simulation;

use std::num::NonZeroU32;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Alpha, BetConfig, Block, Counts, HarmMargin, Outcomes, SafeMargin, TreatedPercent};

/// A part of the reference's vectors.
fn vectors<T: DeserializeOwned>(part: &str) -> T {
    let mut all: Value = serde_json::from_str(include_str!("vectors.json")).unwrap();
    serde_json::from_value(all[part].take()).unwrap_or_else(|fault| panic!("{part}: {fault}"))
}

fn percent(percent: u8) -> TreatedPercent {
    TreatedPercent::try_new(percent).unwrap()
}

fn outcomes(units: u64, failed: u64) -> Outcomes {
    Outcomes::of(units, failed).unwrap()
}

fn counts(row: [u64; 4]) -> Counts {
    Counts::from_row(row).unwrap()
}

/// 1 % of history, half a percentage point of margin, a week.
fn config() -> BetConfig {
    BetConfig {
        history: outcomes(20_000, 200),
        safe_margin: SafeMargin::try_new(5_000).unwrap(),
        harm_margin: HarmMargin::try_new(0).unwrap(),
        harm_budget: 0,
        harm_alpha: Alpha::HARM,
        safe_alpha: Alpha::SAFE,
        max_hours: NonZeroU32::new(168).unwrap(),
    }
}

fn block(hour: u64, share: u8, plain: [u64; 4], met: [u64; 4]) -> Block {
    Block { hour, percent: percent(share), plain: counts(plain), met: counts(met) }
}

/// Logs of the reference are given to about 15 digits.
fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= 1e-9
}
