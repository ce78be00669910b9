//! How a recommendation looks.

use serde_json::{Map, Value, json};

use crate::breaker::Settings;
use crate::cli::output::{Output, Table};
use crate::domain::Stamp;
use crate::policy::breaker_block;
use crate::rollout::recommend::{Recommendation, Row};

/// The fields that the grid changes, and the one that may have to follow.
const FIELDS: [&str; 5] =
    ["failure_threshold", "error_rate_threshold", "minimum_requests", "timeout_ms", "max_timeout_ms"];
/// Rows that people see, beside the present settings.
const SHOWN: usize = 10;
const WEEK_MS: u64 = 604_800_000;

/// The block of a plan that brings a setting: what the grid changes, and `max_timeout_ms` where it must change too.
fn block(settings: &Settings, present: &Settings) -> Value {
    let (all, before) = (breaker_block(settings), breaker_block(present));
    let is_told = |name: &str| name != "max_timeout_ms" || all.get(name) != before.get(name);
    let fields = FIELDS.into_iter().filter(|name| is_told(name));
    let fields = fields.map(|name| (name.to_owned(), all.get(name).cloned().unwrap_or_default()));
    Value::Object(fields.collect::<Map<_, _>>())
}

/// So many in the span, as tenths of one a week.
fn tenths_a_week(count: u64, (from, to): (Stamp, Stamp)) -> u64 {
    let span = u128::from(to.since(from).max(1));
    let tenths = (u128::from(count) * u128::from(WEEK_MS) * 10 + span / 2) / span;
    u64::try_from(tenths).unwrap_or(u64::MAX)
}

/// Thousandths of a call to the nearest whole one.
fn whole(milli: u64) -> u64 {
    milli.saturating_add(500) / 1_000
}

/// For machines.
pub(super) fn body(found: &Recommendation) -> Value {
    let present = found.rows.first().map(|row| &row.settings);
    let of = |row: &Row| present.map(|present| block(&row.settings, present)).unwrap_or_default();
    let row = |(place, row): (usize, &Row)| {
        let replayed = &row.replayed;
        json!({
            "circuit_breaker": of(row),
            "present": place == 0,
            "opens": replayed.opens,
            "opens_per_week": rate(tenths_a_week(replayed.opens, found.span)),
            "needless_opens": replayed.needless_opens,
            "unexplained_opens": replayed.unexplained_opens,
            "outages_detected": replayed.outages_detected,
            "outages_missed": replayed.outages_missed,
            "detection_delay_ms": replayed.median_delay_ms(),
            "successes_refused": whole(replayed.successes_refused_milli),
            "failures_spared": whole(replayed.failures_spared_milli),
        })
    };
    let rows: Vec<Value> = found.rows.iter().enumerate().map(row).collect();
    let best = found.best.as_ref().ok();
    json!({
        "ok": true,
        "from": found.span.0,
        "to": found.span.1,
        "calls": found.calls,
        "failures": found.failures,
        "outages": found.outages,
        "best": best.and_then(|best| found.rows.get(best.row)).map(&of),
        "present_is_best": best.map(|best| best.row == 0),
        "reason": match &found.best {
            Ok(best) => best.reason.clone(),
            Err(why) => why.to_string(),
        },
        "settings": rows,
    })
}

/// Tenths as a number with one decimal.
fn rate(tenths: u64) -> Value {
    format!("{}.{}", tenths / 10, tenths % 10).parse().map_or(Value::Null, |number: f64| json!(number))
}

