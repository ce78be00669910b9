//! Tables in Markdown, and whether each figure is as expected.

use std::io::{self, Write};

use crate::runs::Effort;

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Expected {
    /// A promise of the judge.
    AtMost(f64),
    /// Within a tenth of what the judge's reference needed, and `step` besides: the unit in which this or the
    /// reference is measured.
    Near { figure: f64, step: f64 },
    /// Nothing: it is there to be read.
    Anything,
}

impl Expected {
    /// A time in hours that is known to a block of five minutes.
    pub(crate) const fn hours(figure: f64) -> Self {
        Self::Near { figure, step: 1.0 / 12.0 }
    }

    /// As [`Self::Near`], of a figure that is not rounded to a coarse unit.
    pub(crate) const fn near(figure: f64) -> Self {
        Self::Near { figure, step: 0.0 }
    }
}

/// What is measured in a number of runs, beside what it must be.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    /// `None` where it never happened.
    pub(crate) found: Option<f64>,
    pub(crate) expected: Expected,
    pub(crate) runs: u64,
}

pub(crate) struct Report<W> {
    out: W,
    quick: bool,
    failures: u64,
}

impl<W: Write> Report<W> {
    pub(crate) const fn new(out: W, effort: Effort) -> Self {
        Self { out, quick: effort.quick, failures: 0 }
    }

    pub(crate) const fn failures(&self) -> u64 {
        self.failures
    }

    /// A heading and a paragraph.
    pub(crate) fn section(&mut self, title: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n## {title}\n\n{text}\n")
    }

    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.out, "{line}")
    }

    pub(crate) fn head(&mut self, head: &[&str]) -> io::Result<()> {
        self.row(&head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>())?;
        writeln!(self.out, "|{}", "---|".repeat(head.len()))
    }

    pub(crate) fn row(&mut self, cells: &[String]) -> io::Result<()> {
        writeln!(self.out, "| {} |", cells.join(" | "))?;
        self.out.flush()
    }

    /// `yes` where all figures are as expected, `FAIL` where one is not, and nothing where nothing is expected.
    pub(crate) fn kept(&mut self, figures: &[Figure]) -> String {
        if figures.iter().all(|figure| matches!(figure.expected, Expected::Anything)) {
            return String::new();
        }
        if figures.iter().all(|figure| is_kept(figure, self.quick)) {
            return "yes".to_owned();
        }
        self.failures += 1;
        "FAIL".to_owned()
    }

    /// Something that must hold without any tolerance.
    pub(crate) fn held(&mut self, holds: bool) -> String {
        self.failures += u64::from(!holds);
        if holds { "yes" } else { "FAIL" }.to_owned()
    }
}

fn is_kept(figure: &Figure, quick: bool) -> bool {
    let Figure { found, expected, runs } = *figure;
    match expected {
        Expected::Anything => true,
        // Few runs: a judge that just keeps its promise may exceed it, by two standard deviations.
        Expected::AtMost(percent) => {
            let p = percent / 100.0;
            let slack = if quick { 200.0 * (p * (1.0 - p) / runs as f64).sqrt() } else { 0.0 };
            found.is_some_and(|found| found <= percent + slack)
        }
        Expected::Near { figure, step } => {
            let part = if quick { 0.25 } else { 0.1 };
            // A billionth is for the last digit of floats.
            let slack = figure * part + step + 1e-9;
            found.is_some_and(|found| (found - figure).abs() <= slack)
        }
    }
}

/// With so many decimals, or a dash where it never happened.
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

/// Hours with two decimals below one, one decimal below a hundred, and none above.
pub(crate) fn hours(value: Option<f64>) -> String {
    let decimals = match value {
        Some(value) if value < 0.995 => 2,
        Some(value) if value < 99.5 => 1,
        _ => 0,
    };
    number(value, decimals)
}

/// A whole number in groups of three digits.
pub(crate) fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Parts per million as percent.
pub(crate) fn percent(ppm: u64) -> String {
    format!("{} %", ppm as f64 / 1e4)
}

#[cfg(test)]
mod tests {
    use super::{Expected, Figure, Report, grouped, hours};
    use crate::runs::Effort;

    fn kept(quick: bool, found: Option<f64>, expected: Expected) -> bool {
        let mut report = Report::new(Vec::new(), Effort { quick, threads: 1 });
        let word = report.kept(&[Figure { found, expected, runs: 100 }]);
        assert_eq!(report.failures(), u64::from(word == "FAIL"));
        word == "yes"
    }

    #[test]
    fn a_promise_holds_to_the_last_run_and_with_two_deviations_in_a_quick_one() {
        let promise = Expected::AtMost(1.0);
        assert!(kept(false, Some(1.0), promise) && !kept(false, Some(1.01), promise));
        assert!(kept(true, Some(2.9), promise) && !kept(true, Some(3.1), promise));
        assert!(!kept(false, None, promise));
    }

    #[test]
    fn a_figure_lies_within_a_tenth_and_a_step_on_either_side() {
        let near = Expected::near(10.0);
        assert!(kept(false, Some(11.0), near) && kept(false, Some(9.0), near));
        assert!(!kept(false, Some(11.1), near) && !kept(false, Some(8.9), near) && !kept(false, None, near));
        assert!(kept(true, Some(12.4), near) && !kept(true, Some(12.6), near));
        assert!(kept(false, Some(2.0 / 12.0), Expected::hours(1.0 / 12.0)));
        assert!(!kept(false, Some(3.0 / 12.0), Expected::hours(1.0 / 12.0)));
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([Some(0.583), Some(5.25), Some(144.2), None].map(hours), ["0.58", "5.2", "144", "–"]);
    }
}
