//! Whether the other side is still there.
//!
//! After an interval a PING is due. When the next one is due and two have no PONG, the connection is stale:
//! a peer that is gone without a word is noticed after two to three intervals. Any PONG that is missing
//! counts, so one for a flush serves as well.

use std::time::Duration;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A PING.
    Ping,
    /// The end of the connection.
    Stale,
}

/// See the module. Times count from any fixed moment.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    interval: Duration,
    next: Duration,
    unanswered: u32,
}

/// PINGs without a PONG at which a connection is stale.
const MOST_UNANSWERED: u32 = 2;

impl Keepalive {
    /// From the moment at which the connection was made.
    #[must_use]
    pub const fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, next: now.saturating_add(interval), unanswered: 0 }
    }

    /// When [`Self::due`] should be asked next.
    #[must_use]
    pub const fn next(&self) -> Duration {
        self.next
    }

    /// A PONG was received.
    pub const fn pong(&mut self) {
        self.unanswered = 0;
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Duration) -> Due {
        if now < self.next {
            return Due::Nothing;
        }
        if self.unanswered >= MOST_UNANSWERED {
            return Due::Stale;
        }
        self.unanswered += 1;
        self.next = now.saturating_add(self.interval);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_stale_after_three_intervals() {
        let at = Duration::from_secs;
        let mut alive = Keepalive::new(at(10), at(5));
        assert_eq!((alive.due(at(14)), alive.next()), (Due::Nothing, at(15)));
        assert_eq!(alive.due(at(15)), Due::Ping);
        assert_eq!(alive.due(at(16)), Due::Nothing);
        assert_eq!(alive.due(at(25)), Due::Ping);
        alive.pong();
        assert_eq!(alive.due(at(35)), Due::Ping);
        assert_eq!(alive.due(at(45)), Due::Ping);
        assert_eq!(alive.due(at(55)), Due::Stale);
    }
}
