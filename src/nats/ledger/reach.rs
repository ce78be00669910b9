//! Whether the log can be reached: a state machine without I/O, asked once a second by the watchdog.
//!
//! The stream's description alone does not prove it. A leader that a partition cuts off from the other replicas
//! takes itself for the leader for up to 10 s (nats-server's lost quorum interval), and describes the stream as it
//! stood. So where a stream has replicas, two things are asked for:
//!
//! - **The description** names a leader, and a quorum of the replicas is present ([`Replicas::have_quorum`]).
//! - **A round trip through the log**, while requests are decided by it: an entry behind the last one of a
//!   description was stored after that, and a replicated stream stores nothing without a quorum. Where others write,
//!   their entries confirm the log. Where nobody does, the worker appends a mark. This compares positions and reads
//!   this process's clock alone: brokers' clocks may differ.
//!
//! A reader that is behind is not a log out of reach: the wait begins anew with each entry that it applies.
//!
//! With one replica the server that answers is the one that stores, and its description is enough. So is that of a
//! stream that refuses new entries because it is full: no mark can come through it, and nothing is decided elsewhere.

use crate::domain::Tick;
use crate::nats::stream_info::Replicas;

/// How long the last confirmation lasts.
const CONFIRMED_MS: u64 = 2_000;
/// How long a round trip may take: an election takes about as long as well.
const PATIENCE_MS: u64 = 3_000;
/// Marks of one worker are at least this far apart: one may have been lost with its leader.
const MARK_EVERY_MS: u64 = 1_000;

/// What one look at the log showed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// When it ended.
    pub(super) now: Tick,
    /// The position that the reader had reached before the stream was described.
    pub(super) position: u64,
    /// Requests for decisions answered so far.
    pub(super) decided: u64,
    /// The description; `None` without an answer.
    pub(super) answer: Option<Answer>,
}

/// The stream, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// When it was asked for.
    pub(super) asked: Tick,
    /// When the stream was made, in nanoseconds since the Unix epoch.
    pub(super) made: i128,
    /// Its last entry.
    pub(super) last: u64,
    /// The servers that hold it.
    pub(super) replicas: Replicas,
    /// Whether it is full and refuses new entries.
    pub(super) full: bool,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Whether the log can be reached.
    pub(super) reachable: bool,
    /// Whether to append a mark.
    pub(super) mark: bool,
    /// When the state was last known to be the log's; before that it may be, or not.
    pub(super) fresh: Option<Tick>,
}

/// A description that an entry behind its last one confirms.
#[derive(Clone, Copy, Debug)]
struct Held {
    asked: Tick,
    last: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Reach {
    made: i128,
    newest: Option<Held>,
    /// What stood before the first mark that nothing has confirmed yet.
    awaited: Option<Held>,
    /// When that wait began: at the mark, or at the last entry that the reader applied since.
    waiting_since: Tick,
    marked: Option<Tick>,
    confirmed: Option<Tick>,
    /// Requests decided when the log was confirmed.
    decided: u64,
    position: u64,
}

impl Reach {
    pub(super) fn look(&mut self, look: Look) -> Judgement {
        self.follow(&look);
        let Some(answer) = look.answer else { return self.unreachable() };
        if self.made != answer.made {
            *self =
                Self { made: answer.made, position: look.position, decided: self.decided, ..Self::default() };
        }
        if !answer.replicas.are_several() {
            return self.described(answer, &look);
        }
        // What describes less than was read is no leader of this log.
        if !answer.replicas.have_quorum() || answer.last < look.position {
            return self.unreachable();
        }
        if answer.full {
            return self.described(answer, &look);
        }
        let held = Held { asked: answer.asked, last: answer.last };
        self.newest = Some(held);
        let fresh = self.confirmed.is_some_and(|at| look.now.since(at) <= CONFIRMED_MS);
        let depended_on = look.decided != self.decided;
        let may_mark = self.marked.is_none_or(|at| look.now.since(at) >= MARK_EVERY_MS);
        let mark = !fresh && depended_on && may_mark;
        if mark {
            self.marked = Some(look.now);
            if self.awaited.is_none() {
                self.awaited = Some(held);
                self.waiting_since = look.now;
            }
        }
        let overdue = self.awaited.is_some() && look.now.since(self.waiting_since) > PATIENCE_MS;
        // Where nothing is awaited nothing depends on the log, and the description will do.
        let fresh = if self.awaited.is_none() { Some(answer.asked) } else { self.confirmed };
        Judgement { reachable: !overdue, mark, fresh }
    }

