use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde_json::{Value, json};

use super::{block, close, config, outcomes, percent, vectors};
use crate::rollout::judge::bets::{harm_stakes, safe_stakes};
use crate::rollout::judge::{
    BetConfig, BetJudge, Block, HarmMargin, Look, LookError, PhaseJudge, SafeMargin,
};

#[derive(Clone, Copy, serde::Deserialize)]
struct Config {
    safe_margin_ppm: u32,
    history_failures: u64,
    history_units: u64,
    harm_margin_ppm: u32,
    harm_budget: u64,
    max_hours: u32,
}

impl Config {
    fn checked(self) -> BetConfig {
        BetConfig {
            history: outcomes(self.history_units, self.history_failures),
            safe_margin: SafeMargin::try_new(self.safe_margin_ppm).unwrap(),
            harm_margin: HarmMargin::try_new(self.harm_margin_ppm).unwrap(),
            harm_budget: self.harm_budget,
            max_hours: NonZeroU32::new(self.max_hours).unwrap(),
            ..config()
        }
    }
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    config: Config,
    percent: u8,
    stakes_harm: [f64; 3],
    stakes_safe: [f64; 2],
    blocks: Vec<Input>,
    expect: Vec<Value>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Input {
    Step { begin_step: u8 },
    Block { hour: u64, plain: [u64; 4], met: [u64; 4] },
}

#[derive(serde::Deserialize)]
struct Expected {
    m_plain: f64,
    m_met: f64,
    log_e: Logs,
    harm_begin: [[i64; 3]; 2],
    harm_later: [[i64; 3]; 2],
    safe: [i64; 2],
    harm_nn: i64,
    safe_nn: i64,
    share_nn: i64,
    verdict: String,
    reason: String,
}

#[derive(serde::Deserialize)]
struct Logs {
    harm_all: [f64; 3],
    harm_met: [f64; 3],
    safe: [f64; 2],
}

fn all_close(ours: &[f64], theirs: &[f64]) -> bool {
    ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| close(*ours, *theirs))
}

/// The state of the paths, as a snapshot holds it.
fn saved(judge: &BetJudge) -> Value {
    serde_json::to_value(judge).unwrap()["paths"].take()
}

fn harm(state: &Value, start: &str) -> Value {
    let view = |view: usize| [0, 1, 2].map(|stake| state["harm"][view][stake][start].clone());
    json!([view(0), view(1)])
}

fn said(look: &Look) -> [&'static str; 2] {
    [look.verdict.as_str(), look.verdict.reason()]
}

#[test]
fn a_tenants_evidence_is_that_of_the_reference_to_the_nano_nat() {
    for case in vectors::<Vec<Case>>("bet") {
        let config = case.config.checked();
        let pi = f64::from(case.percent) / 100.0;
        let stakes = harm_stakes(pi).map(|stake| stake.size);
        assert!(all_close(&stakes, &case.stakes_harm), "{}", case.name);
        let margin = f64::from(case.config.safe_margin_ppm) / 1e6;
        let stakes = safe_stakes(pi, config.history.smoothed_rate(), margin).map(|stake| stake.size);
        assert!(all_close(&stakes, &case.stakes_safe), "{}", case.name);

        let mut judge = BetJudge::new(config, percent(case.percent));
        let mut share = case.percent;
        assert_eq!(case.blocks.len(), case.expect.len(), "{}", case.name);
        for (input, expected) in case.blocks.iter().zip(case.expect) {
            match input {
                Input::Step { begin_step } => {
                    share = *begin_step;
                    judge.begin_step(percent(share));
                    assert_eq!(saved(&judge)["safe"], expected["safe"], "{}", case.name);
                }
                Input::Block { hour, plain, met } => {
                    let expected = serde_json::from_value(expected).unwrap();
                    judges_as(&case.name, &mut judge, &block(*hour, share, *plain, *met), &expected);
                }
            }
        }
    }
}

