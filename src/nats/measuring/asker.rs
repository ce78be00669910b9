use std::time::Duration;

use async_nats::{Client, Message, Subject, Subscriber};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::oneshot;

use super::Latencies;
use super::pacing::Pace;
use super::results::{Reports, Results};
use crate::clock::Clock;
use crate::config::ClientSettings;
use crate::nats::connect::{ConnectFailed, connect_once};

/// Answers taken at once.
const BATCH: usize = 64;
/// How long the last answers may take. What comes later counts as unanswered.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why nothing could be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskerFailed {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectFailed),
    /// The client library or the broker failed.
    #[error("{0}")]
    Client(String),
    /// A thread or its runtime could not be started, or it died.
    #[error("the asker failed: {0}")]
    Thread(String),
}

/// How requests follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// So many in flight; each answer is followed by the next request.
    Closed {
        /// How many.
        in_flight: u32,
    },
    /// So many a second, whatever the answers do. Latency counts from the moment at which a request was
    /// meant to be sent.
    Open {
        /// How many.
        per_second: u32,
    },
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Questions {
    /// Where.
    pub subject: String,
    /// The body, whose tenant and number are written anew for each request.
    pub body: Vec<u8>,
    /// Where the decimal digits of the tenant's number stand.
    pub tenant_at: std::ops::Range<usize>,
    /// Where the hexadecimal digits of the request's number stand.
    pub number_at: std::ops::Range<usize>,
    /// How many tenants ask in turn.
    pub tenants: u32,
    /// What a good answer begins with.
    pub good: &'static [u8],
    /// How a result for each good answer is published, if any is.
    pub results: Option<Reports>,
}

impl Questions {
    /// Has the router push the assignment of each.
    pub fn push_assignments(&mut self) {
        // Before the last brace: what stands at a place stays there.
        self.body.pop();
        self.body.extend_from_slice(br#","push_assignment":true}"#);
    }
}

/// What came of it. `S` is what the caller samples at the beginning and the end of the measured time.
#[derive(Clone, Debug)]
pub struct Asked<S> {
    /// Requests sent, over all.
    pub sent: u64,
    /// Answers, over all.
    pub answered: u64,
    /// Those that did not begin as good ones do.
    pub bad: u64,
    /// One of these.
    pub a_bad_one: Option<String>,
    /// Results published, over all.
    pub results: u64,
    /// Answers within the measured time; in an open loop, those to requests that were due in it.
    pub measured: u64,
    /// The measured time in nanoseconds.
    pub nanos: u64,
    /// Of the answers measured.
    pub latencies: Latencies,
    /// Sampled when the measured time began.
    pub before: S,
    /// Sampled when it ended.
    pub after: S,
}

/// Asks for a while: `warm_up` unmeasured, then `lasting`. Runs on a thread of its own, with a runtime
/// and a connection of its own. `sample` is called at both ends of the measured time.
///
/// # Errors
/// Why nothing could be asked. A router that does not answer is no error: see [`Asked::answered`].
pub async fn ask<S: Send + 'static>(
    settings: ClientSettings,
    questions: Questions,
    load: Load,
    warm_up: Duration,
    lasting: Duration,
    sample: impl Fn() -> S + Send + 'static,
) -> Result<Asked<S>, AskerFailed> {
    let (done, asked) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = match runtime {
            Err(error) => Err(AskerFailed::Thread(error.to_string())),
            Ok(runtime) => runtime.block_on(async {
                let asker = Asker::connect(&settings, questions).await?;
                let window = Window { warm_up, lasting };
                match load {
                    Load::Closed { in_flight } => asker.closed(in_flight, window, sample).await,
                    Load::Open { per_second } => asker.open(per_second, window, sample).await,
                }
            }),
        };
        let _gone = done.send(asked);
    };
    let thread = std::thread::Builder::new().name("asker".to_owned()).spawn(run);
    thread.map_err(|error| AskerFailed::Thread(error.to_string()))?;
    asked.await.map_err(|_| AskerFailed::Thread("it died".to_owned()))?
}

#[derive(Clone, Copy)]
struct Window {
    warm_up: Duration,
    lasting: Duration,
}

impl Window {
    /// Its ends, in nanoseconds of the clock.
    fn from(self, now: u64) -> (u64, u64) {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 4);
        let begins = now + nanos(self.warm_up);
        (begins, begins + nanos(self.lasting))
    }
}

struct Asker {
    client: Client,
    answers: Subscriber,
    /// Answers arrive below it.
    inbox: String,
    writer: Writer,
    results: Option<Results>,
    clock: Clock,
    seen: Seen,
}

/// What was seen so far.
#[derive(Default)]
struct Seen {
    answered: u64,
    bad: u64,
    a_bad_one: Option<String>,
    measured: u64,
    latencies: Latencies,
}

