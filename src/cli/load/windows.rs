//! Scenario 3: half of the calls fail for the whole length of a window.
//!
//! On injected time for windows of 30, 60 and 120 s, exactly; and in real time, over the broker, for
//! windows that fit the length of the run. A breaker whose threshold lies above a half is watched: it
//! must stay closed and tell the share that a recount tells. One whose threshold is a half must open at
//! the tenth result, since `minimum_requests` is 10 and thresholds are "at or above".

use std::time::Duration;

use serde_json::{Value, json};

use super::Length;
use super::bodies::{Call, request};
use super::failed::LoadFailed;
use super::ground::{Ground, Scene};
use super::injected::{Counted, Reading, Watched, breaker, watch};
use super::moves::Moves;
use super::report::{Grid, Section};
use crate::breaker::State;

const INJECTED: [u64; 3] = [30, 60, 120];

/// A result each so often, on injected time.
const PAUSE_MS: u64 = 100;

/// Above a half, so that it stays closed even where a window is cut behind a failure.
const WATCHED: f64 = 0.6;
const JUDGED: f64 = 0.5;

/// `minimum_requests`, as the default is.
const OPENS_AT: u64 = 10;

/// How much a moment told by this program's clock and by the broker's may differ on one machine.
const SLACK_MS: u64 = 50;

const PROVIDER: &str = "primary";

/// One real window.
#[derive(Debug)]
struct Real {
    window_s: u64,
    readings: Vec<RealReading>,
    /// Failures told when the last one was a window old.
    left: u64,
    state: String,
    judged: (u64, u64),
}

/// What a worker told, and between which counts that must lie.
#[derive(Debug)]
struct RealReading {
    at_ms: u64,
    half_fail: bool,
    told: Counted,
    rate: f64,
    least: Counted,
    most: Counted,
}

/// A result of ours: when it was sent, when the broker had it, and whether it failed.
type Sent = (u64, u64, bool);

pub(super) async fn run(ground: &mut Ground, scene: &Scene) -> Result<Section, LoadFailed> {
    let mut section = Section::new(3);
    for window_s in INJECTED {
        injected(&mut section, window_s);
    }
    let real: &[u64] = match scene.length {
        Length::Short => &[3],
        Length::Usual => &[10],
        Length::Full => &INJECTED,
    };
    let watched = real.iter().map(|window_s| real_window(scene, *window_s));
    for window in futures_util::future::try_join_all(watched).await? {
        judge(&mut section, &window);
    }
    ground.check()?;
    Ok(section)
}

fn injected(section: &mut Section, window_s: u64) {
    let Watched { readings, opened_at } = watch(window_s, PAUSE_MS, WATCHED);
    let told = |what: &str| format!("{window_s} s, injected time: {what}");
    let differ = readings.iter().filter(|r| r.told != r.recount).count() as u64;
    section.equal(told("readings that differ from the recount"), differ, 0);
    let whole = readings.iter().find(|r| r.at_ms == window_s * 1_000).map(|r| r.told).unwrap_or_default();
    section.holds(
        told("failures of requests after a whole window"),
        "half, and one more or less where the window is cut",
        format!("{} of {}", whole.failures, whole.requests),
        whole.is_half() && whole.requests > 0,
    );
    section.equal(
        told("failures in it one window later"),
        readings.last().map_or(u64::MAX, |r| r.told.failures),
        0,
    );
    section.equal(told("openings at a threshold of 0.6"), u64::from(opened_at.is_some()), 0);
    section.equal(
        told("the result that opens at a threshold of 0.5"),
        watch(window_s, PAUSE_MS, JUDGED).opened_at.unwrap_or(0),
        OPENS_AT,
    );
    let row = |r: &Reading| {
        vec![
            shown_s(r.at_ms),
            r.told.requests.to_string(),
            r.told.failures.to_string(),
            format!("{:.3}", r.told.rate()),
            format!("{} of {}", r.recount.failures, r.recount.requests),
        ]
    };
    section.tables.push(Grid {
        title: format!(
            "A window of {window_s} s on injected time, a result each {PAUSE_MS} ms, every other one a failure until \
             {window_s} s, none after; what is counted is between nine tenths of the window and the whole of it old"
        ),
        headings: vec!["AT", "REQUESTS", "FAILURES", "ERROR RATE", "RECOUNT"],
        rows: readings.iter().map(row).collect(),
    });
}

fn shown_s(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}

/// Watches one window over the broker: one length in which half fail, and one in which none does.
async fn real_window(scene: &Scene, window_s: u64) -> Result<Real, LoadFailed> {
    let window_ms = window_s * 1_000;
    let (watched, judged) = (format!("window-{window_s}-watched"), format!("window-{window_s}-judged"));
    let providers = json!([{"name": PROVIDER, "weight": 1}]);
    scene.put(&watched, &providers, &breaker(window_s, WATCHED)).await?;
    scene.put(&judged, &providers, &breaker(window_s, JUDGED)).await?;
    let judged = open(scene, &judged).await?;

    let pause = Duration::from_millis((window_ms / 120).min(100));
    let mut paces = tokio::time::interval(pause);
    let began = scene.clock.wall_ms();
    let since = || scene.clock.wall_ms().saturating_sub(began);
    let (mut sent, mut readings): (Vec<Sent>, Vec<RealReading>) = (Vec::new(), Vec::new());
    let mut next_reading = window_ms / 10;
    while since() < 2 * window_ms {
        paces.tick().await;
        let half_fail = since() < window_ms;
        let number = sent.len();
        let failed = half_fail && number % 2 == 1;
        let (from, to, _) = call(scene, &watched, number, failed).await?;
        sent.push((from, to, failed));
        if since() >= next_reading {
            readings.push(reading(scene, &watched, window_ms, began, half_fail, &sent).await?);
            next_reading += window_ms / 10;
        }
    }
    let last_failure = sent.iter().filter(|(.., failed)| *failed).map(|(_, to, _)| *to).max().unwrap_or(0);
    let gone = last_failure + window_ms + SLACK_MS;
    tokio::time::sleep(Duration::from_millis(gone.saturating_sub(scene.clock.wall_ms()))).await;
    let last = scene.breaker(&watched, PROVIDER).await?;
    Ok(Real {
        window_s,
        readings,
        left: count(&last, "window_failures"),
        state: last["state"].as_str().unwrap_or_default().to_owned(),
        judged,
    })
}

