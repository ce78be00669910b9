use std::time::Duration;

/// How much a pull consumer is asked for, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct PullSettings {
    /// So many messages are asked for at most at one time.
    pub batch: u64,
    /// So many bytes come for one request at most. A message that is longer than this never comes.
    pub max_bytes: u64,
    /// How long a request stands.
    pub expires: Duration,
    /// How often the broker says that it stands, where nothing comes; less than half of `expires`.
    pub heartbeat: Duration,
}

/// Where a pull consumer is asked for messages.
#[must_use]
pub fn next_subject(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}")
}

/// When to ask a pull consumer for more.
///
/// Requests overlap: when half of what was asked for has come, the rest is asked for, so that messages do
/// not wait for a request. What an expired request did not deliver is asked for again.
#[derive(Clone, Debug)]
pub struct Pull {
    settings: PullSettings,
    /// Asked for, and neither come nor given up by the broker.
    outstanding: u64,
    heard: Duration,
}

/// What a status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Go on.
    GoOn,
    /// Nobody serves the consumer just now: ask again a little later.
    Later,
    /// The consumer is gone.
    Gone,
}

/// So many heartbeats that are missing mean that the request is lost.
const MISSED: u32 = 2;

impl Pull {
    /// Before the first request.
    #[must_use]
    pub const fn new(settings: PullSettings, now: Duration) -> Self {
        Self { settings, outstanding: 0, heard: now }
    }

    /// The body of the request that is due, if one is.
    pub fn request(&mut self, now: Duration) -> Option<String> {
        let PullSettings { batch, max_bytes, expires, heartbeat } = self.settings;
        if self.outstanding > batch / 2 {
            return None;
        }
        let more = batch - self.outstanding;
        if self.outstanding == 0 {
            self.heard = now;
        }
        self.outstanding = batch;
        let (expires, heartbeat) = (expires.as_nanos(), heartbeat.as_nanos());
        Some(format!(
            "{{\"batch\":{more},\"max_bytes\":{max_bytes},\"expires\":{expires},\"idle_heartbeat\":{heartbeat}}}"
        ))
    }

    /// A message was received.
    pub fn message(&mut self, now: Duration) {
        self.heard = now;
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    /// A heartbeat was received.
    pub const fn heartbeat(&mut self, now: Duration) {
        self.heard = now;
    }

    /// A status was received.
    pub fn status(
        &mut self,
        code: u16,
        description: &str,
        undelivered: Option<u64>,
        now: Duration,
    ) -> Status {
        self.heard = now;
        let described = |words: &str| description.to_ascii_lowercase().contains(words);
        match code {
            // The request has ended: no messages, expired, or a limit of it was reached.
            404 | 408 => {
                self.outstanding = self.outstanding.saturating_sub(undelivered.unwrap_or(self.outstanding));
                Status::GoOn
            }
            409 if described("consumer deleted") || described("consumer is push based") => Status::Gone,
            409 if described("leadership change")
                || described("server shutdown")
                || described("exceeded max") =>
            {
                self.outstanding = 0;
                Status::Later
            }
            409 => {
                self.outstanding = self.outstanding.saturating_sub(undelivered.unwrap_or(self.outstanding));
                Status::GoOn
            }
            // No responders: nobody leads the consumer, or there is none.
            503 => {
                self.outstanding = 0;
                Status::Later
            }
            _ => Status::GoOn,
        }
    }

    /// Whether the broker has been silent for so long that the request is lost.
    #[must_use]
    pub fn is_silent(&self, now: Duration) -> bool {
        self.outstanding > 0 && now.saturating_sub(self.heard) > self.settings.heartbeat * MISSED
    }

    /// What was asked for is lost: the connection was made anew.
    pub const fn lost(&mut self, now: Duration) {
        self.outstanding = 0;
        self.heard = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_secs;

    fn pull() -> Pull {
        Pull::new(PullSettings { batch: 100, max_bytes: 1_000, expires: AT(30), heartbeat: AT(5) }, AT(0))
    }

    fn asked(pull: &mut Pull, now: u64) -> Option<u64> {
        let body = pull.request(AT(now))?;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (body["expires"].as_u64(), body["idle_heartbeat"].as_u64(), body["max_bytes"].as_u64()),
            (Some(30_000_000_000), Some(5_000_000_000), Some(1_000))
        );
        body["batch"].as_u64()
    }

    #[test]
    fn more_is_asked_for_when_half_has_come() {
        let mut pull = pull();
        assert_eq!(asked(&mut pull, 0), Some(100));
        (0..49).for_each(|_| pull.message(AT(1)));
        assert_eq!(asked(&mut pull, 1), None);
        pull.message(AT(1));
        assert_eq!(asked(&mut pull, 1), Some(50));
        assert_eq!(asked(&mut pull, 1), None);
    }

    #[test]
    fn what_an_expired_request_did_not_deliver_is_asked_for_again() {
        let mut pull = pull();
        pull.request(AT(0));
        (0..50).for_each(|_| pull.message(AT(1)));
        pull.request(AT(1));
        assert_eq!(pull.status(408, "Request Timeout", Some(50), AT(30)), Status::GoOn);
        assert_eq!(asked(&mut pull, 30), Some(50));
        assert_eq!(pull.status(408, "Request Timeout", None, AT(60)), Status::GoOn);
        assert_eq!(asked(&mut pull, 60), Some(100), "one that does not say how much has lost all");
    }

    #[test]
    fn statuses_tell_a_consumer_that_moves_from_one_that_is_gone() {
        for (code, description, means) in [
            (409, "Consumer Deleted", Status::Gone),
            (409, "Leadership Change", Status::Later),
            (409, "Server Shutdown", Status::Later),
            (409, "Exceeded MaxWaiting", Status::Later),
            (409, "Message Size Exceeds MaxBytes", Status::GoOn),
            (409, "Batch Completed", Status::GoOn),
            (404, "No Messages", Status::GoOn),
            (503, "", Status::Later),
            (100, "", Status::GoOn),
        ] {
            let mut pull = pull();
            pull.request(AT(0));
            let told = pull.status(code, description, None, AT(1));
            assert_eq!(told, means, "{code} {description}");
            if means == Status::Later {
                assert_eq!(asked(&mut pull, 2), Some(100));
            }
        }
    }

    #[test]
    fn a_request_without_a_heartbeat_is_lost() {
        let mut pull = pull();
        assert!(!pull.is_silent(AT(99)), "nothing was asked for");
        pull.request(AT(100));
        assert!(!pull.is_silent(AT(110)));
        pull.heartbeat(AT(110));
        assert!(!pull.is_silent(AT(120)) && pull.is_silent(AT(121)));
        pull.lost(AT(121));
        assert_eq!(asked(&mut pull, 121), Some(100));
    }
}
