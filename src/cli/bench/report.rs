use serde_json::{Map, Value, json};

use super::bars::{Bar, bars, ratio};
use super::figures::{Figure, Spread};
use super::groups::{Measured, Series};
use super::rollout;
use crate::cli::output::{Output, Table};

/// For machines.
pub(super) fn json(measured: &Measured) -> Value {
    let series: Vec<Value> = measured.series.iter().map(|series| one(measured, series)).collect();
    let bars: Vec<Value> = bars(measured)
        .iter()
        .map(|bar| json!({"bar": bar.what, "wanted": bar.wanted, "measured": bar.measured.json(), "met": bar.met}))
        .collect();
    let following = measured.following.as_ref().map(|f| {
        json!({
            "per_second": f.per_second, "published": f.published, "seconds": seconds(f.nanos),
            "applied": f.entries, "behind_ms": f.behind_ms, "worker_cpu_us": f.worker_cpu_us,
        })
    });
    let memory = measured.memory.map(|m| {
        json!({
            "breakers": m.breakers, "empty_bytes": m.empty_bytes, "full_bytes": m.full_bytes,
            "setup_seconds": m.setup.as_secs_f64(),
        })
    });
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "optimized": !cfg!(debug_assertions),
        "nats_server": measured.broker,
        "machine": measured.machine.json(),
        "serve": measured.serve,
        "rounds": measured.effort.rounds,
        "seconds": measured.effort.lasting.as_secs_f64(),
        "void": measured.void(),
        "measurements": series,
        "following": following,
        "memory": memory,
        "rollout": measured.rollout.as_ref().map(rollout::json),
        "trace_bytes": measured.trace_bytes,
        "idle_bytes": measured.idle_bytes,
        "bars": bars,
    })
}

fn one(measured: &Measured, series: &Series) -> Value {
    let sum = |of: fn(&super::figures::Run) -> u64| series.runs.iter().map(of).sum::<u64>();
    let mut figures = Map::new();
    for figure in shown(series) {
        figures.insert(figure.key().to_owned(), series.spread(figure).json());
    }
    let to_floor = floor_of(measured, series).map(Spread::json);
    let followed: Vec<_> = series.runs.iter().filter_map(|run| run.followed).collect();
    let flown = (!followed.is_empty()).then(|| {
        json!({
            "published": followed.iter().map(|f| f.published).sum::<u64>(),
            "in_log": followed.iter().map(|f| f.entries).sum::<u64>(),
            "usage_events": followed.iter().map(|f| f.usage_events).sum::<u64>(),
        })
    });
    json!({
        "group": series.group.key(),
        "load": series.load,
        "target": series.target,
        "sent": sum(|run| run.sent),
        "answered": sum(|run| run.answered),
        "bad": sum(|run| run.bad),
        "results": flown,
        "per_second_to_floor": to_floor,
        "figures": figures,
    })
}

fn shown(series: &Series) -> impl Iterator<Item = Figure> {
    let results = series.runs.iter().any(|run| run.followed.is_some());
    Figure::ALL.into_iter().filter(move |figure| results || !figure.is_of_results())
}

/// Its rate to that of the floor under the same load.
fn floor_of(measured: &Measured, series: &Series) -> Option<Spread> {
    if series.target == "floor" {
        return None;
    }
    let floor = measured.find(series.group, &series.load, "floor");
    ratio(Some(series), floor, Figure::PerSecond)
}

