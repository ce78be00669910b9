//! The task of a connection: it moves bytes between the socket and the protocol, and makes the next
//! connection when one ends.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::clock;
use crate::dial::{Link, unreachable};
use crate::error::ConnectError;
use crate::handshake::ServerError;
use crate::info::ServerInfo;
use crate::keepalive::{Due, Keepalive};
use crate::options::Event;
use crate::parse::Op;
use crate::prepare::{Prepared, Preparing, prepare_elsewhere, prepare_next};
use crate::reader::Taken;
use crate::retire::retire;
use crate::shared::Shared;

/// How often the outbound buffer is taken before the connection reads again.
const REFILLS: usize = 4;
/// How long the last bytes may take at the end.
const LAST: Duration = Duration::from_secs(1);

/// Why a connection is driven no more.
enum End {
    /// Its owner has closed it.
    Closed,
    /// It is gone.
    Lost(ConnectError),
}

/// Makes connections and drives them until the owner closes it.
pub(crate) async fn run(shared: Arc<Shared>, mut first: Option<Link>) {
    let stop = shared.stop.clone();
    loop {
        let link = match first.take() {
            Some(link) => link,
            None => {
                let prepared = stop.run_until_cancelled(prepare_next(Arc::clone(&shared))).await;
                let Some(prepared) = prepared.flatten() else { break };
                move_to(&shared, prepared)
            }
        };
        match drive(&shared, link).await {
            End::Closed => break,
            End::Lost(error) => {
                let awaited = shared.session().lost();
                shared.server.send_replace(None);
                Shared::fail(awaited);
                shared.room.notify_waiters();
                shared.tell(Event::Disconnected(error.to_string()));
            }
        }
    }
    shared.close();
}

/// Goes over to a connection. What the present one has left is finished beside it.
pub(crate) fn move_to(shared: &Shared, Prepared { link, prelude, moving }: Prepared) -> Link {
    shared.pool().connected();
    // A connection that was lost has left nothing.
    let _ = shared.session().move_to(&prelude);
    shared.identity.note_in_use(link.identity);
    describe(shared, &link, link.info.clone());
    drop(moving);
    shared.tell(Event::Connected);
    link
}

/// Takes over what a server says of itself.
fn describe(shared: &Shared, link: &Link, info: ServerInfo) {
    shared.session().set_max_payload(info.max_payload);
    shared.pool().discovered(&link.address, &info.connect_urls);
    shared.server.send_replace(Some(Arc::new(info)));
}

/// What the driver woke up for.
enum Woke {
    Stopped,
    Read,
    Failed(std::io::Error),
    Alarm,
    Renewed,
    Doubted,
    Leaving,
    Prepared(Option<Box<Prepared>>),
}

/// Moves bytes until the connection ends.
async fn drive(shared: &Arc<Shared>, mut link: Link) -> End {
    let interval = shared.options.ping_interval;
    let mut alive = Keepalive::new(interval, clock::now());
    let mut alarm = pin!(tokio::time::sleep(interval));
    let mut stopped = pin!(shared.stop.cancelled());
    let mut wake = pin!(shared.wake.notified());
    let mut renewed = pin!(shared.identity.renewed.notified());
    let mut doubted = pin!(shared.doubted.notified());
    let mut leaving = pin!(shared.leaving.notified());
    let mut preparing: Option<Preparing> = None;
    // What was read with the prelude's PONG.
    let mut unread = true;
    loop {
        if std::mem::take(&mut unread) {
            if let Err(error) = process(shared, &mut link, &mut alive) {
                return lost(shared, &link, error);
            }
            give_way().await;
        }
        if link.info.lame_duck && preparing.is_none() {
            preparing = Some(leave(shared, &link));
        }
        let woke = poll_fn(|cx| {
            let mut refills = REFILLS;
            loop {
                match write(shared, &mut link, &mut refills, cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Woke::Failed(error)),
                    Poll::Ready(Ok(())) => {}
                    Poll::Pending => break,
                }
                if wake.as_mut().poll(cx).is_pending() {
                    break;
                }
                wake.set(shared.wake.notified());
            }
            // Reading comes last: a flood must not keep the rest from its turn.
            if let Some(preparing) = &mut preparing
                && let Poll::Ready(prepared) = preparing.as_mut().poll(cx)
            {
                return Poll::Ready(Woke::Prepared(prepared.map(Box::new)));
            }
            if alarm.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woke::Alarm);
            }
            if renewed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woke::Renewed);
            }
            if doubted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woke::Doubted);
            }
            if leaving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woke::Leaving);
            }
            if stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woke::Stopped);
            }
            link.poll_read(cx).map(|read| read.map_or_else(Woke::Failed, |()| Woke::Read))
        });
        match woke.await {
            Woke::Stopped => {
                let mut refills = REFILLS;
                let last = poll_fn(|cx| write(shared, &mut link, &mut refills, cx));
                // What does not leave by then has no reader.
                let _ = tokio::time::timeout(LAST, last).await;
                let _ = tokio::time::timeout(LAST, link.shutdown()).await;
                return End::Closed;
            }
            Woke::Failed(error) => return lost(shared, &link, unreachable(&error)),
            Woke::Alarm => {
                match alive.due(clock::now()) {
                    Due::Nothing => {}
                    Due::Ping => {
                        if preparing.is_none() {
                            shared.pool().settled();
                        }
                        shared.session().ask_alive();
                    }
                    Due::Beside if preparing.is_some() => {
                        // That one is kept, whatever is received here.
                        alive.heard();
                    }
                    Due::Beside => {
                        shared.tell(Event::Silent);
                        shared.pool().left(&link.address);
                        preparing = Some(Box::pin(prepare_next(Arc::clone(shared))));
                    }
                    Due::Stale => return lost(shared, &link, ConnectError::TimedOut),
                }
                alarm.set(tokio::time::sleep(alive.next().saturating_sub(clock::now())));
            }
            Woke::Renewed => {
                renewed.set(shared.identity.renewed.notified());
                // What is being prepared may still be made with the identity before.
                if link.identity < shared.identity.number() {
                    preparing = Some(Box::pin(prepare_next(Arc::clone(shared))));
                    // That one is kept, whatever is received here.
                    alive.heard();
                }
            }
            Woke::Doubted => {
                doubted.set(shared.doubted.notified());
                if preparing.is_none() && alive.doubt(clock::now()) {
                    shared.session().ask_alive();
                    alarm.set(tokio::time::sleep(alive.next().saturating_sub(clock::now())));
                }
            }
            Woke::Leaving => {
                leaving.set(shared.leaving.notified());
                if preparing.is_none() && shared.pool().has_other(&link.address) {
                    shared.pool().left(&link.address);
                    let (present, id) = (link.address.clone(), link.info.server_id.clone());
                    preparing = Some(Box::pin(prepare_elsewhere(Arc::clone(shared), present, id)));
                }
            }
            Woke::Prepared(prepared) => {
                preparing = None;
                if let Some(prepared) = prepared {
                    let old = exchange(shared, &mut link, *prepared);
                    alive = Keepalive::new(interval, clock::now());
                    alarm.set(tokio::time::sleep(interval));
                    tokio::spawn(old);
                    unread = true;
                }
            }
            Woke::Read => {
                unread = true;
                if alive.heard() {
                    preparing = None;
                }
            }
        }
    }
}

