//! The world and its steps.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::Xxh3;

use super::super::{START, Status, outcome};
use super::rules;
use crate::breaker::{Breaker, Claim, Effect, Gate, Input, Position, Settings, SettingsDraft, Verdict};
use crate::domain::{ClaimId, Outcome, Stamp};

pub(super) const CAP: u64 = 2;
/// How long it stays open, and how far time goes in one step.
pub(super) const TICK_MS: u64 = 1_000;
pub(super) const LEASE_MS: u64 = 2 * TICK_MS;
/// How long a claim is wanted; less than a tick, so that one that flies over a tick is late.
const WAIT_MS: u64 = 50;
/// How many requests come, how often a worker dies and how far time goes.
const REQUESTS: Request = 4;
const KILLS: u8 = 1;
const TICKS: u64 = 4;
/// A request that nobody claimed for, at the provider from the beginning.
const STRAY: Request = 100;

pub(super) type Request = u8;

/// What stands between the log and the breakers. As built: nothing.
pub(super) struct Wiring {
    pub(super) cap: u64,
    /// The lease that claims ask for, where it is longer than the settings'.
    pub(super) lease_ms: u64,
    /// How far the clock of each worker's copy is ahead of the stamps.
    pub(super) ahead_ms: [u64; 2],
    /// What a breaker is told in place of a message, where these requests hold slots.
    pub(super) tell: fn(Message, &[Request]) -> Message,
}

impl Wiring {
    pub(super) const AS_BUILT: Self =
        Self { cap: CAP, lease_ms: 0, ahead_ms: [0, 0], tell: |message, _| message };
}

/// Something published. Times are milliseconds since the world began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    Claim { request: Request, latest: u64 },
    Release { request: Request },
    Result { request: Request, ok: bool, sent: u64 },
}

/// A message in the log, with its stamp and with what it was told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Landed {
    pub(super) message: Message,
    pub(super) told: Message,
    pub(super) at: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A worker's next request: a claim if its gate asks for one, a call if it passes.
    Ask(usize),
    /// A worker applies the next entry of the log.
    Read(usize),
    GiveUp(usize),
    /// A worker dies with all it knew, and is back, caught up, knowing no request.
    Kill(usize),
    /// The n-th of the messages in flight lands in the log.
    Land(usize),
    /// The n-th of the calls at the provider ends, and its result lands.
    Answer(usize, bool),
    Tick,
}

/// A copy of the fold's breaker, and its digest.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) breaker: Breaker,
    digest: u64,
}

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) copy: Arc<Copy>,
    /// Entries of the log that it has not applied.
    pub(super) behind: Vec<Landed>,
    waiting: Option<Request>,
    /// Requests that gave up before their verdict came.
    given_up: Vec<Request>,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) now: u64,
    /// What a worker without any lag would hold.
    pub(super) truth: Arc<Copy>,
    pub(super) workers: [Worker; 2],
    flying: Vec<Message>,
    /// Requests at the provider and when they were sent.
    calls: Vec<(Request, u64)>,
    /// The checker's own books: who holds a slot, and until when.
    pub(super) held: Vec<(Request, u64)>,
    /// When what the breaker shows last changed.
    pub(super) moved_at: u64,
    asked: Request,
    kills: u8,
    history: Option<Arc<History>>,
}

struct History {
    action: Action,
    landed: Option<Landed>,
    before: Option<Arc<Self>>,
}

pub(super) fn settings(cap: u64) -> Arc<Settings> {
    static AS_BUILT: OnceLock<Arc<Settings>> = OnceLock::new();
    let made = || {
        let draft = SettingsDraft {
            enabled: true,
            failure_threshold: 1,
            timeout_ms: TICK_MS,
            success_threshold: 2,
            half_open_max_calls: cap,
            probe_timeout_ms: LEASE_MS,
            ..SettingsDraft::default()
        };
        Arc::new(Settings::try_new(&draft).unwrap())
    };
    if cap == CAP { Arc::clone(AS_BUILT.get_or_init(made)) } else { made() }
}

pub(super) fn stamp(ms: u64) -> Stamp {
    START.plus(ms)
}

