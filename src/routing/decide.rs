use std::borrow::Cow;

use super::draw::{backoff_draw, rendezvous, weighted};
use super::{Admission, Candidates, Choice, Excluded, Refused, Routed, Step, Trail};
use crate::domain::{Attributes, Reason, RouteRequest};
use crate::policy::{Fallback, Policy};

/// What a fallback rule's `when.status` calls a refusal by a breaker.
const BREAKER_OPEN: &str = "circuit_breaker_open";

/// Decides which of the policy's candidates serves the request; see [`super`].
pub fn decide<'r>(
    policy: &Policy,
    request: &'r RouteRequest<'_>,
    candidates: &mut impl Candidates,
    trail: &mut Trail,
) -> Routed<'r> {
    let sticky_key = session(policy, request);
    let mut run = Run {
        policy,
        request,
        candidates,
        trail,
        looked_at: Set::default(),
        refused: Vec::new(),
        excluded: Vec::new(),
    };
    run.apply_constraints();
    match run.route(sticky_key.as_deref()) {
        Flow::To(to) => {
            let Pick { candidate, reason, probe, backoff_ms } = to;
            // A session's value is told wherever it took part in the choice.
            Routed::To(Choice { candidate, reason, probe, sticky_key, backoff_ms })
        }
        Flow::Claim(candidate) => Routed::Claim(candidate),
        Flow::Nothing if run.refused.is_empty() => Routed::Constrained(run.excluded),
        Flow::Nothing => Routed::CircuitOpen(run.refused),
    }
}

fn session<'r>(policy: &Policy, request: &'r RouteRequest<'_>) -> Option<Cow<'r, str>> {
    let key = &policy.sticky()?.session_key;
    let value = |from: Attributes<'r>| from.get(key).filter(|value| !value.is_empty());
    value(request.context).or_else(|| value(request.metadata))
}

enum Flow {
    To(Pick),
    Claim(usize),
    Nothing,
}

struct Pick {
    candidate: usize,
    reason: Reason,
    probe: bool,
    backoff_ms: Option<u64>,
}

struct Run<'d, C> {
    policy: &'d Policy,
    request: &'d RouteRequest<'d>,
    candidates: &'d mut C,
    trail: &'d mut Trail,
    /// Candidates that are out: excluded, or refused already.
    looked_at: Set,
    refused: Vec<Refused>,
    excluded: Vec<Excluded>,
}

