//! Scenario 4: many clients at once, and a day of traffic.
//!
//! Tenants have a provider that fails in the middle fifth of each run and one that never does; every
//! tenth tenant has the first one only, so that there are fail-fast replies too. So breakers open, are
//! probed and close under load. In the end all must be closed, and the accounts must agree.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::accounts::{Account, judge};
use super::crowd::{Counts, Crowd, FLAKY, Run, STEADY, tenant};
use super::failed::LoadFailed;
use super::ground::{Ground, SOON, Scene};
use super::moves::Move;
use super::report::{Grid, Section, number, percentile};
use super::{Length, LoadArgs, seconds};
use crate::breaker::State;

/// Probes in flight at once.
const CAP: u64 = 3;

/// The shortest that a breaker may stay open, so that a short failure is seen to its end.
const OPEN_MS: u64 = 1_000;

/// Every so many tenants, one has no second provider.
const ALONE: u64 = 10;

/// How far a worker may be behind the log before the clients wait: some tenths of a second. A worker
/// stops serving when it is 5 s behind, as it should, and then nobody would answer.
const LAG: u64 = 5_000;

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long breakers are given to be probed and close.
const ROUNDS: usize = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// What one run showed.
#[derive(Debug)]
struct Ran {
    what: String,
    seconds: f64,
    counts: Counts,
    took: Vec<u32>,
    held: Duration,
}

pub(super) async fn run(args: &LoadArgs, ground: &mut Ground, scene: &Scene) -> Result<Section, LoadFailed> {
    let short = scene.length == Length::Short;
    let tenants = if short { 20 } else { 100 };
    for n in 0..tenants {
        put(scene, n).await?;
    }
    let position = scene.client.log_counts().await?.last;
    ground.applied(position).await?;
    let before = Account::take(ground, scene).await?;
    let crowd = Crowd::gather(scene, tenants).await?;
    let mut runs = Vec::new();
    for clients in &args.clients {
        let requests = if short { 10 * clients.min(&100) } else { (100 * clients).max(10_000) };
        let what = format!("{clients} clients");
        runs.push(
            watched(
                ground,
                scene,
                &crowd,
                what,
                Run { clients: *clients, requests: requests.into(), failures: true },
            )
            .await?,
        );
    }
    let clients = args.clients.last().copied().unwrap_or(1);
    let day = Run { clients, requests: args.day(), failures: true };
    runs.push(watched(ground, scene, &crowd, format!("a day, {clients} clients"), day).await?);
    settle(scene, &crowd, tenants).await?;
    let after = Account::take(ground, scene).await?;

    let mut section = Section::new(4);
    let own = crowd.counts();
    judge(&mut section, &own, &before, &after, &scene.settings.names.exec_result);
    let (most, probes) = crowd.probes();
    section.at_most("most probes in flight at one breaker", most, CAP);
    transitions(&mut section, scene).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    for (name, means, value) in [
        ("requests", "requests", own.asked),
        ("results", "results", own.results),
        ("pushed", "assignments pushed", own.pushed),
        ("fail_fast", "fail-fast replies", own.fail_fast),
        ("probes", "requests let through as probes", probes),
    ] {
        section.figure(name, means, value as f64);
    }
    tell(&mut section, runs);
    Ok(section)
}

async fn put(scene: &Scene, n: u64) -> Result<(), LoadFailed> {
    let breaker =
        json!({"enabled": true, "failure_threshold": 5, "timeout_ms": OPEN_MS, "half_open_max_calls": CAP});
    let providers = if n.is_multiple_of(ALONE) {
        json!([{"name": FLAKY, "weight": 1}])
    } else {
        json!([{"name": FLAKY, "weight": 50}, {"name": STEADY, "weight": 50}])
    };
    scene.put(&tenant(n), &providers, &breaker).await
}

