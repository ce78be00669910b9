//! Figures for those who follow them.
//!
//! While somebody does, the worker's state is copied twice a second, less often where that takes long,
//! and what differs from the copy before is written once and handed to all. Whoever joins gets the
//! whole first. Nobody there: nothing is copied.
//!
//! A viewer has sixteen frames of patience; one who falls further behind gets the whole anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Mutex, Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use super::alerts::{self, Alert};
use super::recent::{self, Recent};
use crate::breaker::State;
use crate::domain::{ProviderId, TenantId};
use crate::http::desk::Changed;
use crate::http::{Asked, Decisions, Desk, Digest, Overview, Row};
use crate::telemetry::labels::Queue;

/// Between copies.
const EVERY: Duration = Duration::from_millis(500);
/// A copy may take one part in this many of the time.
const SHARE: u64 = 10;
/// And is made at least this often.
const SELDOM: Duration = Duration::from_secs(5);
/// How old a copy may be that is shown to one who only looks once.
const FRESH_MS: u64 = 400;
/// Frames that a viewer may be behind.
const FRAMES: usize = 16;
/// Viewers at once: an eighth of the connections, so that scrapers always find one.
pub(super) const VIEWERS: usize = 32;
/// The digest and the transitions of the hour, if they could not be read, are looked at this often.
const SELDOM_MS: u64 = 5_000;
/// Looks that are further apart do not tell what held in between.
const GAP_MS: u64 = 15_000;
/// Counts are remembered at this distance for so long, to tell rates.
const SAMPLE_MS: u64 = 1_000;
const SAMPLED_MS: u64 = 300_000;
/// What is told as the rate of now is that of the last ten seconds.
const RATE_MS: u64 = 10_000;

/// Breakers by what they show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    total: usize,
    closed: usize,
    open: usize,
    half_open: usize,
    forced: usize,
}

/// Per second, on this worker, over the last ten seconds; absent until two looks are a second apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Rates {
    decisions: Option<f64>,
    fail_fast: Option<f64>,
}

/// The worker as a whole, as it is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Told {
    #[serde(flatten)]
    pub(super) overview: Overview,
    digest: Digest,
    breakers: Counts,
    rates_per_second: Rates,
    viewers: usize,
}

/// Counts at some tick.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) tick: u64,
    pub(super) decisions: Decisions,
    pub(super) fail_fast: u64,
    pub(super) slow_consumer: u64,
}

/// When each breaker was last seen to refuse a request, by the tick.
pub(super) type Refusals = HashMap<(TenantId, ProviderId), u64>;

/// See the module.
pub(super) struct Hub {
    desk: Arc<dyn Desk>,
    core: Mutex<Core>,
    frames: broadcast::Sender<Bytes>,
    arrived: Notify,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The last copy, and what was seen before.
#[derive(Default)]
struct Core {
    looked_at: Option<u64>,
    told: Told,
    rows: Vec<Row>,
    recent: Recent,
    heard: u64,
    loaded_at: Option<u64>,
    digest_at: Option<u64>,
    samples: VecDeque<Sample>,
    refused_at: Refusals,
    began: alerts::Began,
    alerts: Vec<Alert>,
}

#[derive(Serialize)]
struct Whole<'a> {
    overview: &'a Told,
    breakers: &'a [Row],
    transitions: Vec<&'a Value>,
    transitions_complete: bool,
    alerts: &'a [Alert],
}

#[derive(Serialize)]
struct Delta<'a> {
    overview: &'a Told,
    changed: Vec<Changed<'a>>,
    gone: Vec<(&'a str, &'a str)>,
    events: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    alerts: Option<&'a [Alert]>,
}

impl Hub {
    pub(super) fn new(desk: Arc<dyn Desk>, stop: CancellationToken) -> Self {
        Self {
            desk,
            core: Mutex::default(),
            frames: broadcast::Sender::new(FRAMES),
            arrived: Notify::new(),
            places: Arc::new(Semaphore::new(VIEWERS)),
            stop,
        }
    }

