//! Connections that lead nowhere: a path that is silent, a server that has lost its cluster.
//!
//! While the log gives no answer, every connection asks its server whether it is there. Where nothing comes, the path is
//! silent: packets are lost and neither side knows, and the connection is made anew. A connection for what others send
//! does that itself ([`beamline_nats::keepalive`]), and so does the library, which sends a PING every 2 s. Where the server
//! answers, the connection is good: a cluster that elects a leader, or a JetStream that is slow, is no reason to connect
//! again.
//!
//! Where that lasts for longer than an election, the server may be cut off from its cluster. Then the connections for what
//! others send move to another server, if one can be reached: each stays where it is until it is subscribed there. Once the
//! main one has moved, the management connection, which has to be cut for it, follows. Both choose their servers on their
//! own, so that they differ proves nothing: the main one must have another server than when the outage began.
//!
//! Each step waits twice as long as the one before, so that a slow broker does not get more work by it.

use super::Worker;
use super::renewal::remake_management;
use super::stream_info::Undescribed;
use crate::domain::Tick;

/// How long the log may be out of reach before another server is tried: nats-server elects a leader within 4 to 9 s.
const ELECTION_MS: u64 = 10_000;
/// Between two cuts of the management connection at first: a try to connect takes 5 s at most.
const CUT_MS: u64 = 5_000;
/// Waits double up to this.
const MOST_MS: u64 = 60_000;

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

/// What was seen of the log and of the main connections.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    now: Tick,
    /// Whether the server can be worked with.
    good: bool,
    /// The id of the server that the connection for what others send has.
    traffic: Option<&'a str>,
    /// The same for management.
    management: &'a str,
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
    /// The server of the connection for what others send when that began.
    began_at: Option<String>,
    leaving: Backoff,
    cutting: Backoff,
}

impl Default for Paths {
    fn default() -> Self {
        let (leaving, cutting) = (Backoff::new(ELECTION_MS), Backoff::new(CUT_MS));
        Self { unreachable_since: None, began_at: None, leaving, cutting }
    }
}

impl Paths {
    fn look(&mut self, seen: Seen<'_>) -> Steps {
        if seen.good {
            *self = Self::default();
            return Steps::default();
        }
        let since = *self.unreachable_since.get_or_insert(seen.now);
        if self.began_at.is_none() {
            self.began_at = seen.traffic.map(str::to_owned);
        }
        let lasts = seen.now.since(since) >= ELECTION_MS;
        let has_moved = seen.traffic != self.began_at.as_deref();
        let apart = seen.traffic.is_some_and(|server| server != seen.management);
        let cut = lasts && has_moved && apart && self.cutting.is_due(seen.now);
        Steps { leave: lasts && self.leaving.is_due(seen.now), cut }
    }

    /// Takes what a look at the log has shown, and does what is due.
    pub(super) async fn attend(&mut self, worker: &Worker, shown: Shown) {
        if !worker.link.is_up() {
            // Both main connections are being made already, perhaps to other servers.
            *self = Self::default();
            return;
        }
        if shown == Shown::Nothing {
            worker.access.doubt();
        }
        let (traffic, management) = (worker.traffic.server(), worker.client.server_info());
        let good = shown == Shown::Good;
        let steps = self.look(Seen {
            now: worker.clock.tick(),
            good,
            traffic: traffic.as_ref().map(|server| server.server_id.as_str()),
            management: &management.server_id,
        });
        if steps.leave {
            tracing::warn!(event = "nats_server_left", server = management.server_name);
            worker.access.leave();
        }
        if steps.cut {
            tracing::warn!(event = "nats_management_cut");
            remake_management(worker).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        paths: Paths,
        seen: Seen<'static>,
    }

    impl Bench {
        fn new() -> Self {
            let seen = Seen { now: Tick(100_000), good: false, traffic: Some("A"), management: "A" };
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
        assert_eq!(bench.within(10), (vec![], vec![]));
        bench.seen.good = true;
        assert_eq!(bench.within(60), (vec![], vec![]));
    }

    #[test]
    fn a_server_without_its_cluster_is_left_at_longer_and_longer_intervals() {
        let mut bench = Bench::new();
        assert_eq!(bench.within(120), (vec![10, 20, 40, 80], vec![]), "the management connection stays");
        bench.seen.good = true;
        bench.within(1);
        bench.seen.good = false;
        assert_eq!(bench.within(15).0, [10], "from the beginning");
    }

    #[test]
    fn the_management_connection_follows_once_another_has_moved() {
        let mut bench = Bench::new();
        bench.within(1);
        bench.seen.traffic = Some("B");
        let (_, cuts) = bench.within(60);
        assert_eq!(cuts, [9, 14, 24, 44]);
        bench.seen.management = "B";
        assert!(bench.within(300).1.is_empty(), "it is there");
    }

    #[test]
    fn connections_that_had_different_servers_before_prove_nothing() {
        let mut bench = Bench::new();
        bench.seen.management = "B";
        assert!(bench.within(300).1.is_empty());
        bench.seen.traffic = None;
        assert!(bench.within(300).1.is_empty(), "between two servers");
        bench.seen.traffic = Some("C");
        assert_eq!(bench.within(1).1, [0]);
        bench.seen.good = true;
        bench.within(1);
        bench.seen.good = false;
        assert!(bench.within(300).1.is_empty(), "the next outage begins there");
    }
}
