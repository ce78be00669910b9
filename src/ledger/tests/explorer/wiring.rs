//! What is published, how it reaches a breaker, and what may be put in between.

use std::sync::{Arc, OnceLock};

use super::super::{START, Status, outcome};
use crate::breaker::{Breaker, Claim, Effect, Gate, Input, Position, Settings, SettingsDraft};
use crate::domain::{ClaimId, Outcome, Stamp};

pub(super) const CAP: u64 = 2;
/// How far time goes in one step; stamps are counted in it.
pub(super) const TICK_MS: u64 = 1_000;
/// How long it stays open, and how long a slot is held at most.
pub(super) const OPEN: Tick = 1;
pub(super) const LEASE: Tick = 2;
/// How long a claim is wanted; less than a tick, so that one that flies over a tick is late.
const WAIT_MS: u64 = 50;
/// A request that nobody claimed for, at the provider from the beginning.
pub(super) const STRAY: Request = 100;

pub(super) type Request = u8;
pub(super) type Tick = u8;

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

/// Something published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Message {
    Claim { request: Request, asked: Tick },
    Release { request: Request },
    Result { request: Request, ok: bool, sent: Tick },
}

/// A message in the log, with its stamp and with what it was told as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Landed {
    pub(super) message: Message,
    pub(super) told: Message,
    pub(super) at: Tick,
}

pub(super) fn settings(cap: u64) -> Arc<Settings> {
    static AS_BUILT: OnceLock<Arc<Settings>> = OnceLock::new();
    let made = || {
        let draft = SettingsDraft {
            enabled: true,
            failure_threshold: 1,
            timeout_ms: u64::from(OPEN) * TICK_MS,
            success_threshold: 2,
            half_open_max_calls: cap,
            probe_timeout_ms: u64::from(LEASE) * TICK_MS,
            ..SettingsDraft::default()
        };
        Arc::new(Settings::try_new(&draft).unwrap())
    };
    if cap == CAP { Arc::clone(AS_BUILT.get_or_init(made)) } else { made() }
}

pub(super) fn stamp(tick: Tick) -> Stamp {
    START.plus(u64::from(tick) * TICK_MS)
}

/// The latest stamp at which a claim is wanted.
pub(super) fn latest(asked: Tick) -> Stamp {
    stamp(asked).plus(WAIT_MS)
}

/// A message as a breaker takes it.
pub(super) fn put(breaker: &mut Breaker, message: Message, lease_ms: u64, now: Stamp) -> Effect {
    match message {
        Message::Claim { request, asked } => {
            let claim = ClaimId(u64::from(request));
            let claim = Claim { request_id: &name(request), claim, latest: latest(asked), lease_ms };
            breaker.apply(&Input::Claim(claim), now)
        }
        Message::Release { request } => breaker.apply(&Input::Release(ClaimId(u64::from(request))), now),
        Message::Result { request, ok, sent } => {
            breaker.apply(&Input::Result(&result(request, ok, now.since(stamp(sent)))), now)
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

/// Open since the world began.
pub(super) fn opened(cap: u64) -> Breaker {
    let mut breaker = Breaker::new(settings(cap), 7, stamp(0));
    breaker.apply(&Input::Reset, stamp(0));
    breaker.apply(&Input::Result(&result(STRAY + 1, false, 0)), stamp(0));
    breaker
}

impl Message {
    pub(super) const fn key(self) -> [u8; 4] {
        match self {
            Self::Claim { request, asked } => [1, request, asked, 0],
            Self::Release { request } => [2, request, 0, 0],
            Self::Result { request, ok, sent } => [3, request, sent, ok as u8],
        }
    }
}
