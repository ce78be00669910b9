//! One picture: from what is known to the cells of a screen of some size. Pure; only the rows that fit
//! are made.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Clear, Paragraph, Row, Table};

use super::breaker::{Key, Known};
use super::keys::{Look, Pane};
use super::model::Model;
use super::words::{age, in_words, next, rate, seconds, state};
use crate::breaker::State;
use crate::cli::output;
use crate::domain::Tick;

/// What is painted.
pub(super) struct Scene<'a> {
    pub(super) model: &'a Model,
    pub(super) now: Tick,
    /// The wall clock, for how long breakers have been as they are.
    pub(super) wall_ms: u64,
    pub(super) colour: bool,
}

/// A column: its heading, its width, and whether it is one of numbers.
#[derive(Clone, Copy)]
struct Column {
    heading: &'static str,
    width: u16,
    right: bool,
    cell: fn(&Key, &Known, &Scene<'_>) -> String,
}

const TENANT: usize = 0;
const PROVIDER: usize = 1;
const STATE: usize = 2;

/// All of them. The widths of tenant and provider are those of what stands in them.
const COLUMNS: [Column; 10] = [
    Column { heading: "TENANT", width: 6, right: false, cell: |key, _, _| key.0.clone() },
    Column { heading: "PROVIDER", width: 8, right: false, cell: |key, _, _| key.1.clone() },
    Column { heading: "STATE", width: 9, right: false, cell: |_, known, _| state(known.state).to_owned() },
    Column {
        heading: "FOR",
        width: 6,
        right: true,
        cell: |_, known, scene| age(scene.wall_ms.saturating_sub(known.since_ms)),
    },
    Column { heading: "NEXT", width: 11, right: true, cell: |_, known, scene| next(known, scene.now) },
    Column { heading: "RATE", width: 6, right: true, cell: |_, known, _| rate(known) },
    Column {
        heading: "FAILED/ALL",
        width: 11,
        right: true,
        cell: |_, known, _| format!("{}/{}", known.window_failures, known.window_requests),
    },
    Column { heading: "TRIPS", width: 5, right: true, cell: |_, known, _| known.trips.to_string() },
    Column { heading: "REFUSED", width: 8, right: true, cell: |_, known, _| known.refusals().to_string() },
    Column { heading: "POLICY", width: 8, right: false, cell: |_, known, _| known.policy_id.clone() },
];

/// Which columns go first where there is no room for all.
const EXPENDABLE: [&str; 6] = ["POLICY", "REFUSED", "TRIPS", "FOR", "FAILED/ALL", "NEXT"];

/// Names are shown up to this width at least.
const NAME: u16 = 24;

const GAP: u16 = 2;

const HELP: &str = "\
 up down  j k       move the cursor            enter   all that is known of a breaker
 pgup pgdn  g G     by pages, to the ends      t       the last transitions
 /                  filter by words that tenant, provider or policy contain
 f                  only open, half-open, closed, all again
 esc                no filter
 s  < >             sort by the next column    r       turn the order round
 space              ask now                    + -     ask less or more often
 q  ctrl-c          quit

