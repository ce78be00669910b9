//! What happens in the demo, and when: a fixed schedule, so that every run shows the same.
//!
//! A round lasts 40 s; a shorter run gets the same round, compressed, breaker settings and all, and a
//! longer one gets several. In a round, openai fails and is well again only after its circuits were
//! probed for the first time, so that a probe is seen to fail; then anthropic limits its rate and says
//! for how long, so that the hint is seen to hold its circuits open past their own timeout.

use std::time::Duration;

use super::tenants::TENANTS;
use crate::breaker::State;

/// The shortest run: the shortest timeout that a breaker takes, 1 s, is this much of a round's.
pub(super) const SHORTEST: Duration = Duration::from_secs(8);

const ROUND_MS: u64 = 40_000;

/// How long a breaker stays open, in a whole round.
const TIMEOUT_MS: u64 = 5_000;

/// The sliding window, in a whole round.
const WINDOW_MS: u64 = 10_000;

/// How long a rate-limited provider wants to be left alone, in a whole round: longer than the timeout.
const HINT_MS: u64 = 7_000;

/// For so long an incident is told as one that begins: circuits open at once, people read slower.
const BEGINS_MS: u64 = 2_000;

/// How a provider fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Error 503, and timeouts.
    Unavailable,
    /// Error 429, with a `retry_after_ms`.
    RateLimited,
}

/// A provider fails for a while. Times are those of a whole round.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Incident {
    pub(super) provider: &'static str,
    pub(super) fault: Fault,
    begins_ms: u64,
    ends_ms: u64,
    /// By then its circuits are closed again, with some seconds to spare.
    settled_ms: u64,
}

static INCIDENTS: [Incident; 2] = [
    Incident {
        provider: "openai",
        fault: Fault::Unavailable,
        begins_ms: 5_000,
        ends_ms: 13_000,
        settled_ms: 21_000,
    },
    Incident {
        provider: "anthropic",
        fault: Fault::RateLimited,
        begins_ms: 23_000,
        ends_ms: 27_000,
        settled_ms: 37_000,
    },
];

/// An incident that a run must show from beginning to end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) provider: &'static str,
    /// When it begins.
    pub(super) from: Duration,
    /// When the next round begins, in which it may come again.
    pub(super) until: Duration,
}

/// The schedule of one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Story {
    round_ms: u64,
}

impl Story {
    /// The schedule of a run of some length.
    pub(super) fn lasting(run: Duration) -> Self {
        let run_ms = millis(run.max(SHORTEST));
        Self { round_ms: run_ms.min(ROUND_MS) }
    }

    /// `timeout_ms` of every policy.
    pub(super) fn timeout_ms(&self) -> u64 {
        self.scaled(TIMEOUT_MS)
    }

    /// `error_rate_window_seconds` of every policy.
    pub(super) fn window_seconds(&self) -> u64 {
        self.scaled(WINDOW_MS).div_ceil(1_000)
    }

    /// `retry_after_ms` of a rate-limited provider.
    pub(super) fn hint_ms(&self) -> u64 {
        self.scaled(HINT_MS)
    }

    /// How a provider fails at a moment; none while it is well.
    pub(super) fn fault(&self, provider: &str, at: Duration) -> Option<Fault> {
        let now = self.in_round(at);
        let fails = |i: &&Incident| {
            i.provider == provider && (self.scaled(i.begins_ms)..self.scaled(i.ends_ms)).contains(&now)
        };
        INCIDENTS.iter().find(fails).map(|incident| incident.fault)
    }

    /// The incidents that a run of this length shows from beginning to end.
    pub(super) fn due(&self, run: Duration) -> Vec<Due> {
        let run_ms = millis(run);
        let rounds = run_ms.div_ceil(self.round_ms);
        let starts = (0..rounds).map(|round| round * self.round_ms);
        starts
            .flat_map(|start| INCIDENTS.iter().map(move |incident| (start, incident)))
            .filter(|(start, incident)| start + self.scaled(incident.settled_ms) <= run_ms)
            .map(|(start, incident)| Due {
                provider: incident.provider,
                from: Duration::from_millis(start + self.scaled(incident.begins_ms)),
                until: Duration::from_millis(start + self.round_ms),
            })
            .collect()
    }

    /// Whether an incident began less than some time ago: what [`Self::line`] says then holds for a while.
    pub(super) fn is_beginning(&self, at: Duration) -> bool {
        let now = self.in_round(at);
        INCIDENTS
            .iter()
            .any(|i| (self.scaled(i.begins_ms)..self.scaled(i.begins_ms + BEGINS_MS)).contains(&now))
    }

