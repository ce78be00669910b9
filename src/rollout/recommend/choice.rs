use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use super::calls::{Calls, End};
use super::grid::{candidates, differing};
use super::outages::outages;
use super::replay::{Replayed, Schedule};
use crate::breaker::Settings;
use crate::domain::Stamp;

/// With fewer calls that succeeded or failed nothing is recommended.
pub const MIN_CALLS: u64 = 500;
/// A setting comes near the greatest gain at so many percent of it.
const NEAR_PERCENT: i128 = 95;

/// One setting and what it would have done with all providers of the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The setting.
    pub settings: Arc<Settings>,
    /// What it would have done.
    pub replayed: Replayed,
}

/// What the replays say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommendation {
    /// The span of the log that was replayed.
    pub span: (Stamp, Stamp),
    /// Calls of the tenant that succeeded or failed.
    pub calls: u64,
    /// Those that failed.
    pub failures: u64,
    /// Outages of its providers.
    pub outages: u64,
    /// The present settings first, then the grid, in its order.
    pub rows: Vec<Row>,
    /// The best of the rows, or why there is none.
    pub best: Result<Best, NoChoice>,
}

/// The best setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// Its place among the rows.
    pub row: usize,
    /// How many settings come near the greatest gain, it included.
    pub near: usize,
    /// Why it was chosen.
    pub reason: String,
}

/// Why nothing is recommended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoChoice {
    /// How many calls there are.
    pub calls: u64,
}

impl fmt::Display for NoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.calls;
        write!(
            f,
            "no recommendation: too little data: {calls} calls succeeded or failed, {MIN_CALLS} are needed"
        )
    }
}

/// Replays the calls through each setting and names the best.
#[must_use]
pub fn recommend(calls: &Calls) -> Recommendation {
    let outages: Vec<_> = calls.providers().map(|provider| outages(&provider.own)).collect();
    let schedules: Vec<Schedule<'_>> = calls
        .providers()
        .zip(&outages)
        .map(|(provider, outages)| Schedule::new(calls, provider, outages))
        .collect();
    let row = |settings: Arc<Settings>| {
        let mut replayed = Replayed::default();
        for schedule in &schedules {
            schedule.replay(&settings, &mut replayed);
        }
        replayed.delays_ms.sort_unstable();
        Row { settings, replayed }
    };
    let rows: Vec<Row> = candidates(calls.present()).into_iter().map(row).collect();
    let count = |wanted: &[End]| {
        let ended = calls.providers().flat_map(|provider| &provider.own);
        ended.map(|call| u64::from(wanted.contains(&call.end))).sum()
    };
    let judged = count(&[End::Succeeded, End::Failed]);
    Recommendation {
        span: calls.span(),
        calls: judged,
        failures: count(&[End::Failed]),
        outages: outages.iter().map(|found| u64::try_from(found.len()).unwrap_or(u64::MAX)).sum(),
        best: choose(&rows).filter(|_| judged >= MIN_CALLS).ok_or(NoChoice { calls: judged }),
        rows,
    }
}

fn choose(rows: &[Row]) -> Option<Best> {
    let present = &rows.first()?.settings;
    let greatest = rows.iter().map(|row| row.replayed.gain_milli()).max()?;
    // A part of a loss is a smaller loss: where nothing is gained only the smallest loss is near.
    let least = if greatest > 0 { greatest * NEAR_PERCENT / 100 } else { greatest };
    let near = rows.iter().enumerate().filter(|(_, row)| row.replayed.gain_milli() >= least);
    let rank = |row: &Row| {
        let replayed = &row.replayed;
        let delay = replayed.median_delay_ms().unwrap_or(u64::MAX);
        let changes = differing(&row.settings, present);
        (replayed.needless_opens, replayed.outages_missed, delay, changes, Reverse(replayed.gain_milli()))
    };
    let count = near.clone().count();
    let (place, best) = near.min_by_key(|(_, row)| rank(row))?;
    Some(Best { row: place, near: count, reason: reason(best, count, rows.len(), greatest) })
}

fn reason(best: &Row, near: usize, all: usize, greatest: i128) -> String {
    let replayed = &best.replayed;
    let outages = replayed.outages_detected + replayed.outages_missed;
    let gained = format!(
        "{near} of {all} settings come within 5 % of the greatest gain, {} calls (failures spared less successes refused)",
        greatest / 1_000
    );
    let detected = match replayed.median_delay_ms() {
        Some(delay) => {
            format!(
                "it opens in {} of {outages} outages, half of the time within {delay} ms",
                replayed.outages_detected
            )
        }
        None if outages > 0 => format!("none of them opens in any of {outages} outages"),
        None => "no outage was seen, so the delay of its detection is not known".to_owned(),
    };
    format!("{gained}; of these it has the fewest needless opens ({}); {detected}", replayed.needless_opens)
}
