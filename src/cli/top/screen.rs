//! The terminal while it is taken over, and the loop that draws on it.
//!
//! Whatever ends the program gives the terminal back first: a key, a signal, a fault, a panic. A picture
//! is drawn when something was seen or pressed, at most so many times a second, and once a second since
//! times run down.

use std::io::stdout;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::keys::{Asked, Look, press};
use super::model::Model;
use super::view::{Scene, draw};
use crate::clock::Clock;
use crate::nats::watch::Seen;

/// Between pictures: what a person sees as at once.
const PICTURE: Duration = Duration::from_millis(50);
/// Without anything new, times still run down: tenths of a second are shown.
const IDLE_PICTURES: u32 = 4;

/// The terminal, taken over; dropped, it is given back.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> std::io::Result<Self> {
        // It also sets the hook that gives the terminal back before a panic is told.
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _gone = self.0.show_cursor();
        let _gone = ratatui::try_restore();
    }
}

/// Whether there is a terminal to draw on and to be steered from.
pub(super) fn is_there() -> bool {
    use std::io::IsTerminal as _;
    let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
    stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}

/// Draws what is seen until a key or a signal ends it.
///
/// # Errors
/// What is wrong with the terminal.
pub(super) async fn run(
    mut model: Model,
    mut look: Look,
    clock: &Clock,
    mut seen: mpsc::Receiver<Seen>,
    every: watch::Sender<Duration>,
    refresh: Arc<Notify>,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    // An empty value counts as not set: https://no-color.org
    let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut screen = Screen::take()?;
    let mut keys = EventStream::new();
    let mut pictures = tokio::time::interval(PICTURE);
    pictures.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let (mut is_new, mut idle) = (true, 0);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            key = keys.next() => match key {
                Some(Ok(Event::Key(key))) if key.kind != KeyEventKind::Release => {
                    match press(key, &mut look, &mut model, clock.tick()) {
                        Asked::Nothing => {}
                        Asked::Quit => return Ok(()),
                        Asked::Refresh => refresh.notify_one(),
                        Asked::Interval => {
                            every.send_replace(look.every);
                            refresh.notify_one();
                        }
                    }
                    is_new = true;
                }
                // Another size, which the next picture asks for itself.
                Some(Ok(_)) => is_new = true,
                Some(Err(error)) => return Err(error),
                // The terminal is gone, and with it whoever looked.
                None => return Ok(()),
            },
            what = seen.recv() => match what {
                Some(what) => {
                    model.apply(what, clock.tick());
                    is_new = true;
                }
                None => return Err(std::io::Error::other("the watching task ended")),
            },
            _ = pictures.tick() => {
                idle += 1;
                if is_new || idle >= IDLE_PICTURES {
                    let scene = Scene { model: &model, now: clock.tick(), wall_ms: clock.wall_ms(), colour };
                    screen.0.draw(|frame| draw(frame, &scene, &mut look))?;
                    (is_new, idle) = (false, 0);
                }
            }
        }
    }
}