/// For people.
pub(super) fn tell(measured: &Measured, out: Output) {
    let effort = measured.effort;
    out.line(&format!(
        "beamline-router {} ({}), nats-server {}",
        env!("CARGO_PKG_VERSION"),
        if cfg!(debug_assertions) { "a debug build: its figures mean nothing" } else { "release build" },
        measured.broker
    ));
    out.line(&measured.machine.told());
    out.line(&format!(
        "{} rounds of {:?} each; medians, with the least and the greatest in brackets; times in µs",
        effort.rounds, effort.lasting
    ));
    out.line("");
    let mut table = Table::new(&[
        "GROUP",
        "LOAD",
        "WHO",
        "A SECOND",
        "OF FLOOR",
        "P50",
        "P95",
        "P99",
        "P99.9",
        "CPU",
        "BROKER CPU",
        "ASKER CPU",
        "MB",
    ]);
    for series in &measured.series {
        let spread = |figure| series.spread(figure);
        let rate = spread(Figure::PerSecond);
        let floor = floor_of(measured, series);
        let plain = |figure, digits: usize| format!("{:.digits$}", spread(figure).median);
        table.row([
            series.group.key().to_owned(),
            series.load.clone(),
            series.target.clone(),
            format!("{:.0} [{:.0} {:.0}]", rate.median, rate.min, rate.max),
            floor.map_or("-".to_owned(), |f| format!("{:.2} [{:.2} {:.2}]", f.median, f.min, f.max)),
            plain(Figure::P50, 0),
            plain(Figure::P95, 0),
            plain(Figure::P99, 0),
            plain(Figure::P999, 0),
            plain(Figure::ResponderCpu, 2),
            plain(Figure::BrokerCpu, 2),
            plain(Figure::AskerCpu, 2),
            plain(Figure::Resident, 1),
        ]);
    }
    out.table(&table);
    results(measured, out);
    if let Some(rollout) = &measured.rollout {
        rollout::tell(rollout, out);
    }
    tell_bars(&bars(measured), out);
    if let Some(void) = measured.void() {
        out.error(&format!("void: {void}"));
    }
}

fn results(measured: &Measured, out: Output) {
    let mut table = Table::new(&[
        "RESULTS FLOWING",
        "LOAD",
        "RESULTS A SECOND",
        "BEHIND MS",
        "PUBLISHED",
        "IN THE LOG",
        "USAGE EVENTS",
    ]);
    let mut any = false;
    for series in &measured.series {
        let followed: Vec<_> = series.runs.iter().filter_map(|run| run.followed).collect();
        if followed.is_empty() {
            continue;
        }
        any = true;
        let rate = series.spread(Figure::FollowedPerSecond);
        table.row([
            series.target.clone(),
            series.load.clone(),
            format!("{:.0} [{:.0} {:.0}]", rate.median, rate.min, rate.max),
            format!("{:.1}", series.spread(Figure::Behind).median),
            followed.iter().map(|f| f.published).sum::<u64>().to_string(),
            followed.iter().map(|f| f.entries).sum::<u64>().to_string(),
            followed.iter().map(|f| f.usage_events).sum::<u64>().to_string(),
        ]);
    }
    if any {
        out.line("");
        out.table(&table);
    }
    if let Some(f) = &measured.following {
        let behind = Spread::of(f.behind_ms.iter().copied());
        out.line("");
        out.line(&format!(
            "{} results at {} a second: {} applied, {:.2} µs of CPU each; behind by {:.1} ms [{:.1} {:.1}]",
            f.published, f.per_second, f.entries, f.worker_cpu_us, behind.median, behind.min, behind.max
        ));
        let told: Vec<String> = f.behind_ms.iter().map(|ms| format!("{ms:.0}")).collect();
        out.line(&format!("behind, in ms, every 250 ms: {}", told.join(" ")));
    }
    if let Some(m) = measured.memory {
        out.line("");
        out.line(&format!(
            "{} breakers: {} MB resident, {} MB without policies; set up in {:.0} s",
            m.breakers,
            m.full_bytes / 1_000_000,
            m.empty_bytes / 1_000_000,
            m.setup.as_secs_f64()
        ));
    }
}

fn tell_bars(bars: &[Bar], out: Output) {
    let mut table = Table::new(&["BAR", "WANTED", "MEASURED", "MET"]);
    for bar in bars {
        let Spread { median, min, max } = bar.measured;
        let digits = if median >= 100.0 { 0 } else { 3 };
        let spread = if min == max {
            format!("{median:.digits$}")
        } else {
            format!("{median:.digits$} [{min:.digits$} {max:.digits$}]")
        };
        let met = if bar.met { "yes" } else { "no" };
        table.row([bar.what.to_owned(), bar.wanted.clone(), spread, met.to_owned()]);
    }
    out.line("");
    out.table(&table);
}

#[expect(clippy::cast_precision_loss, reason = "seconds for people")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}