impl Seen {
    fn into_asked<S>(self, sent: u64, results: u64, nanos: u64, before: S, after: S) -> Asked<S> {
        let Self { answered, bad, a_bad_one, measured, latencies } = self;
        Asked { sent, answered, bad, a_bad_one, results, measured, nanos, latencies, before, after }
    }

    fn note(&mut self, message: &Message, good: &[u8]) -> bool {
        self.answered += 1;
        let is_good = message.payload.starts_with(good);
        if !is_good {
            self.bad += 1;
            self.a_bad_one.get_or_insert_with(|| String::from_utf8_lossy(&message.payload).into_owned());
        }
        is_good
    }
}

/// Writes requests with numbers of their own into one buffer.
struct Writer {
    questions: Questions,
    subject: Subject,
    next: u64,
    buffer: BytesMut,
}

impl Writer {
    /// The next request, and which tenant's it is.
    fn write(&mut self) -> (u64, Bytes) {
        let Questions { body, tenant_at, number_at, tenants, .. } = &self.questions;
        let tenant = self.next % u64::from(*tenants).max(1);
        self.buffer.reserve(body.len().max(4_096));
        let start = self.buffer.len();
        self.buffer.extend_from_slice(body);
        if let Some(written) = self.buffer.get_mut(start..) {
            digits(written.get_mut(tenant_at.clone()), tenant, 10);
            digits(written.get_mut(number_at.clone()), self.next, 16);
        }
        self.next += 1;
        (tenant, self.buffer.split().freeze())
    }
}

/// Writes the lowest digits of a number, as many as there is room for.
fn digits(room: Option<&mut [u8]>, mut number: u64, base: u64) {
    for digit in room.unwrap_or_default().iter_mut().rev() {
        let value = u8::try_from(number % base).unwrap_or(0);
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        number /= base;
    }
}

impl Asker {
    async fn connect(settings: &ClientSettings, questions: Questions) -> Result<Self, AskerFailed> {
        let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
        let inbox = format!("{}.", client.new_inbox());
        let answers = client.subscribe(format!("{inbox}*")).await.map_err(|e| failed(&e))?;
        client.flush().await.map_err(|e| failed(&e))?;
        let subject = Subject::from(questions.subject.clone());
        let results = questions.results.clone().map(Results::to);
        let clock = Clock::start();
        // Numbers go on where another measurement of this program ended, for all that is likely.
        let next = clock.wall_ms() << 20;
        let writer = Writer { questions, subject, next, buffer: BytesMut::with_capacity(1 << 16) };
        Ok(Self { client, answers, inbox, writer, results, clock, seen: Seen::default() })
    }

    async fn closed<S>(
        mut self,
        in_flight: u32,
        window: Window,
        sample: impl Fn() -> S,
    ) -> Result<Asked<S>, AskerFailed> {
        let first = self.writer.next;
        let mut slots: Vec<Slot> = Vec::new();
        for n in 0..in_flight {
            let reply = Subject::from(format!("{}{n}", self.inbox));
            let (tenant, body) = self.writer.write();
            slots.push(Slot { reply: reply.clone(), sent_at: self.clock.nanos(), tenant });
            self.send(reply, body).await?;
        }
        let (begins, ends) = window.from(self.clock.nanos());
        let (mut before, mut after) = (None, None);
        let mut open = u64::from(in_flight);
        let mut answers = self.answers.ready_chunks(BATCH);
        while open > 0 {
            let Ok(Some(batch)) = tokio::time::timeout(PATIENCE, answers.next()).await else { break };
            let now = self.clock.nanos();
            if before.is_none() && now >= begins {
                before = Some((now, sample()));
            }
            if after.is_none() && now >= ends {
                after = Some((now, sample()));
            }
            let measuring = before.is_some() && after.is_none();
            for message in batch {
                let number = message.subject.as_str().get(self.inbox.len()..);
                let slot = number.and_then(|n| n.parse::<usize>().ok()).and_then(|n| slots.get_mut(n));
                let Some(slot) = slot else { continue };
                let good = self.seen.note(&message, self.writer.questions.good);
                if measuring {
                    self.seen.measured += 1;
                    self.seen.latencies.add(now.saturating_sub(slot.sent_at));
                }
                if good && let Some(results) = &mut self.results {
                    results
                        .publish(&self.client, &message.payload, slot.tenant)
                        .await
                        .map_err(|e| failed(&e))?;
                }
                if after.is_some() {
                    open -= 1;
                    continue;
                }
                let (tenant, body) = self.writer.write();
                (slot.sent_at, slot.tenant) = (now, tenant);
                let sent =
                    self.client.publish_with_reply(self.writer.subject.clone(), slot.reply.clone(), body);
                sent.await.map_err(|e| failed(&e))?;
            }
        }
        self.client.flush().await.map_err(|e| failed(&e))?;
        let results = self.results.as_ref().map_or(0, Results::published);
        let now = self.clock.nanos();
        // Where answers stopped coming, time went on.
        let (began, before) = before.unwrap_or_else(|| (now, sample()));
        let (ended, after) = after.unwrap_or_else(|| (now, sample()));
        let sent = self.writer.next - first;
        Ok(self.seen.into_asked(sent, results, ended - began, before, after))
    }

