//! Asks every worker all the time, each by itself, and keeps what they answer.
//!
//! A request goes to the queue group, and the broker chooses who gets it. Its reply subject lies below a
//! prefix that one worker alone may answer at: if another gets it, it is dropped there. So whatever
//! arrives is that worker's own answer, and one in so many requests as there are workers is answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::bodies::{Reply, request};
use super::failed::LoadFailed;
use super::ground::{Scene, reply_prefix};
use crate::clock::Clock;
use crate::nats::simulation::{Inbox, Simulation};

/// Each worker is asked this often.
const PAUSE: Duration = Duration::from_millis(1);

/// What a worker answered. Times are nanoseconds of the scene's clock.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// From 0.
    pub(super) worker: usize,
    pub(super) sent: u64,
    pub(super) came: u64,
    /// The same moment by the wall clock, in milliseconds: the broker's clock, on one machine.
    pub(super) came_wall_ms: u64,
    pub(super) request_id: String,
    pub(super) answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Decided { probe: bool },
    FailFast { retry_after_ms: u64 },
    Other(String),
}

impl Asked {
    pub(super) fn is_ordinary(&self) -> bool {
        self.answer == Answer::Decided { probe: false }
    }

    pub(super) fn is_probe(&self) -> bool {
        self.answer == Answer::Decided { probe: true }
    }

    /// Whether the worker did not know the policy yet.
    pub(super) fn is_too_soon(&self) -> bool {
        self.answer == Answer::Other("policy_not_found".to_owned())
    }

    pub(super) fn is_fail_fast(&self) -> bool {
        matches!(self.answer, Answer::FailFast { .. })
    }
}

/// Asks for one tenant until it is dropped.
#[derive(Debug)]
pub(super) struct Asker {
    book: Arc<Mutex<Book>>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Book {
    /// When each request was sent, by its number.
    sent: Vec<u64>,
    answers: Vec<Asked>,
}

impl Asker {
    /// Begins to ask.
    pub(super) async fn start(scene: &Scene, workers: usize, tenant: &str) -> Result<Self, LoadFailed> {
        let stop = CancellationToken::new();
        let book = Arc::new(Mutex::new(Book::default()));
        let inbox = scene.client.listen(&format!("load.*.{tenant}.*")).await?;
        scene.client.flush().await?;
        let listening = listen(inbox, Arc::clone(&book), scene.clock.clone(), tenant.to_owned());
        tokio::spawn(stop.clone().run_until_cancelled_owned(listening));
        let asking = ask(
            scene.client.clone(),
            Arc::clone(&book),
            scene.clock.clone(),
            tenant.to_owned(),
            workers,
            stop.clone(),
        );
        tokio::spawn(asking);
        Ok(Self { book, _stop: stop.drop_guard() })
    }

    /// Looks at all answers so far, in the order in which they came.
    pub(super) fn look<R>(&self, look: impl FnOnce(&[Asked]) -> R) -> R {
        look(&lock(&self.book).answers)
    }
}

fn lock(book: &Mutex<Book>) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ask(
    client: Simulation,
    book: Arc<Mutex<Book>>,
    clock: Clock,
    tenant: String,
    workers: usize,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        for worker in 0..workers {
            let number = {
                let mut book = lock(&book);
                book.sent.push(clock.nanos());
                book.sent.len() - 1
            };
            let reply = format!("{}.{tenant}.{number}", reply_prefix(worker));
            // One that cannot be sent has no answer.
            let _lost = client.ask_at(reply, request(&tenant, &id(&tenant, number), false)).await;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn id(tenant: &str, number: usize) -> String {
    format!("{tenant}-{number}")
}

async fn listen(mut inbox: Inbox, book: Arc<Mutex<Book>>, clock: Clock, tenant: String) {
    while let Some(raw) = inbox.next_raw().await {
        let (came, came_wall_ms) = (clock.nanos(), clock.wall_ms());
        let Some((worker, number)) = place(&raw.subject) else { continue };
        let mut book = lock(&book);
        let Some(sent) = book.sent.get(number).copied() else { continue };
        let (request_id, answer) = (id(&tenant, number), read(&raw.body));
        book.answers.push(Asked { worker, sent, came, came_wall_ms, request_id, answer });
    }
}

/// Worker and number of a reply subject.
fn place(subject: &str) -> Option<(usize, usize)> {
    let mut tokens = subject.strip_prefix("load.w")?.split('.');
    let worker = tokens.next()?.parse().ok()?;
    let number = tokens.next_back()?.parse().ok()?;
    Some((worker, number))
}

fn read(body: &[u8]) -> Answer {
    let reply: Reply<'_> = serde_json::from_slice(body).unwrap_or_default();
    match (reply.decision, reply.error) {
        (Some(decision), _) => Answer::Decided { probe: decision.probe },
        (None, Some(error)) if error.code == "circuit_open" => Answer::FailFast {
            retry_after_ms: error.details.and_then(|d| d.retry_after_ms).unwrap_or(u64::MAX),
        },
        (None, Some(error)) => Answer::Other(error.code.into_owned()),
        (None, None) => Answer::Other(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_subject_tells_worker_and_number() {
        assert_eq!(place("load.w3.spike-0.17"), Some((3, 17)));
        assert_eq!(place(&format!("{}.t.0", reply_prefix(7))), Some((7, 0)));
        for subject in ["load.x.t.1", "_INBOX.a", "load.w1.t.x"] {
            assert_eq!(place(subject), None, "{subject}");
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let decided = |probe| format!(r#"{{"ok":true,"decision":{{"provider_id":"p","probe":{probe}}}}}"#);
        assert_eq!(read(decided(true).as_bytes()), Answer::Decided { probe: true });
        let refused = br#"{"ok":false,"error":{"code":"circuit_open","message":"","details":{"retry_after_ms":7,"providers":[]}}}"#;
        assert_eq!(read(refused), Answer::FailFast { retry_after_ms: 7 });
        let other = br#"{"ok":false,"error":{"code":"overloaded","message":""}}"#;
        assert_eq!(read(other), Answer::Other("overloaded".to_owned()));
        assert_eq!(read(b"x"), Answer::Other(String::new()));
    }
}
