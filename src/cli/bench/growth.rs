//! What no rounds are needed for: how a worker follows a flood of results, and what it resides in.

use std::time::Duration;

use super::BenchFailed;
use super::figures::{float, per};
use super::groups::{Following, Memory};
use super::process::{cpu_nanos, resident_bytes};
use super::site::{PROVIDERS, Plan, PolicyKind, Site};
use crate::clock::Clock;
use crate::nats::measuring::report_at;

const PER_SECOND: u32 = 100_000;
const FLOOD: Duration = Duration::from_secs(10);
/// Some ten thousand breakers.
const TENANTS: u32 = 3_333;
const LOOK: Duration = Duration::from_millis(250);

/// Publishes results at a fixed rate, and asks again and again how far behind the worker is: a reset of
/// a breaker is appended to the log like a result, and answered once it is in force.
pub(super) async fn following(site: &Site) -> Result<Following, BenchFailed> {
    const NAMES: [&str; 3] = [PROVIDERS[0].0, PROVIDERS[1].0, PROVIDERS[2].0];
    let deployment = site.deploy(Plan::usual("following", TENANTS)).await?;
    let before = deployment.stock(site.settings()).await?;
    let ids = deployment.ids();
    let cpu = || ids.iter().map(|id| cpu_nanos(*id)).sum::<u64>();
    let used = cpu();
    let clock = Clock::start();
    let flood = report_at(
        site.settings().clone(),
        deployment.names.exec_result.clone(),
        PER_SECOND,
        FLOOD,
        TENANTS,
        &NAMES,
    );
    let mut flood = std::pin::pin!(flood);
    let mut behind_ms = Vec::new();
    let mut probe = async || {
        let asked = clock.nanos();
        let _resets = deployment.all_applied().await?;
        behind_ms.push(float(clock.nanos() - asked) / 1e6);
        tokio::time::sleep(LOOK).await;
        Ok::<(), BenchFailed>(())
    };
    let reported = loop {
        tokio::select! {
            reported = &mut flood => break reported?,
            probed = probe() => probed?,
        }
    };
    let _resets = deployment.all_applied().await?;
    let used = cpu().saturating_sub(used);
    let probes = behind_ms.len() as u64 + 1;
    let entries = deployment.stock(site.settings()).await?.last - before.last;
    deployment.close().await;
    Ok(Following {
        per_second: PER_SECOND,
        published: reported.count,
        nanos: reported.nanos,
        // A probe that the end of the flood cut short has an entry, too.
        entries: entries.saturating_sub(probes).min(reported.count),
        behind_ms,
        worker_cpu_us: per(used, reported.count) / 1e3,
    })
}

/// A million breakers: a hundred thousand tenants whose policy has ten providers.
pub(super) async fn memory(site: &Site) -> Result<Memory, BenchFailed> {
    let policies = vec![PolicyKind { more_providers: 7, ..PolicyKind::ON }];
    let clock = Clock::start();
    let began = clock.nanos();
    let deployment = site.deploy(Plan { policies, ..Plan::usual("memory", 100_000) }).await?;
    let setup = Duration::from_nanos(clock.nanos() - began);
    let full_bytes = deployment.ids().first().map_or(0, |id| resident_bytes(*id));
    let empty_bytes = deployment.empty_bytes;
    deployment.close().await;
    Ok(Memory { breakers: 1_000_000, empty_bytes, full_bytes, setup })
}
