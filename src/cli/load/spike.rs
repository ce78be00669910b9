//! Scenario 1: rapid failures open a breaker, and every worker refuses from then on.
//!
//! Each round has a tenant with one provider. Odd rounds report five failures one after the other, and
//! look at all workers after the fourth; even rounds hand ten to the broker without waiting, and the
//! fifth in the log must be the one that opens.

use serde_json::json;

use super::ask::{Asked, Asker};
use super::bodies::Call;
use super::failed::LoadFailed;
use super::ground::{Ground, Scene};
use super::moves::{Move, Moves};
use super::report::{Section, percentile};
use super::{Length, millis};
use crate::breaker::State;

/// What opens a breaker here, as in the default policy.
const THRESHOLD: usize = 5;

/// Failures that are reported at once in an even round.
const AT_ONCE: usize = 10;

/// Every other worker follows within this while the broker is well.
const FOLLOWS_MS: f64 = 1_000.0;

/// Answers of each worker that are looked at before the fifth failure, and after the first refusal.
const BEFORE: usize = 3;
const AFTER: usize = 20;

const PROVIDER: &str = "primary";

/// What one round showed.
#[derive(Debug)]
struct Round {
    /// The transition, and where the fifth failure stands in the log.
    opened: Move,
    fifth: u64,
    /// From handing the fifth result to the client library until a worker's first refusal arrived, for
    /// each worker.
    after_fifth: Vec<u64>,
    /// Refusals before the fifth.
    early: u64,
    /// Requests that a worker let through though they were sent after its first refusal.
    through: u64,
    /// Refusals looked at.
    refused: u64,
}

pub(super) async fn run(ground: &mut Ground, scene: &Scene) -> Result<Section, LoadFailed> {
    let rounds = if scene.length == Length::Short { 4 } else { 20 };
    let mut moves = Moves::hear(scene).await?;
    let mut seen = Vec::new();
    for n in 0..rounds {
        seen.push(round(ground, scene, &mut moves, n).await?);
    }
    let mut section = Section::new(1);
    let count = |what: fn(&Round) -> bool| seen.iter().filter(|round| what(round)).count() as u64;
    let rounds = seen.len() as u64;
    section.equal(
        "rounds in which the entry that opened was the fifth failure",
        count(|r| r.opened.position == r.fifth),
        rounds,
    );
    section.equal(
        "rounds whose event says closed to open, failure_threshold_exceeded, 5 in a row",
        count(|r| {
            (r.opened.from, r.opened.to) == (State::Closed, State::Open)
                && r.opened.reason == "failure_threshold_exceeded"
                && r.opened.failure_count == THRESHOLD as u64
                && r.opened.provider_id == PROVIDER
        }),
        rounds,
    );
    section.equal("requests refused before the fifth failure", seen.iter().map(|r| r.early).sum(), 0);
    section.equal(
        "requests let through by a worker after its first refusal",
        seen.iter().map(|r| r.through).sum(),
        0,
    );
    let mut times: Vec<u64> = seen.iter().flat_map(|r| r.after_fifth.iter().copied()).collect();
    let ms = |times: &mut Vec<u64>, percent| percentile(times, percent).map_or(f64::MAX, millis);
    section.equal(
        "workers that refused, over all rounds",
        times.len() as u64,
        rounds * ground.workers() as u64,
    );
    section.within(
        "longest time from the fifth failure to a worker's first fail-fast reply",
        ms(&mut times, 100.0),
        FOLLOWS_MS,
    );
    section.figure(
        "fail_fast_after_fifth_p50_ms",
        "fifth failure to first fail-fast reply, median over workers and rounds, ms",
        ms(&mut times, 50.0),
    );
    section.figure("fail_fast_after_fifth_p95_ms", "the same, 95th percentile, ms", ms(&mut times, 95.0));
    let mut slowest: Vec<u64> = seen.iter().filter_map(|r| r.after_fifth.iter().max().copied()).collect();
    section.figure(
        "every_worker_after_fifth_p50_ms",
        "fifth failure until every worker had refused, median over rounds, ms",
        ms(&mut slowest, 50.0),
    );
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    section.figure(
        "fail_fast_replies",
        "fail-fast replies looked at",
        seen.iter().map(|r| r.refused).sum::<u64>() as f64,
    );
    Ok(section)
}

