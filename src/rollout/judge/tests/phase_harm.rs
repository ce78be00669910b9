use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{block, config, outcomes, percent};
use crate::rollout::judge::{Alpha, Block, PhaseHarm, PhaseJudge, Reason, Verdict};

const NAMES: [&str; 4] = ["acme", "globex", "initech", "umbrella"];

fn judge(names: &[&'static str]) -> PhaseJudge<&'static str> {
    PhaseJudge::new(config(), percent(50), names.iter().map(|name| (*name, outcomes(5_000, 50))))
}

/// A window of all, of whom some fail more in the treated arm.
fn window(hour: u64, failing: impl Fn(&str) -> u64) -> BTreeMap<&'static str, Block> {
    NAMES.iter().map(|name| (*name, block(hour, 50, [500, failing(name), 500, 5], [0; 4]))).collect()
}

fn without<'n>(mut blocks: BTreeMap<&'n str, Block>, name: &str) -> BTreeMap<&'n str, Block> {
    blocks.remove(name);
    blocks
}

#[test]
fn one_tenants_harm_is_its_own() {
    let mut judge = judge(&NAMES);
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Nobody);
    for hour in 0..20 {
        judge.look(&window(hour, |name| if name == "globex" { 40 } else { 5 })).unwrap();
    }
    assert_eq!(judge.current().verdict, Verdict::Fail);
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Tenants(vec!["globex"]));
    judge.remove(&"globex");
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Nobody);
    assert!(!judge.judges(&"globex") && judge.judges(&"acme"));
}

#[test]
fn harm_of_most_tenants_is_the_phases() {
    let mut judge = judge(&NAMES);
    for hour in 0..20 {
        judge.look(&window(hour, |_| 15)).unwrap();
    }
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Phase);
}

#[test]
fn a_phase_of_one_tenant_is_harmed_with_it() {
    let mut judge = judge(&NAMES[..1]);
    for hour in 0..40 {
        let own = window(hour, |_| 20).remove("acme").unwrap();
        judge.look(&BTreeMap::from([("acme", own)])).unwrap();
    }
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Phase);
}

#[test]
fn of_a_sum_that_harms_only_with_one_tenant_the_greatest_goes_back() {
    let mut judge = judge(&NAMES);
    let harm = (0..200).find_map(|hour| {
        judge.look(&window(hour, |name| if name == "acme" { 10 } else { 6 })).unwrap();
        Some(judge.harm(Alpha::try_new(1).unwrap())).filter(|harm| *harm != PhaseHarm::Nobody)
    });
    // No tenant by itself reaches a millionth before the sum reaches a hundredth.
    assert_eq!(harm, Some(PhaseHarm::Tenants(vec!["acme"])));
}

#[test]
fn a_phase_whose_tenants_all_left_has_nobody_harmed_and_no_data() {
    let mut judge = judge(&NAMES);
    NAMES.iter().for_each(|name| judge.remove(name));
    assert_eq!(judge.harm(Alpha::HARM), PhaseHarm::Nobody);
    assert_eq!(judge.current().verdict, Verdict::Inconclusive(Reason::NoData));
}

proptest! {
    #[test]
    fn a_phase_goes_on_as_if_a_tenant_that_left_had_never_been_there(
        failing in vec((0..30_u64, 0..30_u64), 1..30),
        left in 0..NAMES.len(),
    ) {
        let left = NAMES[left];
        let rest: Vec<&'static str> = NAMES.into_iter().filter(|name| *name != left).collect();
        let (mut whole, mut others) = (judge(&NAMES), judge(&rest));
        let blocks = |hour: usize, (one, two): (u64, u64)| {
            window(hour as u64, |name| if name == "acme" { one } else { two })
        };
        for (hour, pair) in failing.iter().enumerate() {
            whole.look(&blocks(hour, *pair)).unwrap();
            others.look(&without(blocks(hour, *pair), left)).unwrap();
        }
        whole.remove(&left);
        prop_assert_eq!(whole.current(), others.current());
        prop_assert_eq!(whole.units(), others.units());
    }
}
