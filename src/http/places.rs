//! Which connections are open, and which one is closed when a new one needs its place.
//!
//! A peer that sends half a request and waits costs a place and nothing else. If such peers could hold
//! all places, nobody would reach health and metrics. So a new connection is let in also when all places
//! are taken: the connection that has sent no complete request for longest is closed for it, and where
//! there is none, the one that has been idle for longest. A scraper sends its request as it connects, so
//! it is among the youngest while others need places, and from then on nobody takes its place.
//!
//! A connection whose request has arrived whole keeps its place until the answer is handed over. How many
//! of these take long is bounded where they are answered ([`super::api`]); if they hold all places all the
//! same, the new connection is closed.
//!
//! Only order counts, so there is no clock here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// What a connection is doing. The first ones are closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Its request has not arrived whole.
    Unfinished,
    /// It has its answer, and has sent no next request.
    Idle,
    /// Its request is being answered.
    Answering,
}

#[derive(Debug)]
struct Held {
    stage: Stage,
    since: u64,
    closing: CancellationToken,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    held: BTreeMap<u64, Held>,
    /// Counts what happens: connections are numbered by it, and ordered.
    last: u64,
}

/// A connection that was let in.
#[derive(Debug)]
struct Entered {
    id: u64,
    closing: CancellationToken,
    closed_another: bool,
}

impl Places {
    const fn new(most: usize) -> Self {
        Self { most, held: BTreeMap::new(), last: 0 }
    }

    fn enter(&mut self) -> Option<Entered> {
        let mut closed_another = false;
        if self.held.len() >= self.most {
            let waiting = self.held.iter().filter(|(_, held)| held.stage != Stage::Answering);
            let (&id, _) = waiting.min_by_key(|(_, held)| (held.stage, held.since))?;
            if let Some(held) = self.held.remove(&id) {
                held.closing.cancel();
                closed_another = true;
            }
        }
        self.last += 1;
        let (id, closing) = (self.last, CancellationToken::new());
        let held = Held { stage: Stage::Unfinished, since: id, closing: closing.clone() };
        self.held.insert(id, held);
        Some(Entered { id, closing, closed_another })
    }

    fn note(&mut self, id: u64, stage: Stage) {
        self.last += 1;
        if let Some(held) = self.held.get_mut(&id) {
            (held.stage, held.since) = (stage, self.last);
        }
    }

    fn leave(&mut self, id: u64) {
        self.held.remove(&id);
    }
}

/// The places of a server.
#[derive(Clone, Debug)]
pub(super) struct Lobby(Arc<Mutex<Places>>);

impl Lobby {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Places::new(most))))
    }

    /// A place for a new connection, and whether another one is closed for it. `None` if each place is
    /// taken by a request that is being answered.
    pub(super) fn enter(&self) -> Option<(Place, bool)> {
        let Entered { id, closing, closed_another } = self.with(Places::enter)?;
        Some((Place { id, closing, lobby: self.clone() }, closed_another))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Places) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The place of a connection; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    closing: CancellationToken,
    lobby: Lobby,
}

impl Place {
    /// Done when the connection is to be closed for another.
    pub(super) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    pub(super) fn note(&self, stage: Stage) {
        self.lobby.with(|places| places.note(self.id, stage));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.with(|places| places.leave(self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(stages: &[Stage]) -> (Places, Vec<Entered>) {
        let mut places = Places::new(stages.len());
        let held: Vec<_> = stages.iter().map(|_| places.enter().unwrap()).collect();
        assert!(held.iter().all(|held| !held.closed_another));
        for (held, stage) in held.iter().zip(stages) {
            places.note(held.id, *stage);
        }
        (places, held)
    }

    fn closed(held: &[Entered]) -> Vec<bool> {
        held.iter().map(|held| held.closing.is_cancelled()).collect()
    }

    #[test]
    fn who_has_sent_no_complete_request_for_longest_is_closed_first() {
        use Stage::{Answering, Idle, Unfinished};
        let (mut places, held) = full(&[Idle, Answering, Unfinished, Unfinished, Idle]);
        let order = [2, 3, 0, 4];
        for closed_so_far in 1..=order.len() {
            let new = places.enter().unwrap();
            assert!(new.closed_another && !new.closing.is_cancelled());
            places.note(new.id, Answering);
            let want: Vec<_> = (0..held.len()).map(|n| order[..closed_so_far].contains(&n)).collect();
            assert_eq!(closed(&held), want);
        }
        assert!(places.enter().is_none(), "all are being answered");
        places.leave(held[1].id);
        assert!(!places.enter().unwrap().closed_another);
    }

    #[test]
    fn who_was_answered_last_is_closed_last() {
        let (mut places, held) = full(&[Stage::Idle; 3]);
        places.note(held[0].id, Stage::Answering);
        places.note(held[0].id, Stage::Idle);
        places.enter().unwrap();
        assert_eq!(closed(&held), [false, true, false]);
    }

    #[test]
    fn a_connection_that_was_closed_changes_nothing_more() {
        let (mut places, held) = full(&[Stage::Unfinished; 2]);
        places.enter().unwrap();
        places.note(held[0].id, Stage::Answering);
        places.leave(held[0].id);
        assert_eq!(places.held.len(), 2);
    }

    #[test]
    fn any_number_of_unfinished_requests_takes_no_more_than_the_places() {
        let lobby = Lobby::new(256);
        let mut held = Vec::new();
        for n in 0..1_000 {
            let (place, closed_another) = lobby.enter().unwrap();
            assert_eq!(closed_another, n >= 256);
            held.push(place);
        }
        let open = held.iter().filter(|place| !place.closing().is_cancelled()).count();
        assert_eq!((open, lobby.with(|places| places.held.len())), (256, 256));
        drop(held);
        assert_eq!(lobby.with(|places| places.held.len()), 0);
    }
}
