use serde_json::{Map, Value, json};

use super::super::bars::{Bar, ratio};
use super::super::figures::{Figure, Spread, float};
use super::super::groups::{Group, Measured};
use super::blocks::LONGER;
use super::{Blocks, Rollout, Steady};
use crate::cli::output::{Output, Table};
use crate::nats::measuring::Volume;

/// Units a second that a rollout takes evidence of are 1,000 at most, by its history. A history is a little short of the
/// load that it is measured under.
const MOST_UNITS: f64 = 1_100.0;

/// A figure of a steady load: its heading, its key, how many digits are shown, and how it is read.
type Column = (&'static str, &'static str, usize, fn(&Steady) -> f64);

const COLUMNS: [Column; 11] = [
    ("P50", "p50_us", 0, |s| s.run.figure(Figure::P50)),
    ("P99", "p99_us", 0, |s| s.run.figure(Figure::P99)),
    ("CPU", "responder_cpu_us", 1, |s| s.run.figure(Figure::ResponderCpu)),
    ("BROKER CPU", "broker_cpu_us", 1, |s| s.run.figure(Figure::BrokerCpu)),
    ("MB", "resident_mb", 1, |s| s.run.figure(Figure::Resident)),
    ("ENTRIES", "log_entries_per_second", 0, |s| per_second(s, s.grown.last)),
    ("LOG KB", "log_kb_per_second", 1, |s| per_second(s, s.grown.bytes) / 1e3),
    ("MET", "met_entries_per_second", 1, |s| per_second(s, s.met.messages)),
    ("MET KB", "met_kb_per_second", 1, |s| per_second(s, s.met.bytes) / 1e3),
    ("TALLIES", "tallies_per_second", 2, |s| per_second(s, s.tallies.messages)),
    ("TALLY KB", "tally_kb_per_second", 1, |s| per_second(s, s.tallies.bytes) / 1e3),
];

fn per_second(steady: &Steady, count: u64) -> f64 {
    if steady.seconds > 0.0 { float(count) / steady.seconds } else { 0.0 }
}

/// Why the figures mean nothing, if they don't.
pub(in super::super) fn void(rollout: &Rollout) -> Option<String> {
    let steady = || rollout.steady.iter().flatten();
    let unanswered = steady().find(|s| s.run.answered != s.run.sent || s.run.bad > 0).map(|s| {
        let (sent, answered, bad) = (s.run.sent, s.run.answered, s.run.bad);
        format!(
            "rollout, {}: {answered} of {sent} requests were answered, {bad} of them badly",
            s.providers.words()
        )
    });
    unanswered.or_else(|| {
        let lost = steady().find(|s| s.grown.last < s.results)?;
        Some(format!("rollout, {}: results are missing in the log", lost.providers.words()))
    })
}

/// What must hold.
pub(in super::super) fn bars(measured: &Measured) -> Vec<Bar> {
    let mut bars = Vec::new();
    for (load, what) in [
        ("64 in flight", "decisions a second with a rollout to without, 64 in flight"),
        ("512 in flight", "decisions a second with a rollout to without, 512 in flight"),
    ] {
        let find = |target| measured.find(Group::Rollout, load, target);
        let found = ratio(find("rollout"), find("without"), Figure::PerSecond);
        bars.extend(found.map(|found| Bar::at_least(what, 0.95, found)));
    }
    if let Some(rollout) = &measured.rollout {
        let broken = rollout.blocks.iter().map(|blocks| blocks.broken).sum::<u64>() + rollout.differ;
        let broken = Spread::of([float(broken)]);
        bars.push(Bar::at_most("windows missing, incomplete, or counted otherwise by a worker", 0.0, broken));
        let units = Spread::of(rollout.blocks.iter().map(|blocks| blocks.units_per_second));
        bars.push(Bar::at_most("units a second that a rollout takes evidence of", MOST_UNITS, units));
    }
    bars.into_iter().map(Bar::required).collect()
}

