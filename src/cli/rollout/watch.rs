//! Asks how a rollout stands, once or until it ends, and shows it. What it shows is made by [`super::picture`] and
//! [`super::plain`].

use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures_util::StreamExt as _;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Modifier;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::picture::{Room, picture};
use super::plain;
use super::standing::Standing;
use super::words::age;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;
use crate::cli::screen::{Screen, has_colour, is_there};
use crate::cli::shell::{Body, Session};
use crate::cli::stand::stop_at_a_signal;
use crate::clock::Clock;
use crate::domain::Tick;
use crate::nats::control_client::ControlError;
use crate::rollout::plan::{self, Plan};

/// Between questions. Evidence changes with each block only, commands show at once.
const EVERY: Duration = Duration::from_secs(1);
/// Answers that wait to be shown; a full queue slows the asking down.
const SEEN: usize = 4;
/// A terminal that does not tell how wide it is.
const USUAL_WIDTH: u16 = 80;

/// What came of a question.
enum Seen {
    Stands(Box<Standing>),
    /// Asking again may help.
    Trouble(String),
}

/// Shows how a rollout stands.
pub(super) async fn once(session: &Session, id: &str) -> Result<(), Failure> {
    let standing = ask(session, id, None).await?;
    let out = session.out;
    out.body(&standing.answer);
    if is_there() {
        let width = crossterm::terminal::size().map_or(USUAL_WIDTH, |(width, _)| width);
        let room = Room { width: usize::from(width), height: None, colour: false };
        picture(&standing, room).iter().for_each(|line| out.line(line.to_string().trim_end()));
    } else {
        tell(&standing, out);
    }
    ended(standing.exit())
}

/// Shows how a rollout stands until it ends, or until somebody has seen enough.
pub(super) async fn live(session: &Session, id: &str) -> Result<(), Failure> {
    // Heard before the terminal is taken over, so that no signal leaves it as it was drawn on.
    let stop = stop_at_a_signal();
    let first = tokio::select! {
        () = stop.cancelled() => return ended(Exit::Undecided),
        first = ask(session, id, None) => first?,
    };
    let (to, seen) = mpsc::channel(SEEN);
    let plan = first.plan.clone();
    tokio::select! {
        failure = ask_on(session, id, plan, to) => Err(failure),
        last = show(first, seen, session.out, &stop) => ended(last?.exit()),
    }
}

/// Shows what is seen where there is a terminal to draw on, or prints it. Gives what was seen last.
async fn show(
    first: Standing,
    seen: mpsc::Receiver<Seen>,
    out: Output,
    stop: &CancellationToken,
) -> Result<Standing, Failure> {
    if out.is_json() || first.has_ended() || !is_there() {
        return Ok(print(first, seen, out, stop).await);
    }
    let last = draw(first, seen, stop).await;
    let last = last.map_err(|error| Failure::Usage(format!("status cannot go on: {error}")))?;
    // On the terminal's own screen, which is there again.
    tell(&last, out);
    Ok(last)
}

fn ended(exit: Exit) -> Result<(), Failure> {
    if exit == Exit::Done { Ok(()) } else { Err(Failure::Told(exit)) }
}

/// Asks again and again, until it makes no sense any more.
async fn ask_on(session: &Session, id: &str, mut plan: Option<Plan>, to: mpsc::Sender<Seen>) -> Failure {
    let mut questions = tokio::time::interval(EVERY);
    questions.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        questions.tick().await;
        let seen = match ask(session, id, plan.take()).await {
            Ok(standing) => {
                // A draft's plan may still be put anew.
                plan = standing.plan.clone().filter(|_| standing.status.state != "draft");
                Seen::Stands(Box::new(standing))
            }
            Err(error) if is_final(&error) => return error.into(),
            Err(error) => Seen::Trouble(error.to_string()),
        };
        // Nobody shows it any more where the other side has ended, and this one then ends too.
        let _gone = to.send(seen).await;
    }
}

/// Whether asking again gives the same answer.
fn is_final(error: &ControlError) -> bool {
    match error {
        ControlError::Refused(refusal) => refusal.code != "unavailable",
        ControlError::NotPermitted(_) => true,
        _ => false,
    }
}

