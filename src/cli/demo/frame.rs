//! One picture of the demo: from what was seen to the lines of a screen of some size. Pure.

use std::time::Duration;

use super::board::{Board, Cell, Transition};
use super::line::{Line, Paint, wrapped};
use super::tally::{Ending, Tally};
use super::tenants::PROVIDERS;
use crate::breaker::State;

/// The terminal, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// What is painted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene<'a> {
    pub(super) board: &'a Board,
    /// What the demo runs on, in a few words.
    pub(super) cast: &'a str,
    /// What is happening.
    pub(super) story: &'a str,
    pub(super) at: Duration,
    pub(super) run: Duration,
    /// What bars are made of.
    pub(super) bar: char,
}

/// A screen of this height has room for blank lines.
const ROOMY: usize = 30;

/// Provider and reason stand side by side from this width on
const WIDE: usize = 66;

/// and the reasons begin here.
const MIDDLE: usize = 33;

/// Below each other they need a screen of this height, for the breakers to keep their place.
const TALL: usize = 26;

/// The cells of a whole bar.
const BAR: usize = 12;

/// All lines, at most as many as there are rows; each may be wider than the screen.
pub(super) fn frame(scene: &Scene<'_>, size: Size) -> Vec<Line> {
    let board = scene.board;
    let (recent, rate) = board.recent(scene.at);
    let gap = |lines: &mut Vec<Line>| {
        if size.rows >= ROOMY {
            lines.push(Line::new());
        }
    };
    let mut lines = vec![title(scene, size.columns)];
    // Two lines always, so that what stands below keeps its place.
    let mut story = wrapped(scene.story, size.columns.saturating_sub(2)).into_iter();
    for mark in ["> ", "  "] {
        lines.push(Line::new().text(Paint::Cyan, mark).text(Paint::Bold, story.next().unwrap_or_default()));
    }
    gap(&mut lines);
    lines.push(
        Line::new()
            .text(Paint::Bold, format!("{rate}"))
            .text(Paint::Plain, " decisions/s")
            .text(Paint::Dim, format!("   {} so far   decide ", board.total.all()))
            .text(
                Paint::Plain,
                format!("p50 {}  p99 {}", board.latencies.shown(50), board.latencies.shown(99)),
            ),
    );
    gap(&mut lines);
    lines.extend(shares(&recent, scene.bar, size));
    gap(&mut lines);
    lines.push(heading("CIRCUIT BREAKERS"));
    lines.extend(board.cells.iter().map(|cell| breaker(cell, scene.at)));
    gap(&mut lines);
    lines.push(heading("TRANSITIONS, latest first"));
    let room = size.rows.saturating_sub(lines.len());
    lines.extend(board.transitions.iter().rev().take(room).map(transition));
    lines.truncate(size.rows);
    lines
}

/// A transition in words.
pub(super) fn transition_text(transition: &Transition) -> String {
    let Transition { tenant, provider, from, to, reason, .. } = transition;
    let which = format!("{tenant}/{provider}");
    format!("{which:<17} {} -> {} ({reason})", word(*from), word(*to))
}

/// The same where there is room: of an opening, also how long it took.
pub(super) fn long_transition_text(transition: &Transition) -> String {
    let text = transition_text(transition);
    match transition.after {
        Some(after) => format!("{text}, {} s after the first failure", seconds(after, 2)),
        None => text,
    }
}

/// Seconds with some digits behind the point.
pub(super) fn seconds(duration: Duration, digits: usize) -> String {
    format!("{:.digits$}", duration.as_secs_f64())
}

fn title(scene: &Scene<'_>, columns: usize) -> Line {
    let left = Line::new().text(Paint::Bold, "beamline-router").text(Paint::Dim, format!("  {}", scene.cast));
    let clock = format!("{} of {} s", seconds(scene.at, 1), seconds(scene.run, 0));
    let width = columns.saturating_sub(clock.len() + 1);
    left.beside(width, Line::new().text(Paint::Plain, format!(" {clock}")))
}

fn heading(text: &str) -> Line {
    Line::new().text(Paint::Dim, text)
}

/// Where requests of the last two seconds went, and why.
fn shares(recent: &Tally, bar: char, size: Size) -> Vec<Line> {
    let all = recent.all();
    let row = |name: &str, width: usize, count: u64, paint: Paint| {
        let percent = (count * 100 + all / 2).checked_div(all).unwrap_or(0);
        let cells = usize::try_from(count * BAR as u64 / all.max(1)).unwrap_or(0);
        let bar: String = std::iter::repeat_n(bar, cells.min(BAR)).collect();
        Line::new()
            .cell(Paint::Plain, name, width)
            .text(Paint::Plain, format!("{percent:>4} % "))
            .text(paint, bar)
    };
    let mut left = vec![heading("PROVIDER, last 2 s")];
    left.extend(PROVIDERS.iter().zip(recent.providers).map(|(name, n)| row(name, 10, n, Paint::Cyan)));
    left.push(row("none", 10, all.saturating_sub(recent.decided()), Paint::Red));
    let mut right = vec![heading("REASON, last 2 s")];
    let usual = Ending::ALL[..5].iter().map(|ending| {
        let paint = match ending {
            Ending::FailFast => Paint::Red,
            Ending::Fallback | Ending::BreakerFallback => Paint::Yellow,
            _ => Paint::Green,
        };
        row(ending.label(), 24, recent.of(*ending), paint)
    });
    right.extend(usual);
    // What should not happen has a line only when it does.
    let unusual = Ending::ALL[5..].iter().filter(|ending| recent.of(**ending) > 0);
    right.extend(unusual.map(|ending| row(ending.label(), 24, recent.of(*ending), Paint::Red)));
    if size.columns < WIDE {
        right.truncate(if size.rows < TALL { 0 } else { right.len() });
        return left.into_iter().chain(right).collect();
    }
    left.resize(left.len().max(right.len()), Line::new());
    right.resize(left.len(), Line::new());
    left.into_iter().zip(right).map(|(left, right)| left.beside(MIDDLE, right)).collect()
}

fn breaker(cell: &Cell, at: Duration) -> Line {
    let paint = match cell.state {
        State::Closed => Paint::Green,
        State::Open => Paint::Red,
        State::HalfOpen => Paint::Yellow,
    };
    let now = match (cell.state, cell.remaining(at)) {
        (State::Open, Some(left)) if left.is_zero() => "may be probed".to_owned(),
        (State::Open, Some(left)) => format!("{} s left", seconds(left, 1)),
        (State::HalfOpen, _) => format!("{} probing", cell.probes_in_flight),
        (State::Closed, _) if cell.in_a_row > 0 => format!("{} failed in a row", cell.in_a_row),
        _ => String::new(),
    };
    Line::new()
        .cell(Paint::Plain, cell.tenant, 9)
        .cell(Paint::Plain, cell.provider, 11)
        .cell(paint, word(cell.state), 11)
        .cell(Paint::Plain, now, 18)
        .text(Paint::Dim, format!("window{:>4} failed{:>4}", cell.window_requests, cell.window_failures))
        .text(Paint::Dim, format!(" trips{:>3}", cell.trips))
}

fn transition(transition: &Transition) -> Line {
    let paint = match transition.to {
        State::Closed => Paint::Green,
        State::Open => Paint::Red,
        State::HalfOpen => Paint::Yellow,
    };
    Line::new()
        .text(Paint::Dim, format!("{:>6} s  ", seconds(transition.at, 2)))
        .text(paint, transition_text(transition))
}

fn word(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half-open",
    }
}

#[cfg(test)]
mod tests;