/// A message as a breaker takes it.
pub(super) fn put(breaker: &mut Breaker, message: Message, lease_ms: u64, at: u64) -> Effect {
    let now = stamp(at);
    match message {
        Message::Claim { request, latest } => {
            let claim = ClaimId(u64::from(request));
            let latest = Stamp(START.0.saturating_add(latest));
            breaker.apply(Input::Claim(Claim { request_id: &name(request), claim, latest, lease_ms }), now)
        }
        Message::Release { request } => breaker.apply(Input::Release(ClaimId(u64::from(request))), now),
        Message::Result { request, ok, sent } => {
            breaker.apply(Input::Result(&result(request, ok, at - sent)), now)
        }
    }
}

pub(super) fn result(request: Request, ok: bool, latency_ms: u64) -> Outcome<'static> {
    let status = if ok { Status::Success } else { Status::Error };
    Outcome {
        request_id: Some(name(request).into()),
        latency_ms: Some(latency_ms),
        ..outcome("acme", "a", status, 0)
    }
}

pub(super) fn name(request: Request) -> String {
    format!("r{request}")
}

/// Whether a gate makes a claim worth a try; `None` where it lets everyone pass.
pub(super) fn worth_a_claim(gate: Gate, now: Stamp) -> Option<bool> {
    match gate.position {
        Position::Pass => None,
        Position::Refuse { until } => Some(until.is_some_and(|until| now >= until)),
        Position::Probe { free, next_expiry } => Some(free > 0 || next_expiry.is_some_and(|end| now >= end)),
    }
}

impl Copy {
    fn tell(self: &Arc<Self>, landed: &Landed, wiring: &Wiring, ahead_ms: u64) -> (Arc<Self>, Effect) {
        let mut breaker = self.breaker.clone();
        let effect = put(&mut breaker, landed.told, wiring.lease_ms, landed.at + ahead_ms);
        let digest = breaker.digest();
        (Arc::new(Self { breaker, digest }), effect)
    }
}

impl World {
    /// Open, and the open time just over.
    pub(super) fn new(wiring: &Wiring) -> Self {
        let mut breaker = Breaker::new(settings(wiring.cap), 7, stamp(0));
        breaker.apply(Input::Reset, stamp(0));
        put(&mut breaker, Message::Result { request: STRAY + 1, ok: false, sent: 0 }, 0, 0);
        let digest = breaker.digest();
        let truth = Arc::new(Copy { breaker, digest });
        let worker =
            Worker { copy: Arc::clone(&truth), behind: Vec::new(), waiting: None, given_up: Vec::new() };
        Self {
            now: TICK_MS,
            truth,
            workers: [worker.clone(), worker],
            flying: Vec::new(),
            calls: vec![(STRAY, TICK_MS)],
            held: Vec::new(),
            moved_at: 0,
            asked: 0,
            kills: 0,
            history: None,
        }
    }

    pub(super) fn actions(&self) -> Vec<Action> {
        let mut all = Vec::with_capacity(16);
        for (w, worker) in self.workers.iter().enumerate() {
            let asks = worker.waiting.is_none() && self.asked < REQUESTS;
            if asks && worth_a_claim(worker.copy.breaker.gate(), stamp(self.now)) != Some(false) {
                all.push(Action::Ask(w));
            }
            if !worker.behind.is_empty() {
                all.push(Action::Read(w));
            }
            if worker.waiting.is_some() {
                all.push(Action::GiveUp(w));
            }
            if self.kills < KILLS {
                all.push(Action::Kill(w));
            }
        }
        all.extend((0..self.flying.len()).map(Action::Land));
        all.extend((0..self.calls.len()).flat_map(|n| [Action::Answer(n, true), Action::Answer(n, false)]));
        if self.now < TICKS * TICK_MS {
            all.push(Action::Tick);
        }
        all
    }

    /// Takes a step, and tells the rule that it broke.
    pub(super) fn step(&mut self, action: Action, wiring: &Wiring) -> Result<(), String> {
        self.history = Some(Arc::new(History { action, landed: None, before: self.history.take() }));
        match action {
            Action::Ask(w) => self.ask(w),
            Action::Read(w) => return self.read(w, wiring),
            Action::GiveUp(w) => {
                if let Some(request) = self.workers[w].waiting.take() {
                    self.workers[w].given_up.push(request);
                    self.publish(Message::Release { request });
                }
            }
            Action::Kill(w) => {
                let copy = Arc::clone(&self.truth);
                self.workers[w] = Worker { copy, behind: Vec::new(), waiting: None, given_up: Vec::new() };
                self.kills += 1;
            }
            Action::Land(n) => {
                let message = self.flying.remove(n);
                return self.land(message, wiring);
            }
            Action::Answer(n, ok) => {
                let (request, sent) = self.calls.remove(n);
                return self.land(Message::Result { request, ok, sent }, wiring);
            }
            Action::Tick => self.now += TICK_MS,
        }
        Ok(())
    }