async fn round(ground: &mut Ground, scene: &Scene, moves: &mut Moves, n: usize) -> Result<Round, LoadFailed> {
    let tenant = format!("spike-{n}");
    let breaker = json!({"enabled": true, "failure_threshold": THRESHOLD, "timeout_ms": 300_000});
    scene.put(&tenant, &json!([{"name": PROVIDER, "weight": 1}]), &breaker).await?;
    let workers = ground.workers();
    let asker = Asker::start(scene, workers, &tenant).await?;
    let decided = decided(scene, &asker, workers, 0).await?;
    let failures = if n.is_multiple_of(2) { THRESHOLD } else { AT_ONCE };
    let calls: Vec<(String, String)> =
        decided.into_iter().take(failures).map(|id| (uuid::Uuid::new_v4().to_string(), id)).collect();
    let result = |(assignment_id, request_id): &(String, String)| {
        Call { tenant: &tenant, provider: PROVIDER, request_id, assignment_id, failed: true }.result()
    };
    let (sent, fifth) = if failures == THRESHOLD {
        let (last, first) = calls.split_last().map_or((None, [].as_slice()), |(l, f)| (Some(l), f));
        let mut position = 0;
        for call in first {
            position = scene.client.report_bytes(&tenant, &call.0, result(call)).await?;
        }
        // Four failures, known to all: each worker still lets everything through.
        ground.applied(position).await?;
        self::decided(scene, &asker, workers, scene.clock.nanos()).await?;
        let sent = scene.clock.nanos();
        let fifth = match last {
            Some(call) => scene.client.report_bytes(&tenant, &call.0, result(call)).await?,
            None => 0,
        };
        (sent, fifth)
    } else {
        // All are handed over in order before any is acknowledged; the fifth in the log counts, wherever
        // it came from. Time runs from the moment before the first.
        let sent = scene.clock.nanos();
        let reports = calls.iter().map(|call| scene.client.report_bytes(&tenant, &call.0, result(call)));
        let mut positions = futures_util::future::try_join_all(reports).await?;
        positions.sort_unstable();
        (sent, positions.get(THRESHOLD - 1).copied().unwrap_or_default())
    };
    let opened = moves.next(&tenant).await?;
    let first = scene
        .until(&format!("every worker refuses for {tenant}"), || {
            asker.look(|all| (0..workers).map(|w| first_refusal(all, w)).collect::<Option<Vec<_>>>())
        })
        .await?;
    scene
        .until(&format!("every worker goes on answering for {tenant}"), || {
            asker.look(|all| {
                (0..workers).zip(&first).all(|(w, f)| after(all, w, f).count() >= AFTER).then_some(())
            })
        })
        .await?;
    Ok(asker.look(|all| Round {
        opened,
        fifth,
        after_fifth: first.iter().map(|f| f.came.saturating_sub(sent)).collect(),
        early: all.iter().filter(|a| a.came < sent && !a.is_ordinary() && !a.is_too_soon()).count() as u64,
        through: (0..workers)
            .zip(&first)
            .map(|(w, f)| after(all, w, f).filter(|a| !a.is_fail_fast()).count() as u64)
            .sum(),
        refused: all.iter().filter(|a| a.is_fail_fast()).count() as u64,
    }))
}

/// Waits until each worker has decided some requests sent since, enough in all to report on: their ids.
async fn decided(
    scene: &Scene,
    asker: &Asker,
    workers: usize,
    since: u64,
) -> Result<Vec<String>, LoadFailed> {
    let enough = || {
        asker.look(|all| {
            let ordinary = || all.iter().filter(|a| a.sent >= since && a.is_ordinary());
            let each = (0..workers).all(|w| ordinary().filter(|a| a.worker == w).count() >= BEFORE);
            (each && ordinary().count() >= AT_ONCE)
                .then(|| ordinary().map(|a| a.request_id.clone()).collect())
        })
    };
    scene.until("every worker decides", enough).await
}

fn first_refusal(all: &[Asked], worker: usize) -> Option<Asked> {
    all.iter().find(|a| a.worker == worker && a.is_fail_fast()).cloned()
}

fn after<'a>(all: &'a [Asked], worker: usize, first: &'a Asked) -> impl Iterator<Item = &'a Asked> {
    all.iter().filter(move |a| a.worker == worker && a.sent > first.came)
}
