use super::{close, outcomes, vectors};
use crate::rollout::judge::{
    Alpha, Facts, FailureRates, LatencyConfig, LatencySequence, LatencyVerdict, LogE, Look, Open,
    OpenCircuit, Reason, Recovery, Verdict, classify_open, decide, e_bh, pool_unexplained, quantile,
};

#[derive(serde::Deserialize)]
struct Latency {
    pairs: Vec<(u64, u64)>,
    verdict_low_high: Vec<(String, f64, f64)>,
}

#[test]
fn latency_is_judged_as_by_the_reference() {
    for Latency { pairs, verdict_low_high } in vectors::<Vec<Latency>>("latency") {
        let mut sequence = LatencySequence::new(LatencyConfig::default());
        assert_eq!(pairs.len(), verdict_low_high.len());
        for ((treated, control), (verdict, low, high)) in pairs.into_iter().zip(verdict_low_high) {
            let look = sequence.look(treated, control);
            assert_eq!(look.verdict.as_str(), verdict);
            assert!(close(look.low, low) && close(look.high, high), "{look:?}, expected {low} {high}");
        }
    }
}

#[test]
fn a_quantile_is_the_nearest_rank() {
    let values = [40, 10, 30, 20];
    let ranks = [(0, 10), (250, 10), (251, 20), (500, 20), (501, 30), (950, 40), (1_000, 40), (u16::MAX, 40)];
    for (permille, value) in ranks {
        assert_eq!(quantile(&values, permille), Some(value), "{permille}");
    }
    assert_eq!(quantile(&[], 500), None);
}

#[derive(serde::Deserialize)]
struct Classified {
    drill: bool,
    spared: (u64, u64),
    elsewhere: (u64, u64),
    threshold_ppm: u32,
    base_ppm: u32,
    kind: String,
}

#[test]
fn an_open_is_classified_as_by_the_reference() {
    for open in vectors::<Vec<Classified>>("classify_open") {
        let Classified { drill, spared, elsewhere, threshold_ppm, base_ppm, kind } = open;
        let rates = FailureRates { threshold_ppm, base_ppm };
        let calls = |(units, failed)| outcomes(units, failed);
        let classified = classify_open(drill, calls(spared), calls(elsewhere), rates);
        assert_eq!(classified.as_str(), kind, "{spared:?} {elsewhere:?}");
    }
}

#[test]
fn a_threshold_of_all_calls_is_excluded_by_a_success_and_proven_by_failures() {
    let rates = FailureRates { threshold_ppm: 1_000_000, base_ppm: 10_000 };
    let none = outcomes(0, 0);
    assert_eq!(classify_open(false, outcomes(1, 0), none, rates), Open::Unexpected);
    assert_eq!(classify_open(false, outcomes(1, 1), none, rates), Open::Expected);
    assert_eq!(classify_open(false, none, none, rates), Open::Unexplained);
}

#[derive(serde::Deserialize)]
struct Pooled {
    opens: Vec<(String, (u64, u64))>,
    kinds: Vec<String>,
}

fn open(word: &str) -> Open {
    Open::ALL.into_iter().find(|open| open.as_str() == word).unwrap()
}

#[test]
fn unexplained_opens_are_pooled_as_by_the_reference() {
    // The vectors do not say the rates; these are those of the other vectors.
    let rates = FailureRates { threshold_ppm: 500_000, base_ppm: 10_000 };
    for Pooled { opens, kinds } in vectors::<Vec<Pooled>>("pool_unexplained") {
        let opens = opens.iter().map(|(kind, (units, failed))| (open(kind), outcomes(*units, *failed)));
        let pooled = pool_unexplained(&opens.collect::<Vec<_>>(), rates);
        assert_eq!(pooled.into_iter().map(Open::as_str).collect::<Vec<_>>(), kinds);
    }
}

/// When it opened, until when, well, closed, now, mean gap, slow call, successes.
type RecoveryArgs = (u64, u64, Option<u64>, Option<u64>, u64, u64, u64, u64);

