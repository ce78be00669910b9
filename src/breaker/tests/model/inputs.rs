use super::{Beneath, Counted, Model, Opening, Probe};
use crate::breaker::tests::schedule::Event;
use crate::breaker::{Cause, Effect, Judged, SettingsDraft, State, Transition, Verdict};
use crate::domain::{Disposition, Outcome, Stamp, Status};

impl Model {
    pub(super) fn apply(&mut self, event: &Event, now: Stamp) -> Effect {
        let now = now.0;
        let mut effect = Effect::default();
        if self.force.is_some_and(|(_, since, ttl)| ttl.is_some_and(|ttl| since.saturating_add(ttl) <= now)) {
            self.lapse(now, &mut effect);
        }
        if let (
            None,
            Beneath::HalfOpen { probes, .. },
            Event::Result(_) | Event::Claim { .. } | Event::Release(_),
        ) = (self.force, &mut self.beneath, event)
        {
            let held = probes.len();
            probes.retain(|p| p.until > now);
            effect.expired_leases = (held - probes.len()) as u32;
        }
        match event {
            Event::Result(outcome) => {
                let judged = self.result(outcome, now, &mut effect);
                effect.judged = Some(judged);
            }
            Event::Claim { request, claim, latest, lease_ms } => {
                let lease = self.set.probe_timeout_ms.max(*lease_ms);
                let probe = Probe { request: request.clone(), claim: *claim, lease, until: now + lease };
                let verdict = self.claim(probe, now > latest.0, now, &mut effect);
                effect.verdict = Some(verdict);
            }
            Event::Release(claim) if self.force.is_none() => {
                if let Beneath::HalfOpen { probes, .. } = &mut self.beneath {
                    effect.freed = probes.iter().find(|p| p.claim == *claim).map(|p| p.claim);
                    probes.retain(|p| p.claim != *claim);
                }
            }
            Event::Release(_) => {}
            Event::Force { to, ttl_ms } => {
                let to = if *to == State::Open { State::Open } else { State::Closed };
                self.change(Cause::Forced, true, now, &mut effect, |m| m.force = Some((to, now, *ttl_ms)));
            }
            Event::Unforce if self.force.is_some() => {
                self.change(Cause::ForceLifted, true, now, &mut effect, Self::unforce);
            }
            Event::Reset if self.force.is_none() => self.change(Cause::Reset, true, now, &mut effect, |m| {
                m.close();
                m.past_openings = 0;
            }),
            Event::Unforce | Event::Reset => {}
            Event::Configure(set) => self.configure(set, now, &mut effect),
            Event::Suspend(off) if *off != self.off => {
                self.change(Cause::Flag, false, now, &mut effect, |m| {
                    m.off = *off;
                    if m.force.is_none() {
                        m.close();
                    }
                })
            }
            Event::Suspend(_) => {}
            Event::ClockSetBack => self.clock_set_back(now),
        }
        effect
    }

    fn result(&mut self, o: &Outcome<'_>, now: u64, effect: &mut Effect) -> Judged {
        let failure = self.set.failure_statuses.contains(&o.status);
        let code = o.error_code.as_deref().unwrap_or("");
        let callers_fault =
            o.status != Status::Success && self.set.ignored_error_codes.iter().any(|c| c == code);
        let neither = callers_fault || o.status == Status::Cancelled && !failure;
        let mut probe = false;
        if let (None, Beneath::HalfOpen { probes, .. }) = (self.force, &mut self.beneath)
            && let Some(at) = probes.iter().position(|p| Some(p.request.as_str()) == o.request_id.as_deref())
        {
            effect.freed = Some(probes.remove(at).claim);
            probe = true;
        }
        let written = o.timestamp_ms.unwrap_or(now).min(now).max(now.saturating_sub(60_000));
        let began = written.saturating_sub(o.latency_ms.unwrap_or(0));
        let late = !probe && self.moved.last().is_some_and(|at| began < *at);
        let disposition = if neither {
            Disposition::Ignored
        } else if late {
            if let (None, Beneath::Open { at, held }, true, Some(ms)) =
                (self.force, &mut self.beneath, failure, o.retry_after_ms)
            {
                held.push(now.saturating_add(ms).min(*at + self.set.max_timeout_ms));
            }
            Disposition::Late
        } else {
            self.evidence(o, failure, probe, now, effect)
        };
        Judged { disposition, failure, probe }
    }

