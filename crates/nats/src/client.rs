//! The handle of a connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::DropGuard;

use crate::auth::Auth;
use crate::batch::Message;
use crate::encode::{Outgoing, Pairs};
use crate::error::{ConnectError, FlushError, PublishError, RequestError};
use crate::info::ServerInfo;
use crate::options::{Event, Options};
use crate::shared::{PROPAGATION, Shared, new_inbox};
use crate::subscriber::Subscriber;
use crate::tls::Material;
use crate::{prepare, task};

/// A connection to the broker. Clones share it; with the last clone it closes, after what was published
/// is sent.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    _open: Arc<DropGuard>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

/// Whether somebody receives a message that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Somebody is subscribed to its subject.
    Received,
    /// Nobody is: the broker has dropped it.
    NoReceiver,
    /// The connection was lost, or the broker did not report in time.
    Unknown,
}

fn is_no_responders(answer: &Message) -> bool {
    answer.as_ref().read().is_ok_and(|answer| answer.is_no_responders())
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
        let link = prepare::try_each(&shared, timeout).await?;
        tokio::spawn(task::run(shared, Some(link)));
        Ok(client)
    }

    fn of(shared: Arc<Shared>) -> Self {
        let open = Arc::new(shared.stop.clone().drop_guard());
        Self { shared, _open: open }
    }

    /// What makes this connection anew while it is in use.
    #[must_use]
    pub fn mover(&self) -> Mover {
        Mover(Arc::clone(&self.shared))
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
        if is_no_responders(&answer) {
            return Err(RequestError::NoResponders);
        }
        Ok(answer)
    }

    /// Publishes a message and waits until the broker has reported whether somebody is subscribed to its
    /// subject: the broker answers a message that names a reply subject and that nobody receives, before the
    /// PONG to the PING behind it. The message's own reply subject is replaced.
    ///
    /// # Errors
    /// [`PublishError`]: it was not sent.
    pub async fn deliver(&self, message: &Outgoing<'_>, timeout: Duration) -> Result<Delivery, PublishError> {
        self.shared.subscribe_deliveries()?;
        let (reply, mut waiting) = self.shared.deliveries.begin();
        let (sender, flushed) = oneshot::channel();
        let connected = {
            // Together, so that both go over one connection.
            let mut session = self.shared.session();
            session.publish(&Outgoing { reply: reply.as_bytes(), ..*message })?;
            session.flush(sender).is_none()
        };
        self.shared.wake.notify_one();
        if !connected || !matches!(tokio::time::timeout(timeout, flushed).await, Ok(Ok(()))) {
            return Ok(Delivery::Unknown);
        }
        // What the broker sent before its PONG was delivered before it.
        Ok(if waiting.answered().is_some() { Delivery::NoReceiver } else { Delivery::Received })
    }

    /// Waits until the broker has acted on all that was said before.
    ///
    /// # Errors
    /// [`FlushError::Disconnected`]: there is no connection, or it was lost meanwhile.
    pub async fn flush(&self) -> Result<(), FlushError> {
        let (sender, answered) = oneshot::channel();
        if self.shared.session().flush(sender).is_some() {
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

/// Makes a connection anew while it is in use, and does not keep it open.
#[derive(Clone, Debug)]
pub struct Mover(Arc<Shared>);

impl Mover {
    /// Somebody misses an answer. The server is asked at once whether it is there; where nothing comes from it
    /// ([`crate::keepalive`]), another connection is made beside the present one, to another server if one is known.
    pub fn doubt(&self) {
        self.0.doubted.notify_one();
    }

    /// The server is there and of no use. The connection moves to another one, if one is known and can be reached.
    pub fn leave(&self) {
        self.0.leaving.notify_one();
    }

    /// From now on connections are made with this identity. Ends when the present one is, or when its owner has
    /// closed it; a connection whose new identity is refused stays as it is, and is tried again for ever. Without
    /// `tls` its material stays.
    pub async fn renew(&self, auth: Auth, tls: Option<Material>) {
        let number = self.0.identity.renew(auth, tls);
        tokio::select! {
            () = self.0.identity.used(number) => {}
            () = self.0.stop.cancelled() => {}
        }
    }
}
