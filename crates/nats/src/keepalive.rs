//! Whether the other side is still there.
//!
//! After an interval a PING is due. Where [`ANSWER`] has passed and nothing was received since, neither its PONG nor
//! anything else, the path is *silent*: packets are lost on the way, or the server stands still, and a connection does
//! not show which. So another one is made beside it, and whichever answers first is kept. Whoever misses an answer need
//! not wait for the interval: a *doubt* asks at once.
//!
//! When the next PING is due and two have no PONG, the connection is stale: it is given up after two to three intervals,
//! also where no other could be made. Any PONG that is missing counts, so one for a flush serves as well.

use std::time::Duration;

/// How long a server may send nothing that was asked for something.
pub const ANSWER: Duration = Duration::from_secs(2);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A PING.
    Ping,
    /// Another connection beside this one.
    Beside,
    /// The end of the connection.
    Stale,
}

/// Whether the path is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// Something was received since the last PING, or none was sent yet.
    None,
    /// Something must be received by then.
    Until(Duration),
    /// Nothing was.
    Silent,
}

/// See the module. Times count from any fixed moment.
#[derive(Clone, Copy, Debug)]
pub struct Keepalive {
    interval: Duration,
    next: Duration,
    unanswered: u32,
    doubt: Doubt,
}

/// PINGs without a PONG at which a connection is stale.
const MOST_UNANSWERED: u32 = 2;

impl Keepalive {
    /// From the moment at which the connection was made.
    #[must_use]
    pub const fn new(interval: Duration, now: Duration) -> Self {
        Self { interval, next: now.saturating_add(interval), unanswered: 0, doubt: Doubt::None }
    }

    /// When [`Self::due`] should be asked next.
    #[must_use]
    pub fn next(&self) -> Duration {
        match self.doubt {
            Doubt::Until(until) => until.min(self.next),
            Doubt::None | Doubt::Silent => self.next,
        }
    }

    /// A PONG was received.
    pub const fn pong(&mut self) {
        self.unanswered = 0;
    }

    /// Anything was received. Gives whether the path had been silent.
    pub fn heard(&mut self) -> bool {
        std::mem::replace(&mut self.doubt, Doubt::None) == Doubt::Silent
    }

    /// Somebody misses an answer. Gives whether a PING is to be sent: it is not where one is awaited.
    pub fn doubt(&mut self, now: Duration) -> bool {
        let begins = self.doubt == Doubt::None;
        if begins {
            self.doubt = Doubt::Until(now.saturating_add(ANSWER));
        }
        begins
    }

    /// What is due at `now`.
    pub fn due(&mut self, now: Duration) -> Due {
        if let Doubt::Until(until) = self.doubt
            && now >= until
        {
            self.doubt = Doubt::Silent;
            return Due::Beside;
        }
        if now < self.next {
            return Due::Nothing;
        }
        if self.unanswered >= MOST_UNANSWERED {
            return Due::Stale;
        }
        self.unanswered += 1;
        self.next = now.saturating_add(self.interval);
        self.doubt(now);
        Due::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_silent_peer_is_stale_after_three_intervals() {
        let mut alive = Keepalive::new(at(10_000), at(5_000));
        assert_eq!((alive.due(at(14_000)), alive.next()), (Due::Nothing, at(15_000)));
        assert_eq!(alive.due(at(15_000)), Due::Ping);
        assert_eq!(alive.due(at(16_000)), Due::Nothing);
        alive.heard();
        assert_eq!(alive.due(at(25_000)), Due::Ping);
        alive.pong();
        alive.heard();
        assert_eq!(alive.due(at(35_000)), Due::Ping);
        assert_eq!((alive.next(), alive.due(at(37_000))), (at(37_000), Due::Beside));
        assert_eq!(alive.due(at(45_000)), Due::Ping);
        assert_eq!(alive.due(at(47_000)), Due::Nothing, "another one is being made already");
        assert_eq!(alive.due(at(55_000)), Due::Stale);
    }

    #[test]
    fn whoever_misses_an_answer_is_told_within_two_seconds() {
        let mut alive = Keepalive::new(at(10_000), at(0));
        assert!(alive.doubt(at(1_000)), "asks");
        assert!(!alive.doubt(at(2_000)), "has asked");
        assert_eq!((alive.next(), alive.due(at(2_999))), (at(3_000), Due::Nothing));
        assert_eq!(alive.due(at(3_000)), Due::Beside);
        assert!(!alive.doubt(at(4_000)), "knows it");
        assert_eq!((alive.next(), alive.due(at(4_000))), (at(10_000), Due::Nothing));
        assert!(alive.heard(), "it is there again");
        assert!(!alive.heard());
    }

    #[test]
    fn anything_that_is_received_ends_a_doubt() {
        let mut alive = Keepalive::new(at(10_000), at(0));
        alive.doubt(at(0));
        assert!(!alive.heard());
        assert_eq!(alive.due(at(9_000)), Due::Nothing);
        assert!(alive.doubt(at(9_000)), "a new one");
    }
}