    /// The description is enough.
    fn described(&mut self, answer: Answer, look: &Look) -> Judgement {
        self.confirm(answer.asked, look);
        self.newest = None;
        Judgement { reachable: true, mark: false, fresh: self.confirmed }
    }

    const fn unreachable(&self) -> Judgement {
        Judgement { reachable: false, mark: false, fresh: self.confirmed }
    }

    /// Takes how far the reader is.
    fn follow(&mut self, look: &Look) {
        if look.position < self.position {
            // The state is being rebuilt: positions are others now.
            (self.newest, self.awaited) = (None, None);
        } else if look.position > self.position {
            self.waiting_since = look.now;
        }
        self.position = look.position;
        let passed = |held: &Held| look.position > held.last;
        if let Some(held) = self.newest.filter(passed).or(self.awaited.filter(passed)) {
            self.confirm(held.asked, look);
        }
    }

    fn confirm(&mut self, at: Tick, look: &Look) {
        self.confirmed = Some(at);
        self.awaited = None;
        self.decided = look.decided;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log with three replicas, a reader and a clock that goes on by a second with each look.
    struct Bench {
        reach: Reach,
        now: u64,
        last: u64,
        position: u64,
        decided: u64,
        present: usize,
        leads: bool,
        full: bool,
    }

    impl Bench {
        fn new() -> Self {
            let reach = Reach::default();
            let (last, position) = (10, 10);
            Self { reach, now: 100_000, last, position, decided: 0, present: 2, leads: true, full: false }
        }

        fn look(&mut self) -> (bool, bool) {
            self.now += 1_000;
            let replicas = Replicas { leads: self.leads, others: 2, present: self.present };
            let Self { now, last, full, .. } = *self;
            let answer = Answer { asked: Tick(now - 10), made: 1, last, replicas, full };
            self.take(Some(answer))
        }

        fn silence(&mut self) -> (bool, bool) {
            self.now += 3_000;
            self.take(None)
        }

        fn take(&mut self, answer: Option<Answer>) -> (bool, bool) {
            let Self { now, position, decided, .. } = *self;
            let Judgement { reachable, mark, .. } =
                self.reach.look(Look { now: Tick(now), position, decided, answer });
            (reachable, mark)
        }

        /// The log takes an entry, and the reader applies it.
        fn entry(&mut self) {
            self.last += 1;
            self.position = self.last;
        }
    }

    #[test]
    fn nothing_is_written_while_nothing_is_decided() {
        let mut bench = Bench::new();
        for _ in 0..1_000 {
            assert_eq!(bench.look(), (true, false));
        }
    }

    #[test]
    fn entries_of_others_confirm_the_log() {
        let mut bench = Bench::new();
        bench.look();
        for _ in 0..1_000 {
            bench.decided += 50;
            bench.entry();
            assert_eq!(bench.look(), (true, false));
        }
    }

    #[test]
    fn on_a_quiet_log_marks_confirm_it_every_two_seconds() {
        let mut bench = Bench::new();
        let mut marks = 0;
        for _ in 0..300 {
            bench.decided += 1;
            let (reachable, mark) = bench.look();
            assert!(reachable);
            if mark {
                marks += 1;
                bench.entry();
            }
        }
        assert!((140..=160).contains(&marks), "{marks}");
    }

    #[test]
    fn an_isolated_leader_is_found_out_by_its_missing_marks() {
        let mut bench = Bench::new();
        bench.decided += 1;
        assert_eq!(bench.look(), (true, true));
        bench.entry();
        assert_eq!(bench.look(), (true, false));
        let mut unreachable = None;
        let (mut marks, began) = (0, bench.now);
        for _ in 0..30 {
            bench.decided += 1;
            let (reachable, mark) = bench.look();
            marks += usize::from(mark);
            if !reachable && unreachable.is_none() {
                unreachable = Some(bench.now - began);
            }
            assert!(reachable || bench.now - began >= 5_000, "not before the patience has ended");
        }
        assert!(unreachable.is_some_and(|after| after <= 7_000), "{unreachable:?}");
        assert!(marks <= 30, "{marks}");
        // The partition heals: marks come back.
        bench.entry();
        assert!(bench.look().0);
    }

    #[test]
    fn a_description_without_leader_or_quorum_is_none() {
        let mut bench = Bench::new();
        bench.present = 1;
        assert_eq!(bench.look(), (true, false), "two of three");
        bench.present = 0;
        assert_eq!(bench.look(), (false, false), "the leader alone");
        (bench.leads, bench.present) = (false, 2);
        assert_eq!(bench.look(), (false, false), "nobody leads");
        bench.leads = true;
        assert_eq!(bench.look(), (true, false));
    }

    #[test]
    fn a_description_of_less_than_was_read_is_none() {
        let mut bench = Bench::new();
        bench.look();
        bench.position = 12;
        assert_eq!(bench.look(), (false, false));
    }

    #[test]
    fn silence_is_out_of_reach() {
        let mut bench = Bench::new();
        assert_eq!(bench.silence(), (false, false));
        assert_eq!(bench.look(), (true, false));
    }

    #[test]
    fn a_reader_that_is_behind_is_not_a_log_out_of_reach() {
        let mut bench = Bench::new();
        bench.last = 1_000;
        for _ in 0..60 {
            bench.decided += 1;
            bench.position += 10;
            assert!(bench.look().0);
        }
    }

    #[test]
    fn a_log_made_anew_or_put_back_is_not_measured_by_the_old_one() {
        let mut bench = Bench::new();
        bench.decided += 1;
        assert_eq!(bench.look(), (true, true));
        // The mark is lost with the log.
        (bench.last, bench.position) = (3, 0);
        for n in 0..20 {
            bench.position = bench.last.min(n);
            bench.decided += 1;
            let (reachable, mark) = bench.look();
            assert!(reachable, "{n}");
            bench.last += u64::from(mark);
        }
    }

    #[test]
    fn a_full_log_with_a_quorum_needs_no_marks() {
        let mut bench = Bench::new();
        bench.decided += 1;
        assert_eq!(bench.look(), (true, true), "a mark that it refuses");
        bench.full = true;
        for _ in 0..60 {
            bench.decided += 1;
            assert_eq!(bench.look(), (true, false));
            let fresh = bench.reach.confirmed.unwrap();
            assert!(Tick(bench.now).since(fresh) <= 10, "decisions are not stale");
        }
        bench.present = 0;
        assert_eq!(bench.look(), (false, false), "without a quorum it proves nothing");
        (bench.present, bench.full) = (2, false);
        bench.now += 1_000;
        bench.decided += 1;
        assert_eq!(bench.look(), (true, true), "there is room again");
    }

    #[test]
    fn with_one_replica_the_description_is_enough() {
        let mut bench = Bench::new();
        for _ in 0..20 {
            bench.now += 1_000;
            bench.decided += 1;
            let replicas = Replicas { leads: true, others: 0, present: 0 };
            let answer = Answer { asked: Tick(bench.now), made: 1, last: 10, replicas, full: false };
            assert_eq!(bench.take(Some(answer)), (true, false));
        }
    }
}
