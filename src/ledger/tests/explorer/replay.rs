//! The logs that the search wrote, told to real folds.

use std::collections::HashSet;

use super::super::*;
use super::wiring::{CAP, LEASE, Landed, Message, OPEN, TICK_MS, latest, name, opened, put, result, stamp};

/// An hour for each log, so that none is touched by the one before it.
const APART_MS: u64 = 3_600_000;

fn entry(landed: &Landed, apart_ms: u64, identity: u64) -> Entry<'static> {
    let claim = |request, latest: Stamp| ClaimEntry {
        request_id: Cow::Owned(name(request)),
        ..claim_entry("acme", "a", u64::from(request), latest.plus(apart_ms))
    };
    match landed.message {
        Message::Claim { request, asked } => Entry::Claim(claim(request, latest(asked))),
        Message::Release { request } => Entry::Release(claim(request, Stamp(0))),
        Message::Result { request, ok, sent } => {
            Entry::Result(Outcome { identity, ..result(request, ok, stamp(landed.at).since(stamp(sent))) })
        }
    }
}

/// Two folds that differ in all that may differ hold the same after each log, and say and hold what
/// the search's own breaker did.
pub(super) fn two_folds_agree(logs: &HashSet<Vec<Landed>>) {
    let mut one = Log::with(OFFSET, true);
    let mut other = Log::with(Offset(OFFSET.0 - 1_234_567), false);
    let block = json!({
        "enabled": true, "failure_threshold": 1, "success_threshold": 2, "half_open_max_calls": CAP,
        "timeout_ms": u64::from(OPEN) * TICK_MS, "probe_timeout_ms": u64::from(LEASE) * TICK_MS,
    });
    for log in [&mut one, &mut other] {
        log.put("acme", "p", with_breaker(&["a"], block.clone()));
    }
    let mut identity = 0;
    for (n, written) in (1_u64..).zip(logs) {
        let apart_ms = n * APART_MS;
        let mut alone = opened(CAP);
        identity += 1;
        for log in [&mut one, &mut other] {
            log.at.stamp = START.plus(apart_ms);
            log.apply(Entry::Reset(command("acme", "a", None, None)));
            log.result(Outcome { identity, ..result(0, false, 0) });
        }
        for landed in written {
            identity += 1;
            let effect = put(&mut alone, landed.message, 0, stamp(landed.at));
            for log in [&mut one, &mut other] {
                log.at.stamp = stamp(landed.at).plus(apart_ms);
                match log.apply(entry(landed, apart_ms, identity)).what {
                    What::Claim { verdict, .. } => assert_eq!(verdict, effect.verdict, "{written:?}"),
                    What::Result { disposition, .. } => {
                        assert_eq!(Some(disposition), effect.judged.map(|j| j.disposition), "{written:?}");
                    }
                    what => assert_eq!(what, What::Release),
                }
            }
        }
        assert_eq!(one.fold.digest(), other.fold.digest(), "{written:?}");
        let at = written.last().map_or(0, |landed| landed.at);
        let (told, held) = (one.view("acme", "a"), alone.view(stamp(at)));
        assert_eq!(
            (told.state, told.successes_in_a_row),
            (held.state, held.successes_in_a_row),
            "{written:?}"
        );
        assert_eq!(
            (told.half_open_in_flight, told.window),
            (held.half_open_in_flight, held.window),
            "{written:?}"
        );
    }
}
