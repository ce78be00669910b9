//! What tracing needs to know before it starts, in types that need no further look.

use std::fmt;
use std::time::Duration;

use hyper::Uri;
use hyper::http::{HeaderName, HeaderValue};

use super::sampling::Sampler;

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP/1.1, bodies in protobuf.
    HttpProtobuf,
}

/// Checked settings of a tracing that is on.
#[derive(Clone, PartialEq)]
pub struct TraceSettings {
    /// The whole URL; with [`Protocol::HttpProtobuf`] its path is the one posted to.
    pub endpoint: Uri,
    /// How spans travel.
    pub protocol: Protocol,
    /// Sent with each export.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The longest that one export may take, retries included.
    pub timeout: Duration,
    /// Whether bodies are compressed with gzip.
    pub gzip: bool,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// How spans wait.
    pub queue: QueueSettings,
    /// `OTEL_RESOURCE_ATTRIBUTES` and the service's name.
    pub resource: Vec<(String, String)>,
}

/// How spans wait to be exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// How many may wait; those beyond are dropped and counted.
    pub capacity: usize,
    /// How many one export takes at most.
    pub batch: usize,
    /// How long the first of a batch waits at most.
    pub delay: Duration,
}

impl Default for QueueSettings {
    /// The specification's.
    fn default() -> Self {
        Self { capacity: 2_048, batch: 512, delay: Duration::from_secs(5) }
    }
}

/// Header values and the user part of the endpoint may be secrets, so they are not shown.
impl fmt::Debug for TraceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("TraceSettings")
            .field("endpoint", &self.shown_endpoint())
            .field("protocol", &self.protocol)
            .field("headers", &headers)
            .field("timeout", &self.timeout)
            .field("gzip", &self.gzip)
            .field("sampler", &self.sampler)
            .field("queue", &self.queue)
            .field("resource", &self.resource)
            .finish()
    }
}

impl TraceSettings {
    /// Scheme, host and port of the endpoint: what a log line may show.
    #[must_use]
    pub fn shown_endpoint(&self) -> String {
        let host = self.endpoint.host().unwrap_or_default();
        let port = self.endpoint.port_u16().map_or_else(String::new, |p| format!(":{p}"));
        format!("{}://{host}{port}", self.endpoint.scheme_str().unwrap_or_default())
    }
}

/// A variable that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub struct Fault {
    /// The variable.
    pub variable: &'static str,
    /// Without the value where that may be a secret.
    pub reason: String,
}
