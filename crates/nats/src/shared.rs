//! What the handles of a connection share with its task.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::batch::Batch;
use crate::error::PublishError;
use crate::identity::Identity;
use crate::info::ServerInfo;
use crate::options::{Event, Options};
use crate::parse::Frame;
use crate::pool::Pool;
use crate::queue::Queue;
use crate::request::Requests;
use crate::session::{Awaited, Session};

/// How long subscriptions take to reach all servers of a cluster. No server confirms this; a route within a
/// region takes a few milliseconds.
pub(crate) const PROPAGATION: Duration = Duration::from_millis(100);

/// Where a subscription's messages go.
#[derive(Clone)]
pub(crate) enum Sink {
    Subscriber(Arc<Queue>),
    Requests,
    /// What comes back at the reply subjects of messages that no answer is wanted to.
    Deliveries,
}

/// Who waits for a flush: its caller.
pub(crate) type FlushWaiter = oneshot::Sender<()>;
/// What waits for a drain: the stream that ends then.
pub(crate) type DrainWaiter = Arc<Queue>;
/// What a PONG is awaited for.
pub(crate) type Waiter = Awaited<FlushWaiter, DrainWaiter>;
type ClientSession = Session<Sink, FlushWaiter, DrainWaiter>;

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) session: Mutex<ClientSession>,
    pub(crate) pool: Mutex<Pool>,
    /// Something is to be sent.
    pub(crate) wake: Notify,
    /// What was to be sent was taken.
    pub(crate) room: Notify,
    /// Somebody misses an answer.
    pub(crate) doubted: Notify,
    /// The connection is to move to another server.
    pub(crate) leaving: Notify,
    pub(crate) server: watch::Sender<Option<Arc<ServerInfo>>>,
    pub(crate) requests: Requests,
    /// Messages of which the broker reports whether somebody receives them. Apart from the requests: their
    /// receivers learn the reply subjects, and could answer requests of ours.
    pub(crate) deliveries: Requests,
    pub(crate) identity: Identity,
    pub(crate) stop: CancellationToken,
    on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.options.name).finish_non_exhaustive()
    }
}

pub(crate) fn new_inbox(prefix: &str) -> String {
    format!("{prefix}.{}", uuid::Uuid::new_v4().simple())
}

