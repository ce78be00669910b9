//! A second breaker, as plain as the contract lets it be: it keeps every result it counted, every
//! opening and every transition, and works each answer out of these lists anew.

mod agrees;
mod inputs;

use crate::breaker::{Counts, Gate, Position, Settings, SettingsDraft, State, View};
use crate::domain::{ClaimId, Ratio, Stamp};

#[derive(Clone)]
struct Counted {
    at: u64,
    failure: bool,
    slow: bool,
    latency: Option<u64>,
    cost: Option<u64>,
}

#[derive(Clone)]
struct Probe {
    request: String,
    claim: ClaimId,
    lease: u64,
    until: u64,
}

#[derive(Clone)]
enum Beneath {
    Closed,
    Open { at: u64, held: Vec<u64> },
    HalfOpen { probes: Vec<Probe>, good: Vec<u64> },
}

#[derive(Clone)]
struct Opening {
    of_a_probe: bool,
    share: Ratio,
}

#[derive(Clone)]
struct Model {
    set: SettingsDraft,
    seed: u64,
    beneath: Beneath,
    force: Option<(State, u64, Option<u64>)>,
    off: bool,
    /// All that the window may still hold.
    counted: Vec<Counted>,
    /// The results that judged since the evidence was last thrown away: whether each failed, and the
    /// window's length then.
    judged: Vec<(u64, bool, u64)>,
    /// Stamps of all that makes earlier calls late.
    moved: Vec<u64>,
    /// Openings since the last close; how many there were before it, since the last reset.
    openings: Vec<Opening>,
    past_openings: usize,
    shown_since: u64,
}

impl Model {
    fn new(set: SettingsDraft, seed: u64, now: Stamp) -> Self {
        Self {
            set,
            seed,
            beneath: Beneath::Closed,
            force: None,
            off: false,
            counted: Vec::new(),
            judged: Vec::new(),
            moved: Vec::new(),
            openings: Vec::new(),
            past_openings: 0,
            shown_since: now.0,
        }
    }

    const fn window_ms(&self) -> u64 {
        self.set.error_rate_window_seconds * 1_000
    }

    /// Ten buckets on fixed multiples of a tenth: counted while its bucket is one of the last ten.
    fn counts(&self, now: u64) -> Counts {
        let width = self.window_ms() / 10;
        let mut counts = Counts::default();
        for c in self.counted.iter().filter(|c| c.at / width + 10 > now / width) {
            counts.requests += 1;
            counts.failures += u32::from(c.failure);
            counts.slow += u32::from(c.slow);
            counts.timed += u32::from(c.latency.is_some());
            counts.priced += u32::from(c.cost.is_some());
            counts.latency_ms += c.latency.unwrap_or(0);
            counts.cost_nanos += c.cost.unwrap_or(0);
        }
        counts
    }

    /// Failures in a row: back from the last result to a success or to a whole window without one.
    fn row(&self, now: u64) -> u32 {
        // Once open, it stays what it was when it opened.
        let mut next = matches!(self.beneath, Beneath::Closed).then_some((now, self.window_ms()));
        let mut row = 0;
        for (at, failed, window_ms) in self.judged.iter().rev() {
            if !failed || next.is_some_and(|(next, window_ms)| next - at >= window_ms) {
                break;
            }
            row += 1;
            next = Some((*at, *window_ms));
        }
        row
    }

    fn trips(&self) -> usize {
        self.past_openings + self.openings.len()
    }

    fn open_until(&self) -> Option<u64> {
        if let Some((_, since, ttl)) = self.force {
            return ttl.map(|ttl| since.saturating_add(ttl));
        }
        let Beneath::Open { at, held } = &self.beneath else { return None };
        let reopenings = self.openings.iter().filter(|o| o.of_a_probe).count();
        let mut ms = self.set.timeout_ms;
        for _ in 0..reopenings {
            ms = self.set.max_timeout_ms.min((ms as f64 * self.set.backoff_multiplier).floor() as u64);
        }
        if self.set.jitter_ratio > 0.0 {
            // Where in its range it falls is the machine's own affair, if it stays in its range.
            let reach = (ms as f64 * self.set.jitter_ratio).floor() as u64;
            let settings = Settings::try_new(&self.set).unwrap();
            let drawn = settings.open_ms(reopenings as u32, self.trips() as u32, self.seed);
            assert!(
                (ms - reach..=self.set.max_timeout_ms.min(ms + reach)).contains(&drawn),
                "{drawn} of {ms}±{reach}"
            );
            ms = drawn;
        }
        let longest = at + self.set.max_timeout_ms;
        Some(held.iter().map(|until| *until.min(&longest)).fold(at + ms, u64::max))
    }

    fn shown(&self) -> State {
        match (&self.force, &self.beneath) {
            _ if self.off => State::Closed,
            (Some((to, ..)), _) => *to,
            (None, Beneath::Closed) => State::Closed,
            (None, Beneath::Open { .. }) => State::Open,
            (None, Beneath::HalfOpen { .. }) => State::HalfOpen,
        }
    }

    fn share(&self) -> Ratio {
        self.openings.last().map_or(Ratio::ZERO, |o| o.share)
    }

    fn probes(&self) -> &[Probe] {
        if let Beneath::HalfOpen { probes, .. } = &self.beneath { probes } else { &[] }
    }

    fn view(&self, now: Stamp) -> View {
        if self.force.is_some_and(|(_, since, ttl)| ttl.is_some_and(|ttl| since.saturating_add(ttl) <= now.0))
        {
            let mut after = self.clone();
            after.lapse(now.0, &mut crate::breaker::Effect::default());
            return after.view(now);
        }
        View {
            state: self.shown(),
            since: Stamp(self.shown_since),
            failures_in_a_row: self.row(now.0),
            successes_in_a_row: if let Beneath::HalfOpen { good, .. } = &self.beneath {
                good.len() as u32
            } else {
                0
            },
            window: self.counts(now.0),
            half_open_in_flight: self.probes().iter().filter(|p| p.until > now.0).count() as u32,
            remaining_ms: match self.shown() {
                State::Open => self.open_until().map(|until| until.saturating_sub(now.0)),
                _ => None,
            },
            open_until: match self.shown() {
                State::Open => self.open_until().map(Stamp),
                _ => None,
            },
            trips: self.trips() as u32,
            forced: self.force.map(|(to, since, ttl)| (to, ttl.map(|ttl| Stamp(since.saturating_add(ttl))))),
            suspended: self.off,
            last_transition: self.moved.last().map(|at| Stamp(*at)),
            failure_share: self.share(),
        }
    }

    fn gate(&self) -> Gate {
        let position = match self.shown() {
            State::Closed => Position::Pass,
            State::Open => Position::Refuse { until: self.open_until().map(Stamp) },
            State::HalfOpen => Position::Probe {
                free: (self.set.half_open_max_calls as u32).saturating_sub(self.probes().len() as u32),
                next_expiry: self.probes().iter().map(|p| Stamp(p.until)).min(),
            },
        };
        Gate { position, enforce_percent: self.set.enforce_percent as u8 }
    }
}
