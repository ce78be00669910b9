//! Scenario 2: a breaker waits for its deadline, lets probes through up to its cap, and closes.
//!
//! Deadlines are the broker's time: events tell it in their stamps, and on one machine it is this
//! program's wall clock too.

use std::time::Duration;

use serde_json::json;

use super::ask::{Answer, Asked, Asker};
use super::bodies::Call;
use super::failed::LoadFailed;
use super::ground::{Ground, SOON, Scene};
use super::moves::{Move, Moves};
use super::report::Section;
use super::{Length, millis};
use crate::breaker::State;

const THRESHOLD: usize = 5;
const SUCCESSES: usize = 2;
const CAP: usize = 3;

/// With somebody asking all the time, half-open comes as soon as it may, and everything after it.
const FOLLOWS_MS: f64 = 1_000.0;

/// How far a told `retry_after_ms` may be from the deadline: a reply's way, and clocks told apart in
/// whole milliseconds.
const RETRY_OFF_MS: u64 = 250;

/// How long a full cap is watched for one probe too many.
const WATCH: Duration = Duration::from_millis(300);

const PROVIDER: &str = "primary";

pub(super) async fn run(ground: &mut Ground, scene: &Scene) -> Result<Section, LoadFailed> {
    let open_times: &[u64] = match scene.length {
        Length::Short => &[1_000],
        Length::Usual => &[1_000, 5_000],
        Length::Full => &[1_000, 5_000, 60_000],
    };
    let mut section = Section::new(2);
    for open_ms in open_times {
        recover(ground, scene, *open_ms, &mut section).await?;
    }
    Ok(section)
}

async fn recover(
    ground: &mut Ground,
    scene: &Scene,
    open_ms: u64,
    section: &mut Section,
) -> Result<(), LoadFailed> {
    let tenant = format!("calm-{open_ms}");
    let breaker = json!({
        "enabled": true, "failure_threshold": THRESHOLD, "timeout_ms": open_ms,
        "success_threshold": SUCCESSES, "half_open_max_calls": CAP,
    });
    scene.put(&tenant, &json!([{"name": PROVIDER, "weight": 1}]), &breaker).await?;
    let mut moves = Moves::hear(scene).await?;
    let workers = ground.workers();
    let asker = Asker::start(scene, workers, &tenant).await?;
    let ids = scene
        .until(&format!("every worker decides for {tenant}"), || {
            asker.look(|all| {
                let each = (0..workers).all(|w| all.iter().any(|a| a.worker == w && a.is_ordinary()));
                let ids = all.iter().filter(|a| a.is_ordinary()).map(|a| a.request_id.clone());
                (each && all.len() >= THRESHOLD).then(|| ids.collect::<Vec<_>>())
            })
        })
        .await?;
    let report = async |request_id: &str, failed: bool| {
        let assignment_id = uuid::Uuid::new_v4().to_string();
        let call =
            Call { tenant: &tenant, provider: PROVIDER, request_id, assignment_id: &assignment_id, failed };
        scene.client.report_bytes(&tenant, &assignment_id, call.result()).await
    };
    for id in ids.iter().take(THRESHOLD) {
        report(id, true).await?;
    }
    let opened = moves.next(&tenant).await?;
    let half_open = moves.next_within(&tenant, Duration::from_millis(open_ms) + SOON).await?;
    // All slots are taken, and nobody answers yet: no more may come.
    let held = scene.until("the slots of half-open are taken", || {
        asker.look(|all| (probes(all).len() >= CAP).then(|| scene.clock.nanos()))
    });
    held.await?;
    tokio::time::sleep(WATCH).await;
    let taken = asker.look(probes);
    let mut position = 0;
    let mut sent = 0;
    for id in taken.iter().take(SUCCESSES) {
        sent = scene.clock.nanos();
        position = report(id, false).await?;
    }
    let closed = moves.next(&tenant).await?;
    let ordinary_again = scene
        .until(&format!("every worker decides for {tenant} again"), || {
            asker.look(|all| {
                let first = |w| all.iter().find(|a| a.worker == w && a.sent > sent && a.is_ordinary());
                (0..workers).map(|w| first(w).map(|a| a.came - sent)).collect::<Option<Vec<u64>>>()
            })
        })
        .await?;
    for id in taken.iter().skip(SUCCESSES) {
        report(id, false).await?;
    }
    let through = Through { opened, half_open, closed };
    asker.look(|all| through.judge(section, open_ms, all, taken.len(), position));
    section.within(
        format!("open {open_ms} ms: last success until every worker lets all through"),
        ordinary_again.into_iter().max().map_or(f64::MAX, millis),
        FOLLOWS_MS,
    );
    Ok(())
}