fn lost(shared: &Shared, link: &Link, error: ConnectError) -> End {
    let mut pool = shared.pool();
    pool.left(&link.address);
    if matches!(error, ConnectError::Refused(_)) {
        pool.failed(&link.address, true);
    }
    End::Lost(error)
}

/// Writes what was said, as far as that goes now. Takes the outbound buffer so many times at most: publishers
/// on other threads must not keep the connection from reading.
fn write(
    shared: &Shared,
    link: &mut Link,
    refills: &mut usize,
    cx: &mut std::task::Context<'_>,
) -> Poll<std::io::Result<()>> {
    while *refills > 0 {
        *refills -= 1;
        if link.is_written() {
            let taken = shared.session().take(link.refill());
            if !taken {
                return link.poll_write(cx);
            }
            shared.room.notify_waiters();
        }
        match link.poll_write(cx) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Acts on what was read.
fn process(shared: &Shared, link: &mut Link, alive: &mut Keepalive) -> Result<(), ConnectError> {
    while let Some(Taken { bytes, frames, op }) = link.reader.take()? {
        if !frames.is_empty() {
            shared.deliver(&bytes, frames);
        }
        match op {
            Some(Op::Ping) => {
                if !shared.session().pong() {
                    return Err(ConnectError::Unread);
                }
            }
            Some(Op::Pong) => {
                let awaited = shared.session().answered();
                if let Some(awaited) = awaited {
                    alive.pong();
                    Shared::resolve(awaited);
                }
            }
            Some(Op::Info(json)) => {
                if let Some(info) = ServerInfo::parse(json.of(&bytes)) {
                    link.info = info.clone();
                    describe(shared, link, info);
                }
            }
            Some(Op::Error(text)) => match ServerError::parse(text.of(&bytes)) {
                ServerError::Permission(text) => shared.tell(Event::Denied(text)),
                ServerError::Authorization(text) => {
                    shared.tell(Event::ServerError(text.clone()));
                    return Err(ConnectError::Refused(text));
                }
                // The server ends the connection itself, where it means to.
                ServerError::Other(text) => shared.tell(Event::ServerError(text)),
            },
            Some(Op::Ok | Op::Message(_)) | None => {}
        }
    }
    Ok(())
}

/// Begins to look for another server, since the present one goes.
fn leave(shared: &Arc<Shared>, link: &Link) -> Preparing {
    shared.pool().left(&link.address);
    shared.tell(Event::LameDuck);
    Box::pin(prepare_next(Arc::clone(shared)))
}

/// Puts a prepared connection in the place of the present one, and gives what ends that.
fn exchange(
    shared: &Arc<Shared>,
    link: &mut Link,
    Prepared { link: new, prelude, moving }: Prepared,
) -> impl Future<Output = ()> + use<> {
    describe(shared, &new, new.info.clone());
    shared.pool().connected();
    let unfinished = shared.session().move_to(&prelude);
    shared.identity.note_in_use(new.identity);
    shared.room.notify_waiters();
    retire(Arc::clone(shared), std::mem::replace(link, new), unfinished, moving)
}

/// Lets those run who have just got something to do. Unlike tokio's own, this does not ask the system for
/// events first.
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
