//! Whether all was counted once: the crowd's own counts against the streams, the workers' metrics and
//! the broker's monitoring.

use std::time::Duration;

use super::crowd::Counts;
use super::failed::LoadFailed;
use super::ground::{Ground, SOON, Scene};
use super::report::Section;
use crate::cli::stand::Page;
use crate::nats::audit::StreamCounts;

/// Usage events leave a moment after their results.
const LOOK: Duration = Duration::from_millis(50);

/// All counts at one moment at which nothing is under way.
#[derive(Debug)]
pub(super) struct Account {
    pages: Vec<Page>,
    log: StreamCounts,
    /// The last position of the usage stream: it keeps 512 MiB, less than a day of this traffic makes.
    usage: u64,
    /// Messages that the broker took and gave.
    broker: (u64, u64),
}

impl Account {
    /// Waits until nothing is under way, and takes it.
    pub(super) async fn take(ground: &mut Ground, scene: &Scene) -> Result<Self, LoadFailed> {
        let results = &scene.settings.names.exec_result;
        let settled = async {
            loop {
                let (log, usage) = (scene.client.log_counts().await?, scene.client.usage_counts().await?);
                // Each result is metered once; if one never is, the accounts will say so.
                if usage.last >= log.of(results) {
                    return Ok::<_, LoadFailed>((log, usage.last));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let (log, usage) = match tokio::time::timeout(SOON, settled).await {
            Ok(settled) => settled?,
            Err(_) => (scene.client.log_counts().await?, scene.client.usage_counts().await?.last),
        };
        let pages = ground.applied(log.last).await?;
        Ok(Self { pages, log, usage, broker: ground.varz().await? })
    }

    fn sum(&self, family: &str, labels: &[&str]) -> u64 {
        self.pages.iter().map(|page| page.sum(family, labels)).sum()
    }
}

/// Compares what happened between two accounts with what the crowd counted.
pub(super) fn judge(section: &mut Section, own: &Counts, before: &Account, after: &Account, results: &str) {
    let grown = |of: &dyn Fn(&Account) -> u64| of(after).saturating_sub(of(before));
    let counted = |family: &str, labels: &[&str]| grown(&|a| a.sum(family, labels));
    let workers = after.pages.len() as u64;

    section.equal("requests that nobody answered", own.unanswered, 0);
    section.equal("requests answered with another error than circuit_open", own.refused, 0);
    section.equal("answers: decided and fail-fast", own.decided + own.fail_fast, own.asked);
    section.equal(
        "decisions by the workers' own count, against requests",
        counted("router_decisions_total", &[]),
        own.asked,
    );
    section.equal("assignments that executors heard, against those pushed", own.assignments, own.pushed);
    let ended = |outcome: &str| counted("router_assignments_total", &[&format!("outcome=\"{outcome}\"")]);
    section.equal(
        "assignments that their worker saw end by a result, against those pushed",
        ended("result"),
        own.pushed,
    );
    section.equal(
        "assignments that ended by a refusal, an error or their deadline, or are still awaited",
        ["rejected", "error", "timeout", "untold"].map(ended).iter().sum::<u64>()
            + after.sum("router_assignments_in_flight", &[]),
        0,
    );
    section.equal("results acknowledged by the broker, against decisions", own.results, own.decided);
    section.equal("results that the broker did not take", own.lost, 0);
    section.equal(
        format!("messages of {results} in BEAMLINE_LOG, against results"),
        grown(&|a| a.log.of(results)),
        own.results,
    );
    section.equal(
        "messages in BEAMLINE_LOG, against positions given: none is missing",
        grown(&|a| a.log.messages),
        grown(&|a| a.log.last),
    );
    for (n, (now, then)) in after.pages.iter().zip(&before.pages).enumerate() {
        let read = |page: &Page| page.sum("router_results_total", &[]);
        section.equal(
            format!("results that worker {} read, against results", n + 1),
            read(now).saturating_sub(read(then)),
            own.results,
        );
    }
    let unfit = |what: &str| counted("router_results_total", &[&format!("disposition=\"{what}\"")]);
    section.equal("results taken as copies or rejected", unfit("duplicate") + unfit("rejected"), 0);
    section.equal(
        "gaps and rebuilds of the log",
        counted("router_log_gaps_total", &[]) + counted("router_log_rebuilds_total", &[]),
        0,
    );
    section.equal("usage events that BEAMLINE_USAGE took, against results", grown(&|a| a.usage), own.results);
    let digest = |page: &Page| (page.position.clone(), page.digest.clone());
    let first = after.pages.first().map(digest);
    section.equal(
        "workers with the first one's state digest at the log's end",
        after.pages.iter().filter(|page| Some(digest(page)) == first).count() as u64,
        workers,
    );

    // What must have crossed the broker at least; the rest is acknowledgements of consumers, flow control,
    // claims, events and what workers ask once a second.
    let (took, gave) = (grown(&|a| a.broker.0), grown(&|a| a.broker.1));
    let taken = 2 * own.asked + 2 * own.pushed + 2 * own.results;
    let given = 2 * own.asked + own.pushed + own.pushed * workers + own.results * workers + own.results;
    section.at_least(
        "in_msgs of /varz: requests, replies, assignments, acks, results, usage events",
        took,
        taken,
    );
    section.at_least(
        "out_msgs of /varz: requests, replies, assignments, acks and results to every worker, PubAcks",
        gave,
        given,
    );
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    for (name, means, value) in [
        ("broker_in_msgs", "messages that the broker took (in_msgs)", took),
        ("broker_out_msgs", "messages that the broker gave (out_msgs)", gave),
        ("acked", "acks that came before their assignment's result", ended("acked")),
        ("log_messages", "entries of the log", grown(&|a| a.log.messages)),
        ("claims", "claims for probes that the workers made", counted("router_claims_total", &[])),
    ] {
        section.figure(name, means, value as f64);
    }
}