impl<C: Candidates> Run<'_, C> {
    fn route(&mut self, session: Option<&str>) -> Flow {
        let drawn_for = if session.is_some() { Reason::Sticky } else { Reason::Weighted };
        let drawn = self.draw(session, 0);
        let (first, reason, backoff_ms) = match self.retry_rule() {
            Some((rule, retry)) if retry <= rule.retry && drawn.is_some() => {
                let wait = rule
                    .backoff
                    .as_ref()
                    .map(|b| b.delay_ms(retry, backoff_draw(&self.request.request_id, retry)));
                (drawn, drawn_for, wait)
            }
            // A target that constraints exclude leaves the draw to serve.
            Some((rule, _)) if !self.looked_at.has(rule.to) => (Some(rule.to), Reason::Fallback, None),
            _ if drawn.is_none() => (self.catch_all(), Reason::Fallback, None),
            _ => (drawn, drawn_for, None),
        };
        if let Some(candidate) = first.filter(|c| !self.looked_at.has(*c)) {
            if reason == Reason::Fallback {
                self.trail.add(Step::Fallback { candidate });
            }
            match self.look_at(candidate, reason, backoff_ms) {
                Flow::Nothing => {}
                found => return found,
            }
        }
        self.breaker_fallbacks(session)
    }

    /// The targets of rules for a refused provider, then the rest by weight.
    fn breaker_fallbacks(&mut self, session: Option<&str>) -> Flow {
        // Nothing was refused and nothing is left: only constraints stand in the way, and a rule
        // about breakers has no say.
        if self.refused.is_empty() {
            return Flow::Nothing;
        }
        let reason = Reason::CircuitBreakerFallback;
        for rule in self.policy.fallbacks() {
            if !rule.when.matches(BREAKER_OPEN, &self.request.task_type) || self.looked_at.has(rule.to) {
                continue;
            }
            self.trail.add(Step::Fallback { candidate: rule.to });
            match self.look_at(rule.to, reason, None) {
                Flow::Nothing => {}
                found => return found,
            }
        }
        let mut round = 1;
        while let Some(candidate) = self.draw(session, round) {
            round += 1;
            self.trail.add(Step::Fallback { candidate });
            match self.look_at(candidate, reason, None) {
                Flow::Nothing => {}
                found => return found,
            }
        }
        Flow::Nothing
    }

    /// The first rule that matches how the previous attempt ended, and which retry this one is.
    fn retry_rule(&self) -> Option<(&Fallback, u32)> {
        let previous = self.request.previous.as_ref()?;
        let rule = self
            .policy
            .fallbacks()
            .iter()
            .find(|r| r.when.matches(&previous.status, &self.request.task_type))?;
        Some((rule, previous.attempt.saturating_sub(1)))
    }

    /// Where constraints leave no provider: a rule that matches whatever happened.
    fn catch_all(&self) -> Option<usize> {
        let matches =
            |r: &&Fallback| r.when.statuses.is_none() && r.when.matches("", &self.request.task_type);
        self.policy.fallbacks().iter().find(matches).map(|r| r.to)
    }

    fn draw(&self, session: Option<&str>, round: u64) -> Option<usize> {
        let open = self
            .policy
            .candidates()
            .iter()
            .enumerate()
            .filter(|(i, c)| c.weight > 0 && !self.looked_at.has(*i));
        match session {
            Some(value) => rendezvous(value, open.map(|(i, c)| (i, c.provider.as_str(), c.weight))),
            None => weighted(&self.request.request_id, round, open.map(|(i, c)| (i, c.weight))),
        }
    }

    fn look_at(&mut self, candidate: usize, reason: Reason, backoff_ms: Option<u64>) -> Flow {
        self.looked_at.add(candidate);
        let admission = self.candidates.admit(candidate);
        self.trail.add(Step::Check { candidate, admission });
        let to = |probe| Flow::To(Pick { candidate, reason, probe, backoff_ms });
        match admission {
            Admission::Pass | Admission::WouldReject(_) => to(false),
            Admission::Probe => to(true),
            Admission::Claim => Flow::Claim(candidate),
            Admission::Refuse { state, retry_after_ms } => {
                self.refused.push(Refused { candidate, state, retry_after_ms });
                Flow::Nothing
            }
        }
    }

    fn apply_constraints(&mut self) {
        let limits = self.request.constraints;
        if limits.max_latency_ms.is_none() && limits.max_cost.is_none() {
            return;
        }
        for candidate in 0..self.policy.candidates().len() {
            let observed = self.candidates.observed(candidate);
            #[expect(clippy::cast_precision_loss, reason = "means lie far below 2^53")]
            let (latency, cost) = (observed.latency_ms as f64, observed.cost_nanos as f64 / 1e9);
            let constraint = if limits.max_latency_ms.is_some_and(|most| latency > most) {
                "max_latency_ms"
            } else if limits.max_cost.is_some_and(|most| cost > most) {
                "max_cost"
            } else {
                continue;
            };
            let excluded = Excluded { candidate, constraint, observed };
            self.looked_at.add(candidate);
            self.excluded.push(excluded);
            self.trail.add(Step::Constraint(excluded));
        }
    }
}

/// A set of candidate indices. A policy has at most 256 providers and as many fallback targets.
#[derive(Default)]
struct Set([u64; 8]);

impl Set {
    fn add(&mut self, i: usize) {
        if let Some(word) = self.0.get_mut(i / 64) {
            *word |= 1 << (i % 64);
        }
    }

    fn has(&self, i: usize) -> bool {
        self.0.get(i / 64).is_none_or(|word| word & (1 << (i % 64)) != 0)
    }
}