 FOR       how long it has been in this state
 NEXT      time until an open breaker is probed; probes under way; failures in a row
 RATE      share of failures in the window     TRIPS   how often it opened
 REFUSED   requests refused by the workers that told of it, since their start";

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, scene: &Scene<'_>, look: &mut Look) {
    let [head, counts, list, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let shown = scene.model.shown(scene.now);
    title(frame, head, scene);
    frame.render_widget(summary(scene, look, shown.len()), counts);
    rows(frame, list, scene, look, &shown);
    frame.render_widget(footer(scene, look), foot);
    match look.open {
        Pane::Nothing => {}
        Pane::Help => pane(frame, list, " keys ", HELP.lines().map(Line::raw).collect(), 0, scene),
        Pane::Breaker(from) => {
            let Some((key, known)) =
                look.selected.as_ref().and_then(|key| Some((key, scene.model.breaker(key)?)))
            else {
                look.open = Pane::Nothing;
                return;
            };
            let table = output::Table::of_fields(&known.told).to_string();
            let lines: Vec<_> = table.lines().skip(1).map(|line| Line::raw(line.to_owned())).collect();
            let last = lines.len().saturating_sub(usize::from(list.height.saturating_sub(1)));
            let from = from.min(last);
            look.open = Pane::Breaker(from);
            pane(frame, list, &format!(" {}/{} ", key.0, key.1), lines, from, scene);
        }
        Pane::Moves => {
            let moves = scene.model.moves.iter().rev().map(|(at, event)| {
                Line::raw(format!(" {:>7} ago  {}", age(scene.now.since(*at)), in_words(event)))
            });
            pane(frame, list, " transitions since the start, latest first ", moves.collect(), 0, scene);
        }
    }
}

fn title(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
    let load = scene.model.load();
    let workers = match load.workers {
        0 => "no worker told".to_owned(),
        1 => "1 worker".to_owned(),
        n => format!("{n} workers"),
    };
    let decisions = load
        .rates
        .map_or(String::new(), |(all, refused)| format!("   {all:.0} decisions/s, {refused:.0} refused/s"));
    let left = Line::from(vec![
        Span::styled("beamline-router top", Modifier::BOLD),
        Span::raw(format!("   {workers}{decisions}")),
    ]);
    let connection = match scene.model.lost {
        None => Span::styled("connected", scene.paint(Color::Green)),
        Some(since) => {
            let lost = format!("connection lost for {}, trying again", age(scene.now.since(since)));
            Span::styled(lost, scene.paint(Color::Red).add_modifier(Modifier::BOLD))
        }
    };
    frame.render_widget(left, area);
    let right = Line::from(connection).right_aligned();
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX).saturating_add(1).min(area.width);
    let corner = Rect { x: area.right() - width, width, ..area };
    frame.render_widget(Clear, corner);
    frame.render_widget(right, corner);
}

fn summary<'a>(scene: &Scene<'_>, look: &Look, shown: usize) -> Line<'a> {
    let count = scene.model.count();
    let all = count.open + count.half_open + count.closed;
    let mut spans =
        vec![Span::raw(if all == 1 { "1 breaker: ".to_owned() } else { format!("{all} breakers: ") })];
    let states =
        [(count.open, State::Open), (count.half_open, State::HalfOpen), (count.closed, State::Closed)];
    for (n, of) in states {
        let style = if n == 0 { Style::new() } else { scene.of_state(of) };
        spans.push(Span::styled(format!("{n} {}", state(of)), style));
        spans.push(Span::raw(if of == State::Closed { "" } else { ", " }));
    }
    let filter = &scene.model.filter;
    if shown != all || filter.state.is_some() || !filter.text.is_empty() {
        let of = filter.state.map_or(String::new(), |of| format!(" {}", state(of)));
        let with = if filter.text.is_empty() { String::new() } else { format!(" with {:?}", filter.text) };
        spans.push(Span::styled(format!("   shown: {shown}{of}{with}"), scene.paint(Color::Cyan)));
    }
    let order = if scene.model.reverse { ", turned round" } else { "" };
    let every = seconds(u64::try_from(look.every.as_millis()).unwrap_or(u64::MAX));
    let how = format!("   by {}{order}   every {every}", scene.model.sort.word());
    spans.push(Span::styled(how, Modifier::DIM));
    Line::from(spans)
}

fn rows(frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>, look: &mut Look, shown: &[(&Key, &Known)]) {
    let room = usize::from(area.height.saturating_sub(1));
    let at = match &look.selected {
        None => 0,
        Some(key) => shown.iter().position(|(shown, _)| *shown == key).unwrap_or(0),
    };
    let top = look.scroll(at, room, shown.len());
    let visible = shown.get(top..).unwrap_or_default();
    let visible = visible.get(..room).unwrap_or(visible);
    if shown.is_empty() {
        let why = match scene.model.listed {
            None => "waiting for the first list",
            Some(_) if scene.model.count() == super::model::Count::default() => {
                "no breakers: a policy makes one for each provider that it names"
            }
            Some(_) => "no breaker passes the filter; esc shows all",
        };
        frame.render_widget(Paragraph::new(why), area);
        return;
    }
    let columns = columns(area.width, visible);
    let cells = |key: &Key, known: &Known| {
        let cell = |column: &Column| {
            let text = (column.cell)(key, known, scene);
            let line = if column.right { Line::from(text).right_aligned() } else { Line::from(text) };
            let style = match column.heading {
                "STATE" => scene.of_state(known.state),
                "NEXT" if known.forced.is_some() || known.flag_off => scene.paint(Color::Magenta),
                _ => Style::new(),
            };
            Cell::new(line).style(style)
        };
        columns.iter().map(cell).collect::<Vec<_>>()
    };
    let headings = columns.iter().map(|column| {
        let line = Line::raw(column.heading);
        Cell::new(if column.right { line.right_aligned() } else { line })
    });
    let header = Row::new(headings).style(Modifier::DIM);
    let rows = visible.iter().enumerate().map(|(n, (key, known))| {
        let row = Row::new(cells(key, known));
        if top + n == at { row.style(Modifier::REVERSED) } else { row }
    });
    let widths = columns.iter().map(|column| Constraint::Length(column.width));
    let table = Table::new(rows, widths).header(header).column_spacing(GAP);
    frame.render_widget(table, area);
}