    fn evidence(
        &mut self,
        o: &Outcome<'_>,
        failure: bool,
        probe: bool,
        now: u64,
        effect: &mut Effect,
    ) -> Disposition {
        let slow = self.set.latency_threshold_ms.is_some_and(|most| o.latency_ms.is_some_and(|ms| ms > most));
        let counted = Counted { at: now, failure, slow, latency: o.latency_ms, cost: o.cost_nanos };
        let hint = o.retry_after_ms.filter(|_| failure).map(|ms| now + ms.min(self.set.max_timeout_ms));
        let only_counts = self.off || !self.set.enabled || self.force.is_some_and(|f| f.0 == State::Closed);
        if !self.off && self.force.is_some_and(|f| f.0 == State::Open) {
            return Disposition::Ignored;
        }
        if only_counts {
            self.counted.push(counted);
            return Disposition::Applied;
        }
        match &mut self.beneath {
            Beneath::Closed => {
                self.counted.push(counted);
                self.judged.push((now, failure, self.set.error_rate_window_seconds * 1_000));
                if let Some(cause) = self.opens(failure, now) {
                    self.open(cause, hint, now, effect);
                }
            }
            Beneath::HalfOpen { .. } if probe && (failure || slow) => {
                self.counted.push(counted);
                self.open(Cause::HalfOpenFailure, hint, now, effect);
            }
            Beneath::HalfOpen { good, .. } if probe => {
                self.counted.push(counted);
                good.push(now);
                if good.len() as u64 >= self.set.success_threshold {
                    self.change(Cause::ProbesSucceeded, false, now, effect, Self::close);
                }
            }
            _ => return Disposition::Ignored,
        }
        Disposition::Applied
    }

    /// Whether what is known at `now` opens a closed circuit.
    fn opens(&self, failure: bool, now: u64) -> Option<Cause> {
        let counts = self.counts(now);
        let enough = u64::from(counts.requests) >= self.set.minimum_requests;
        // Exact in integers: the share as millionths, as the settings keep it.
        let reached = |part: u32, share: f64| {
            u64::from(part) * 1_000_000 >= u64::from(counts.requests) * (share * 1e6).round() as u64
        };
        if failure && u64::from(self.row(now)) >= self.set.failure_threshold {
            Some(Cause::FailureThresholdExceeded)
        } else if enough && reached(counts.failures, self.set.error_rate_threshold) {
            Some(Cause::ErrorRateThresholdExceeded)
        } else if enough
            && self.set.latency_threshold_ms.is_some()
            && reached(counts.slow, self.set.slow_call_rate_threshold)
        {
            Some(Cause::LatencyThresholdExceeded)
        } else {
            None
        }
    }

    fn claim(&mut self, probe: Probe, gave_up: bool, now: u64, effect: &mut Effect) -> Verdict {
        let cap = self.set.half_open_max_calls as usize;
        let wait = self.open_until().map(|until| until.saturating_sub(now));
        let refuse = |state, retry_after_ms| Verdict::Refused { state, retry_after_ms };
        match self.shown() {
            State::Closed => Verdict::NotNeeded,
            State::Open if self.force.is_some() => refuse(State::Open, wait.unwrap_or(self.set.timeout_ms)),
            State::Open if gave_up || wait > Some(0) => refuse(State::Open, wait.unwrap_or(0)),
            State::Open => {
                self.change(Cause::TimeoutElapsed, false, now, effect, |m| {
                    m.beneath = Beneath::HalfOpen { probes: vec![probe], good: Vec::new() };
                });
                Verdict::Granted
            }
            State::HalfOpen => {
                let Beneath::HalfOpen { probes, .. } = &mut self.beneath else { unreachable!() };
                if gave_up || probes.len() >= cap || probes.iter().any(|p| p.request == probe.request) {
                    let soonest = probes.iter().map(|p| p.until - now).min();
                    return refuse(State::HalfOpen, soonest.map_or(1_000, |ms| ms.min(1_000)));
                }
                probes.push(probe);
                Verdict::Granted
            }
        }
    }

