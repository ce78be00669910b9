use std::future::poll_fn;
use std::task::Poll;

use async_nats::{Client, Message, Subscriber};
use futures_util::StreamExt as _;

use crate::nats::{Worker, at_once};

/// How many messages are taken at once.
const BATCH: usize = 64;

/// The two decide subscriptions of a connection.
pub(super) struct Incoming {
    plain: Taken,
    tenants: Taken,
    /// Which of them is looked at first; they take turns, so that neither waits for the other.
    tenants_first: bool,
    /// How many came last time.
    last: usize,
}

/// A subscription, and how many messages it has given.
struct Taken {
    subscription: Subscriber,
    count: u64,
    ended: bool,
}

impl Incoming {
    pub(super) async fn subscribe(worker: &Worker, client: &Client) -> Option<Self> {
        let names = &worker.settings.names;
        let taken = async |subject: &str| {
            let subscribed = client.queue_subscribe(subject.to_owned(), names.queue_group.clone());
            Some(Taken { subscription: subscribed.await.ok()?, count: 0, ended: false })
        };
        Some(Self {
            plain: taken(&names.decide).await?,
            tenants: taken(&names.decide_tenants).await?,
            tenants_first: false,
            last: 0,
        })
    }

    /// How many messages came.
    pub(super) const fn count(&self) -> u64 {
        self.plain.count + self.tenants.count
    }

    /// The messages that are there; none once both subscriptions have ended.
    pub(super) async fn next(&mut self) -> Option<Vec<Message>> {
        let mut messages = Vec::new();
        let some = poll_fn(|cx| {
            self.tenants_first = !self.tenants_first;
            let (first, second) = if self.tenants_first {
                (&mut self.tenants, &mut self.plain)
            } else {
                (&mut self.plain, &mut self.tenants)
            };
            for taken in [first, second] {
                while !taken.ended && messages.len() < BATCH {
                    match taken.subscription.poll_next_unpin(cx) {
                        Poll::Ready(Some(message)) => {
                            if messages.is_empty() {
                                messages.reserve(self.last.clamp(4, BATCH));
                            }
                            messages.push(message);
                            taken.count += 1;
                        }
                        Poll::Ready(None) => taken.ended = true,
                        Poll::Pending => break,
                    }
                }
            }
            match (messages.is_empty(), self.plain.ended && self.tenants.ended) {
                (false, _) => Poll::Ready(true),
                (true, true) => Poll::Ready(false),
                (true, false) => Poll::Pending,
            }
        });
        let some = some.await;
        self.last = messages.len();
        some.then_some(messages)
    }

    /// Lets each subscription end after so many more messages.
    pub(super) fn end_ahead(&mut self, ahead: u64) {
        for taken in [&mut self.plain, &mut self.tenants] {
            let _ = at_once(taken.subscription.unsubscribe_after(taken.count + ahead));
        }
    }

    /// Lets each subscription end with what has come.
    pub(super) fn drain(&mut self) {
        for taken in [&mut self.plain, &mut self.tenants] {
            if let Some(Err(error)) = at_once(taken.subscription.drain()) {
                tracing::warn!(event = "drain_failed", error = %error);
            }
        }
    }
}
