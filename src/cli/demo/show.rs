//! The run itself: takes in what is seen and shows it, in place in a terminal or as plain lines.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::DemoArgs;
use super::board::{Board, Seen};
use super::failed::DemoFailed;
use super::frame::{Scene, frame, long_transition_text, seconds};
use super::stage::{Stage, Told};
use super::story::Story;
use super::tally::Ending;
use super::tenants::PROVIDERS;
use super::terminal::Terminal;
use super::traffic::Traffic;
use crate::breaker::State;
use crate::cli::output::Output;
use crate::clock::Clock;
use crate::config::ClientSettings;

/// Five pictures a second.
const FRAME: Duration = Duration::from_millis(200);

/// A plain line a second.
const LINE: Duration = Duration::from_secs(1);

/// The longest that calls under way are waited for: one ends within half a second.
const SETTLE: Duration = Duration::from_secs(3);

/// A request without an answer is given up.
const ANSWER: Duration = Duration::from_secs(2);

/// What a run leaves behind.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) board: Board,
    pub(super) told: Told,
    pub(super) cast: String,
    pub(super) lasted: Duration,
    /// Still taken over.
    pub(super) terminal: Option<Terminal>,
}

/// Lets the traffic run for its time, or until it is stopped, and asks the workers what they hold.
pub(super) async fn show(
    stage: &mut Stage,
    settings: &ClientSettings,
    story: Story,
    args: &DemoArgs,
    stop: &CancellationToken,
    out: Output,
) -> Result<Shown, DemoFailed> {
    let plural = if stage.workers() == 1 { "" } else { "s" };
    let cast = format!(
        "{} worker{plural}, nats-server {}, simulated executors",
        stage.workers(),
        stage.broker_version()
    );
    let settings = ClientSettings { timeout: ANSWER, ..settings.clone() };
    let terminal = if args.plain { None } else { Terminal::take().await };
    let clock = Clock::start();
    let (traffic, seen) = Traffic::start(&settings, story, clock.clone()).await?;
    let mut view = View {
        board: Board::new(),
        story,
        run: args.duration,
        clock,
        cast,
        terminal,
        out,
        told_story: String::new(),
        last_story: String::new(),
    };
    let mut seen = seen;
    view.follow(&mut seen, stage, stop).await?;
    let lasted = view.at();
    let settled = async {
        let _late = tokio::time::timeout(SETTLE, traffic.settle()).await;
        stage.ask().await
    };
    let told = view.take_in_until(&mut seen, settled).await;
    drop(traffic);
    Ok(Shown { board: view.board, told, cast: view.cast, lasted, terminal: view.terminal })
}

/// What is shown, and where.
#[derive(Debug)]
struct View {
    board: Board,
    story: Story,
    run: Duration,
    clock: Clock,
    cast: String,
    terminal: Option<Terminal>,
    out: Output,
    /// The last one that was told, in plain lines
    told_story: String,
    /// and the last one that came up: it is told once it lasts, since circuits open one after the other.
    last_story: String,
}

impl View {
    fn at(&self) -> Duration {
        Duration::from_nanos(self.clock.nanos())
    }