impl Shared {
    pub(crate) fn new(options: Options, on_event: Box<dyn Fn(Event) + Send + Sync>) -> Self {
        Self {
            session: Mutex::new(Session::new(options.outbound_limit)),
            pool: Mutex::new(Pool::new(&options.servers, options.seed)),
            wake: Notify::new(),
            room: Notify::new(),
            doubted: Notify::new(),
            leaving: Notify::new(),
            server: watch::Sender::new(None),
            requests: Requests::new(format!("{}.", new_inbox(&options.inbox_prefix))),
            deliveries: Requests::new(format!("{}.", new_inbox(&options.inbox_prefix))),
            identity: Identity::new(options.auth.clone(), options.material.clone()),
            stop: CancellationToken::new(),
            options,
            on_event,
        }
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, ClientSession> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.on_event)(event);
    }

    pub(crate) fn subscribe(
        &self,
        subject: &str,
        queue_group: Option<&str>,
        queue: &Arc<Queue>,
    ) -> Result<u64, PublishError> {
        let sid = self.session().subscribe(subject, queue_group, Sink::Subscriber(Arc::clone(queue)))?;
        self.wake.notify_one();
        Ok(sid)
    }

    pub(crate) fn subscribe_requests(&self) -> Result<(), PublishError> {
        self.requests.subscribe_once(|subject| self.subscribe_answers(subject, Sink::Requests))
    }

    pub(crate) fn subscribe_deliveries(&self) -> Result<(), PublishError> {
        self.deliveries.subscribe_once(|subject| self.subscribe_answers(subject, Sink::Deliveries))
    }

    fn subscribe_answers(&self, subject: &str, sink: Sink) -> Result<(), PublishError> {
        self.session().subscribe(subject, None, sink)?;
        self.wake.notify_one();
        Ok(())
    }

    pub(crate) fn unsubscribe(&self, sids: &[u64]) {
        if sids.is_empty() {
            return;
        }
        {
            let mut session = self.session();
            sids.iter().for_each(|sid| session.unsubscribe(*sid));
        }
        self.wake.notify_one();
    }

    pub(crate) fn drain(&self, sids: Vec<u64>, queue: &Arc<Queue>) {
        let waiter = self.session().drain(sids, Arc::clone(queue));
        if waiter.is_some() {
            queue.end();
        }
        self.wake.notify_one();
    }

    /// Gives messages that were received together to those who are subscribed.
    pub(crate) fn deliver(&self, bytes: &Bytes, frames: Vec<Frame>) {
        for (sink, frames) in self.by_sink(frames) {
            let batch = Batch::new(bytes.clone(), frames);
            match sink {
                Sink::Subscriber(queue) => {
                    let dropped = queue.offer(batch.compact());
                    if dropped > 0 {
                        self.tell(Event::Dropped(dropped as u64));
                    }
                }
                Sink::Requests => batch.iter().for_each(|message| self.requests.answer(message)),
                // What receivers send there is no report.
                Sink::Deliveries => batch
                    .iter()
                    .filter(|message| message.read().is_ok_and(|read| read.is_no_responders()))
                    .for_each(|message| self.deliveries.answer(message)),
            }
        }
    }

    /// Messages by where they go, which most often is one place. Those of ended subscriptions go nowhere.
    fn by_sink(&self, frames: Vec<Frame>) -> SmallVec<[(Sink, Vec<Frame>); 2]> {
        let session = self.session();
        let mut groups: SmallVec<[(Sink, Vec<Frame>); 2]> = SmallVec::new();
        let sink_of = |frame: &Frame| session.sink(frame.sid);
        if let Some(first) = frames.first().and_then(sink_of) {
            let mut last = frames.first().map_or(0, |frame| frame.sid);
            let one = frames.iter().all(|frame| {
                std::mem::replace(&mut last, frame.sid) == frame.sid
                    || sink_of(frame).is_some_and(|sink| sink.is(first))
            });
            if one {
                groups.push((first.clone(), frames));
                return groups;
            }
        }
        for frame in frames {
            let Some(sink) = sink_of(&frame) else { continue };
            match groups.iter_mut().find(|(known, _)| known.is(sink)) {
                Some((_, frames)) => frames.push(frame),
                None => groups.push((sink.clone(), vec![frame])),
            }
        }
        groups
    }

    /// Tells whoever waited for a PONG.
    pub(crate) fn resolve(awaited: Waiter) {
        match awaited {
            Awaited::Flush(sender) => {
                // Who has given up misses nothing.
                let _ = sender.send(());
            }
            Awaited::End(_, queue) => queue.end(),
            Awaited::Alive => {}
        }
    }

    /// Tells those who waited on a connection that is gone: a flush fails, and what was drained has ended.
    pub(crate) fn fail(awaited: impl IntoIterator<Item = Waiter>) {
        for one in awaited {
            if !matches!(one, Awaited::Flush(_)) {
                Self::resolve(one);
            }
        }
    }

    /// Ends all: the connection is closed.
    pub(crate) fn close(&self) {
        let awaited = {
            let mut session = self.session();
            for sink in session.close() {
                if let Sink::Subscriber(queue) = sink {
                    queue.end();
                }
            }
            session.lost()
        };
        self.server.send_replace(None);
        Self::fail(awaited);
        self.room.notify_waiters();
        self.tell(Event::Closed);
    }
}

impl Sink {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Subscriber(a), Self::Subscriber(b)) => Arc::ptr_eq(a, b),
            (Self::Requests, Self::Requests) | (Self::Deliveries, Self::Deliveries) => true,
            _ => false,
        }
    }
}