/// One run, with an eye on how far the workers are behind.
async fn watched(
    ground: &Ground,
    scene: &Scene,
    crowd: &Crowd,
    what: String,
    run: Run,
) -> Result<Ran, LoadFailed> {
    let before = crowd.counts();
    let began = scene.clock.nanos();
    let mut held = Duration::ZERO;
    let watching = async {
        loop {
            let pages = ground.pages().await;
            let behind = pages.iter().any(|page| page.sum("router_log_lag_entries", &[]) > LAG);
            crowd.hold(behind);
            tokio::time::sleep(LOOK).await;
            if behind {
                held += LOOK;
            }
        }
    };
    let took = tokio::select! {
        took = crowd.run(run) => took?,
        () = watching => Vec::new(),
    };
    crowd.hold(false);
    let seconds = seconds(scene.clock.nanos() - began);
    let counts = crowd.counts().less(&before);
    scene.out.line(&format!(
        "4. {what}: {} requests, {} a second",
        counts.asked,
        number(rate(counts.asked, seconds).round())
    ));
    Ok(Ran { what, seconds, counts, took, held })
}

/// Goes on asking, with nothing failing, until every breaker is closed.
async fn settle(scene: &Scene, crowd: &Crowd, tenants: u64) -> Result<(), LoadFailed> {
    for _ in 0..ROUNDS {
        let mut away = Vec::new();
        for state in [State::Open, State::HalfOpen] {
            let body = json!({"state": state.as_str()});
            let listed = scene.control.request_all("breaker.list", &body, "breakers").await;
            let mut listed = listed
                .map_err(|source| LoadFailed::Control { verb: "breaker.list", source: Box::new(source) })?;
            let Value::Array(breakers) = listed["breakers"].take() else { continue };
            away.extend(breakers.into_iter().filter(|b| is_ours(&b["tenant_id"])));
        }
        if away.is_empty() {
            return Ok(());
        }
        crowd.run(Run { clients: 20, requests: tenants * 10, failures: false }).await?;
        tokio::time::sleep(PAUSE).await;
    }
    Err(LoadFailed::Awaited { what: "every breaker is closed again".to_owned(), seconds: SOON.as_secs() })
}

fn is_ours(tenant_id: &Value) -> bool {
    tenant_id.as_str().is_some_and(|id| id.starts_with("crowd-"))
}

