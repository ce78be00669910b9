//! Connections that lead nowhere: a path that is silent, a server that has lost its cluster.
//!
//! While the log gives no answer, every connection asks its server whether it is there. Where nothing comes, the path is
//! silent: packets are lost and neither side knows, and the connection is made anew. A connection for what others send
//! does that itself ([`beamline_nats::keepalive`]), and so does the library, which sends a PING every 2 s. Where the server
//! answers, the connection is good: a cluster that elects a leader, or a JetStream that is slow, is no reason to connect
//! again.
//!
//! Where that lasts for longer than an election, the server may be cut off from its cluster. Then the connections for what
//! others send move to another server, if one can be reached: each stays where it is until it is subscribed there. Once one
//! has moved, the management connection, which has to be cut for it, follows.
//!
//! Each step waits twice as long as the one before, so that a slow broker does not get more work by it.

use std::time::Duration;

use super::Worker;
use super::stream_info::Undescribed;
use crate::domain::Tick;

/// How long the log may be out of reach before another server is tried: an election takes a few seconds.
const ELECTION_MS: u64 = 6_000;
/// Between two cuts of the management connection at first: a try to connect takes 5 s at most.
const CUT_MS: u64 = 5_000;
/// Waits double up to this.
const MOST_MS: u64 = 60_000;
/// How long the management connection may be away before that counts as an outage.
const AWAY: Duration = Duration::from_secs(5);

/// A step that is tried again and again, and waits longer each time.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    wait_ms: u64,
    last: Option<Tick>,
}

impl Backoff {
    const fn new(first_ms: u64) -> Self {
        Self { wait_ms: first_ms, last: None }
    }

    /// Whether the step is due; then it counts as taken.
    fn is_due(&mut self, now: Tick) -> bool {
        let due = self.last.is_none_or(|last| now.since(last) >= self.wait_ms);
        if due {
            if self.last.is_some() {
                self.wait_ms = (self.wait_ms * 2).min(MOST_MS);
            }
            self.last = Some(now);
        }
        due
    }
}

/// What a look at the log says of the server that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing came: the path may be silent.
    Nothing,
    /// It answers, and the log is out of reach there.
    OutOfReach,
    /// It can be worked with. One that reports that the stream is missing has its cluster, and no other has the stream.
    Good,
}

impl Shown {
    /// From the description: whether the log can be reached by it, or why there is none.
    pub(super) const fn of(described: Result<bool, Undescribed>) -> Self {
        match described {
            Ok(true) | Err(Undescribed::Missing) => Self::Good,
            Ok(false) => Self::OutOfReach,
            Err(Undescribed::Silent) => Self::Nothing,
        }
    }
}

/// What was seen of the log and of the management connection.
#[derive(Clone, Copy, Debug)]
struct Seen {
    now: Tick,
    /// Whether the server can be worked with.
    good: bool,
    /// Whether the main connections have the same server.
    together: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Steps {
    /// The connections for what others send move to other servers.
    leave: bool,
    /// The management connection is cut, and made anew.
    cut: bool,
}

/// See the module: when each step is due, without I/O.
#[derive(Debug)]
pub(super) struct Paths {
    unreachable_since: Option<Tick>,
    leaving: Backoff,
    cutting: Backoff,
}

impl Default for Paths {
    fn default() -> Self {
        Self { unreachable_since: None, leaving: Backoff::new(ELECTION_MS), cutting: Backoff::new(CUT_MS) }
    }
}

impl Paths {
    fn look(&mut self, seen: Seen) -> Steps {
        if seen.good {
            *self = Self::default();
            return Steps::default();
        }
        let since = *self.unreachable_since.get_or_insert(seen.now);
        let lasts = seen.now.since(since) >= ELECTION_MS;
        let cut = lasts && !seen.together && self.cutting.is_due(seen.now);
        Steps { leave: lasts && self.leaving.is_due(seen.now), cut }
    }

    /// Takes what a look at the log has shown, and does what is due.
    pub(super) async fn attend(&mut self, worker: &Worker, shown: Shown) {
        if !worker.link.is_up() {
            // Both main connections are being made already.
            return;
        }
        if shown == Shown::Nothing {
            worker.access.doubt();
        }
        let together = worker
            .traffic
            .server()
            .is_none_or(|server| server.server_id == worker.client.server_info().server_id);
        let good = shown == Shown::Good;
        let steps = self.look(Seen { now: worker.clock.tick(), good, together });
        if steps.leave {
            tracing::warn!(event = "nats_server_left", server = worker.client.server_info().server_name);
            worker.access.leave();
        }
        if steps.cut {
            tracing::warn!(event = "nats_management_cut");
            let moving = worker.link.begin_move(&worker.metrics);
            if worker.client.force_reconnect().await.is_ok() {
                let _ = moving.done(AWAY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        paths: Paths,
        seen: Seen,
    }

    impl Bench {
        fn new() -> Self {
            let seen = Seen { now: Tick(100_000), good: false, together: true };
            Self { paths: Paths::default(), seen }
        }

        /// When each step was taken within so many seconds, one look a second.
        fn within(&mut self, seconds: u64) -> (Vec<u64>, Vec<u64>) {
            let began = self.seen.now.0;
            let (mut leaves, mut cuts) = (Vec::new(), Vec::new());
            for _ in 0..seconds {
                let steps = self.paths.look(self.seen);
                let at = (self.seen.now.0 - began) / 1_000;
                leaves.extend(steps.leave.then_some(at));
                cuts.extend(steps.cut.then_some(at));
                self.seen.now = Tick(self.seen.now.0 + 1_000);
            }
            (leaves, cuts)
        }
    }

    #[test]
    fn a_missing_stream_is_an_answer() {
        assert_eq!(Shown::of(Err(Undescribed::Missing)), Shown::Good);
        assert_eq!(Shown::of(Err(Undescribed::Silent)), Shown::Nothing);
        assert_eq!([true, false].map(|reached| Shown::of(Ok(reached))), [Shown::Good, Shown::OutOfReach]);
    }

    #[test]
    fn an_election_moves_no_connection() {
        let mut bench = Bench::new();
        assert_eq!(bench.within(6), (vec![], vec![]));
        bench.seen.good = true;
        assert_eq!(bench.within(60), (vec![], vec![]));
    }

    #[test]
    fn a_server_without_its_cluster_is_left_at_longer_and_longer_intervals() {
        let mut bench = Bench::new();
        assert_eq!(bench.within(120), (vec![6, 12, 24, 48, 96], vec![]), "the management connection stays");
        bench.seen.good = true;
        bench.within(1);
        bench.seen.good = false;
        assert_eq!(bench.within(10).0, [6], "from the beginning");
    }

    #[test]
    fn the_management_connection_follows_once_another_has_moved() {
        let mut bench = Bench::new();
        bench.seen.together = false;
        let (_, cuts) = bench.within(60);
        assert_eq!(cuts, [6, 11, 21, 41]);
    }
}
