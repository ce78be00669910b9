//! The end of a connection that was moved from while its server is still there.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use crate::dial::{Link, unreachable};
use crate::error::ConnectError;
use crate::parse::Op;
use crate::reader::Taken;
use crate::session::{Awaited, Unfinished};
use crate::shared::{DrainWaiter, FlushWaiter, PROPAGATION, Shared, Waiter};

/// How long a connection that was moved from may take to deliver what the server had sent.
const RETIRE: Duration = Duration::from_secs(5);

/// A move that is under way; dropped, it has ended.
pub(crate) struct Moving(Arc<Shared>);

impl Moving {
    pub(crate) fn begin(shared: &Arc<Shared>) -> Self {
        shared.session().begin_move();
        Self(Arc::clone(shared))
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let done = self.0.session().end_move();
        Shared::fail(done.into_iter().map(|queue| Awaited::End(Vec::new(), queue)));
        self.0.wake.notify_one();
    }
}

/// Finishes a connection that was moved from, beside the new one.
pub(crate) async fn retire(
    shared: Arc<Shared>,
    old: Link,
    unfinished: Option<Unfinished<FlushWaiter, DrainWaiter>>,
    moving: Moving,
) {
    // Until the end: two connections deliver.
    let _moving = moving;
    let Some(Unfinished { out, end, mut awaited }) = unfinished else { return };
    let finished = finish(&shared, old, &out, &end, &mut awaited);
    // What the server has not sent by then is lost with it.
    let _ = tokio::time::timeout(RETIRE, finished).await;
    awaited.iter_mut().for_each(|one| {
        if let Awaited::End(sids, _) = one {
            shared.unsubscribe(sids);
        }
    });
    Shared::fail(awaited);
}

/// Sends the last bytes of a connection and delivers what the server had sent by then.
async fn finish(
    shared: &Shared,
    mut link: Link,
    out: &[u8],
    end: &[u8],
    awaited: &mut VecDeque<Waiter>,
) -> Result<(), ConnectError> {
    link.send(out).await.map_err(|error| unreachable(&error))?;
    let mut propagated = pin!(tokio::time::sleep(PROPAGATION));
    let mut ending = false;
    loop {
        let taken = tokio::select! {
            biased;
            () = &mut propagated, if !ending => None,
            taken = link.receive() => Some(taken?),
        };
        let Some(Taken { bytes, frames, op }) = taken else {
            ending = true;
            link.send(end).await.map_err(|error| unreachable(&error))?;
            continue;
        };
        shared.deliver(&bytes, frames);
        match op {
            Some(Op::Pong) if ending || !awaited.is_empty() => {
                let Some(one) = awaited.pop_front() else { break };
                shared.session().settle(&one);
                Shared::resolve(one);
            }
            Some(Op::Ping) => link.send(b"PONG\r\n").await.map_err(|error| unreachable(&error))?,
            _ => {}
        }
    }
    link.shutdown().await;
    Ok(())
}
