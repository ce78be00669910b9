//! What the keys do. Pure.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::breaker::Key;
use super::model::Model;
use super::order::Filter;
use crate::breaker::State;
use crate::domain::Tick;

/// Between lists, at least and at most.
pub(super) const FASTEST: Duration = Duration::from_millis(250);
pub(super) const SLOWEST: Duration = Duration::from_secs(300);

/// How it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The breaker that the cursor is on.
    pub(super) selected: Option<Key>,
    /// The first row on the screen.
    pub(super) top: usize,
    /// Rows of breakers on the screen, as of the last picture.
    pub(super) page: usize,
    /// Whether a filter is being typed; then what it was before.
    pub(super) typing: Option<String>,
    pub(super) open: Pane,
    /// Between lists.
    pub(super) every: Duration,
}

/// What stands in front of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Nothing,
    Help,
    /// All that is known of the selected breaker, from this line on.
    Breaker(usize),
    Moves,
}

/// What a key asks the program for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    Quit,
    /// A list at once.
    Refresh,
    /// Another interval.
    Interval,
}

impl Look {
    pub(super) fn new(every: Duration) -> Self {
        Self { selected: None, top: 0, page: 1, typing: None, open: Pane::Nothing, every }
    }

    /// Where the cursor is among the breakers shown. A breaker that is gone leaves it where it was.
    pub(super) fn at(&self, shown: &[Key]) -> usize {
        let found = self.selected.as_ref().and_then(|key| shown.iter().position(|shown| shown == key));
        found.unwrap_or(0)
    }

    /// Puts the cursor on a row and the row on the screen.
    fn go(&mut self, to: usize, shown: &[Key]) {
        let to = to.min(shown.len().saturating_sub(1));
        self.selected = shown.get(to).cloned();
    }

    /// The first row on the screen, so that the cursor is on it too.
    pub(super) fn scroll(&mut self, at: usize, rows: usize, all: usize) -> usize {
        self.page = rows.max(1);
        self.top = self.top.min(all.saturating_sub(rows)).min(at).max((at + 1).saturating_sub(rows.max(1)));
        self.top
    }
}

/// Does what a key says.
pub(super) fn press(key: KeyEvent, look: &mut Look, model: &mut Model, now: Tick) -> Asked {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c' | 'd') => Asked::Quit,
            KeyCode::Char('l') => Asked::Refresh,
            _ => Asked::Nothing,
        };
    }
    if look.typing.is_some() {
        type_filter(key.code, look, model);
        return Asked::Nothing;
    }
    match (look.open, key.code) {
        (_, KeyCode::Char('q')) => return Asked::Quit,
        (Pane::Nothing, _) => {}
        (Pane::Breaker(line), KeyCode::Down | KeyCode::Char('j')) => {
            look.open = Pane::Breaker(line.saturating_add(1));
            return Asked::Nothing;
        }
        (Pane::Breaker(line), KeyCode::Up | KeyCode::Char('k')) => {
            look.open = Pane::Breaker(line.saturating_sub(1));
            return Asked::Nothing;
        }
        _ => {
            look.open = Pane::Nothing;
            return Asked::Nothing;
        }
    }
    match key.code {
        KeyCode::Esc => model.filter = Filter::default(),
        KeyCode::Char('/') => look.typing = Some(model.filter.text.clone()),
        KeyCode::Char('f') => model.filter.state = next_state(model.filter.state),
        KeyCode::Char('s' | '>') => model.sort = model.sort.step(1),
        KeyCode::Char('<') => model.sort = model.sort.step(super::order::Sort::ALL.len() - 1),
        KeyCode::Char('r') => model.reverse = !model.reverse,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => look.open = Pane::Help,
        KeyCode::Char('t') => look.open = Pane::Moves,
        KeyCode::Char(' ') => return Asked::Refresh,
        KeyCode::Char('+') => {
            look.every = (look.every * 2).min(SLOWEST);
            return Asked::Interval;
        }
        KeyCode::Char('-') => {
            look.every = (look.every / 2).max(FASTEST);
            return Asked::Interval;
        }
        code => steer(code, look, model, now),
    }
    Asked::Nothing
}

fn steer(code: KeyCode, look: &mut Look, model: &Model, now: Tick) {
    let shown: Vec<Key> = model.shown(now).into_iter().map(|(key, _)| key.clone()).collect();
    let (at, page) = (look.at(&shown), look.page);
    match code {
        KeyCode::Enter if !shown.is_empty() => {
            look.go(at, &shown);
            look.open = Pane::Breaker(0);
        }
        KeyCode::Down | KeyCode::Char('j') => look.go(at.saturating_add(1), &shown),
        KeyCode::Up | KeyCode::Char('k') => look.go(at.saturating_sub(1), &shown),
        KeyCode::PageDown => look.go(at.saturating_add(page), &shown),
        KeyCode::PageUp => look.go(at.saturating_sub(page), &shown),
        KeyCode::Home | KeyCode::Char('g') => look.go(0, &shown),
        KeyCode::End | KeyCode::Char('G') => look.go(usize::MAX, &shown),
        _ => {}
    }
}

fn type_filter(code: KeyCode, look: &mut Look, model: &mut Model) {
    match code {
        KeyCode::Enter => look.typing = None,
        KeyCode::Esc => model.filter.text = look.typing.take().unwrap_or_default(),
        KeyCode::Backspace => {
            model.filter.text.pop();
        }
        KeyCode::Char(c) => model.filter.text.push(c),
        _ => {}
    }
}

/// All, and each state by its urgency.
fn next_state(state: Option<State>) -> Option<State> {
    match state {
        None => Some(State::Open),
        Some(State::Open) => Some(State::HalfOpen),
        Some(State::HalfOpen) => Some(State::Closed),
        Some(State::Closed) => None,
    }
}
