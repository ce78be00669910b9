//! The handle of a connection, and what it shares with the connection's task.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::batch::{Batch, Message};
use crate::encode::{Outgoing, Pairs};
use crate::error::{ConnectError, FlushError, PublishError, RequestError};
use crate::info::ServerInfo;
use crate::options::{Event, Options};
use crate::parse::Frame;
use crate::pool::Pool;
use crate::request::Requests;
use crate::session::{Awaited, Session};
use crate::subscriber::{Queue, Subscriber};
use crate::task;

/// A connection to the broker. Clones share it; with the last clone it closes, after what was published
/// is sent.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

/// How long subscriptions take to reach all servers of a cluster. No server confirms this; a route within a
/// region takes a few milliseconds.
pub(crate) const PROPAGATION: Duration = Duration::from_millis(100);

/// Where a subscription's messages go.
#[derive(Clone)]
pub(crate) enum Sink {
    Subscriber(Arc<Queue>),
    Requests,
}

/// Who waits for a PONG.
pub(crate) enum Waiter {
    Flush(oneshot::Sender<()>),
    Drain(Arc<Queue>),
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) session: Mutex<Session<Sink, Waiter>>,
    pub(crate) pool: Mutex<Pool>,
    /// Something is to be sent.
    pub(crate) wake: Notify,
    /// What was to be sent was taken.
    pub(crate) room: Notify,
    pub(crate) server: watch::Sender<Option<Arc<ServerInfo>>>,
    pub(crate) requests: Requests,
    requests_subscribed: Mutex<bool>,
    pub(crate) stop: CancellationToken,
    on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("name", &self.options.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Client {
    /// A connection that is tried for ever, on the present runtime. It need not be there yet; events say
    /// when it is.
    #[must_use]
    pub fn start(options: Options, on_event: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared::new(options, Box::new(on_event)));
        tokio::spawn(task::run(Arc::clone(&shared), None));
        Self::of(shared)
    }

    /// A connection that is there: every server is tried once, all within `timeout`. One that is lost later
    /// is tried for ever.
    ///
    /// # Errors
    /// What the last server came to.
    pub async fn connect(
        options: Options,
        timeout: Duration,
        on_event: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Self, ConnectError> {
        let shared = Arc::new(Shared::new(options, Box::new(on_event)));
        let client = Self::of(Arc::clone(&shared));
        let link = task::try_each(&shared, timeout).await?;
        tokio::spawn(task::run(shared, Some(link)));
        Ok(client)
    }

    fn of(shared: Arc<Shared>) -> Self {
        let open = Arc::new(shared.stop.clone().drop_guard());
        Self { shared, _open: open }
    }

    /// Publishes a message without waiting: it is sent with all else that is said.
    ///
    /// # Errors
    /// [`PublishError`]. While there is no connection messages are kept up to the outbound limit.
    #[inline]
    pub fn publish(&self, message: &Outgoing<'_>) -> Result<(), PublishError> {
        let was_empty = self.shared.session().publish(message)?;
        if was_empty {
            self.shared.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until at most half of the outbound buffer is in use, or the connection is gone.
    pub async fn room(&self) {
        loop {
            let mut taken = std::pin::pin!(self.shared.room.notified());
            taken.as_mut().enable();
            {
                let session = self.shared.session();
                if !session.is_up() || session.queued_bytes() <= self.shared.options.outbound_limit / 2 {
                    return;
                }
            }
            taken.await;
        }
    }

    /// Asks and waits for one answer.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(
        &self,
        subject: &str,
        headers: &Pairs<'_>,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<Message, RequestError> {
        self.shared.subscribe_requests()?;
        let (reply, mut waiting) = self.shared.requests.begin();
        let (subject, reply) = (subject.as_bytes(), reply.as_bytes());
        self.publish(&Outgoing { subject, reply, headers, payload })?;
        let answer = tokio::time::timeout(timeout, waiting.answer()).await;
        let answer = answer.ok().flatten().ok_or(RequestError::TimedOut)?;
        let is_status = |code| answer.as_ref().headers().is_ok_and(|headers| headers.status() == Some(code));
        if answer.payload().is_empty() && is_status(503) {
            return Err(RequestError::NoResponders);
        }
        Ok(answer)
    }

    /// Waits until the broker has acted on all that was said before.
    ///
    /// # Errors
    /// [`FlushError::Disconnected`]: there is no connection, or it was lost meanwhile.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (sender, answered) = oneshot::channel();
        if self.shared.session().flush(Waiter::Flush(sender)).is_some() {
            return Err(FlushError::Disconnected);
        }
        self.shared.wake.notify_one();
        answered.await.map_err(|_| FlushError::Disconnected)
    }

    /// Waits until the broker holds all subscriptions made before, in a cluster all of its servers.
    pub async fn subscribed(&self) {
        loop {
            self.connected().await;
            if self.flush().await.is_ok() {
                break;
            }
        }
        if self.server().is_some_and(|server| !server.cluster.is_empty()) {
            tokio::time::sleep(PROPAGATION).await;
        }
    }

    /// A subscriber without a subscription.
    #[must_use]
    pub fn subscriber(&self) -> Subscriber {
        Subscriber::new(Arc::clone(&self.shared), self.shared.options.subscription_capacity)
    }

    /// A subscriber of one subject, as one of a queue group if one is named.
    ///
    /// # Errors
    /// As [`Subscriber::subscribe`].
    pub fn subscribe(&self, subject: &str, queue_group: Option<&str>) -> Result<Subscriber, PublishError> {
        let mut subscriber = self.subscriber();
        subscriber.subscribe(subject, queue_group)?;
        Ok(subscriber)
    }

    /// A subject that nobody else receives answers at.
    #[must_use]
    pub fn new_inbox(&self) -> String {
        new_inbox(&self.shared.options.inbox_prefix)
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.session().is_up()
    }

    /// The broker's limit on a message, in bytes.
    #[must_use]
    pub fn max_payload(&self) -> usize {
        self.shared.session().max_payload()
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        // The sender lives as long as this handle.
        let _ = self.shared.server.subscribe().wait_for(Option::is_some).await;
    }

    /// The server that is connected, as it last described itself.
    #[must_use]
    pub fn server(&self) -> Option<Arc<ServerInfo>> {
        self.shared.server.borrow().clone()
    }
}

fn new_inbox(prefix: &str) -> String {
    format!("{prefix}.{}", uuid::Uuid::new_v4().simple())
}

impl Shared {
    fn new(options: Options, on_event: Box<dyn Fn(Event) + Send + Sync>) -> Self {
        Self {
            session: Mutex::new(Session::new(options.outbound_limit)),
            pool: Mutex::new(Pool::new(&options.servers, options.seed)),
            wake: Notify::new(),
            room: Notify::new(),
            server: watch::Sender::new(None),
            requests: Requests::new(format!("{}.", new_inbox(&options.inbox_prefix))),
            requests_subscribed: Mutex::new(false),
            stop: CancellationToken::new(),
            options,
            on_event,
        }
    }

    pub(crate) fn session(&self) -> MutexGuard<'_, Session<Sink, Waiter>> {
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

    fn subscribe_requests(&self) -> Result<(), PublishError> {
        let mut subscribed = self.requests_subscribed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*subscribed {
            self.session().subscribe(&self.requests.subject(), None, Sink::Requests)?;
            self.wake.notify_one();
            *subscribed = true;
        }
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
        let waiter = self.session().drain(sids, Waiter::Drain(Arc::clone(queue)));
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
    pub(crate) fn resolve(awaited: Option<Awaited<Waiter>>) {
        match awaited {
            Some(Awaited::Flush(Waiter::Flush(sender))) => {
                // Who has given up misses nothing.
                let _ = sender.send(());
            }
            Some(Awaited::Flush(Waiter::Drain(queue)) | Awaited::End(_, Waiter::Drain(queue))) => queue.end(),
            Some(Awaited::End(_, Waiter::Flush(_)) | Awaited::Alive) | None => {}
        }
    }

    /// Tells those who waited on a connection that is gone: a flush fails, and what was drained has ended.
    pub(crate) fn fail(awaited: impl IntoIterator<Item = Awaited<Waiter>>) {
        for one in awaited {
            if !matches!(one, Awaited::Flush(_)) {
                Self::resolve(Some(one));
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
            (Self::Requests, Self::Requests) => true,
            _ => false,
        }
    }
}
