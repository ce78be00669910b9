//! A steady load with a result for each decision, and what it takes.

use std::time::Duration;

use super::super::BenchFailed;
use super::super::figures::Run;
use super::super::process::{Used, resident_bytes};
use super::super::rounds::questions;
use super::super::site::{Deployment, PROVIDERS, PolicyKind, Site};
use super::{Pace, wall_ms};
use crate::nats::measuring::{Asked, Load, LogSize, Reports, Tap, Volume, ask, report_at};

/// How the providers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Providers {
    /// All are well.
    AllWell,
    /// The one that half of all requests go to is down.
    OneDown,
}

impl Providers {
    pub(super) const ALL: [Self; 2] = [Self::AllWell, Self::OneDown];

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::AllWell => "providers well",
            Self::OneDown => "one provider down",
        }
    }

    const fn down(self) -> Option<&'static str> {
        match self {
            Self::AllWell => None,
            Self::OneDown => Some(PROVIDERS[0].0),
        }
    }
}

/// What one deployment did and took under the load.
#[derive(Clone, Debug)]
pub(in super::super) struct Steady {
    pub(super) providers: Providers,
    pub(super) run: Run,
    /// Results published.
    pub(super) results: u64,
    /// From before the first request until after the last result.
    pub(super) seconds: f64,
    /// What the streams grew by.
    pub(super) grown: LogSize,
    pub(super) met: Volume,
    pub(super) tallies: Volume,
    /// Blocks as workers published them, copies that the broker dropped included.
    pub(super) blocks: Volume,
}

/// When a load lasted, in milliseconds since the Unix epoch, without its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from_ms: u64,
    pub(super) to_ms: u64,
}

/// Publishes results for a while, as a history.
pub(super) async fn results(
    site: &Site,
    deployment: &Deployment,
    per_second: u32,
    lasting: Duration,
) -> Result<(), BenchFailed> {
    const NAMES: [&str; 3] = [PROVIDERS[0].0, PROVIDERS[1].0, PROVIDERS[2].0];
    let (subject, tenants) = (deployment.names.exec_result.clone(), deployment.plan.tenants);
    report_at(site.settings().clone(), subject, per_second, lasting, tenants, &NAMES).await?;
    deployment.all_applied().await?;
    Ok(())
}

/// Asks at a fixed rate, and reports a result for each answer.
pub(super) async fn measure(
    site: &Site,
    deployment: &Deployment,
    per_second: u32,
    providers: Providers,
    pace: Pace,
) -> Result<(Steady, Span), BenchFailed> {
    let names = &deployment.names;
    let subject = |of: &str| format!("{}{of}", names.log_prefix);
    let taps = [subject("met"), subject("tally"), format!("{}*.block", names.rollout_prefix)];
    let tap = Tap::open(site.settings(), &taps).await?;
    let before = deployment.stock(site.settings()).await?;
    let mut questions =
        questions(&names.decide, PolicyKind::OFF.id, deployment.plan.tenants, b"{\"ok\":true");
    questions.results = Some(Reports { subject: names.exec_result.clone(), down: providers.down() });
    let (responders, broker) = (deployment.ids(), site.broker_id());
    let sampled = responders.clone();
    let sample = move || Used::by(&sampled, broker);
    let began_ms = wall_ms();
    // A block to warm up: breakers of the provider that is down have opened by then.
    let load = Load::Open { per_second };
    let asked: Asked<Used> =
        ask(site.settings().clone(), questions, load, pace.block, pace.lasting, sample).await?;
    let to_ms = wall_ms();
    let results = asked.results;
    deployment.all_applied().await?;
    let after = deployment.stock(site.settings()).await?;
    let volumes = tap.volumes();
    let volume = |at: usize| volumes.get(at).copied().unwrap_or_default();
    let resident = responders.iter().map(|id| resident_bytes(*id)).sum();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let steady = Steady {
        providers,
        run: Run::of(asked, resident, None),
        results,
        seconds: Duration::from_millis(to_ms.saturating_sub(began_ms)).as_secs_f64(),
        grown: LogSize {
            last: after.last - before.last,
            bytes: after.bytes.saturating_sub(before.bytes),
            usage: after.usage - before.usage,
            rollout_messages: after.rollout_messages - before.rollout_messages,
            rollout_bytes: after.rollout_bytes - before.rollout_bytes,
        },
        met: volume(0),
        tallies: volume(1),
        blocks: volume(2),
    };
    Ok((steady, Span { from_ms: began_ms + millis(pace.block), to_ms }))
}