/// Reports every other call as failed until the breaker opens: the position of the entry that opened
/// it, and of the tenth result.
async fn open(scene: &Scene, tenant: &str) -> Result<(u64, u64), LoadFailed> {
    let mut moves = Moves::hear(scene).await?;
    let mut tenth = 0;
    for number in 0..OPENS_AT {
        let (.., position) =
            call(scene, tenant, usize::try_from(number).unwrap_or(0), number % 2 == 1).await?;
        tenth = position;
    }
    let opened = moves.next(tenant).await?;
    Ok((if opened.to == State::Open { opened.position } else { 0 }, tenth))
}

/// One request and the result of its call: when that was sent, when the broker had it, and where it
/// stands in the log.
async fn call(
    scene: &Scene,
    tenant: &str,
    number: usize,
    failed: bool,
) -> Result<(u64, u64, u64), LoadFailed> {
    let request_id = format!("{tenant}-{number}");
    // Whatever it says: the result is what counts here.
    let _answer = scene.client.ask(request(tenant, &request_id, false)).await;
    let assignment_id = uuid::Uuid::new_v4().to_string();
    let call =
        Call { tenant, provider: PROVIDER, request_id: &request_id, assignment_id: &assignment_id, failed };
    let from = scene.clock.wall_ms();
    let position = scene.client.report_bytes(tenant, &assignment_id, call.result()).await?;
    Ok((from, scene.clock.wall_ms(), position))
}

async fn reading(
    scene: &Scene,
    tenant: &str,
    window_ms: u64,
    began: u64,
    half_fail: bool,
    sent: &[Sent],
) -> Result<RealReading, LoadFailed> {
    let before = scene.clock.wall_ms();
    let told = scene.breaker(tenant, PROVIDER).await?;
    let after = scene.clock.wall_ms();
    // A worker that answers may be behind by what it has not read yet: the last second is left out of
    // what must be there, nothing out of what may.
    let lag = 1_000.min(window_ms / 4);
    let must =
        sent.iter().filter(|(from, to, _)| from + window_ms * 9 / 10 > after + SLACK_MS && to + lag < before);
    let may = sent.iter().filter(|(_, to, _)| to + window_ms + SLACK_MS > before);
    let counted = |of: &mut dyn Iterator<Item = &Sent>| {
        of.fold(Counted::default(), |sum, (.., failed)| Counted {
            requests: sum.requests + 1,
            failures: sum.failures + u64::from(*failed),
        })
    };
    Ok(RealReading {
        at_ms: before - began,
        half_fail,
        told: Counted {
            requests: count(&told, "window_requests"),
            failures: count(&told, "window_failures"),
        },
        rate: told["error_rate"].as_f64().unwrap_or(f64::NAN),
        least: counted(&mut must.into_iter()),
        most: counted(&mut may.into_iter()),
    })
}

fn count(breaker: &Value, field: &str) -> u64 {
    breaker[field].as_u64().unwrap_or(u64::MAX)
}

impl RealReading {
    fn is_in_bounds(&self) -> bool {
        let within = |of: fn(Counted) -> u64| (of(self.least)..=of(self.most)).contains(&of(self.told));
        within(|c| c.requests) && within(|c| c.failures)
    }
}

fn judge(section: &mut Section, real: &Real) {
    let Real { window_s, readings, left, state, judged: (opened, tenth) } = real;
    let told = |what: &str| format!("{window_s} s, real time: {what}");
    section.at_least(told("readings"), readings.len() as u64, 10);
    section.equal(
        told("readings outside of what a recount allows"),
        readings.iter().filter(|r| !r.is_in_bounds()).count() as u64,
        0,
    );
    section.equal(
        told("readings that tell another share than half while half fail"),
        readings.iter().filter(|r| r.half_fail && !r.told.is_half()).count() as u64,
        0,
    );
    section.equal(
        told("readings whose error_rate is not failures by requests"),
        readings.iter().filter(|r| (r.rate - r.told.rate()).abs() > 1e-6).count() as u64,
        0,
    );
    section.equal(told("failures told when the last is a window old"), *left, 0);
    section.holds(told("state at a threshold of 0.6"), "closed", state.clone(), state == "closed");
    section.holds(
        told("at a threshold of 0.5 it is opened by the tenth result"),
        &tenth.to_string(),
        opened.to_string(),
        opened == tenth,
    );
    let row = |r: &RealReading| {
        vec![
            shown_s(r.at_ms),
            r.told.requests.to_string(),
            r.told.failures.to_string(),
            format!("{:.3}", r.rate),
            format!(
                "{} to {} of {} to {}",
                r.least.failures, r.most.failures, r.least.requests, r.most.requests
            ),
        ]
    };
    section.tables.push(Grid {
        title: format!(
            "A window of {window_s} s in real time, as breaker.get tells it; the recount is of what must and may be \
             in it at the moment of asking"
        ),
        headings: vec!["AT", "REQUESTS", "FAILURES", "ERROR RATE", "RECOUNT"],
        rows: readings.iter().map(row).collect(),
    });
}