    /// What is happening, in one or two sentences; `state` tells what a breaker shows.
    pub(super) fn line(&self, at: Duration, state: impl Fn(&str, &str) -> State) -> String {
        let now = self.in_round(at);
        let Some(incident) = INCIDENTS.iter().rfind(|i| self.scaled(i.begins_ms) <= now) else {
            return "All providers are well. Draws follow the weights; acme's sessions stick to theirs."
                .to_owned();
        };
        let provider = incident.provider;
        let drawn = || TENANTS.iter().filter(|t| t.providers.iter().any(|(drawn, _)| *drawn == provider));
        let any = |wanted| drawn().any(|tenant| state(tenant.id, provider) == wanted);
        let failing = now < self.scaled(incident.ends_ms);
        if failing {
            let ways: Vec<String> = drawn()
                .filter(|tenant| state(tenant.id, provider) != State::Closed)
                .map(|tenant| tenant.way_out(provider))
                .collect();
            if ways.is_empty() || self.is_beginning(at) {
                let fails = match incident.fault {
                    Fault::Unavailable => "fail: 503 and timeouts".to_owned(),
                    Fault::RateLimited => format!("limit its rate: 429, retry after {} ms", self.hint_ms()),
                };
                return format!("Provider {provider} begins to {fails}. Enough failures open its circuits.");
            }
            let now = match incident.fault {
                _ if any(State::HalfOpen) => "still fails, as probes find out",
                Fault::Unavailable => "fails",
                Fault::RateLimited => "limits its rate",
            };
            return format!("Provider {provider} {now}. Circuits open: {}.", ways.join(", "));
        }
        if any(State::HalfOpen) {
            format!("Half-open: a few probes go to {provider}, two successes in a row close its circuit.")
        } else if any(State::Open) {
            format!("Provider {provider} is well again. Its circuits wait for their time, then probe it.")
        } else {
            format!("Provider {provider} is well again, its circuits are closed. Draws follow the weights.")
        }
    }

    fn in_round(&self, at: Duration) -> u64 {
        millis(at) % self.round_ms
    }

    fn scaled(&self, ms: u64) -> u64 {
        ms * self.round_ms / ROUND_MS
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_round_fits_a_short_run_and_repeats_in_a_long_one() {
        let (short, whole) = (Story::lasting(at(8_000)), Story::lasting(at(100_000)));
        assert_eq!((short.timeout_ms(), short.window_seconds(), short.hint_ms()), (1_000, 2, 1_400));
        assert_eq!((whole.timeout_ms(), whole.window_seconds(), whole.hint_ms()), (5_000, 10, 7_000));
        for (story, scale) in [(short, 1), (whole, 5)] {
            for (ms, failing) in [(999, false), (1_000, true), (2_599, true), (2_600, false)] {
                let fault = failing.then_some(Fault::Unavailable);
                assert_eq!(story.fault("openai", at(ms * scale)), fault, "{ms} × {scale}");
            }
        }
        assert_eq!(whole.fault("openai", at(46_000)), Some(Fault::Unavailable));
        assert_eq!(whole.fault("anthropic", at(65_000)), Some(Fault::RateLimited));
        assert_eq!(whole.fault("local_llm", at(46_000)), None);
    }

    #[test]
    fn a_run_owes_the_incidents_that_fit_into_it() {
        let owed = |run| Story::lasting(at(run)).due(at(run)).into_iter().map(|due| due.provider);
        assert!(owed(8_000).eq(["openai", "anthropic"]));
        assert!(owed(40_000).eq(["openai", "anthropic"]));
        assert!(owed(62_000).eq(["openai", "anthropic", "openai"]));
        assert_eq!(Story::lasting(at(40_000)).due(at(20_000)), [], "cut short");
        let second = Story::lasting(at(80_000)).due(at(80_000)).pop().map(|due| (due.from, due.until));
        assert_eq!(second, Some((at(63_000), at(80_000))));
    }

    #[test]
    fn a_breaker_can_open_be_probed_and_close_before_an_incident_is_settled() {
        for incident in &INCIDENTS {
            let held = match incident.fault {
                Fault::Unavailable => TIMEOUT_MS,
                Fault::RateLimited => HINT_MS,
            };
            // The latest failed probe begins just before the end, and holds once more.
            assert!(incident.ends_ms + held < incident.settled_ms);
            assert!(incident.settled_ms < ROUND_MS);
        }
        let first = &INCIDENTS[0];
        assert!(first.begins_ms + TIMEOUT_MS < first.ends_ms, "a probe is seen to fail");
    }

    #[test]
    fn the_line_tells_what_is_happening() {
        let story = Story::lasting(at(40_000));
        let line = |ms, state| {
            story.line(at(ms), |_, provider| if provider == "openai" { state } else { State::Closed })
        };
        for (ms, state, part) in [
            (0, State::Closed, "All providers are well"),
            (5_000, State::Closed, "Provider openai begins to fail: 503 and timeouts. Enough failures open"),
            (6_999, State::Open, "Provider openai begins to fail"),
            (
                7_000,
                State::Open,
                "acme goes to anthropic, globex falls back to local_llm, initech gets fail-fast",
            ),
            (11_000, State::HalfOpen, "still fails, as probes find out"),
            (14_000, State::Open, "openai is well again. Its circuits wait"),
            (16_000, State::HalfOpen, "Half-open: a few probes go to openai"),
            (17_000, State::Closed, "its circuits are closed"),
            (24_000, State::Closed, "Provider anthropic begins to limit its rate: 429, retry after 7000 ms"),
            (40_000, State::Closed, "All providers are well"),
        ] {
            let line = line(ms, state);
            assert!(line.contains(part), "{ms}: {line}");
            assert_eq!(story.is_beginning(at(ms)), line.contains("begins to"), "{ms}: {line}");
        }
    }
}