/// For people: a table, the reason, and the block of a plan.
pub(super) fn tell(out: Output, found: &Recommendation) {
    let (from, to) = found.span;
    let span = to.since(from) / 1_000;
    out.line(&format!(
        "{} calls in {}d{:02}h{:02}m, {} failed, {} outages",
        found.calls,
        span / 86_400,
        span / 3_600 % 24,
        span / 60 % 60,
        found.failures,
        found.outages
    ));
    out.table(&table(found));
    match &found.best {
        Ok(best) => {
            let standing =
                if best.row == 0 { "the present settings are the best" } else { "the best is marked" };
            out.line(&format!("{standing}: {}", best.reason));
            if let (Some(row), Some(present)) = (found.rows.get(best.row), found.rows.first()) {
                out.document(&json!({"circuit_breaker": block(&row.settings, &present.settings)}));
            }
        }
        Err(why) => out.line(&why.to_string()),
    }
    if to.since(from) < 86_400_000 {
        out.note("note: the span is shorter than a day: what happens in a week is a guess");
    }
}

fn table(found: &Recommendation) -> Table {
    let mut table = Table::new(&[
        "",
        "IN A ROW",
        "RATE",
        "FROM",
        "OPEN MS",
        "OPENS/WEEK",
        "NEEDLESS",
        "UNKNOWN",
        "OUTAGES",
        "DELAY MS",
        "REFUSED",
        "SPARED",
    ]);
    let best = found.best.as_ref().ok().map(|best| best.row);
    let mut rows: Vec<(usize, &Row)> = found.rows.iter().enumerate().collect();
    rows.sort_by_key(|(place, row)| {
        (Some(*place) != best, *place != 0, std::cmp::Reverse(row.replayed.gain_milli()))
    });
    for (place, row) in rows.into_iter().take(SHOWN + 2) {
        let (draft, replayed) = (row.settings.to_draft(), &row.replayed);
        let mark = match (Some(place) == best, place == 0) {
            (true, true) => "best, present",
            (true, false) => "best",
            (false, true) => "present",
            (false, false) => "",
        };
        let tenths = tenths_a_week(replayed.opens, found.span);
        table.row([
            mark.to_owned(),
            draft.failure_threshold.to_string(),
            draft.error_rate_threshold.to_string(),
            draft.minimum_requests.to_string(),
            draft.timeout_ms.to_string(),
            format!("{}.{}", tenths / 10, tenths % 10),
            replayed.needless_opens.to_string(),
            replayed.unexplained_opens.to_string(),
            format!("{}/{}", replayed.outages_detected, replayed.outages_detected + replayed.outages_missed),
            replayed.median_delay_ms().map_or("-".to_owned(), |ms| ms.to_string()),
            whole(replayed.successes_refused_milli).to_string(),
            whole(replayed.failures_spared_milli).to_string(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::SettingsDraft;

    #[test]
    fn figures_of_a_week_follow_from_the_span() {
        let day = (Stamp(0), Stamp(86_400_000));
        assert_eq!(tenths_a_week(1, day), 70);
        assert_eq!(tenths_a_week(1, (Stamp(0), Stamp(WEEK_MS * 3))), 3);
        assert_eq!(tenths_a_week(0, (Stamp(5), Stamp(5))), 0);
        assert_eq!((rate(123), rate(3)), (json!(12.3), json!(0.3)));
        assert_eq!((whole(1_499), whole(1_500)), (1, 2));
    }

    #[test]
    fn a_block_is_one_that_a_plan_takes() {
        let settings = |change: fn(&mut SettingsDraft)| {
            let mut draft = SettingsDraft { enabled: true, ..SettingsDraft::default() };
            change(&mut draft);
            Settings::try_new(&draft).unwrap()
        };
        let present = settings(|draft| (draft.timeout_ms, draft.max_timeout_ms) = (5_000, 5_000));
        let best = settings(|draft| (draft.timeout_ms, draft.max_timeout_ms) = (30_000, 30_000));
        let block = block(&best, &present);
        assert_eq!(
            block,
            json!({"failure_threshold": 5, "error_rate_threshold": 0.5, "minimum_requests": 10, "timeout_ms": 30_000,
                "max_timeout_ms": 30_000})
        );
        let plan = json!({"kind": "PolicyRollout", "id": "cb", "circuit_breaker": block});
        assert!(crate::rollout::plan::parse(&plan).is_ok());
        assert_eq!(super::block(&present, &present).get("max_timeout_ms"), None);
    }
}
