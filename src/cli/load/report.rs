//! What a run showed: bounds kept or not, figures, tables; for a terminal and as JSON.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Length, LoadArgs};
use crate::cli::output::Table;
use crate::cli::stand::Machine;

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) began: String,
    pub(super) length: &'static str,
    pub(super) workers: u8,
    pub(super) version: &'static str,
    /// `release`, or `debug`.
    pub(super) build: &'static str,
    pub(super) nats_server: String,
    pub(super) machine: Machine,
    #[serde(rename = "scenarios")]
    pub(super) sections: Vec<Section>,
    /// Whether every worker ended with exit status 0 when it was asked to.
    pub(super) drained: bool,
}

/// One scenario.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) seconds: f64,
    pub(super) bounds: Vec<Bound>,
    pub(super) figures: Vec<Figure>,
    pub(super) tables: Vec<Grid>,
}

/// What must hold, and what was found.
#[derive(Debug, Serialize)]
pub(super) struct Bound {
    pub(super) what: String,
    pub(super) wanted: String,
    pub(super) found: String,
    pub(super) kept: bool,
}

/// A measured figure, judged or not.
#[derive(Debug, Serialize)]
pub(super) struct Figure {
    /// For machines.
    pub(super) name: String,
    /// For people, with its unit.
    pub(super) means: String,
    pub(super) value: f64,
}

/// Figures in rows.
#[derive(Debug, Serialize)]
pub(super) struct Grid {
    pub(super) title: String,
    pub(super) headings: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Report {
    pub(super) fn new(args: &LoadArgs, nats_server: &str, began: SystemTime) -> Self {
        let format = time::format_description::well_known::Rfc3339;
        let began = time::OffsetDateTime::from(began).replace_nanosecond(0).ok();
        Self {
            began: began.and_then(|t| t.format(&format).ok()).unwrap_or_default(),
            length: match args.length() {
                Length::Short => "short",
                Length::Usual => "usual",
                Length::Full => "full",
            },
            workers: args.workers,
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            nats_server: nats_server.to_owned(),
            machine: Machine::this(),
            sections: Vec::new(),
            drained: false,
        }
    }

    /// Notes how the workers ended.
    pub(super) fn drained(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// Whether every scenario kept its bounds, and nothing had to be killed.
    pub(super) fn passed(&self) -> bool {
        self.drained && self.sections.iter().all(Section::passed)
    }

    /// What was not kept.
    pub(super) fn missed(&self) -> Vec<String> {
        let of = |section: &Section| {
            let missed = section.bounds.iter().filter(|bound| !bound.kept);
            let number = section.number;
            missed
                .map(move |b| format!("{number}: {}: {}, wanted {}", b.what, b.found, b.wanted))
                .collect::<Vec<_>>()
        };
        let mut missed: Vec<String> = self.sections.iter().flat_map(of).collect();
        if !self.drained {
            missed.push("every worker drains and ends with exit status 0".to_owned());
        }
        missed
    }

    /// For machines.
    pub(super) fn json(&self) -> Value {
        let mut body = serde_json::to_value(self).unwrap_or_default();
        body["ok"] = self.passed().into();
        for (section, body) in
            self.sections.iter().zip(body["scenarios"].as_array_mut().into_iter().flatten())
        {
            body["passed"] = section.passed().into();
            let figures = section.figures.iter().map(|f| (f.name.clone(), json!(f.value)));
            body["figures"] = Value::Object(figures.collect());
        }
        body
    }

    /// What it ran on, in one line.
    pub(super) fn ran_on(&self) -> String {
        format!(
            "beamline-router {} ({} build), {} workers, nats-server {}; {}",
            self.version,
            self.build,
            self.workers,
            self.nats_server,
            self.machine.told()
        )
    }

    /// For a terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new(), self.ran_on()];
        for section in &self.sections {
            lines.push(String::new());
            lines.push(section.headline());
            let mut bounds = Table::new(&["", "BOUND", "WANTED", "FOUND"]);
            for bound in &section.bounds {
                let kept = if bound.kept { "ok" } else { "NOT" };
                bounds.row([kept.to_owned(), bound.what.clone(), bound.wanted.clone(), bound.found.clone()]);
            }
            push(&mut lines, &bounds);
            if !section.figures.is_empty() {
                let mut figures = Table::new(&["FIGURE", ""]);
                section.figures.iter().for_each(|f| figures.row([f.means.clone(), number(f.value)]));
                push(&mut lines, &figures);
            }
            for grid in &section.tables {
                lines.push(format!("  {}", grid.title));
                let mut table = Table::new(&grid.headings);
                grid.rows.iter().for_each(|row| table.row(row.clone()));
                push(&mut lines, &table);
            }
        }
        lines.push(String::new());
        lines.push(match (self.passed(), self.drained) {
            (true, _) => "passed: every bound was kept; nothing is left running".to_owned(),
            (false, true) => format!("not passed: {} bounds; nothing is left running", self.missed().len()),
            (false, false) => "not passed; not all workers drained in time, those were killed".to_owned(),
        });
        lines
    }
}

fn push(lines: &mut Vec<String>, table: &Table) {
    lines.extend(table.to_string().lines().map(|line| format!("  {line}")));
}

/// A figure with as many digits as it has to tell.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// What each scenario is called, and what it is for.
const SCENARIOS: [(&str, &str); 5] = [
    (
        "error spike opens the circuit",
        "A provider fails at once and all the time. Its breaker opens at exactly the fifth failure in a row, and \
         every worker answers fail-fast from then on.",
    ),
    (
        "normalisation closes the circuit",
        "The provider is well again. The breaker lets no request through before its deadline, then as many probes \
         as the cap allows, and closes at exactly the second success.",
    ),
    (
        "half of the calls fail for a whole window",
        "What the router tells of requests, failures and their share is what a recount tells; a threshold of a half \
         opens at the tenth result, one above a half does not.",
    ),
    (
        "concurrency, and a day of traffic",
        "Many clients at once, then a day of traffic as fast as it goes: every request is answered, every entry is \
         in the log once, the breakers move as they may, and probes stay below their cap.",
    ),
    (
        "a rollout, an outage, and a harmed tenant",
        "A rollout switches breakers on from a canary to all tenants. An outage hits both arms and rolls nobody back; \
         one tenant's fallback is broken, and that tenant alone is rolled back, from a position of the log on.",
    ),
];

impl Section {
    /// A scenario without anything found yet; they are numbered from 1.
    pub(super) fn new(number: u8) -> Self {
        let scenario = SCENARIOS.get(usize::from(number).wrapping_sub(1));
        let (name, meaning) = scenario.copied().unwrap_or_default();
        Self {
            number,
            name,
            meaning,
            seconds: 0.0,
            bounds: Vec::new(),
            figures: Vec::new(),
            tables: Vec::new(),
        }
    }

