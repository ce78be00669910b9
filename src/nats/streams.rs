//! The streams and buckets of a deployment.
//!
//! What is lacking is made; what stands is used as it is, if it is ours. Two streams may not hold one
//! subject, so where another stream captures ours already, it is named and the worker stops: working
//! around it would leave the log without results.
//!
//! The log is made without the subjects of results; see `results`.

mod results;

pub(super) use results::LogSubjects;
pub use results::{Results, ResultsGate, run as admit_results};

use std::time::Duration;

use async_nats::jetstream::context::{Context, RequestErrorKind};
use async_nats::jetstream::response::Response;
use async_nats::jetstream::{kv, stream};
use serde::Deserialize;

use crate::config::{Kept, LedgerSettings, Names};

/// The longest entry of the log: what a broker takes by default. A step of a rollout names all of its tenants. Where a
/// broker takes more, every worker would have to read it.
const MOST_ENTRY_BYTES: i32 = 1 << 20;

/// The most revisions that a bucket can keep of one key.
const HISTORY: i64 = 64;

/// A usage event or transition that is published again within this time is dropped by the stream.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(300);

/// Why the streams are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum StreamsError {
    /// Another stream captures what ours must.
    #[error(
        "the stream {other} already captures {subject}, which {wanted} must hold: remove that subject from {other}, or choose another prefix"
    )]
    Taken {
        /// The stream in the way.
        other: String,
        /// The subject.
        subject: String,
        /// The stream that needs it.
        wanted: String,
    },
    /// A stream of our name holds other subjects.
    #[error("the stream {name} stands with other subjects than {wanted}: another deployment uses its name")]
    Foreign {
        /// The stream.
        name: String,
        /// What it should hold.
        wanted: String,
    },
    /// The broker did not do it; worth another try.
    #[error("{what}: {reason}")]
    Broker {
        /// What was tried.
        what: String,
        /// What the library says.
        reason: String,
    },
}

impl StreamsError {
    /// Whether trying again can help.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Broker { .. })
    }
}

/// Makes what is lacking.
///
/// # Errors
/// [`StreamsError`]; only [`StreamsError::Broker`] is worth another try.
pub async fn ensure(
    jetstream: &Context,
    names: &Names,
    settings: &LedgerSettings,
) -> Result<(), StreamsError> {
    let log = stream::Config {
        name: names.log_stream.clone(),
        description: Some("What breakers are a fold over: results and the router's own entries".to_owned()),
        subjects: vec![names.log_all.clone()],
        max_age: settings.log.max_age,
        max_bytes: bytes(settings.log.max_bytes),
        max_message_size: MOST_ENTRY_BYTES,
        allow_direct: true,
        num_replicas: settings.replicas,
        ..Default::default()
    };
    let kept = |name: &str, subject: &str, description: &str, limits: Kept| stream::Config {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        subjects: vec![subject.to_owned()],
        max_age: limits.max_age,
        max_bytes: bytes(limits.max_bytes),
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        num_replicas: settings.replicas,
        ..Default::default()
    };
    for subject in [&names.exec_result, &names.exec_result_tenants] {
        ensure_free(jetstream, subject, &names.log_stream).await?;
    }
    let have = ensure_stream(jetstream, log).await?;
    if LogSubjects::of(names, &have) == LogSubjects::Foreign {
        let wanted = [&names.exec_result, &names.exec_result_tenants, &names.log_all];
        return Err(foreign(&names.log_stream, &wanted.map(String::as_str)));
    }
    ensure_stream(
        jetstream,
        kept(
            &names.events_stream,
            &names.events_all,
            "Breaker transitions and policy changes",
            settings.events,
        ),
    )
    .await?;
    ensure_stream(
        jetstream,
        kept(&names.usage_stream, &names.usage_metered, "One usage event for each result", settings.usage),
    )
    .await?;
    // What was decided and why is kept for ever, and nobody takes a part of it away.
    let rollouts = stream::Config {
        name: names.rollouts_stream.clone(),
        description: Some("Rollouts: plans, commands, evidence and decisions".to_owned()),
        subjects: vec![names.rollout_all.clone()],
        discard: stream::DiscardPolicy::New,
        deny_delete: true,
        deny_purge: true,
        // Blocks of evidence are JSON of small numbers.
        compression: Some(stream::Compression::S2),
        duplicate_window: DUPLICATE_WINDOW,
        num_replicas: settings.replicas,
        ..Default::default()
    };
    ensure_stream(jetstream, rollouts).await?;
    ensure_bucket(jetstream, &names.policies_bucket, "Routing policies", HISTORY, settings.replicas).await?;
    ensure_bucket(jetstream, &names.flags_bucket, "Emergency switches", HISTORY, settings.replicas).await?;
    ensure_bucket(
        jetstream,
        &names.snapshots_bucket,
        "Snapshots of the breakers' state",
        1,
        settings.replicas,
    )
    .await?;
    Ok(())
}

fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Makes a stream that is missing. Gives the subjects that it has.
async fn ensure_stream(jetstream: &Context, config: stream::Config) -> Result<Vec<String>, StreamsError> {
    let name = config.name.clone();
    for subject in &config.subjects {
        ensure_free(jetstream, subject, &name).await?;
    }
    let wanted = config.subjects.clone();
    let stream = match jetstream.get_or_create_stream(config).await {
        Ok(stream) => stream,
        Err(error) => {
            // Another worker may have made it in between, and changed it since.
            let broker = |_| StreamsError::Broker {
                what: format!("making the stream {name}"),
                reason: error.to_string(),
            };
            jetstream.get_stream(&name).await.map_err(broker)?
        }
    };
    let have = &stream.cached_info().config.subjects;
    if !wanted.iter().all(|s| have.contains(s)) {
        return Err(foreign(&name, &wanted.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    Ok(have.clone())
}

/// Fails where a subject is held by another stream than this one.
async fn ensure_free(jetstream: &Context, subject: &str, wanted: &str) -> Result<(), StreamsError> {
    match holders(jetstream, subject).await?.into_iter().find(|holder| holder != wanted) {
        None => Ok(()),
        Some(other) => {
            Err(StreamsError::Taken { other, subject: subject.to_owned(), wanted: wanted.to_owned() })
        }
    }
}

fn foreign(name: &str, wanted: &[&str]) -> StreamsError {
    StreamsError::Foreign { name: name.to_owned(), wanted: wanted.join(", ") }
}

/// The streams that hold a subject or part of it.
async fn holders(jetstream: &Context, subject: &str) -> Result<Vec<String>, StreamsError> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        streams: Option<Vec<String>>,
    }
    let broker =
        |reason: String| StreamsError::Broker { what: format!("looking for who holds {subject}"), reason };
    let request = serde_json::json!({ "subject": subject });
    match jetstream.request("STREAM.NAMES", &request).await {
        Ok(Response::Ok(Page { streams })) => Ok(streams.unwrap_or_default()),
        Ok(Response::Err { error }) => Err(broker(error.to_string())),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(broker(
            "JetStream does not answer: it is not enabled on the broker, or not for this user".to_owned(),
        )),
        Err(error) => Err(broker(error.to_string())),
    }
}

async fn ensure_bucket(
    jetstream: &Context,
    name: &str,
    description: &str,
    history: i64,
    replicas: usize,
) -> Result<(), StreamsError> {
    if jetstream.get_key_value(name).await.is_ok() {
        return Ok(());
    }
    let config = kv::Config {
        bucket: name.to_owned(),
        description: description.to_owned(),
        history,
        num_replicas: replicas,
        ..Default::default()
    };
    match jetstream.create_key_value(config).await {
        Ok(_) => Ok(()),
        // Another worker may have made it in between.
        Err(_) if jetstream.get_key_value(name).await.is_ok() => Ok(()),
        Err(error) => {
            Err(StreamsError::Broker { what: format!("making the bucket {name}"), reason: error.to_string() })
        }
    }
}
