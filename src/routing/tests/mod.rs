//! Which candidate serves, and why, asked of policies as operators write them. Breakers are a table of
//! answers here; what they answer in earnest is `state`'s to test.

mod breaker_fallbacks;
mod choices;
mod claims;
mod constraints;
mod laws;
mod retries;

use std::borrow::Cow;
use std::cell::RefCell;

use serde_json::{Value, json};

use super::{Admission, Candidates, Choice, Observed, Refused, Routed, Step, Trail, decide};
use crate::breaker::State;
use crate::domain::{Attributes, Constraints, Payload, Previous, Reason, RouteRequest};
use crate::policy::{Policy, parse};

/// Answers by candidate; those that the table lacks pass and report nothing.
#[derive(Clone, Debug, Default)]
struct Table {
    answers: Vec<(usize, Admission)>,
    observed: Vec<(usize, Observed)>,
    asked: RefCell<Vec<usize>>,
}

impl Table {
    fn passing() -> Self {
        Self::default()
    }

    fn refusing(candidates: &[usize]) -> Self {
        candidates.iter().fold(Self::default(), |table, c| table.with(*c, refuse(*c)))
    }

    fn with(mut self, candidate: usize, answer: Admission) -> Self {
        self.answers.retain(|(c, _)| *c != candidate);
        self.answers.push((candidate, answer));
        self
    }

    fn reporting(mut self, candidate: usize, latency_ms: u64, cost_nanos: u64) -> Self {
        self.observed.push((candidate, Observed { latency_ms, cost_nanos }));
        self
    }

    fn answer(&self, candidate: usize) -> Admission {
        self.answers.iter().find(|(c, _)| *c == candidate).map_or(Admission::Pass, |(_, a)| *a)
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.borrow().clone()
    }
}

impl Candidates for Table {
    fn admit(&mut self, candidate: usize) -> Admission {
        self.asked.borrow_mut().push(candidate);
        self.answer(candidate)
    }

    fn observed(&self, candidate: usize) -> Observed {
        self.observed.iter().find(|(c, _)| *c == candidate).map(|(_, o)| *o).unwrap_or_default()
    }
}

/// A refusal that tells its candidates apart by their hints.
fn refuse(candidate: usize) -> Admission {
    Admission::Refuse { state: State::Open, retry_after_ms: hint(candidate) }
}

fn hint(candidate: usize) -> u64 {
    1_000 + 100 * candidate as u64
}

fn refused(candidate: usize) -> Refused {
    Refused { candidate, state: State::Open, retry_after_ms: hint(candidate) }
}

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
/// In [`three`], named by no provider list: only a fallback's target.
const LOCAL: usize = 3;

/// Providers a, b and c, and these members beside them.
fn three(members: Value) -> Policy {
    let mut document = json!({
        "policy_id": "p",
        "providers": [{"name": "a", "weight": 50}, {"name": "b", "weight": 30}, {"name": "c", "weight": 20}],
    });
    for (name, value) in members.as_object().unwrap() {
        document[name] = value.clone();
    }
    parse(&document).unwrap().policy
}

/// [`three`] with these fallbacks.
fn falling_back(fallbacks: Value) -> Policy {
    three(json!({ "fallbacks": fallbacks }))
}

fn request(id: &str) -> RouteRequest<'_> {
    RouteRequest {
        request_id: Cow::Borrowed(id),
        tenant_id: Cow::Borrowed("acme"),
        policy_id: Cow::Borrowed("p"),
        task_type: Cow::Borrowed("chat"),
        payload: Payload::Json("{}"),
        trace_id: None,
        constraints: Constraints::default(),
        context: Attributes::Absent,
        metadata: Attributes::Absent,
        previous: None,
        push: None,
        explain: false,
    }
}

/// A request that the policy draws this candidate for, were nothing in the way.
fn drawing(policy: &Policy, candidate: usize) -> RouteRequest<'static> {
    let drawn = |r: &RouteRequest<'_>| match run(policy, r, &mut Table::passing()) {
        Routed::To(choice) => choice.candidate,
        other => panic!("{other:?}"),
    };
    (0..1_000)
        .map(|n| RouteRequest { request_id: Cow::Owned(format!("r-{n}")), ..request("") })
        .find(|r| drawn(r) == candidate)
        .unwrap()
}

fn after(status: &'static str, attempt: u32, first: RouteRequest<'static>) -> RouteRequest<'static> {
    RouteRequest { previous: Some(Previous { status: Cow::Borrowed(status), attempt }), ..first }
}

fn run<'r>(policy: &Policy, request: &'r RouteRequest<'_>, table: &mut Table) -> Routed<'r> {
    decide(policy, request, table, &mut Trail::new(false))
}

/// The choice, where one was made.
fn chosen<'r>(policy: &Policy, request: &'r RouteRequest<'_>, mut table: Table) -> Choice<'r> {
    match run(policy, request, &mut table) {
        Routed::To(choice) => choice,
        other => panic!("nobody was chosen: {other:?}"),
    }
}

/// Who serves and why.
fn served(policy: &Policy, request: &RouteRequest<'_>, table: Table) -> (usize, Reason) {
    let choice = chosen(policy, request, table);
    (choice.candidate, choice.reason)
}