/// Asks for the status, and for the plan unless it is known.
async fn ask(session: &Session, id: &str, plan: Option<Plan>) -> Result<Standing, ControlError> {
    let of = || Body::new().with("rollout", Some(id));
    let answer = session.ask("rollout.status", of()).await?;
    let status = serde_json::from_value(answer.clone())
        .map_err(|error| ControlError::Failed(format!("the status cannot be read: {error}")))?;
    let plan = match plan {
        Some(plan) => Some(plan),
        // Machines get the router's answer alone.
        None if session.out.is_json() => None,
        None => {
            let answer = session.ask("rollout.get", of()).await?;
            plan::parse(answer.get("plan").unwrap_or(&Value::Null)).ok().map(|checked| checked.plan)
        }
    };
    Ok(Standing { status, plan, answer })
}

fn tell(standing: &Standing, out: Output) {
    plain::lines(standing).iter().for_each(|line| out.line(line));
}

/// Prints each change.
async fn print(
    first: Standing,
    mut seen: mpsc::Receiver<Seen>,
    out: Output,
    stop: &CancellationToken,
) -> Standing {
    let show = |standing: &Standing| {
        out.body(&standing.answer);
        tell(standing, out);
    };
    show(&first);
    let mut last = first;
    let mut trouble = None;
    while !last.has_ended() && !out.is_unread() {
        tokio::select! {
            () = stop.cancelled() => break,
            what = seen.recv() => match what {
                None => break,
                Some(Seen::Stands(standing)) => {
                    trouble = None;
                    if standing.differs(&last) {
                        out.line("");
                        show(&standing);
                    }
                    last = *standing;
                }
                Some(Seen::Trouble(why)) => {
                    if trouble.as_ref() != Some(&why) {
                        out.error(&format!("{why}; trying again"));
                    }
                    trouble = Some(why);
                }
            },
        }
    }
    last
}

/// Draws until it ends, or a key or a signal ends it.
async fn draw(
    first: Standing,
    mut seen: mpsc::Receiver<Seen>,
    stop: &CancellationToken,
) -> std::io::Result<Standing> {
    let clock = Clock::start();
    let colour = has_colour();
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    let mut pictures = tokio::time::interval(EVERY);
    let (mut last, mut seen_at, mut trouble) = (first, clock.tick(), None);
    while !last.has_ended() {
        let footer = footer(trouble.as_deref(), seen_at, clock.tick());
        screen.draw(|frame| render(frame, &last, &footer, colour))?;
        tokio::select! {
            () = stop.cancelled() => break,
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) if is_quit(key) => break,
                // Another key, or another size, which the next picture asks for itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                // The terminal is gone, and with it whoever looked.
                None => break,
            },
            what = seen.recv() => match what {
                None => break,
                Some(Seen::Stands(standing)) => (last, seen_at, trouble) = (*standing, clock.tick(), None),
                Some(Seen::Trouble(why)) => trouble = Some(why),
            },
            // The age of what is shown grows without news.
            _ = pictures.tick() => {}
        }
    }
    Ok(last)
}

fn is_quit(key: KeyEvent) -> bool {
    let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
    let quits = match key.code {
        KeyCode::Char('q') | KeyCode::Esc => !with_control,
        KeyCode::Char('c' | 'd') => with_control,
        _ => false,
    };
    quits && key.kind != KeyEventKind::Release
}

fn footer(trouble: Option<&str>, seen_at: Tick, now: Tick) -> String {
    match trouble {
        Some(why) => format!("{why} (what is shown is {} old)", age(now.since(seen_at))),
        None => "q quit".to_owned(),
    }
}

fn render(frame: &mut Frame<'_>, standing: &Standing, footer: &str, colour: bool) {
    let [body, foot] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
    let room = Room { width: usize::from(body.width), height: Some(usize::from(body.height)), colour };
    frame.render_widget(Paragraph::new(picture(standing, room)), body);
    let footer = crate::telemetry::shown::plain(footer);
    frame.render_widget(Line::styled(footer, Modifier::DIM), foot);
}
