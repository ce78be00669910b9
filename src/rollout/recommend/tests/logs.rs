//! Constructed logs, and what is recommended for them.

use super::*;

/// Ten minutes in which every call of two hours fails.
fn outage(second: u64) -> bool {
    (3_000..3_600).contains(&second)
}

#[test]
fn a_clean_outage_is_detected_by_all_and_the_best_opens_soon_and_never_needlessly() {
    let found = recommend(&log(7_200, outage));
    assert_eq!((found.calls, found.failures, found.outages), (7_200, 600, 1));
    let best = found.best.as_ref().unwrap();
    let replayed = &found.rows[best.row].replayed;
    assert_eq!((replayed.needless_opens, replayed.outages_missed, replayed.opens), (0, 0, 1));
    // Three failures in a row, a second apart, open two seconds after the first.
    let draft = found.rows[best.row].settings.to_draft();
    assert_eq!((draft.failure_threshold, replayed.median_delay_ms()), (3, Some(2_000)), "{}", best.reason);
    assert!(best.reason.contains("1 of 1 outages"), "{}", best.reason);
    let slow = &row(&found, 20, 0.75, 50, 60_000).replayed;
    assert_eq!(slow.median_delay_ms(), Some(19_000));
    assert!(slow.failures_spared_milli < replayed.failures_spared_milli);
}

#[test]
fn a_longer_open_time_refuses_more_successes_after_the_outage() {
    let found = recommend(&log(7_200, outage));
    let refused = |timeout_ms| row(&found, 5, 0.5, 10, timeout_ms).replayed.successes_refused_milli;
    // One call a second: at most what the last open time holds, by where in it the outage ends.
    for timeout_ms in [10_000, 30_000, 60_000] {
        assert!((1_000..=timeout_ms).contains(&refused(timeout_ms)), "{timeout_ms}: {}", refused(timeout_ms));
    }
    assert!(refused(10_000) < refused(60_000));
    // A probe each open time fails until the provider is well: those failures are not spared.
    let spared = |timeout_ms| row(&found, 5, 0.5, 10, timeout_ms).replayed.failures_spared_milli;
    assert!(spared(10_000) < spared(60_000) && spared(60_000) < 595_000);
}

#[test]
fn a_flapping_provider_is_open_often_and_its_short_failures_are_not_worth_long_open_times() {
    // Twelve failures, then 48 successes, for two hours: after 60 s of an open time the next twelve fail.
    let found = recommend(&log(7_200, |second| second % 60 < 12));
    assert_eq!(found.outages, 120);
    let best = found.best.as_ref().unwrap();
    assert_eq!(found.rows[best.row].settings.to_draft().timeout_ms, 10_000, "{}", best.reason);
    let long = &row(&found, 3, 0.5, 10, 60_000).replayed;
    let short = &row(&found, 3, 0.5, 10, 10_000).replayed;
    assert!(long.gain_milli() < 0 && short.gain_milli() > long.gain_milli(), "{long:?} {short:?}");
    assert!(short.opens > 60 && short.opens <= 240, "{short:?}");
}

#[test]
fn a_healthy_noisy_provider_gets_settings_that_do_not_open() {
    // Of eight calls in a row three fail, and there is no outage: three in a row open needlessly.
    let found = recommend(&log(7_200, |second| second % 8 > 4));
    assert_eq!(found.outages, 0);
    let eager = &row(&found, 3, 0.5, 10, 60_000).replayed;
    assert!(eager.opens > 50 && eager.needless_opens == eager.opens, "{eager:?}");
    assert!(eager.gain_milli() < 0);
    let best = found.best.as_ref().unwrap();
    let replayed = &found.rows[best.row].replayed;
    assert_eq!((replayed.opens, replayed.successes_refused_milli), (0, 0));
    // Nothing separates those that do not open: the present settings stay.
    assert_eq!(best.row, 0);
    assert!(best.reason.contains("no outage was seen"), "{}", best.reason);
}

#[test]
fn too_few_results_give_figures_and_no_recommendation() {
    let found = recommend(&log(MIN_CALLS - 1, |_| false));
    assert_eq!(found.best, Err(NoChoice { calls: 499 }));
    assert!(found.best.unwrap_err().to_string().starts_with("no recommendation: too little data"));
    assert!(found.rows.len() > 100);
    assert!(recommend(&log(MIN_CALLS, |_| false)).best.is_ok());
    let nothing = recommend(&empty(0));
    assert_eq!((nothing.calls, nothing.best), (0, Err(NoChoice { calls: 0 })));
}