    /// Shows what is seen until the time is over.
    async fn follow(
        &mut self,
        seen: &mut mpsc::Receiver<Seen>,
        stage: &mut Stage,
        stop: &CancellationToken,
    ) -> Result<(), DemoFailed> {
        let mut frames = ticks(FRAME);
        let mut lines = ticks(LINE);
        let end = tokio::time::sleep(self.run);
        tokio::pin!(end);
        let mut resized = signal(SignalKind::window_change()).ok();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = &mut end => return Ok(()),
                _ = frames.tick() => {
                    stage.check()?;
                    self.picture();
                }
                _ = lines.tick() => self.line(),
                () = next(&mut resized) => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.resized().await;
                    }
                }
                Some(seen) = seen.recv() => self.take_in(seen),
            }
        }
    }

    /// Takes in what is still seen while something else is waited for.
    async fn take_in_until<T>(
        &mut self,
        seen: &mut mpsc::Receiver<Seen>,
        done: impl Future<Output = T>,
    ) -> T {
        tokio::pin!(done);
        loop {
            tokio::select! {
                biased;
                done = &mut done => return done,
                Some(seen) = seen.recv() => self.take_in(seen),
            }
        }
    }

    fn take_in(&mut self, seen: Seen) {
        let at = self.at();
        let plain = self.terminal.is_none();
        if plain && self.story.is_beginning(at) {
            // Before what follows from it.
            self.tell(at);
        }
        if let Some(transition) = self.board.apply(at, seen)
            && plain
        {
            self.out.line(&format!("{:>7} s  {}", seconds(at, 2), long_transition_text(transition)));
        }
    }

    /// Five times a second: a picture, or what is happening if that is new.
    fn picture(&mut self) {
        let at = self.at();
        if let Some(terminal) = &mut self.terminal {
            let board = &self.board;
            let story = self.story.line(at, |tenant, provider| board.state(tenant, provider));
            let (cast, story) = (self.cast.as_str(), story.as_str());
            let scene = Scene { board, cast, story, at, run: self.run, bar: terminal.bar };
            terminal.show(frame(&scene, terminal.size()));
        } else {
            self.tell(at);
        }
    }

    /// Says what is happening, if that is new and will hold: what the states of several circuits make of it
    /// changes with each of them.
    fn tell(&mut self, at: Duration) {
        let story = self.story.line(at, |tenant, provider| self.board.state(tenant, provider));
        let holds = story == self.last_story || self.story.is_beginning(at);
        if holds && story != self.told_story {
            self.out.line(&format!("{:>7} s  > {story}", seconds(at, 2)));
            self.told_story.clone_from(&story);
        }
        self.last_story = story;
    }

    /// Once a second.
    fn line(&mut self) {
        let at = self.at();
        if self.terminal.is_none() && self.board.total.all() > 0 {
            self.out.line(&format!("{:>7} s  {}", seconds(at, 2), now(&self.board, at)));
        }
    }
}

/// The last two seconds in one line.
fn now(board: &Board, at: Duration) -> String {
    let (recent, rate) = board.recent(at);
    let share = |(name, count): (&str, u64)| {
        let percent = (count * 100 + recent.all() / 2).checked_div(recent.all()).unwrap_or(0);
        (count > 0).then(|| format!("{name} {percent}%"))
    };
    let list = |shares: Vec<String>| if shares.is_empty() { "-".to_owned() } else { shares.join(" ") };
    let providers = PROVIDERS.iter().copied().zip(recent.providers).filter_map(share).collect();
    let reasons = Ending::ALL.iter().map(|e| (e.label(), recent.of(*e))).filter_map(share).collect();
    let away = |wanted| board.cells.iter().filter(|cell| cell.state == wanted).count();
    format!(
        "{rate}/s | {} | {} | open {}, half-open {}",
        list(providers),
        list(reasons),
        away(State::Open),
        away(State::HalfOpen)
    )
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The next signal; never, if there are none to be had.
async fn next(signals: &mut Option<tokio::signal::unix::Signal>) {
    match signals {
        Some(signals) => {
            signals.recv().await;
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_tells_what_happens_now() {
        let mut board = Board::new();
        assert_eq!(now(&board, Duration::ZERO), "0/s | - | - | open 0, half-open 0");
        for n in 0..200 {
            let provider = (n % 4 > 0).then(|| "openai".to_owned());
            let ending = if n % 4 > 0 { Ending::Weighted } else { Ending::FailFast };
            let seen = Seen::Ended { ending, provider, probe: false, took: Duration::ZERO };
            board.apply(Duration::from_millis(n * 10), seen);
        }
        let line = now(&board, Duration::from_secs(2));
        assert_eq!(
            line,
            "100/s | openai 75% | weighted 75% circuit_open (fail-fast) 25% | open 0, half-open 0"
        );
    }
}
