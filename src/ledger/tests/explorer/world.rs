//! The world and its steps.

use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::rules;
use super::wiring::{Landed, Message, OPEN, Request, STRAY, Tick, Wiring, opened, put, stamp, worth_a_claim};
use crate::breaker::{Breaker, Verdict};

/// How many requests come, how often a worker dies and how far time goes.
const REQUESTS: Request = 4;
const KILLS: u8 = 1;
const LAST: Tick = 4;

#[derive(Clone, Copy, Debug)]
pub(super) enum Action {
    /// A worker's next request: a claim if its gate asks for one, a call if it passes.
    Ask(usize),
    /// A worker applies what it has not applied of the log. One that applies only a part and acts on
    /// that is one that applied it before the rest landed.
    Read(usize),
    GiveUp(usize),
    /// A worker dies with all it knew, and is back, caught up, knowing no request. One that waits for
    /// nothing loses nothing, and need not die.
    Kill(usize),
    /// The n-th of the messages in flight lands in the log.
    Land(usize),
    /// The n-th of the calls at the provider ends, and its result lands.
    Answer(usize, bool),
    Tick,
}

/// A worker's own breaker, and its digest.
#[derive(Clone)]
pub(super) struct Replica {
    pub(super) breaker: Breaker,
    pub(super) digest: u64,
}

#[derive(Clone)]
pub(super) struct Worker {
    pub(super) replica: Arc<Replica>,
    /// Entries of the log that it has not applied.
    pub(super) behind: Vec<Landed>,
    waiting: Option<Request>,
    /// Requests that gave up before their verdict came.
    given_up: Vec<Request>,
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Tick,
    /// What a worker without any lag would hold.
    pub(super) truth: Arc<Replica>,
    pub(super) workers: [Worker; 2],
    flying: Vec<Message>,
    /// Requests at the provider and when they were sent.
    calls: Vec<(Request, Tick)>,
    /// The checker's own books: who holds a slot, and until when.
    pub(super) held: Vec<(Request, Tick)>,
    /// When what the breaker shows last changed.
    pub(super) moved_at: Tick,
    asked: Request,
    kills: u8,
    history: Option<Arc<History>>,
}

struct History {
    action: Action,
    landed: Option<Landed>,
    before: Option<Arc<Self>>,
}

impl Replica {
    fn of(breaker: Breaker) -> Arc<Self> {
        Arc::new(Self { digest: breaker.digest(), breaker })
    }
}

impl World {
    /// Open, and the open time just over.
    pub(super) fn new(wiring: &Wiring) -> Self {
        let truth = Replica::of(opened(wiring.cap));
        let worker =
            Worker { replica: Arc::clone(&truth), behind: Vec::new(), waiting: None, given_up: Vec::new() };
        Self {
            now: OPEN,
            truth,
            workers: [worker.clone(), worker],
            flying: Vec::new(),
            calls: vec![(STRAY, OPEN)],
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
            if asks && worth_a_claim(worker.replica.breaker.gate(), stamp(self.now)) != Some(false) {
                all.push(Action::Ask(w));
            }
            if !worker.behind.is_empty() {
                all.push(Action::Read(w));
            }
            if worker.waiting.is_some() {
                all.push(Action::GiveUp(w));
            }
            if self.kills < KILLS && (worker.waiting.is_some() || !worker.given_up.is_empty()) {
                all.push(Action::Kill(w));
            }
        }
        all.extend((0..self.flying.len()).map(Action::Land));
        all.extend((0..self.calls.len()).flat_map(|n| [Action::Answer(n, true), Action::Answer(n, false)]));
        if self.now < LAST {
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
                let replica = Arc::clone(&self.truth);
                self.workers[w] = Worker { replica, behind: Vec::new(), waiting: None, given_up: Vec::new() };
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
            Action::Tick => self.now += 1,
        }
        Ok(())
    }

    fn ask(&mut self, w: usize) {
        let request = self.asked;
        self.asked += 1;
        match worth_a_claim(self.workers[w].replica.breaker.gate(), stamp(self.now)) {
            None => self.send(request),
            Some(_) => {
                self.workers[w].waiting = Some(request);
                self.publish(Message::Claim { request, asked: self.now });
            }
        }
    }

    fn read(&mut self, w: usize, wiring: &Wiring) -> Result<(), String> {
        let mut breaker = self.workers[w].replica.breaker.clone();
        for landed in std::mem::take(&mut self.workers[w].behind) {
            let now = stamp(landed.at).plus(wiring.ahead_ms[w]);
            let effect = put(&mut breaker, landed.told, wiring.lease_ms, now);
            if let (Message::Claim { request, .. }, Some(verdict)) = (landed.message, effect.verdict) {
                self.verdict(w, request, verdict);
            }
        }
        self.workers[w].replica = Replica::of(breaker);
        rules::agreement(self, w)
    }

    fn verdict(&mut self, w: usize, request: Request, verdict: Verdict) {
        let worker = &mut self.workers[w];
        if worker.waiting == Some(request) {
            worker.waiting = None;
            if matches!(verdict, Verdict::Granted | Verdict::NotNeeded) {
                self.send(request);
            }
        } else if let Some(at) = worker.given_up.iter().position(|r| *r == request) {
            worker.given_up.remove(at);
            if verdict == Verdict::Granted {
                self.publish(Message::Release { request });
            }
        }
    }

    fn land(&mut self, message: Message, wiring: &Wiring) -> Result<(), String> {
        self.held.retain(|(_, until)| *until > self.now);
        let holders: Vec<_> = self.held.iter().map(|(request, _)| *request).collect();
        let landed = Landed { message, told: (wiring.tell)(message, &holders), at: self.now };
        let before = Arc::clone(&self.truth);
        let mut breaker = before.breaker.clone();
        let effect = put(&mut breaker, landed.told, wiring.lease_ms, stamp(self.now));
        self.truth = Replica::of(breaker);
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

    /// What the future depends on. Which of the workers is which does not matter.
    pub(super) fn key(&self) -> u128 {
        let mut bytes = Vec::with_capacity(160);
        let mut workers = [self.workers[0].key(), self.workers[1].key()];
        workers.sort_unstable();
        for n in [self.truth.digest, workers[0], workers[1]] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.extend_from_slice(&[self.now, self.moved_at, self.asked, self.kills]);
        bytes.extend_from_slice(&[len(&self.flying), len(&self.calls), len(&self.held)]);
        self.flying.iter().for_each(|m| bytes.extend_from_slice(&m.key()));
        for (request, tick) in self.calls.iter().chain(&self.held) {
            bytes.extend_from_slice(&[*request, *tick]);
        }
        xxh3_128(&bytes)
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

impl Worker {
    fn key(&self) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&self.replica.digest.to_le_bytes());
        bytes.extend_from_slice(&[
            self.waiting.map_or(u8::MAX, |r| r),
            len(&self.behind),
            len(&self.given_up),
        ]);
        for landed in &self.behind {
            bytes.extend_from_slice(&landed.told.key());
            bytes.push(landed.at);
        }
        bytes.extend_from_slice(&self.given_up);
        xxh3_64(&bytes)
    }
}

fn len<T>(list: &[T]) -> u8 {
    u8::try_from(list.len()).unwrap()
}