/// Reads all transitions that the stream of events holds: whether each follows the one before, is one
/// that may be, and waited for its deadline.
async fn transitions(section: &mut Section, scene: &Scene) -> Result<(), LoadFailed> {
    let kept = scene.client.kept_transitions().await?;
    let moves: Vec<Move> = kept
        .into_iter()
        .filter(|m| is_ours(&m["tenant_id"]))
        .filter_map(|m| serde_json::from_value(m).ok())
        .collect();
    let counted = |to| moves.iter().filter(|m| m.to == to).count() as u64;
    let (opened, closed) = (counted(State::Open), counted(State::Closed));
    let Invalid { unchained, illegal, early, left_open } = invalid(&moves);
    section.at_least("openings that the events tell", opened, 1);
    section.at_least("closings that the events tell", closed, 1);
    section.equal("transitions that do not begin where the one before ended", unchained, 0);
    section.equal("transitions that no breaker may make", illegal, 0);
    section.equal("transitions to half-open before the deadline", early, 0);
    section.equal("breakers that the events leave in another state than closed", left_open, 0);
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    section.figure("transitions", "transitions of the breakers", moves.len() as f64);
    Ok(())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Invalid {
    unchained: u64,
    illegal: u64,
    early: u64,
    left_open: u64,
}

fn invalid(moves: &[Move]) -> Invalid {
    let mut invalid = Invalid::default();
    // Where each stands, and until when it must stay open.
    let mut stands: HashMap<(&str, &str), (State, u64)> = HashMap::new();
    for told in moves {
        let key = (told.tenant_id.as_str(), told.provider_id.as_str());
        let (state, until) = stands.get(&key).copied().unwrap_or((State::Closed, 0));
        invalid.unchained += u64::from(told.from != state);
        let legal = matches!(
            (told.from, told.to),
            (State::Closed | State::HalfOpen, State::Open)
                | (State::Open, State::HalfOpen)
                | (State::HalfOpen, State::Closed)
        );
        invalid.illegal += u64::from(!legal);
        invalid.early += u64::from(told.to == State::HalfOpen && told.timestamp < until);
        stands.insert(key, (told.to, told.open_until.unwrap_or(0)));
    }
    invalid.left_open = stands.values().filter(|(state, _)| *state != State::Closed).count() as u64;
    invalid
}

fn tell(section: &mut Section, runs: Vec<Ran>) {
    let mut rows = Vec::new();
    for Ran { what, seconds, counts, mut took, held } in runs {
        let mut ms = |percent| percentile(&mut took, percent).map_or(f64::NAN, |us| f64::from(us) / 1e3);
        let (p50, p99, p999) = (ms(50.0), ms(99.0), ms(99.9));
        let per_second = rate(counts.asked, seconds);
        let name = what.replace([' ', ','], "_").replace("__", "_");
        section.figure(
            format!("{name}_per_second"),
            format!("{what}: requests a second"),
            per_second.round(),
        );
        section.figure(format!("{name}_p99_ms"), format!("{what}: 99th percentile of an answer, ms"), p99);
        rows.push(vec![
            what,
            counts.asked.to_string(),
            counts.decided.to_string(),
            counts.fail_fast.to_string(),
            counts.pushed.to_string(),
            counts.results.to_string(),
            format!("{seconds:.1} s"),
            number(per_second.round()),
            format!("{} ms", number(p50)),
            format!("{} ms", number(p99)),
            format!("{} ms", number(p999)),
            format!("{:.1} s", held.as_secs_f64()),
        ]);
    }
    section.tables.push(Grid {
        title:
            "Runs; each client asks, waits, reports, and asks again. \"Held\" is how long the clients waited \
                because a worker was more than 5000 entries behind the log"
                .to_owned(),
        headings: vec![
            "RUN",
            "REQUESTS",
            "DECIDED",
            "FAIL-FAST",
            "PUSHED",
            "RESULTS",
            "TOOK",
            "A SECOND",
            "P50",
            "P99",
            "P99.9",
            "HELD",
        ],
        rows,
    });
}

#[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(tenant: &str, from: State, to: State, timestamp: u64, open_until: Option<u64>) -> Move {
        Move {
            tenant_id: tenant.to_owned(),
            provider_id: FLAKY.to_owned(),
            from,
            to,
            reason: String::new(),
            failure_count: 0,
            position: timestamp,
            timestamp,
            open_until,
        }
    }

    #[test]
    fn transitions_that_may_not_be_are_found() {
        use State::{Closed, HalfOpen, Open};
        let good = [
            told("a", Closed, Open, 10, Some(20)),
            told("b", Closed, Open, 11, Some(21)),
            told("a", Open, HalfOpen, 20, None),
            told("a", HalfOpen, Open, 22, Some(32)),
            told("b", Open, HalfOpen, 30, None),
            told("a", Open, HalfOpen, 33, None),
            told("a", HalfOpen, Closed, 34, None),
            told("b", HalfOpen, Closed, 35, None),
        ];
        assert_eq!(invalid(&good), Invalid::default());
        assert_eq!(invalid(&good[..7]), Invalid { left_open: 1, ..Invalid::default() });
        let early =
            [good[0].clone(), told("a", Open, HalfOpen, 19, None), told("a", HalfOpen, Closed, 20, None)];
        assert_eq!(invalid(&early), Invalid { early: 1, ..Invalid::default() });
        let illegal = [good[0].clone(), told("a", Open, Closed, 20, None)];
        assert_eq!(invalid(&illegal), Invalid { illegal: 1, ..Invalid::default() });
        let unchained = [good[0].clone(), told("a", HalfOpen, Closed, 20, None)];
        assert_eq!(invalid(&unchained), Invalid { unchained: 1, ..Invalid::default() });
    }
}