/// For machines.
pub(in super::super) fn json(rollout: &Rollout) -> Value {
    let volume = |volume: Volume| json!({"messages": volume.messages, "bytes": volume.bytes});
    let of = |steady: &Steady| {
        let figures: Map<String, Value> =
            COLUMNS.iter().map(|(_, key, _, read)| ((*key).to_owned(), json!(read(steady)))).collect();
        json!({
            "figures": figures,
            "sent": steady.run.sent, "answered": steady.run.answered, "results": steady.results,
            "met": volume(steady.met), "tallies": volume(steady.tallies), "blocks_published": volume(steady.blocks),
            "rollout_messages": steady.grown.rollout_messages, "rollout_bytes": steady.grown.rollout_bytes,
        })
    };
    let loads = rollout.steady.iter().zip(&rollout.blocks).map(|([without, with], blocks)| {
        let longer = LONGER.iter().zip(&blocks.longer_bytes);
        let longer: Map<String, Value> = longer
            .map(|((name, _, in_60_days), bytes)| {
                let of =
                    json!({"bytes": bytes.round(), "bytes_in_60_days": (bytes * float(*in_60_days)).round()});
                ((*name).to_owned(), of)
            })
            .collect();
        json!({
            "load": with.providers.words(),
            "without": of(without),
            "rollout": of(with),
            "blocks": {
                "windows": blocks.windows, "broken": blocks.broken, "messages": blocks.messages.json(),
                "bytes": blocks.bytes.json(), "rows": blocks.rows.json(),
                "asked_per_second": blocks.asked_per_second, "units_per_second": blocks.units_per_second,
                "met_per_second": blocks.met_per_second, "longer": longer,
            },
        })
    });
    json!({
        "tenants": rollout.tenants, "per_second": rollout.per_second,
        "block_ms": u64::try_from(rollout.pace.block.as_millis()).unwrap_or(u64::MAX),
        "blocks_differ": rollout.differ, "loads": loads.collect::<Vec<_>>(),
    })
}

/// For people.
pub(in super::super) fn tell(rollout: &Rollout, out: Output) {
    let mut headings = vec!["STEADY LOAD", "WHO"];
    headings.extend(COLUMNS.iter().map(|(heading, ..)| *heading));
    let mut table = Table::new(&headings);
    for [without, with] in &rollout.steady {
        let load = with.providers.words();
        let mut row = |who: &str, figure: &dyn Fn(&Column) -> String| {
            table.row([load.to_owned(), who.to_owned()].into_iter().chain(COLUMNS.iter().map(figure)));
        };
        let plain = |value: f64, digits: usize| format!("{value:.digits$}");
        row("without", &|(_, _, digits, read)| plain(read(without), *digits));
        row("rollout", &|(_, _, digits, read)| plain(read(with), *digits));
        row("difference", &|(_, _, digits, read)| plain(read(with) - read(without), *digits));
        row("ratio", &|(_, _, _, read)| {
            let base = read(without);
            if base > 0.0 { plain(read(with) / base, 2) } else { "-".to_owned() }
        });
    }
    out.line("");
    out.line(&format!(
        "{} tenants, {} requests a second with a result each; entries, KB, met and tallies a second",
        rollout.tenants, rollout.per_second
    ));
    out.table(&table);
    out.line("");
    for ([_, with], blocks) in rollout.steady.iter().zip(&rollout.blocks) {
        tell_blocks(rollout, with, blocks, out);
    }
}

fn tell_blocks(rollout: &Rollout, with: &Steady, blocks: &Blocks, out: Output) {
    out.line(&format!(
        "{}: {} windows of {:?}, {} missing or incomplete; {:.0} rows, {:.1} messages and {:.0} kB each",
        with.providers.words(),
        blocks.windows,
        rollout.pace.block,
        blocks.broken,
        blocks.rows.median,
        blocks.messages.median,
        blocks.bytes.median / 1e3
    ));
    out.line(&format!(
        "  a second: {:.0} requests answered in the sample, {:.0} units, {:.0} of them met a breaker",
        blocks.asked_per_second, blocks.units_per_second, blocks.met_per_second
    ));
    out.line(&format!(
        "  stream of rollouts: {} messages, {:.1} MB; published with copies: {} messages, {:.1} MB",
        with.grown.rollout_messages,
        float(with.grown.rollout_bytes) / 1e6,
        with.blocks.messages,
        float(with.blocks.bytes) / 1e6
    ));
    for ((name, _, in_60_days), bytes) in LONGER.iter().zip(&blocks.longer_bytes) {
        out.line(&format!(
            "  a block of {name} would hold {:.0} kB, {:.1} GB in 60 days",
            bytes / 1e3,
            bytes * float(*in_60_days) / 1e9
        ));
    }
}
