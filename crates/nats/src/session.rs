//! What a client says to the broker, over the connections that it has one after the other.
//!
//! Everything that is said goes through one buffer, so its order is the order of the calls. A flush is a
//! PING in that order: when its PONG is there, the broker has acted on all that was said before it. So
//! each PING has an entry in a queue, and PONGs answer them from the front.
//!
//! **A new connection** begins with a [prelude](Session::prelude): the lines of all subscriptions, and a
//! PING. Only after its PONG does the session [move](Session::move_to) to it, so a connection counts as up
//! when the broker holds every subscription. While there is no connection, only publishes are kept, up to
//! the limit; subscriptions are kept by their registry, and a flush is refused.
//!
//! **A move while the old connection is still up** (a server that announces that it goes) loses nothing:
//! the new one is subscribed before the old one is ended, and what was said is sent where it was said.
//! [`Unfinished`] is what the old connection still has to send and to wait for. Meanwhile a subscription
//! without a queue group may deliver a message twice.
//!
//! `S` is where a subscription's messages go, `F` who waits for a flush, `D` who waits for a drain.

use std::collections::VecDeque;

use crate::encode::{self, Outgoing};
use crate::error::PublishError;
use crate::subscriptions::Subscriptions;

/// See the module.
#[derive(Debug)]
pub struct Session<S, F, D> {
    subscriptions: Subscriptions<S>,
    out: Vec<u8>,
    limit: usize,
    max_payload: usize,
    up: bool,
    closed: bool,
    awaited: VecDeque<Awaited<F, D>>,
    /// PONGs in the outbound buffer.
    pongs: usize,
    /// How many moves are under way.
    moves: usize,
    /// Drains that wait for the end of all moves: until then two connections deliver.
    held: Vec<(Vec<u64>, D)>,
}

/// What a PING was sent for.
#[derive(Debug, PartialEq, Eq)]
pub enum Awaited<F, D> {
    /// To see whether the broker is there, or to confirm a prelude.
    Alive,
    /// Somebody waits for all that was said before.
    Flush(F),
    /// Subscriptions end here.
    End(Vec<u64>, D),
}

/// What is still to be sent and awaited on an old connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Unfinished<F, D> {
    /// What is still to be sent on it.
    pub out: Vec<u8>,
    /// What ends it: the end of all its subscriptions, and a PING. It is sent once all servers of the
    /// cluster know of the new connection's subscriptions.
    pub end: Vec<u8>,
    /// What its PONGs are for; the one of that last PING is not among them.
    pub awaited: VecDeque<Awaited<F, D>>,
}

/// The bytes that begin a new connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Prelude {
    /// What is sent.
    pub out: Vec<u8>,
    /// The subscriptions that it holds.
    sids: Vec<u64>,
    last: u64,
}

const PING: &[u8] = b"PING\r\n";
/// A broker asks every two minutes, unless it is set otherwise.
const MOST_PONGS: usize = 1_000;