    /// A scenario that ended because something did not happen.
    pub(super) fn without(number: u8, what: &str, seconds: u64) -> Self {
        let mut section = Self::new(number);
        section.holds(what, &format!("within {seconds} s"), "it did not happen".to_owned(), false);
        section
    }

    pub(super) fn passed(&self) -> bool {
        self.bounds.iter().all(|bound| bound.kept)
    }

    pub(super) fn headline(&self) -> String {
        let Self { number, name, seconds, .. } = self;
        let kept = self.bounds.iter().filter(|bound| bound.kept).count();
        let passed = if self.passed() { "passed" } else { "NOT PASSED" };
        format!("{number}. {name}: {passed}, {kept} of {} bounds kept, {seconds:.1} s", self.bounds.len())
    }

    /// A count that must be this one.
    pub(super) fn equal(&mut self, what: impl Into<String>, found: u64, wanted: u64) {
        self.push(what, wanted.to_string(), found.to_string(), found == wanted);
    }

    /// A count that must not be below.
    pub(super) fn at_least(&mut self, what: impl Into<String>, found: u64, least: u64) {
        self.push(what, format!("at least {least}"), found.to_string(), found >= least);
    }

    /// A count that must not be above.
    pub(super) fn at_most(&mut self, what: impl Into<String>, found: u64, most: u64) {
        self.push(what, format!("at most {most}"), found.to_string(), found <= most);
    }

    /// Milliseconds that must not be above.
    pub(super) fn within(&mut self, what: impl Into<String>, found_ms: f64, most_ms: f64) {
        let (wanted, found) = (format!("at most {} ms", number(most_ms)), format!("{} ms", number(found_ms)));
        self.push(what, wanted, found, found_ms <= most_ms);
    }

    /// What is true or not.
    pub(super) fn holds(&mut self, what: impl Into<String>, wanted: &str, found: String, kept: bool) {
        self.push(what, wanted.to_owned(), found, kept);
    }

    fn push(&mut self, what: impl Into<String>, wanted: String, found: String, kept: bool) {
        self.bounds.push(Bound { what: what.into(), wanted, found, kept });
    }

    /// A figure that is told and not judged.
    pub(super) fn figure(&mut self, name: impl Into<String>, means: impl Into<String>, value: f64) {
        self.figures.push(Figure { name: name.into(), means: means.into(), value });
    }
}

/// The value that so many of a hundred do not exceed; none of nothing. Sorts.
pub(super) fn percentile<T: Copy + Ord>(values: &mut [T], percent: f64) -> Option<T> {
    values.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "counts lie far below 2^53")]
    let rank = (values.len() as f64 * percent / 100.0).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank is a small count")]
    let rank = rank as usize;
    values.get(rank.max(1).min(values.len()).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50));
        assert_eq!(percentile(&mut values, 99.0), Some(99));
        assert_eq!(percentile(&mut values, 99.9), Some(100));
        assert_eq!(percentile(&mut [7], 1.0), Some(7));
        assert_eq!(percentile::<u32>(&mut [], 50.0), None);
    }

    #[test]
    fn a_scenario_passes_by_its_bounds() {
        let mut section = Section::new(1);
        section.equal("a", 1, 1);
        section.within("b", 0.5, 1.0);
        section.at_most("c", 3, 3);
        section.at_least("d", 3, 3);
        assert!(section.passed());
        for miss in [
            |s: &mut Section| s.equal("a", 1, 2),
            |s: &mut Section| s.within("b", 1.1, 1.0),
            |s: &mut Section| s.at_most("c", 4, 3),
            |s: &mut Section| s.at_least("d", 2, 3),
            |s: &mut Section| s.holds("e", "x", String::new(), false),
        ] {
            let mut section = Section::new(1);
            miss(&mut section);
            assert!(!section.passed(), "{:?}", section.bounds);
        }
    }

    #[test]
    fn figures_have_the_digits_that_they_need() {
        let told = [3.0, 0.123_44, 12.34, 1_234.5].map(number);
        assert_eq!(told, ["3", "0.123", "12.3", "1234"]);
    }
}