    fn configure(&mut self, set: &SettingsDraft, now: u64, effect: &mut Effect) {
        let old = self.window_ms();
        // A row that an idle window has ended stays ended, whatever the new window would say.
        let ended = self.judged.len() - self.row(now) as usize;
        self.judged.drain(..ended);
        let switched = self.set.enabled != set.enabled;
        self.set = set.clone();
        if self.window_ms() != old {
            // What is known of a result is its bucket: it counts from that bucket's beginning.
            let (width, new) = (old / 10, self.window_ms() / 10);
            self.counted.retain(|c| c.at / width + 10 > now / width);
            self.counted.iter_mut().for_each(|c| c.at = c.at / width * width);
            self.counted.retain(|c| c.at / new + 10 > now / new);
        }
        if switched && self.force.is_none() {
            self.change(Cause::Disabled, false, now, effect, Self::close);
        }
    }

    fn clock_set_back(&mut self, now: u64) {
        self.counted.clear();
        self.judged.clear();
        self.shown_since = now;
        self.moved.iter_mut().for_each(|at| *at = now.min(*at));
        if let Some((_, since, _)) = &mut self.force {
            *since = now;
        }
        match &mut self.beneath {
            Beneath::Closed => {}
            Beneath::Open { at, held } => {
                *at = now;
                held.clear();
            }
            Beneath::HalfOpen { probes, .. } => probes.iter_mut().for_each(|p| p.until = now + p.lease),
        }
    }

    // ---- moves ----

    fn open(&mut self, cause: Cause, hint: Option<u64>, now: u64, effect: &mut Effect) {
        let opening =
            Opening { of_a_probe: cause == Cause::HalfOpenFailure, share: self.counts(now).error_rate() };
        self.change(cause, false, now, effect, |m| {
            m.openings.push(opening);
            m.beneath = Beneath::Open { at: now, held: hint.into_iter().collect() };
        });
    }

    fn close(&mut self) {
        self.beneath = Beneath::Closed;
        self.counted.clear();
        self.judged.clear();
        self.past_openings += self.openings.len();
        self.openings.clear();
    }

    /// A force is over when its time is over, whatever finds that later.
    pub(super) fn lapse(&mut self, now: u64, effect: &mut Effect) {
        let (_, since, ttl) = self.force.unwrap();
        let over = since + ttl.unwrap();
        self.change(Cause::ForceLifted, true, now, effect, Self::unforce);
        *self.moved.last_mut().unwrap() = over;
        let told = effect.transitions.last_mut().unwrap();
        told.at = Stamp(over);
        if told.from != told.to {
            self.shown_since = over;
        }
    }

    fn unforce(&mut self) {
        let opens = self.force.take().is_some_and(|f| f.0 == State::Open);
        self.close();
        if opens && self.set.enabled {
            self.beneath = Beneath::HalfOpen { probes: Vec::new(), good: Vec::new() };
        }
    }

    /// Tells a change if the state shown is another one, or if it was a command, which always counts.
    fn change(
        &mut self,
        cause: Cause,
        command: bool,
        now: u64,
        effect: &mut Effect,
        change: impl FnOnce(&mut Self),
    ) {
        let (from, window, failures_in_a_row) = (self.shown(), self.counts(now), self.row(now));
        change(self);
        let to = self.shown();
        if from != to {
            self.shown_since = now;
        }
        if from != to || command {
            self.moved.push(now);
            let open_until = self.open_until().filter(|_| to == State::Open).map(Stamp);
            let trips = self.trips() as u32;
            let at = Stamp(now);
            effect.transitions.push(Transition {
                from,
                to,
                cause,
                at,
                window,
                failures_in_a_row,
                trips,
                open_until,
            });
        }
    }
}