/// The requests that were let through as probes, in order.
fn probes(all: &[Asked]) -> Vec<String> {
    all.iter().filter(|a| a.is_probe()).map(|a| a.request_id.clone()).collect()
}

/// The three transitions of one recovery.
#[derive(Debug)]
struct Through {
    opened: Move,
    half_open: Move,
    closed: Move,
}

impl Through {
    #[expect(clippy::cast_precision_loss, reason = "times of a run lie far below 2^53 milliseconds")]
    fn judge(&self, section: &mut Section, open_ms: u64, all: &[Asked], probes: usize, success: u64) {
        let Self { opened, half_open, closed } = self;
        let told = |what: &str| format!("open {open_ms} ms: {what}");
        let path = [opened, half_open, closed].map(|m| m.to);
        section.holds(
            told("states in order"),
            "open, half_open, closed",
            path.map(State::as_str).join(", "),
            path == [State::Open, State::HalfOpen, State::Closed],
        );
        let deadline = opened.open_until.unwrap_or(u64::MAX);
        section.equal(
            told("deadline less opening, by the broker's stamps, ms"),
            deadline.saturating_sub(opened.timestamp),
            open_ms,
        );
        let early = half_open.timestamp < deadline;
        section.holds(
            told("half-open is stamped at or after the deadline"),
            "not before",
            format!(
                "{} ms {}",
                half_open.timestamp.abs_diff(deadline),
                if early { "before" } else { "after" }
            ),
            !early,
        );
        section.within(
            told("half-open after the deadline"),
            half_open.timestamp.saturating_sub(deadline) as f64,
            FOLLOWS_MS,
        );
        // From a worker's first refusal on, and until the deadline by the broker's clock.
        let first = |worker| all.iter().find(|a| a.worker == worker && a.is_fail_fast()).map(|a| a.came);
        let through = all.iter().filter(|a| {
            !a.is_fail_fast()
                && a.came_wall_ms < deadline
                && first(a.worker).is_some_and(|refused| a.sent > refused)
        });
        section.equal(told("requests let through before the deadline"), through.count() as u64, 0);
        let refused = all.iter().filter(|a| a.is_fail_fast() && a.came_wall_ms < deadline);
        let off = refused.clone().filter_map(|a| match a.answer {
            Answer::FailFast { retry_after_ms } => Some((a.came_wall_ms + retry_after_ms).abs_diff(deadline)),
            _ => None,
        });
        section.at_most(
            told("farthest that a told retry_after_ms is from the deadline, ms"),
            off.max().unwrap_or(u64::MAX),
            RETRY_OFF_MS,
        );
        section.equal(told("probes in flight while none was answered"), probes as u64, CAP as u64);
        section.holds(
            told("the entry that closed is the second success"),
            &success.to_string(),
            closed.position.to_string(),
            closed.position == success,
        );
        section.figure(
            format!("half_open_after_deadline_{open_ms}_ms"),
            told("half-open after the deadline, ms"),
            half_open.timestamp.saturating_sub(deadline) as f64,
        );
        section.figure(
            format!("fail_fast_while_open_{open_ms}"),
            told("fail-fast replies while open"),
            refused.count() as f64,
        );
    }
}
