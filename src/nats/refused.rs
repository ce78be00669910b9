//! Why a stream does not take a message, and for how long it is sent again.
//!
//! In a cluster a stream's leader compares before a quorum has the message. While another write of the
//! subject is on its way to the quorum, the leader refuses every comparison with the subject, whatever
//! becomes of that write, and does not say which message stands there. So a refused comparison says
//! nothing yet: whether it is lost shows when the subject is read again.

use std::time::Duration;

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};

use crate::domain::Tick;

/// What the answer of a stream, or the missing one, says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is not stored: another message than was expected stands last under its subject, or another write
    /// of the subject is on its way.
    Compared,
    /// It is not stored: a copy of the same id is on its way, and may or may not be stored.
    CopyInFlight,
    /// It is not stored: the stream's leader cannot compare yet.
    NotReady,
    /// It is not stored: nobody leads the stream, or there is none.
    NoLeader,
    /// Another reason, or no answer; without one it may be stored.
    Other,
}

impl Refused {
    pub(super) fn of(error: &PublishError) -> Self {
        if error.kind() == PublishErrorKind::StreamNotFound {
            return Self::NoLeader;
        }
        answer(error).map_or(Self::Other, |answer| Self::of_code(answer.error_code()))
    }

    /// By the numbers in `server/errors.json` of nats-server.
    const fn of_code(code: ErrorCode) -> Self {
        match code {
            // 10071 is a comparison with what is stored, 10164 one with what is in flight.
            ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT => {
                Self::Compared
            }
            ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT => Self::CopyInFlight,
            ErrorCode::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY => Self::NotReady,
            _ => Self::Other,
        }
    }
}

/// What the stream answered, if it refused the message.
pub(super) fn answer(error: &PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// The first pause. A quorum takes milliseconds.
const FIRST_PAUSE_MS: u64 = 2;
/// The longest pause: short against the time that a person waits.
const LONGEST_PAUSE_MS: u64 = 50;

/// Pauses between tries, each twice as long as the one before, until a deadline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retries {
    until: Tick,
    pause_ms: u64,
}

impl Retries {
    pub(super) const fn until(until: Tick) -> Self {
        Self { until, pause_ms: FIRST_PAUSE_MS }
    }

    /// The pause before the next try; `None` when there is no time for one.
    pub(super) fn next(&mut self, now: Tick) -> Option<Duration> {
        let pause = self.pause_ms;
        self.pause_ms = (2 * pause).min(LONGEST_PAUSE_MS);
        (now.0.saturating_add(pause) <= self.until.0).then(|| Duration::from_millis(pause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error that the library makes of a server's answer.
    fn answered(err_code: u64, kind: PublishErrorKind) -> PublishError {
        let answer = serde_json::json!({ "code": 400, "err_code": err_code, "description": "" });
        PublishError::with_source(kind, serde_json::from_value::<jetstream::Error>(answer).unwrap())
    }

    #[test]
    fn a_refusal_is_known_by_its_number() {
        for (number, refused) in [
            (10071, Refused::Compared),
            (10164, Refused::Compared),
            (10158, Refused::CopyInFlight),
            (10163, Refused::NotReady),
            (10077, Refused::Other),
        ] {
            assert_eq!(Refused::of(&answered(number, PublishErrorKind::Other)), refused, "{number}");
        }
        let lost = answered(10071, PublishErrorKind::WrongLastSequence);
        assert_eq!(Refused::of(&lost), Refused::Compared);
    }

    #[test]
    fn what_has_no_answer_may_be_stored_unless_nobody_was_there_to_take_it() {
        for (kind, refused) in [
            (PublishErrorKind::StreamNotFound, Refused::NoLeader),
            (PublishErrorKind::TimedOut, Refused::Other),
            (PublishErrorKind::BrokenPipe, Refused::Other),
        ] {
            assert_eq!(Refused::of(&PublishError::new(kind)), refused, "{kind}");
        }
    }

    #[test]
    fn pauses_grow_to_a_bound_and_end_at_the_deadline() {
        let mut retries = Retries::until(Tick(1_000));
        let pauses: Vec<_> = (0..7).map_while(|_| retries.next(Tick(900))).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 50, 50]);
        assert_eq!(retries.next(Tick(950)), Some(Duration::from_millis(50)));
        assert_eq!(retries.next(Tick(951)), None);
        assert_eq!(retries.next(Tick(2_000)), None);
    }
}