    /// Copies while somebody follows, until stopped.
    pub(super) async fn run(&self) {
        loop {
            if self.frames.receiver_count() == 0 {
                tokio::select! {
                    () = self.arrived.notified() => {}
                    () = self.stop.cancelled() => return,
                }
            }
            let began = self.desk.tick();
            self.advance_now().await;
            let took = Duration::from_millis(self.desk.tick().saturating_sub(began).saturating_mul(SHARE));
            tokio::select! {
                () = tokio::time::sleep(took.clamp(EVERY, SELDOM)) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Copies, and hands out what differs.
    pub(super) async fn advance_now(&self) {
        self.advance(&mut *self.core.lock().await).await;
    }

    /// A place for a viewer, unless all are taken.
    pub(super) fn place(&self) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            self.desk.count_refused(Queue::Console, 1);
        }
        place
    }

    /// What a viewer begins with, and all that follows it.
    pub(super) async fn join(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        let mut core = self.core.lock().await;
        self.freshen(&mut core).await;
        let frames = self.frames.subscribe();
        self.arrived.notify_one();
        (core.whole(), frames)
    }

    /// The worker as a whole, and what is amiss.
    pub(super) async fn look(&self) -> (Told, Vec<Alert>) {
        let mut core = self.core.lock().await;
        self.freshen(&mut core).await;
        (core.told.clone(), core.alerts.clone())
    }

    /// Counts frames that a viewer missed.
    pub(super) fn missed(&self, frames: u64) {
        self.desk.count_refused(Queue::Console, frames);
    }

    /// Ends when the server does.
    pub(super) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    async fn freshen(&self, core: &mut Core) {
        let now = self.desk.tick();
        if core.looked_at.is_none_or(|at| now.saturating_sub(at) > FRESH_MS) {
            self.advance(core).await;
        }
    }

    /// Makes a new copy and hands out what differs.
    async fn advance(&self, core: &mut Core) {
        let desk = Arc::clone(&self.desk);
        let Ok(rows) = tokio::task::spawn_blocking(move || desk.breakers()).await else { return };
        let before = std::mem::replace(&mut core.rows, rows);
        let (news, missed) = self.hear(core).await;
        let alerts_before = std::mem::take(&mut core.alerts);
        self.tell(core, &before);
        if self.frames.receiver_count() == 0 {
            return;
        }
        let frame = if missed {
            core.whole()
        } else {
            let (changed, gone) = differences(&before, &core.rows);
            let alerts = (core.alerts != alerts_before).then_some(core.alerts.as_slice());
            let delta = Delta { overview: &core.told, changed, gone, events: &news, alerts };
            frame("delta", &delta)
        };
        // Nobody may have stayed, which is no matter.
        let _ = self.frames.send(frame);
    }

    /// Takes what happened since the last copy. Tells too whether some of it is not known one by one.
    async fn hear(&self, core: &mut Core) -> (Vec<Value>, bool) {
        let tick = self.desk.tick();
        let news = self.desk.news(core.heard);
        let first = core.looked_at.is_none();
        let missed = news.missed > 0 && !first;
        let unread = core.recent.lacking && core.loaded_at.is_none_or(|at| tick - at.min(tick) > SELDOM_MS);
        core.heard = news.last;
        for event in &news.events {
            core.recent.push(event);
        }
        if first || missed || unread {
            let within_ms = Some(recent::SPAN_MS);
            let asked = Asked { within_ms, limit: recent::MOST, ..Asked::default() };
            core.loaded_at = Some(tick);
            match self.desk.transitions(asked).await {
                Ok(found) => core.recent.load(found.transitions, found.complete),
                Err(_) => core.recent.lacking = true,
            }
        }
        (news.events, missed)
    }

    /// Works out what is told of the worker as a whole.
    fn tell(&self, core: &mut Core, before: &[Row]) {
        let tick = self.desk.tick();
        let overview = self.desk.overview();
        core.recent.forget(overview.now);
        let mut counts = Counts { total: core.rows.len(), ..Counts::default() };
        let mut fail_fast = 0_u64;
        for row in &core.rows {
            match row.state {
                State::Closed => counts.closed += 1,
                State::Open => counts.open += 1,
                State::HalfOpen => counts.half_open += 1,
            }
            counts.forced += usize::from(row.forced.is_some());
            fail_fast = fail_fast.saturating_add(row.fail_fast);
        }
        for (now, before) in pairs(before, &core.rows) {
            if let (Some(now), Some(before)) = (now, before)
                && now.fail_fast > before.fail_fast
            {
                core.refused_at.insert((now.tenant_id.clone(), now.provider_id.clone()), tick);
            }
        }
        core.refused_at.retain(|_, at| tick.saturating_sub(*at) < SAMPLED_MS);
        if core.samples.back().is_none_or(|s| tick.saturating_sub(s.tick) >= SAMPLE_MS) {
            let slow_consumer = overview.nats.slow_consumer;
            core.samples.push_back(Sample { tick, decisions: overview.decisions, fail_fast, slow_consumer });
        }
        while core.samples.front().is_some_and(|s| tick.saturating_sub(s.tick) > SAMPLED_MS) {
            core.samples.pop_front();
        }
        let due = core.digest_at.is_none_or(|at| tick.saturating_sub(at) >= SELDOM_MS);
        let digest = if due { self.desk.digest() } else { core.told.digest };
        if due {
            core.digest_at = Some(tick);
        }
        if core.looked_at.is_none_or(|at| tick.saturating_sub(at) > GAP_MS) {
            // What held before and after the gap may not have held in it.
            core.began.clear();
        }
        let seen = alerts::Seen {
            rows: &core.rows,
            overview: &overview,
            recent: &core.recent,
            samples: &core.samples,
            refused_at: &core.refused_at,
            tick,
        };
        core.alerts = alerts::judge(&seen, &mut core.began);
        core.told = Told {
            overview,
            digest,
            breakers: counts,
            rates_per_second: rates(&core.samples),
            viewers: self.frames.receiver_count(),
        };
        core.looked_at = Some(tick);
    }
}

impl Core {
    fn whole(&self) -> Bytes {
        frame(
            "snapshot",
            &Whole {
                overview: &self.told,
                breakers: &self.rows,
                transitions: self.recent.iter().rev().collect(),
                transitions_complete: !self.recent.lacking,
                alerts: &self.alerts,
            },
        )
    }
}

/// A server-sent event. The data is one line: JSON escapes line feeds.
fn frame(event: &str, data: &impl Serialize) -> Bytes {
    let mut text = format!("event: {event}\ndata: ").into_bytes();
    // Writing plain figures to memory does not fail; if it did, the viewer would ask again.
    if serde_json::to_writer(&mut text, data).is_err() {
        return Bytes::new();
    }
    text.extend_from_slice(b"\n\n");
    text.into()
}

fn rates(samples: &VecDeque<Sample>) -> Rates {
    let Some(newest) = samples.back() else { return Rates::default() };
    let oldest = samples.iter().find(|s| newest.tick - s.tick <= RATE_MS);
    let Some(oldest) = oldest.filter(|s| newest.tick - s.tick >= SAMPLE_MS) else { return Rates::default() };
    let per_second = |now: u64, then: u64| {
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = now.saturating_sub(then) as f64 * 1_000.0 / (newest.tick - oldest.tick) as f64;
        Some((rate * 100.0).round() / 100.0)
    };
    Rates {
        decisions: per_second(newest.decisions.total, oldest.decisions.total),
        fail_fast: per_second(newest.fail_fast, oldest.fail_fast),
    }
}

/// What two copies, both sorted, hold of each breaker.
fn pairs<'r>(before: &'r [Row], now: &'r [Row]) -> impl Iterator<Item = (Option<&'r Row>, Option<&'r Row>)> {
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    std::iter::from_fn(move || match (now.peek(), before.peek()) {
        (None, None) => None,
        (Some(_), None) => Some((now.next(), None)),
        (None, Some(_)) => Some((None, before.next())),
        (Some(n), Some(b)) => Some(match n.key().cmp(&b.key()) {
            std::cmp::Ordering::Less => (now.next(), None),
            std::cmp::Ordering::Equal => (now.next(), before.next()),
            std::cmp::Ordering::Greater => (None, before.next()),
        }),
    })
}

type Differences<'r> = (Vec<Changed<'r>>, Vec<(&'r str, &'r str)>);

fn differences<'r>(before: &'r [Row], now: &'r [Row]) -> Differences<'r> {
    let (mut changed, mut gone) = (Vec::new(), Vec::new());
    for pair in pairs(before, now) {
        match pair {
            (Some(row), before) if before != Some(row) => changed.push(Changed { row, before }),
            (None, Some(before)) => gone.push(before.key()),
            _ => {}
        }
    }
    (changed, gone)
}