impl<S, F, D> Session<S, F, D> {
    /// Before there is a connection. The buffer holds at most `limit` bytes.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            subscriptions: Subscriptions::new(),
            out: Vec::new(),
            limit,
            max_payload: 1 << 20,
            up: false,
            closed: false,
            awaited: VecDeque::new(),
            pongs: 0,
            moves: 0,
            held: Vec::new(),
        }
    }

    /// Says a message. Tells whether the buffer was empty.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was said then.
    #[inline]
    pub fn publish(&mut self, message: &Outgoing<'_>) -> Result<bool, PublishError> {
        if self.closed {
            return Err(PublishError::Closed);
        }
        let was_empty = self.out.is_empty();
        // A message longer than the limit goes alone.
        if !was_empty && self.out.len() + message.size() > self.limit {
            return Err(PublishError::Full);
        }
        message.write(self.max_payload, &mut self.out)?;
        Ok(was_empty)
    }

    /// Subscribes, as one of a queue group if one is named, and gives the subscription's id.
    ///
    /// # Errors
    /// [`PublishError::Subject`] or [`PublishError::Closed`].
    pub fn subscribe(&mut self, subject: &str, queue: Option<&str>, sink: S) -> Result<u64, PublishError> {
        if self.closed {
            return Err(PublishError::Closed);
        }
        let said = self.out.len();
        let added = self.subscriptions.add(subject, queue, sink, &mut self.out);
        if !self.up {
            self.out.truncate(said);
        }
        added
    }

    /// Ends a subscription at once: what is on its way goes nowhere.
    pub fn unsubscribe(&mut self, sid: u64) {
        if self.subscriptions.remove(sid) && self.up {
            encode::unsubscribe(&mut self.out, sid);
        }
    }

    /// Ends subscriptions when the broker has sent all that it had for them. Without a connection that is
    /// so already: `waiter` is given back. During a move it is done once the old connection has ended.
    pub fn drain(&mut self, sids: Vec<u64>, waiter: D) -> Option<D> {
        if self.moves > 0 {
            self.held.push((sids, waiter));
            return None;
        }
        if !self.up {
            self.remove(&sids);
            return Some(waiter);
        }
        for sid in sids.iter().copied().filter(|sid| self.subscriptions.end(*sid)) {
            encode::unsubscribe(&mut self.out, sid);
        }
        self.ping(Awaited::End(sids, waiter));
        None
    }

    /// Waits until the broker has acted on all that was said. Without a connection `waiter` is given back.
    pub fn flush(&mut self, waiter: F) -> Option<F> {
        if !self.up {
            return Some(waiter);
        }
        self.ping(Awaited::Flush(waiter));
        None
    }

    /// Asks whether the broker is there.
    pub fn ask_alive(&mut self) {
        if self.up {
            self.ping(Awaited::Alive);
        }
    }

    /// Answers a PING. `false` if too many answers wait to be sent: the broker asks and does not read.
    #[must_use]
    pub fn pong(&mut self) -> bool {
        if self.up {
            self.out.extend_from_slice(b"PONG\r\n");
            self.pongs += 1;
        }
        self.pongs <= MOST_PONGS
    }

    fn ping(&mut self, awaited: Awaited<F, D>) {
        self.out.extend_from_slice(PING);
        self.awaited.push_back(awaited);
    }

    /// A PONG was received: who waited for it. One that nobody asked for is `None`.
    pub fn answered(&mut self) -> Option<Awaited<F, D>> {
        let awaited = self.awaited.pop_front()?;
        self.settle(&awaited);
        Some(awaited)
    }

    /// What a PONG was awaited for is done. [`Self::answered`] does this itself; the waiters of an old
    /// connection are not in its queue.
    pub fn settle(&mut self, awaited: &Awaited<F, D>) {
        if let Awaited::End(sids, _) = awaited {
            self.remove(sids);
        }
    }

    fn remove(&mut self, sids: &[u64]) {
        for sid in sids {
            self.subscriptions.remove(*sid);
        }
    }

    /// Swaps what is to be sent for an empty buffer. `false` if there is nothing.
    pub fn take(&mut self, into: &mut Vec<u8>) -> bool {
        if !self.up || self.out.is_empty() {
            return false;
        }
        into.clear();
        std::mem::swap(&mut self.out, into);
        self.pongs = 0;
        true
    }

    /// Bytes in the outbound buffer.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.out.len()
    }

    /// Where the messages of a subscription go.
    #[must_use]
    pub fn sink(&self, sid: u64) -> Option<&S> {
        self.subscriptions.sink(sid)
    }

    /// The broker's limit on a message.
    #[must_use]
    pub const fn max_payload(&self) -> usize {
        self.max_payload
    }

    /// The broker has said its limit.
    pub const fn set_max_payload(&mut self, limit: usize) {
        self.max_payload = limit;
    }

    /// Whether there is a connection.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// A move begins: from the prelude until the old connection has ended, or the new one was given up.
    pub const fn begin_move(&mut self) {
        self.moves += 1;
    }

    /// A move has ended. Gives the waiters of drains that are done with it.
    pub fn end_move(&mut self) -> Vec<D> {
        self.moves = self.moves.saturating_sub(1);
        if self.moves > 0 {
            return Vec::new();
        }
        let held = std::mem::take(&mut self.held);
        held.into_iter().filter_map(|(sids, waiter)| self.drain(sids, waiter)).collect()
    }

    /// What a new connection begins with. Its last bytes are a PING, whose PONG comes before the move.
    #[must_use]
    pub fn prelude(&self) -> Prelude {
        let mut out = Vec::new();
        self.subscriptions.lines_after(0, &mut out);
        out.extend_from_slice(PING);
        Prelude { out, sids: self.subscriptions.ids().collect(), last: self.subscriptions.last() }
    }

    /// Moves to a connection on which a prelude was answered. Gives what is unfinished on the present one, if
    /// there is one.
    pub fn move_to(&mut self, prelude: &Prelude) -> Option<Unfinished<F, D>> {
        let departed = self.up.then(|| {
            let mut end = Vec::new();
            for sid in self.subscriptions.ids() {
                encode::unsubscribe(&mut end, sid);
            }
            end.extend_from_slice(PING);
            let out = std::mem::take(&mut self.out);
            Unfinished { out, end, awaited: std::mem::take(&mut self.awaited) }
        });
        self.pongs = 0;
        // What has changed since the prelude was written; publishes that waited come behind it.
        let mut out = Vec::new();
        self.subscriptions.lines_after(prelude.last, &mut out);
        for sid in prelude.sids.iter().copied().filter(|sid| !self.subscriptions.is_active(*sid)) {
            encode::unsubscribe(&mut out, sid);
        }
        out.append(&mut self.out);
        self.out = out;
        self.up = true;
        departed
    }

    /// Marks the connection as lost, discards the outbound buffer and returns all pending waiters. Subscriptions
    /// that were ending have ended.
    pub fn lost(&mut self) -> VecDeque<Awaited<F, D>> {
        self.up = false;
        self.out.clear();
        self.pongs = 0;
        let mut awaited = std::mem::take(&mut self.awaited);
        for one in &mut awaited {
            if let Awaited::End(sids, _) = one {
                let sids = std::mem::take(sids);
                self.remove(&sids);
            }
        }
        awaited
    }

    /// Takes nothing more. Gives where messages went.
    pub fn close(&mut self) -> impl Iterator<Item = &S> {
        self.closed = true;
        self.subscriptions.sinks()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Session<&'static str, u8, u8>;

    fn up() -> Test {
        let mut session = Session::new(100);
        let prelude = session.prelude();
        assert_eq!(session.move_to(&prelude), None);
        session
    }

    fn said(session: &mut Test) -> String {
        let mut out = Vec::new();
        session.take(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn publish(session: &mut Test, payload: &[u8]) -> Result<bool, PublishError> {
        session.publish(&Outgoing::new("p", payload))
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_is_said_keeps_its_order_and_pongs_answer_pings() {
        let mut session = up();
        assert_eq!(session.subscribe("a", None, "A"), Ok(1));
        assert_eq!(session.flush(7), None);
        session.ask_alive();
        assert_eq!(publish(&mut session, b"x"), Ok(false));
        assert_eq!(session.flush(8), None);
        assert_eq!(said(&mut session), "SUB a 1\r\nPING\r\nPING\r\nPUB p 1\r\nx\r\nPING\r\n");
        assert_eq!(publish(&mut session, b"y"), Ok(true));
        let answered: Vec<_> = (0..4).map(|_| session.answered()).collect();
        assert_eq!(answered, [Some(Awaited::Flush(7)), Some(Awaited::Alive), Some(Awaited::Flush(8)), None]);
    }

    #[test]
    fn without_a_connection_publishes_are_kept_up_to_the_limit() {
        let mut session: Test = Session::new(100);
        assert_eq!(session.subscribe("a", Some("q"), "A"), Ok(1));
        assert_eq!(session.flush(1), Some(1));
        assert_eq!(publish(&mut session, b"1"), Ok(true));
        assert_eq!(publish(&mut session, &[b'x'; 90]), Err(PublishError::Full));
        assert_eq!(said(&mut session), "", "nothing is taken while there is no connection");
        let prelude = session.prelude();
        assert_eq!(text(&prelude.out), "SUB a q 1\r\nPING\r\n");
        assert_eq!(session.subscribe("b", None, "B"), Ok(2));
        assert_eq!(session.move_to(&prelude), None);
        assert_eq!(said(&mut session), "SUB b 2\r\nPUB p 1\r\n1\r\n");
    }

    #[test]
    fn a_lost_connection_takes_what_was_said_on_it_and_resubscribes() {
        let mut session = up();
        session.subscribe("a", None, "A").unwrap();
        session.subscribe("b", None, "B").unwrap();
        publish(&mut session, b"lost").unwrap();
        assert_eq!(session.flush(7), None);
        assert_eq!(session.drain(vec![2], 8), None);
        assert_eq!(session.lost(), [Awaited::Flush(7), Awaited::End(vec![], 8)]);
        assert_eq!(session.sink(2), None, "what was ending has ended");
        assert_eq!(session.drain(vec![1], 9), Some(9));
        session.subscribe("c", None, "C").unwrap();
        assert_eq!(text(&session.prelude().out), "SUB c 3\r\nPING\r\n");
        assert_eq!(session.queued_bytes(), 0);
    }

    #[test]
    fn a_drained_subscription_receives_until_the_pong() {
        let mut session = up();
        session.subscribe("a", None, "A").unwrap();
        said(&mut session);
        assert_eq!(session.drain(vec![1], 5), None);
        assert_eq!(said(&mut session), "UNSUB 1\r\nPING\r\n");
        assert_eq!(session.sink(1), Some(&"A"));
        assert_eq!(text(&session.prelude().out), "PING\r\n", "a new connection has no part in it");
        assert_eq!(session.answered(), Some(Awaited::End(vec![1], 5)));
        assert_eq!(session.sink(1), None);
    }

    #[test]
    fn a_move_leaves_to_the_old_connection_what_was_said_on_it() {
        let mut session = up();
        session.subscribe("a", None, "A").unwrap();
        session.subscribe("b", None, "B").unwrap();
        said(&mut session);
        let prelude = session.prelude();
        session.unsubscribe(2);
        session.subscribe("c", None, "C").unwrap();
        publish(&mut session, b"old").unwrap();
        assert_eq!(session.flush(4), None);
        let departed = session.move_to(&prelude).unwrap();
        assert_eq!(text(&departed.out), "UNSUB 2\r\nSUB c 3\r\nPUB p 3\r\nold\r\nPING\r\n");
        assert_eq!(text(&departed.end), "UNSUB 1\r\nUNSUB 3\r\nPING\r\n");
        assert_eq!(departed.awaited, [Awaited::Flush(4)]);
        publish(&mut session, b"new").unwrap();
        assert_eq!(said(&mut session), "SUB c 3\r\nUNSUB 2\r\nPUB p 3\r\nnew\r\n");
        assert_eq!(session.answered(), None);
    }

    #[test]
    fn a_subscription_that_is_drained_during_a_move_ends_on_both_connections() {
        let mut session = up();
        session.subscribe("a", Some("q"), "A").unwrap();
        said(&mut session);
        let prelude = session.prelude();
        assert_eq!(session.drain(vec![1], 5), None);
        let mut departed = session.move_to(&prelude).unwrap();
        assert_eq!(said(&mut session), "UNSUB 1\r\n");
        let end = departed.awaited.pop_front().unwrap();
        assert_eq!(end, Awaited::End(vec![1], 5));
        session.settle(&end);
        assert_eq!(session.sink(1), None);
    }

    #[test]
    fn a_drain_waits_for_the_end_of_a_move() {
        let mut session = up();
        session.subscribe("a", None, "A").unwrap();
        said(&mut session);
        session.begin_move();
        let prelude = session.prelude();
        assert_eq!(session.drain(vec![1], 5), None);
        assert!(session.move_to(&prelude).is_some());
        assert_eq!(session.drain(vec![7], 6), None);
        assert_eq!(said(&mut session), "", "both connections deliver");
        assert_eq!(session.end_move(), Vec::<u8>::new());
        assert_eq!(said(&mut session), "UNSUB 1\r\nPING\r\nPING\r\n");
        assert_eq!(session.answered(), Some(Awaited::End(vec![1], 5)));
        session.begin_move();
        assert_eq!(session.drain(vec![8], 9), None);
        session.lost();
        assert_eq!(session.end_move(), [9], "without a connection it is done");
    }

    #[test]
    fn a_broker_that_asks_and_does_not_read_is_noticed() {
        let mut session = up();
        let asked = (0..10_000).take_while(|_| session.pong()).count();
        assert_eq!(asked, MOST_PONGS);
        assert!(said(&mut session).starts_with("PONG") && session.pong());
    }

    #[test]
    fn a_closed_session_takes_nothing() {
        let mut session = up();
        session.subscribe("a", None, "A").unwrap();
        assert_eq!(session.close().collect::<Vec<_>>(), [&"A"]);
        assert_eq!(publish(&mut session, b""), Err(PublishError::Closed));
        assert_eq!(session.subscribe("b", None, "B"), Err(PublishError::Closed));
    }
}
