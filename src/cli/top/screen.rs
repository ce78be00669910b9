//! The loop that draws on the terminal. A picture is drawn when something was seen or pressed, at most so
//! many times a second, and once a second since times run down.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::StreamExt as _;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::keys::{Asked, Look, press};
use super::model::Model;
use super::view::{Scene, draw};
use crate::cli::screen::{Screen, has_colour};
use crate::clock::Clock;
use crate::nats::watch::Seen;

/// Between pictures: what a person sees as at once.
const PICTURE: Duration = Duration::from_millis(50);
/// Without anything new, times still run down: tenths of a second are shown.
const IDLE_PICTURES: u32 = 4;

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
    let colour = has_colour();
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
                    screen.draw(|frame| draw(frame, &scene, &mut look))?;
                    (is_new, idle) = (false, 0);
                }
            }
        }
    }
}