#[derive(serde::Deserialize)]
struct Recovered {
    args: RecoveryArgs,
    kind: String,
}

#[test]
fn a_recovery_is_judged_as_by_the_reference() {
    for Recovered { args, kind } in vectors::<Vec<Recovered>>("recovery") {
        let (_, open_until, well_at, closed_at, now, mean_gap_ms, slow_ms, successes) = args;
        let circuit = OpenCircuit { open_until, well_at, closed_at, mean_gap_ms, slow_ms, successes };
        assert_eq!(circuit.recovery(now).as_str(), kind, "{circuit:?}");
    }
}

#[derive(serde::Deserialize)]
struct EBh {
    logs: Vec<LogE>,
    alpha: f64,
    harmed: Vec<usize>,
}

#[test]
fn harmed_tenants_are_found_as_by_the_reference() {
    for EBh { logs, alpha, harmed } in vectors::<Vec<EBh>>("e_bh") {
        assert!((alpha - 0.01).abs() < f64::EPSILON);
        assert_eq!(e_bh(&logs, Alpha::HARM), harmed, "{logs:?}");
    }
}

#[derive(serde::Deserialize)]
struct Decided {
    name: String,
    facts: Described,
    verdict: String,
    reasons: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Described {
    look: (String, String, LogE),
    qualified_ms: u64,
    min_ms: u64,
    max_ms: u64,
    elapsed_ms: u64,
    latency: String,
    opens: Vec<String>,
    recoveries: Vec<String>,
    needs_exercise: bool,
    coverage_permille: u32,
    min_coverage_permille: u32,
    stale_ms: u64,
    max_stale_ms: u64,
    loss_log: LogE,
    gap: bool,
    accounts_differ: bool,
    issues_open: u64,
}

#[test]
fn a_decision_is_that_of_the_reference() {
    for Decided { name, facts, verdict, reasons } in vectors::<Vec<Decided>>("decide") {
        let opens: Vec<Open> = facts.opens.iter().map(|word| open(word)).collect();
        let recoveries: Vec<Recovery> = facts.recoveries.iter().map(|word| recovery(word)).collect();
        let (word, reason, share) = &facts.look;
        let decision = decide(&Facts {
            look: Look {
                harm: LogE::ZERO,
                safe: LogE::ZERO,
                share: *share,
                verdict: look_verdict(word, reason),
            },
            qualified_ms: facts.qualified_ms,
            min_ms: facts.min_ms,
            max_ms: facts.max_ms,
            elapsed_ms: facts.elapsed_ms,
            latency: latency(&facts.latency),
            opens: &opens,
            recoveries: &recoveries,
            needs_exercise: facts.needs_exercise,
            coverage_permille: facts.coverage_permille,
            min_coverage_permille: facts.min_coverage_permille,
            stale_ms: facts.stale_ms,
            max_stale_ms: facts.max_stale_ms,
            loss: facts.loss_log,
            gap: facts.gap,
            accounts_differ: facts.accounts_differ,
            issues_open: facts.issues_open,
        });
        assert_eq!(decision.as_str(), verdict, "{name}");
        assert_eq!(decision.reasons(), reasons, "{name}");
    }
}

fn recovery(word: &str) -> Recovery {
    Recovery::ALL.into_iter().find(|recovery| recovery.as_str() == word).unwrap()
}

fn latency(word: &str) -> LatencyVerdict {
    let all = [LatencyVerdict::Pass, LatencyVerdict::Fail, LatencyVerdict::Inconclusive];
    all.into_iter().find(|latency| latency.as_str() == word).unwrap()
}

fn look_verdict(word: &str, reason: &str) -> Verdict {
    let reasons = [Reason::NoData, Reason::SampleRatio, Reason::InsufficientSample, Reason::Undecided];
    let inconclusive = reasons.map(Verdict::Inconclusive).into_iter();
    let all = inconclusive.chain([Verdict::Pass, Verdict::Fail]);
    all.into_iter().find(|verdict| [verdict.as_str(), verdict.reason()] == [word, reason]).unwrap()
}
