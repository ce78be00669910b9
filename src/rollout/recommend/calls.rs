use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::breaker::{Breaker, Settings};
use crate::domain::{Outcome, Stamp, Status, arm_hash};

/// How a call ended, by the settings of the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    /// Cancelled, or an error code that is ignored.
    Neutral,
}

/// A provider call of the tenant.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) began: Stamp,
    pub(super) ended: Stamp,
    pub(super) end: End,
    pub(super) status: Status,
    pub(super) latency_ms: Option<u64>,
    pub(super) error_code: Option<Box<str>>,
    pub(super) retry_after_ms: Option<u64>,
    /// The arm's hash of its request.
    request: Option<u64>,
    /// The percentage of requests whose refusals were enforced when it ended; `None` before the first change of it.
    share: Option<u8>,
}

/// A call of another tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Witness {
    pub(super) began: Stamp,
    pub(super) failed: bool,
}

/// The calls to one provider.
#[derive(Debug, Default)]
pub(super) struct Provider {
    /// In the order of the log.
    pub(super) own: VecDeque<Call>,
    pub(super) elsewhere: VecDeque<Witness>,
}

/// What the log holds of a tenant's provider calls, and of others' calls to the same providers.
#[derive(Debug)]
pub struct Calls {
    tenant_id: String,
    judge: Breaker,
    providers: BTreeMap<String, Provider>,
    most: usize,
    own: usize,
    elsewhere: usize,
    share: Option<u8>,
    share_at_end: u8,
    spared: BTreeSet<u64>,
    from: Option<Stamp>,
    to: Stamp,
}

impl Calls {
    /// Nothing yet. `present` are the tenant's settings, which decide what a failure is; of the tenant's calls, and of
    /// all others', the newest `most` are kept. `share_at_end` is the percentage of requests whose refusals are enforced
    /// now: where no [change](Self::share) of it is seen, it held all the time.
    #[must_use]
    pub fn new<'p>(
        tenant_id: &str,
        providers: impl IntoIterator<Item = &'p str>,
        present: Arc<Settings>,
        share_at_end: u8,
        most: usize,
    ) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            judge: Breaker::new(present, 0, Stamp(0)),
            providers: providers.into_iter().map(|name| (name.to_owned(), Provider::default())).collect(),
            most: most.max(1),
            own: 0,
            elsewhere: 0,
            share: None,
            share_at_end: share_at_end.min(100),
            spared: BTreeSet::new(),
            from: None,
            to: Stamp(0),
        }
    }

    /// Takes note of an entry's stamp, whatever the entry is: the span is that of the log, not of the results.
    pub fn at(&mut self, stamp: Stamp) {
        self.from.get_or_insert(stamp);
        self.to = self.to.max(stamp);
    }

    /// Takes a result in log order; a copy of one that was taken must not be given. `began` is when its call began.
    pub fn result(&mut self, outcome: &Outcome<'_>, began: Stamp, at: Stamp) {
        let end = match outcome.status {
            Status::Success => End::Succeeded,
            _ if self.judge.is_failure(outcome) => End::Failed,
            _ => End::Neutral,
        };
        let is_own = *outcome.tenant_id == *self.tenant_id;
        let Some(provider) = self.providers.get_mut(&*outcome.provider_id) else { return };
        if is_own {
            provider.own.push_back(Call {
                began,
                ended: at,
                end,
                status: outcome.status,
                latency_ms: outcome.latency_ms,
                error_code: outcome.error_code.as_deref().map(Box::from),
                retry_after_ms: outcome.retry_after_ms,
                request: outcome.request_id.as_deref().map(arm_hash),
                share: self.share,
            });
            self.own += 1;
            if self.own > self.most {
                self.forget_own();
            }
        } else if end != End::Neutral {
            provider.elsewhere.push_back(Witness { began, failed: end == End::Failed });
            self.elsewhere += 1;
            if self.elsewhere > self.most {
                self.forget_elsewhere();
            }
        }
    }

    /// From here on so many percent of the tenant's requests have their refusals enforced.
    pub fn share(&mut self, percent: u8) {
        self.share = Some(percent.min(100));
    }

    /// A request of the tenant, by the hash of its arm, met a breaker that refused it, and its refusal was not enforced.
    /// It may come before or after the request's results.
    pub fn spared(&mut self, hash: u64) {
        if self.spared.len() < self.most {
            self.spared.insert(hash);
        }
    }

    /// Drops the oldest call, and what of the span lies before the next one: the figures are of what is kept.
    fn forget_own(&mut self) {
        let oldest =
            self.providers.values_mut().min_by_key(|p| p.own.front().map_or(Stamp(u64::MAX), |c| c.ended));
        let Some(call) = oldest.and_then(|provider| provider.own.pop_front()) else { return };
        self.own -= 1;
        self.from = self.from.max(Some(call.ended));
    }

    fn forget_elsewhere(&mut self) {
        let oldest = self.providers.values_mut().filter(|p| !p.elsewhere.is_empty());
        let oldest = oldest.min_by_key(|p| p.elsewhere.front().map(|witness| witness.began));
        if oldest.and_then(|provider| provider.elsewhere.pop_front()).is_some() {
            self.elsewhere -= 1;
        }
    }

    pub(super) fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.providers.values()
    }

    /// What a refusal of the call stands for, in thousandths of a call.
    pub(super) fn weight(&self, call: &Call) -> u64 {
        let is_spared = call.request.is_some_and(|request| self.spared.contains(&request));
        let share = match (call.share, self.share) {
            (Some(share), _) => share,
            (None, None) => self.share_at_end,
            // What held before the first change is not known.
            (None, Some(_)) => 0,
        };
        let rest = 100 - u64::from(share);
        // Where all are treated nobody is spared: such a note is of another share.
        if is_spared && rest > 0 { (100_000 + rest / 2) / rest } else { 1_000 }
    }

    /// The settings that decide what a failure is.
    pub(super) fn present(&self) -> &Settings {
        self.judge.settings()
    }

    /// From the first to the last entry, as far as the calls kept go back.
    #[must_use]
    pub fn span(&self) -> (Stamp, Stamp) {
        (self.from.unwrap_or(self.to), self.to)
    }
}
