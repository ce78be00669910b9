//! Which breakers are shown, and in which order.

use std::cmp::Ordering;

use clap::ValueEnum;

use super::breaker::{Key, Known};
use crate::breaker::State;
use crate::domain::Tick;

/// What breakers are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Open first, then half-open; among them the latest to move
    #[default]
    State,
    /// Tenant, then provider
    Tenant,
    /// Provider, then tenant
    Provider,
    /// The highest error rate first
    Rate,
    /// The most requests in the window first
    Requests,
    /// The soonest to be probed first
    Next,
    /// The most openings first
    Trips,
    /// The most refused requests first
    Refused,
}

impl Sort {
    pub(super) const ALL: [Self; 8] = [
        Self::State,
        Self::Tenant,
        Self::Provider,
        Self::Rate,
        Self::Requests,
        Self::Next,
        Self::Trips,
        Self::Refused,
    ];

    /// The one so many columns to the right, round about.
    pub(super) fn step(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL.get((at + by) % Self::ALL.len()).copied().unwrap_or(Self::State)
    }

    /// In words.
    pub(super) fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The order of two breakers; ties go by tenant and provider.
    pub(super) fn compare(
        self,
        now: Tick,
        (a_key, a): (&Key, &Known),
        (b_key, b): (&Key, &Known),
    ) -> Ordering {
        let urgency = |state| match state {
            State::Open => 0,
            State::HalfOpen => 1,
            State::Closed => 2,
        };
        let next = |known: &Known| match (known.state, known.forced) {
            (State::HalfOpen, None) => 0,
            (State::Open, None) => known.remaining_ms(now).map_or(u64::MAX - 1, |ms| ms.saturating_add(1)),
            _ => u64::MAX,
        };
        let order = match self {
            Self::State => {
                urgency(a.state).cmp(&urgency(b.state)).then_with(|| match a.state {
                    // Which closed last says little where thousands never moved.
                    State::Closed => Ordering::Equal,
                    _ => b.since_ms.cmp(&a.since_ms),
                })
            }
            Self::Tenant => Ordering::Equal,
            Self::Provider => a_key.1.cmp(&b_key.1),
            Self::Rate => b.error_rate.total_cmp(&a.error_rate),
            Self::Requests => b.window_requests.cmp(&a.window_requests),
            Self::Next => next(a).cmp(&next(b)),
            Self::Trips => b.trips.cmp(&a.trips),
            Self::Refused => b.refusals().cmp(&a.refusals()),
        };
        order.then_with(|| a_key.cmp(b_key))
    }
}

/// What is shown of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// In this state only.
    pub(super) state: Option<State>,
    /// Words that must all be found in tenant, provider or policy.
    pub(super) text: String,
}

impl Filter {
    pub(super) fn takes(&self, (tenant, provider): &Key, known: &Known) -> bool {
        let found = |word: &str| {
            [tenant, provider, &known.policy_id].iter().any(|text| contains_ignoring_case(text, word))
        };
        self.state.is_none_or(|state| state == known.state) && self.text.split_whitespace().all(found)
    }
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.to_lowercase().contains(&word.to_lowercase())
}
