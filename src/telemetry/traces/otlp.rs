//! The SDK's OTLP exporter, made to the settings.
//!
//! Both protocols run on the runtime that drives the rest of the program, and trust the certificates
//! of the system (or of `SSL_CERT_FILE`).

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;

use hyper::http::HeaderMap;
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::tonic_types::metadata::MetadataMap;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{
    Compression, ExporterBuildError, WithExportConfig, WithHttpConfig, WithTonicConfig,
};

use super::export::Cause;
use super::settings::{Protocol, TraceSettings};

/// Why tracing could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Called outside of a tokio runtime.
    #[error("tracing needs a tokio runtime to export in")]
    NoRuntime,
    /// The system has no trusted certificates to check the collector's by.
    #[error("no trusted certificates for the https collector: {0} (SSL_CERT_FILE names some)")]
    Certificates(std::io::Error),
    /// The exporter refused its settings.
    #[error("the OTLP exporter cannot be built: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// The OTLP exporter of the settings. It connects when there is something to send.
pub(super) fn exporter(
    settings: &TraceSettings,
    cause: Cause,
) -> Result<opentelemetry_otlp::SpanExporter, StartError> {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let https = settings.endpoint.scheme_str() == Some("https");
    let endpoint = settings.endpoint.to_string();
    match settings.protocol {
        Protocol::Grpc => {
            let headers: HeaderMap = settings.headers.iter().cloned().collect();
            let mut builder = builder
                .with_tonic()
                .with_endpoint(endpoint)
                .with_timeout(settings.timeout)
                .with_metadata(MetadataMap::from_headers(headers));
            if https {
                builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
            }
            if settings.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            Ok(builder.build()?)
        }
        Protocol::HttpProtobuf => {
            // The builder decodes percent signs once more.
            let text =
                |v: &hyper::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).replace('%', "%25");
            let headers =
                settings.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            let mut builder = builder
                .with_http()
                .with_endpoint(endpoint)
                .with_timeout(settings.timeout)
                .with_headers(headers);
            if settings.gzip {
                builder = builder.with_compression(Compression::Gzip);
            }
            if https {
                let tls =
                    HttpsConnectorBuilder::new().with_native_roots().map_err(StartError::Certificates)?;
                let next = HyperClient::new(tls.https_only().enable_http1().build(), settings.timeout, None);
                builder = builder.with_http_client(Telling { next, cause });
            } else {
                let next = HyperClient::with_default_connector(settings.timeout, None);
                builder = builder.with_http_client(Telling { next, cause });
            }
            Ok(builder.build()?)
        }
    }
}

/// Keeps why a request failed: the exporter says no more than `network error`. The text is the
/// client's own account of connecting and TLS, and holds nothing of the request.
#[derive(Debug)]
struct Telling<C> {
    next: C,
    cause: Cause,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl<C: HttpClient> HttpClient for Telling<C> {
    fn send_bytes<'s, 'a>(&'s self, request: Request<Bytes>) -> Answer<'a>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move {
            let answer = self.next.send_bytes(request).await;
            let cause = answer.as_ref().err().map(|error| chain(error.as_ref()));
            *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
            answer
        })
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut told = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        told = format!("{told}: {cause}");
        source = cause.source();
    }
    told
}
