//! What must hold of the figures, and what voids them.

use super::figures::{Figure, Spread, float};
use super::groups::{Group, Measured, Series};
use super::{accounts, pushed, rollout};
use crate::nats::measuring::Latencies;

/// Echoes a second at 512 in flight that a machine must do for its figures to mean something.
pub(super) const LEAST_FLOOR: f64 = 350_000.0;

/// One bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) what: &'static str,
    /// In words.
    pub(super) wanted: String,
    pub(super) measured: Spread,
    pub(super) met: bool,
    /// Whether a run that does not meet it has failed: it is a ratio, or a count, that no slow machine excuses.
    pub(super) required: bool,
}

impl Bar {
    pub(super) fn at_least(what: &'static str, least: f64, measured: Spread) -> Self {
        let met = measured.median >= least;
        Self { what, wanted: format!("≥ {least}"), measured, met, required: false }
    }

    pub(super) fn at_most(what: &'static str, most: f64, measured: Spread) -> Self {
        let met = measured.median <= most;
        Self { what, wanted: format!("≤ {most}"), measured, met, required: false }
    }

    pub(super) fn required(self) -> Self {
        Self { required: true, ..self }
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

/// Why the figures mean nothing, if they don't.
pub(super) fn void(measured: &Measured) -> Option<String> {
    let lost = measured.series.iter().find_map(|series| {
        let run = series.runs.iter().find(|run| run.answered != run.sent || run.bad > 0)?;
        let example = run.a_bad_one.as_deref().map_or(String::new(), |bad| format!(", such as {bad}"));
        Some(format!(
            "{}, {}: {} of {} requests were answered, {} of them badly{example}",
            series.target, series.load, run.answered, run.sent, run.bad
        ))
    });
    let unheard = measured.series.iter().find_map(|series| {
        let followed = series.runs.iter().filter_map(|run| run.followed);
        let lost = followed.into_iter().find(|f| f.entries < f.published)?;
        Some(format!("{}: of {} results {} came into the log", series.target, lost.published, lost.entries))
    });
    let slow = || {
        let floor = measured.find(Group::Closed, "512 in flight", "floor")?.spread(Figure::PerSecond).median;
        let told =
            format!("the floor is {floor:.0} echoes a second at 512 in flight; it must be {LEAST_FLOOR:.0}");
        (floor < LEAST_FLOOR).then_some(told)
    };
    let rollout = measured.rollout.as_ref().and_then(rollout::void);
    lost.or(unheard).or(rollout).or_else(slow)
}

/// The bars that what was measured can tell of.
pub(super) fn bars(measured: &Measured) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut add = |what, wanted: Wanted, found: Option<Spread>| {
        if let Some(found) = found {
            bars.push(match wanted {
                Wanted::AtLeast(least) => Bar::at_least(what, least, found),
                Wanted::AtMost(most) => Bar::at_most(what, most, found),
            });
        }
    };
    let closed = |load, target| measured.find(Group::Closed, load, target);
    let to_floor = |load: &'static str, figure| ratio(closed(load, "router"), closed(load, "floor"), figure);
    let pooled_to_floor =
        |load: &'static str, of: u64| pooled(closed(load, "router")?, closed(load, "floor")?, of);
    use Wanted::{AtLeast, AtMost};
    add(
        "decisions a second to the floor's, 512 in flight",
        AtLeast(0.95),
        to_floor("512 in flight", Figure::PerSecond),
    );
    add(
        "decisions a second to the floor's, 64 in flight",
        AtLeast(0.95),
        to_floor("64 in flight", Figure::PerSecond),
    );
    add(
        "decisions a second to the floor's, 4096 in flight",
        AtLeast(0.95),
        to_floor("4096 in flight", Figure::PerSecond),
    );
    add("p50 to the floor's, 1 in flight", AtMost(1.10), to_floor("1 in flight", Figure::P50));
    add("p99 to the floor's, pooled, 64 in flight", AtMost(1.5), pooled_to_floor("64 in flight", 9_900));
    add("p99 to the floor's, pooled, 512 in flight", AtMost(1.5), pooled_to_floor("512 in flight", 9_900));
    let open = |target| measured.find(Group::Open, "10000 a second", target);
    let p95 = open("router").zip(open("floor")).and_then(|(r, f)| pooled(r, f, 9_500));
    add("p95 to the floor's, pooled, 10k a second", AtMost(1.25), p95);
    let cpu = closed("512 in flight", "router").map(|s| s.spread(Figure::ResponderCpu));
    add("worker CPU a decision in µs, 512 in flight", AtMost(1.6), cpu);
    for (load, what) in [
        ("64 in flight", "worker CPU a decision to the other build's, 64 in flight"),
        ("512 in flight", "worker CPU a decision to the other build's, 512 in flight"),
        ("4096 in flight", "worker CPU a decision to the other build's, 4096 in flight"),
    ] {
        add(what, AtMost(0.80), ratio(closed(load, "router"), closed(load, "before"), Figure::ResponderCpu));
    }
    let breakers = |target| measured.find(Group::Breakers, "64 in flight", target);
    for (what, figure) in [
        ("breakers on to off, p50, 64 in flight", Figure::P50),
        ("breakers on to off, p95, 64 in flight", Figure::P95),
    ] {
        add(what, AtMost(1.05), ratio(breakers("breakers on"), breakers("breakers off"), figure));
    }
    let results = |target| measured.find(Group::Results, "512 in flight", target);
    let followed = |series: &Series| series.spread(Figure::FollowedPerSecond);
    add(
        "decisions with a result each a second, usage off",
        AtLeast(60_000.0),
        results("usageoff").map(followed),
    );
    add(
        "decisions with a result each a second, usage on",
        AtLeast(30_000.0),
        results("usageon").map(followed),
    );
    let tenants = |target| measured.find(Group::Tenants, "512 in flight", target);
    let grown = ratio(tenants("tenants100000"), tenants("tenants1000"), Figure::PerSecond);
    add("decisions a second, 100k tenants to 1k", AtLeast(0.90), grown);
    let idle = measured.idle_bytes.map(|bytes| Spread::of([float(bytes) / 1e6]));
    add("resident memory of an idle worker in MB", AtMost(40.0), idle);
    let each = measured
        .memory
        .map(|m| Spread::of([float(m.full_bytes.saturating_sub(m.empty_bytes)) / float(m.breakers)]));
    add("resident bytes a breaker, at a million", AtMost(1_024.0), each);
    if let Some(following) = &measured.following {
        let quarter = following.behind_ms.len() / 4;
        let first = Spread::of(following.behind_ms.iter().copied().take(quarter));
        let last = Spread::of(following.behind_ms.iter().copied().rev().take(quarter));
        let growth = last.median - first.median;
        add("growth of the lag in ms, 100k results a second", AtMost(20.0), Some(Spread::of([growth])));
    }
    bars.extend(accounts::bars(measured));
    bars.extend(pushed::bars(measured));
    bars.extend(rollout::bars(measured));
    bars
}

/// Of two cases, round by round.
pub(super) fn ratio(of: Option<&Series>, to: Option<&Series>, figure: Figure) -> Option<Spread> {
    let (of, to) = (of?, to?);
    let ratios = of.runs.iter().zip(&to.runs).map(|(of, to)| {
        let base = to.figure(figure);
        if base > 0.0 { of.figure(figure) / base } else { 0.0 }
    });
    Some(Spread::of(ratios))
}

/// Of two cases' quantiles over all rounds together.
fn pooled(of: &Series, to: &Series, of_ten_thousand: u64) -> Option<Spread> {
    let all = |series: &Series| {
        let mut all = Latencies::default();
        series.runs.iter().for_each(|run| all.merge(&run.latencies));
        float(all.quantile(of_ten_thousand))
    };
    let (of, to) = (all(of), all(to));
    (to > 0.0).then(|| Spread::of([of / to]))
}
