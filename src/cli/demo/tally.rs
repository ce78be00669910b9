use super::tenants::PROVIDERS;

/// How a request ended, for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Weighted,
    Sticky,
    Fallback,
    BreakerFallback,
    /// `circuit_open`
    FailFast,
    /// Another error.
    Refused,
    Unanswered,
}

impl Ending {
    pub(super) const ALL: [Self; 7] = [
        Self::Weighted,
        Self::Sticky,
        Self::Fallback,
        Self::BreakerFallback,
        Self::FailFast,
        Self::Refused,
        Self::Unanswered,
    ];

    /// The word of the wire, where there is one.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Weighted => "weighted",
            Self::Sticky => "sticky",
            Self::Fallback => "fallback",
            Self::BreakerFallback => "circuit_breaker_fallback",
            Self::FailFast => "circuit_open (fail-fast)",
            Self::Refused => "other errors",
            Self::Unanswered => "no answer",
        }
    }

    /// What a decision's reason means.
    pub(super) fn of_reason(reason: &str) -> Self {
        let found = Self::ALL[..4].iter().find(|ending| ending.label() == reason);
        found.copied().unwrap_or(Self::Refused)
    }
}

/// Counts by ending and by provider.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) endings: [u64; Ending::ALL.len()],
    pub(super) providers: [u64; PROVIDERS.len()],
}

impl Tally {
    pub(super) fn add(&mut self, ending: Ending, provider: Option<usize>) {
        if let Some(count) =
            Ending::ALL.iter().position(|e| *e == ending).and_then(|i| self.endings.get_mut(i))
        {
            *count += 1;
        }
        if let Some(count) = provider.and_then(|i| self.providers.get_mut(i)) {
            *count += 1;
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.endings.iter_mut().zip(other.endings).for_each(|(sum, n)| *sum += n);
        self.providers.iter_mut().zip(other.providers).for_each(|(sum, n)| *sum += n);
    }

    pub(super) fn of(&self, ending: Ending) -> u64 {
        let mut counts = Ending::ALL.iter().zip(self.endings);
        counts.find(|(e, _)| **e == ending).map_or(0, |(_, n)| n)
    }

    pub(super) fn all(&self) -> u64 {
        self.endings.iter().sum()
    }

    pub(super) fn decided(&self) -> u64 {
        [Ending::Weighted, Ending::Sticky, Ending::Fallback, Ending::BreakerFallback]
            .map(|e| self.of(e))
            .iter()
            .sum()
    }
}