fn judges_as(name: &str, judge: &mut BetJudge, block: &Block, expected: &Expected) {
    let (predicted, logs) = (judge.predictions(), judge.log_growth(block));
    assert!(close(predicted.plain, expected.m_plain) && close(predicted.met, expected.m_met), "{name}");
    assert!(all_close(&logs.every, &expected.log_e.harm_all), "{name}");
    assert!(all_close(&logs.met_only, &expected.log_e.harm_met), "{name}");
    assert!(all_close(&logs.safe, &expected.log_e.safe), "{name}");

    let look = judge.look(block).unwrap();
    let state = saved(judge);
    assert_eq!(harm(&state, "from_beginning"), json!(expected.harm_begin), "{name}");
    // In the vectors a path that has not begun is below −4e18.
    let later =
        expected.harm_later.map(|view| view.map(|log| (log > -4_000_000_000_000_000_000).then_some(log)));
    assert_eq!(harm(&state, "from_later"), json!(later), "{name}");
    assert_eq!(state["safe"], json!(expected.safe), "{name}");
    let evidence = [look.harm, look.safe, look.share].map(|log| log.0);
    assert_eq!(evidence, [expected.harm_nn, expected.safe_nn, expected.share_nn], "{name}");
    assert_eq!(said(&look), [&expected.verdict, &expected.reason], "{name}");
    assert_eq!(judge.current(), look, "{name}");
}

#[derive(serde::Deserialize)]
struct Phase {
    config: Config,
    percent: u8,
    histories: BTreeMap<String, (u64, u64)>,
    windows: Vec<Window>,
}

#[derive(serde::Deserialize)]
struct Window {
    blocks: BTreeMap<String, Row>,
    harm_nn: i64,
    safe_nn: i64,
    verdict: String,
    reason: String,
    tenants_harm_nn: BTreeMap<String, i64>,
}

#[derive(serde::Deserialize)]
struct Row {
    hour: u64,
    plain: [u64; 4],
    met: [u64; 4],
}

#[test]
fn a_phases_evidence_is_that_of_the_reference_to_the_nano_nat() {
    let phase: Phase = vectors("phase");
    let histories = phase.histories.into_iter();
    let histories = histories.map(|(tenant, (failed, units))| (tenant, outcomes(units, failed)));
    let mut judge = PhaseJudge::new(phase.config.checked(), percent(phase.percent), histories);
    for window in phase.windows {
        let row = |row: Row| block(row.hour, phase.percent, row.plain, row.met);
        let blocks = window.blocks.into_iter().map(|(tenant, r)| (tenant, row(r))).collect();
        let look = judge.look(&blocks).unwrap();
        assert_eq!([look.harm.0, look.safe.0], [window.harm_nn, window.safe_nn]);
        assert_eq!(said(&look), [&window.verdict, &window.reason]);
        let tenants: BTreeMap<_, _> =
            judge.tenants().map(|(tenant, look)| (tenant.clone(), look.harm.0)).collect();
        assert_eq!(tenants, window.tenants_harm_nn);
    }
}

#[test]
fn a_block_of_another_step_or_tenant_is_refused_and_changes_nothing() {
    let row = [500, 5, 500, 5];
    let mut judge =
        PhaseJudge::new(config(), percent(50), [("acme", outcomes(0, 0)), ("globex", outcomes(0, 0))]);
    let before = judge.clone();

    let other = [("acme", block(0, 50, row, [0; 4])), ("globex", block(0, 10, row, [0; 4]))];
    let refused = LookError::OtherPercent { block: percent(10), step: percent(50) };
    assert_eq!(judge.look(&BTreeMap::from(other)), Err(refused));

    let unknown = [("acme", block(0, 50, row, [0; 4])), ("initech", block(0, 50, row, [0; 4]))];
    assert_eq!(judge.look(&BTreeMap::from(unknown)), Err(LookError::UnknownTenant));

    assert_eq!(judge.look(&BTreeMap::new()), Ok(before.current()));
    assert_eq!(judge, before);
}