    async fn send(&self, reply: Subject, body: Bytes) -> Result<(), AskerFailed> {
        let sent = self.client.publish_with_reply(self.writer.subject.clone(), reply, body);
        sent.await.map_err(|e| failed(&e))
    }

    async fn open<S: Send + 'static>(
        self,
        per_second: u32,
        window: Window,
        sample: impl Fn() -> S + Send + 'static,
    ) -> Result<Asked<S>, AskerFailed> {
        let Self { client, answers, inbox, writer, mut results, clock, mut seen } = self;
        let (begins, ends) = window.from(clock.nanos());
        let pace = Pace::from(begins - u64::try_from(window.warm_up.as_nanos()).unwrap_or(0), per_second);
        let good = writer.questions.good;
        let (first, tenants) = (writer.next, u64::from(writer.questions.tenants).max(1));
        let sender =
            Sender { client: client.clone(), inbox: inbox.clone(), writer, clock: clock.clone(), pace };
        let (done, sent) = oneshot::channel();
        let run = move || {
            let _gone = done.send(sender.run(begins, ends, sample));
        };
        let thread = std::thread::Builder::new().name("pacer".to_owned()).spawn(run);
        thread.map_err(|error| AskerFailed::Thread(error.to_string()))?;
        let mut answers = answers.ready_chunks(BATCH);
        let mut sent = sent;
        let mut told: Option<Sent<S>> = None;
        loop {
            if told.as_ref().is_some_and(|told| seen.answered >= told.count) {
                break;
            }
            let batch = tokio::select! {
                biased;
                batch = tokio::time::timeout(PATIENCE, answers.next()) => match batch {
                    Ok(Some(batch)) => batch,
                    _ => break,
                },
                finished = &mut sent, if told.is_none() => {
                    told = Some(finished.map_err(|_| AskerFailed::Thread("the pacer died".to_owned()))??);
                    continue;
                }
            };
            let now = clock.nanos();
            for message in batch {
                let number = message.subject.as_str().get(inbox.len()..);
                let Some(number) = number.and_then(|n| n.parse::<u64>().ok()) else { continue };
                let is_good = seen.note(&message, good);
                if is_good && let Some(results) = &mut results {
                    let tenant = first.wrapping_add(number) % tenants;
                    results.publish(&client, &message.payload, tenant).await.map_err(|e| failed(&e))?;
                }
                let due = pace.moment(number);
                if (begins..ends).contains(&due) {
                    seen.measured += 1;
                    seen.latencies.add(now.saturating_sub(due));
                }
            }
        }
        let told = match told {
            Some(told) => told,
            None => sent.await.map_err(|_| AskerFailed::Thread("the pacer died".to_owned()))??,
        };
        client.flush().await.map_err(|e| failed(&e))?;
        let results = results.as_ref().map_or(0, Results::published);
        Ok(seen.into_asked(told.count, results, ends - begins, told.before, told.after))
    }
}

/// One request in flight.
struct Slot {
    reply: Subject,
    sent_at: u64,
    tenant: u64,
}

/// Sends at a pace, on a thread that sleeps between.
struct Sender {
    client: Client,
    inbox: String,
    writer: Writer,
    clock: Clock,
    pace: Pace,
}

struct Sent<S> {
    count: u64,
    before: S,
    after: S,
}

impl Sender {
    fn run<S>(mut self, begins: u64, ends: u64, sample: impl Fn() -> S) -> Result<Sent<S>, AskerFailed> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .map_err(|error| AskerFailed::Thread(error.to_string()))?;
        let mut before = None;
        let mut count = 0;
        loop {
            let now = self.clock.nanos();
            if before.is_none() && now >= begins {
                before = Some(sample());
            }
            if self.pace.moment(count) >= ends {
                break;
            }
            while self.pace.moment(count) <= now && self.pace.moment(count) < ends {
                let (_, body) = self.writer.write();
                let reply = Subject::from(format!("{}{count}", self.inbox));
                let sent = self.client.publish_with_reply(self.writer.subject.clone(), reply, body);
                runtime.block_on(sent).map_err(|e| failed(&e))?;
                count += 1;
            }
            self.pace.wait(count, &self.clock);
        }
        let after = sample();
        Ok(Sent { count, before: before.unwrap_or_else(&sample), after })
    }
}

fn failed(error: &dyn std::error::Error) -> AskerFailed {
    AskerFailed::Client(error.to_string())
}