    fn ask(&mut self, w: usize) {
        let request = self.asked;
        self.asked += 1;
        match worth_a_claim(self.workers[w].copy.breaker.gate(), stamp(self.now)) {
            None => self.send(request),
            Some(_) => {
                self.workers[w].waiting = Some(request);
                self.publish(Message::Claim { request, latest: self.now + WAIT_MS });
            }
        }
    }

    fn read(&mut self, w: usize, wiring: &Wiring) -> Result<(), String> {
        let landed = self.workers[w].behind.remove(0);
        let (copy, effect) = self.workers[w].copy.tell(&landed, wiring, wiring.ahead_ms[w]);
        self.workers[w].copy = copy;
        if let (Message::Claim { request, .. }, Some(verdict)) = (landed.message, effect.verdict) {
            if self.workers[w].waiting == Some(request) {
                self.workers[w].waiting = None;
                if matches!(verdict, Verdict::Granted | Verdict::NotNeeded) {
                    self.send(request);
                }
            } else if let Some(at) = self.workers[w].given_up.iter().position(|r| *r == request) {
                self.workers[w].given_up.remove(at);
                if verdict == Verdict::Granted {
                    self.publish(Message::Release { request });
                }
            }
        }
        rules::agreement(self, w)
    }

    fn land(&mut self, message: Message, wiring: &Wiring) -> Result<(), String> {
        self.held.retain(|(_, until)| *until > self.now);
        let holders: Vec<_> = self.held.iter().map(|(request, _)| *request).collect();
        let landed = Landed { message, told: (wiring.tell)(message, &holders), at: self.now };
        let before = Arc::clone(&self.truth);
        let (truth, effect) = before.tell(&landed, wiring, 0);
        self.truth = truth;
        for worker in &mut self.workers {
            worker.behind.push(landed);
        }
        if let Some(History { action, before, .. }) = self.history.as_deref() {
            let (action, before) = (*action, before.clone());
            self.history = Some(Arc::new(History { action, landed: Some(landed), before }));
        }
        rules::landed(self, &before.breaker, message, &effect)
    }

    fn publish(&mut self, message: Message) {
        self.flying.push(message);
        self.flying.sort_unstable();
    }

    fn send(&mut self, request: Request) {
        self.calls.push((request, self.now));
        self.calls.sort_unstable();
    }

    /// What the future depends on.
    pub(super) fn key(&self) -> u128 {
        let mut hash = Xxh3::new();
        let mut add = |n: u64| hash.update(&n.to_le_bytes());
        let message = |m: &Message| match *m {
            Message::Claim { request, latest } => [1, u64::from(request), latest, 0],
            Message::Release { request } => [2, u64::from(request), 0, 0],
            Message::Result { request, ok, sent } => [3, u64::from(request), sent, u64::from(ok)],
        };
        for n in [self.now, self.truth.digest, self.moved_at, u64::from(self.asked), u64::from(self.kills)] {
            add(n);
        }
        for worker in &self.workers {
            add(worker.copy.digest);
            add(worker.waiting.map_or(0, |r| u64::from(r) + 1));
            add(worker.behind.len() as u64);
            for landed in &worker.behind {
                message(&landed.message).into_iter().chain([landed.at]).for_each(&mut add);
            }
            add(worker.given_up.len() as u64);
            worker.given_up.iter().for_each(|r| add(u64::from(*r)));
        }
        add(self.flying.len() as u64);
        self.flying.iter().flat_map(message).for_each(&mut add);
        add(self.calls.len() as u64);
        self.calls.iter().flat_map(|(r, sent)| [u64::from(*r), *sent]).for_each(&mut add);
        add(self.held.len() as u64);
        self.held.iter().flat_map(|(r, until)| [u64::from(*r), *until]).for_each(&mut add);
        hash.digest128()
    }

    fn history(&self) -> Vec<&History> {
        let mut all: Vec<_> =
            std::iter::successors(self.history.as_deref(), |h| h.before.as_deref()).collect();
        all.reverse();
        all
    }

    pub(super) fn schedule(&self) -> Vec<Action> {
        self.history().into_iter().map(|h| h.action).collect()
    }

    pub(super) fn log(&self) -> Vec<Landed> {
        self.history().into_iter().filter_map(|h| h.landed).collect()
    }
}