/// The columns that fit, tenant and provider as wide as what stands in them and there is room for.
fn columns(width: u16, visible: &[(&Key, &Known)]) -> Vec<Column> {
    let mut columns = COLUMNS.to_vec();
    let longest = |of: fn(&Key) -> &str, least: u16| {
        let longest = visible.iter().map(|(key, _)| of(key).chars().count()).max().unwrap_or(0);
        u16::try_from(longest).unwrap_or(u16::MAX).max(least)
    };
    let mut names = [
        (TENANT, longest(|key| &key.0, COLUMNS[TENANT].width)),
        (PROVIDER, longest(|key| &key.1, COLUMNS[PROVIDER].width)),
    ];
    let rest = |columns: &[Column]| columns.iter().skip(STATE).map(|c| c.width + GAP).sum::<u16>() + GAP;
    let wanted = |names: &[(usize, u16); 2]| names.iter().map(|(_, width)| (*width).min(NAME)).sum::<u16>();
    for heading in EXPENDABLE {
        if rest(&columns) + wanted(&names) <= width {
            break;
        }
        columns.retain(|column| column.heading != heading);
    }
    let room = width.saturating_sub(rest(&columns));
    // What is too long for both is cut on both.
    while names.iter().map(|(_, width)| *width).sum::<u16>() > room {
        let longer = if names[0].1 > names[1].1 { 0 } else { 1 };
        if names[longer].1 <= 4 {
            break;
        }
        names[longer].1 -= 1;
    }
    for (at, width) in names {
        if let Some(column) = columns.get_mut(at) {
            column.width = width;
        }
    }
    columns
}

fn footer<'a>(scene: &Scene<'_>, look: &Look) -> Line<'a> {
    if look.typing.is_some() {
        let filter = format!("filter: {}_", scene.model.filter.text);
        return Line::from(vec![
            Span::styled(filter, Modifier::BOLD),
            Span::styled("   enter keeps it, esc takes it back", Modifier::DIM),
        ]);
    }
    if let Some(trouble) = &scene.model.trouble {
        let of = scene.model.listed.map_or(String::new(), |listed| {
            format!(" (what is shown is {} old)", age(scene.now.since(listed)))
        });
        return Line::styled(format!("{trouble}{of}"), scene.paint(Color::Yellow));
    }
    if let Some(denied) = &scene.model.denied {
        return Line::styled(denied.clone(), scene.paint(Color::Yellow));
    }
    Line::styled(
        "q quit  / filter  f state  s sort  r reverse  enter details  t transitions  ? help",
        Modifier::DIM,
    )
}

fn pane(frame: &mut Frame<'_>, area: Rect, name: &str, lines: Vec<Line<'_>>, from: usize, scene: &Scene<'_>) {
    frame.render_widget(Clear, area);
    let [bar, text] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let heading = Line::styled(name.to_owned(), scene.paint(Color::Cyan).add_modifier(Modifier::BOLD));
    frame.render_widget(heading, bar);
    let room = usize::from(text.height);
    frame.render_widget(Paragraph::new(lines.into_iter().skip(from).take(room).collect::<Vec<_>>()), text);
}

impl Scene<'_> {
    fn paint(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    fn of_state(&self, state: State) -> Style {
        let style = self.paint(match state {
            State::Open => Color::Red,
            State::HalfOpen => Color::Yellow,
            State::Closed => Color::Green,
        });
        // Without colours, what needs a look still stands out.
        if state == State::Closed { style } else { style.add_modifier(Modifier::BOLD) }
    }
}
