//! Requests that are decided tenants in turn, on a thread of their own.
//!
//! The longest body takes as long to read as a thousand usual ones, and would delay all that came behind it: so long
//! requests go here. So does what comes while too much waits in the order of its arrival: who sends more than can be
//! decided waits for itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use beamline_nats::{Message, MessageRef};
use tokio::sync::Notify;

use super::intake::Came;
use crate::domain::FairQueue;

/// A message of more bytes than this is long.
const LONG: usize = 8 << 10;
/// How many bytes of requests wait, of all tenants together.
const ROOM: usize = 32 << 20;
/// What keeping one takes beside its own bytes.
const KEPT: usize = 256;
/// How many bytes of a tenant are read in its turn: what a body has at most by default.
const QUANTUM: usize = 64 << 10;

/// Whether a request is decided in turn whatever else waits.
pub(super) fn is_long(message: &MessageRef<'_>) -> bool {
    message.bytes() > LONG
}

/// What waits. Those that name no tenant in their subject wait as one: whoever may send them speaks for all tenants.
pub(super) struct InTurn {
    inner: Mutex<Inner>,
    changed: Notify,
}

struct Inner {
    queue: FairQueue<(Message, Came)>,
    closed: bool,
}

impl InTurn {
    pub(super) fn new() -> Self {
        let inner = Inner { queue: FairQueue::new(ROOM, QUANTUM), closed: false };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }

    /// Queues a request of a tenant; `false` if the tenant's share or all room is taken.
    pub(super) fn offer(&self, tenant_id: &str, message: MessageRef<'_>, came: Came) -> bool {
        let (tenant_id, cost): (Arc<str>, _) = (tenant_id.into(), message.bytes() + KEPT);
        let taken = self.inner().queue.offer(&tenant_id, cost, (message.to_message(), came)).is_ok();
        self.changed.notify_one();
        taken
    }

    /// The request whose turn it is; `None` once nothing waits and nothing more comes.
    pub(super) async fn next(&self) -> Option<(Message, Came)> {
        loop {
            {
                let mut inner = self.inner();
                if let Some(next) = inner.queue.take() {
                    return Some(next);
                }
                if inner.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Nothing more comes.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_one();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
