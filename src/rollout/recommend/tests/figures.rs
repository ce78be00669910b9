//! How single figures are counted.

use super::*;

#[test]
fn the_present_settings_come_first_and_the_grid_stays_within_its_bounds() {
    let present = settings(|draft| draft.failure_threshold = 7);
    assert_eq!(candidates(&present).len(), 4 * 3 * 3 * 3 + 1);
    assert_eq!(candidates(&present)[0], present);
    // The defaults are of the grid.
    assert_eq!(candidates(&settings(|_| {})).len(), 4 * 3 * 3 * 3);
    // What does not judge yet is compared as if it did.
    assert!(candidates(&Settings::disabled()).iter().all(|settings| settings.enabled()));
    let short = settings(|draft| (draft.timeout_ms, draft.max_timeout_ms) = (1_000, 5_000));
    assert!(candidates(&short).iter().any(|s| s.to_draft().max_timeout_ms == 60_000));
}

#[test]
fn a_spared_call_stands_for_the_treated_ones_that_are_lacking() {
    let refused = |spared: bool, share: u8| {
        let mut calls = log(0, |_| false);
        calls.share(share);
        for second in 0..600 {
            call(
                &mut calls,
                "acme",
                second * 1_000,
                if second < 20 { Status::Error } else { Status::Success },
            );
        }
        if spared {
            // Noted after the results, as workers do.
            (0..600).for_each(|second| calls.spared(arm_hash(&format!("r{}", second * 1_000))));
        }
        row(&recommend(&calls), 3, 0.5, 10, 60_000).replayed.successes_refused_milli
    };
    let once = refused(false, 75);
    assert!(once > 0);
    assert_eq!(refused(true, 75), 4 * once);
    assert_eq!(refused(true, 0), once, "nobody is treated: nothing is lacking");
    assert_eq!(refused(true, 100), once, "nobody is spared where all are treated");
}

#[test]
fn an_open_is_needless_by_the_next_calls_of_the_tenant() {
    let needless = |fails: fn(u64) -> bool| {
        let replayed = row(&recommend(&log(1_000, fails)), 3, 0.5, 10, 60_000).replayed.clone();
        (replayed.opens, replayed.needless_opens, replayed.unexplained_opens)
    };
    // Of the ten calls behind the open at 502 s five fail, or four.
    assert_eq!(needless(|second| (500..508).contains(&second)), (1, 0, 0));
    assert_eq!(needless(|second| (500..507).contains(&second)), (1, 1, 0));
}

#[test]
fn where_the_tenant_is_silent_other_tenants_say_whether_an_open_is_needless() {
    let judged = |others: Option<Status>| {
        let mut calls = log(600, |second| second >= 597);
        if let Some(status) = others {
            (0..20).for_each(|n| call(&mut calls, "globex", 600_000 + n * 1_000, status));
        }
        let replayed = row(&recommend(&calls), 3, 0.5, 10, 60_000).replayed.clone();
        (replayed.opens, replayed.needless_opens, replayed.unexplained_opens)
    };
    assert_eq!(judged(None), (1, 0, 1));
    assert_eq!(judged(Some(Status::Success)), (1, 1, 0));
    assert_eq!(judged(Some(Status::Error)), (1, 0, 0));
}

#[test]
fn cancelled_calls_and_ignored_codes_are_neither() {
    let mut calls = Calls::new(
        "acme",
        ["openai"],
        settings(|draft| draft.ignored_error_codes = vec!["bad_prompt".to_owned()]),
        0,
        MOST,
    );
    for second in 0..100 {
        let at = Stamp(START + second * 1_000);
        let outcome = Outcome {
            error_code: Some("bad_prompt".into()),
            ..Outcome::of(
                "acme",
                "openai",
                if second % 2 == 0 { Status::Error } else { Status::Cancelled },
                0,
            )
        };
        calls.result(&outcome, at, at);
    }
    let found = recommend(&calls);
    assert_eq!((found.calls, found.failures, found.outages), (0, 0, 0));
    assert!(found.rows.iter().all(|row| row.replayed == Replayed::default()));
}

#[test]
fn the_newest_calls_are_kept_and_the_span_is_theirs() {
    let mut calls = Calls::new("acme", ["openai", "other"], settings(|_| {}), 0, 1_000);
    for second in 0..3_000 {
        call(&mut calls, "acme", second * 1_000, Status::Success);
        call(&mut calls, "globex", second * 1_000, Status::Success);
    }
    let found = recommend(&calls);
    assert_eq!(found.calls, 1_000);
    assert_eq!(found.span, (Stamp(START + 1_999_000), Stamp(START + 2_999_000)));
}

#[test]
fn calls_in_flight_at_an_open_neither_open_it_again_nor_count_as_refused() {
    // All begin together and end one after the other: at the third failure the others are on their way.
    let mut calls = empty(0);
    let began = Stamp(START);
    for n in 0..50 {
        let at = Stamp(START + 1_000 + n);
        calls.at(at);
        calls.result(&Outcome::of("acme", "openai", Status::Error, 0), began, at);
    }
    let replayed = &row(&recommend(&calls), 3, 0.5, 10, 10_000).replayed.clone();
    assert_eq!((replayed.opens, replayed.failures_spared_milli), (1, 0), "{replayed:?}");
}
