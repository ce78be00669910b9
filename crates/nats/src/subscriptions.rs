use std::collections::BTreeMap;

use crate::encode;
use crate::error::PublishError;

/// What a client is subscribed to, whatever connection it has. `S` is where messages go.
#[derive(Debug)]
pub(crate) struct Subscriptions<S> {
    last: u64,
    live: BTreeMap<u64, Subscription<S>>,
}

#[derive(Debug)]
struct Subscription<S> {
    subject: String,
    queue: Option<String>,
    sink: S,
    /// The broker was asked to end it. What it sends before that still counts.
    ending: bool,
}

impl<S> Subscriptions<S> {
    pub(crate) const fn new() -> Self {
        Self { last: 0, live: BTreeMap::new() }
    }

    /// Adds one and gives its id; ids only grow. `out` gets its line.
    pub(crate) fn add(
        &mut self,
        subject: &str,
        queue: Option<&str>,
        sink: S,
        out: &mut Vec<u8>,
    ) -> Result<u64, PublishError> {
        encode::subscribe(out, subject, queue, self.last + 1)?;
        self.last += 1;
        let (subject, queue) = (subject.to_owned(), queue.map(str::to_owned));
        self.live.insert(self.last, Subscription { subject, queue, sink, ending: false });
        Ok(self.last)
    }

    pub(crate) fn remove(&mut self, sid: u64) -> bool {
        self.live.remove(&sid).is_some()
    }

    /// Marks one as ending; `false` if there is none.
    pub(crate) fn end(&mut self, sid: u64) -> bool {
        self.live.get_mut(&sid).map(|subscription| subscription.ending = true).is_some()
    }

    pub(crate) fn sink(&self, sid: u64) -> Option<&S> {
        self.live.get(&sid).map(|subscription| &subscription.sink)
    }

    /// Whether it exists and is not draining.
    pub(crate) fn is_active(&self, sid: u64) -> bool {
        self.live.get(&sid).is_some_and(|subscription| !subscription.ending)
    }

    pub(crate) fn sinks(&self) -> impl Iterator<Item = &S> {
        self.live.values().map(|subscription| &subscription.sink)
    }

    /// The id that was given last.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }

    /// The ids of all.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.live.keys().copied()
    }

    /// The lines of those that were added after `sid` and do not end.
    pub(crate) fn lines_after(&self, sid: u64, out: &mut Vec<u8>) {
        for (sid, subscription) in self.live.range(sid + 1..) {
            if !subscription.ending {
                // It was written before, so it can be.
                let _ = encode::subscribe(out, &subscription.subject, subscription.queue.as_deref(), *sid);
            }
        }
    }
}
