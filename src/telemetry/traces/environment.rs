//! `OTEL_*`: what the environment says about traces.
//!
//! The variables are those of the OpenTelemetry specification, and so is the way with values that
//! make no sense: a choice or a number that cannot be read is ignored with a warning, as if it were
//! not set. An endpoint, a header list or a certificate that cannot be used is a fault, since to
//! ignore it would send traces elsewhere, or nowhere. Values of headers appear in no message.

use std::time::Duration;

use hyper::Uri;
use hyper::http::{HeaderName, HeaderValue};

use super::sampling::Sampler;
use super::settings::{Fault, Protocol, QueueSettings, TraceSettings};
use crate::telemetry::names;

/// What the environment says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// The settings; `None` is off.
    pub settings: Option<TraceSettings>,
    /// Variables that were ignored, and why: to be logged once logging works.
    pub warnings: Vec<Fault>,
}

const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Variables of the specification that this program does not act on, and what helps instead.
const UNSUPPORTED: [(&str, &str); 6] = [
    (
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "is not supported and ignored; SSL_CERT_FILE names trusted certificates",
    ),
    (
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
        "is not supported and ignored; SSL_CERT_FILE names trusted certificates",
    ),
    ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "is not supported and ignored"),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "is not supported and ignored"),
    ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "is not supported and ignored"),
    ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "is not supported and ignored"),
];

impl Environment {
    /// Reads the variables through `get`: the process's environment in production, a map in tests.
    ///
    /// # Errors
    /// All faults at once.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Vec<Fault>> {
        let mut reader = Reader { get: &get, warnings: Vec::new(), faults: Vec::new() };
        let settings = reader.wanted().then(|| reader.settings()).flatten();
        if reader.faults.is_empty() {
            Ok(Self { settings, warnings: reader.warnings })
        } else {
            Err(reader.faults)
        }
    }
}

struct Reader<'g> {
    get: &'g dyn Fn(&str) -> Option<String>,
    warnings: Vec<Fault>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// The specification takes an empty value for none.
    fn value(&self, variable: &str) -> Option<String> {
        (self.get)(variable).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    /// The variable for traces, else the general one.
    fn either(&self, names: [&'static str; 2]) -> Option<(&'static str, String)> {
        names.into_iter().find_map(|name| Some((name, self.value(name)?)))
    }

    fn warn(&mut self, variable: &'static str, reason: impl Into<String>) {
        self.warnings.push(Fault { variable, reason: reason.into() });
    }

    fn fault(&mut self, variable: &'static str, reason: impl Into<String>) {
        self.faults.push(Fault { variable, reason: reason.into() });
    }

    fn is_true(&mut self, variable: &'static str) -> bool {
        match self.value(variable) {
            Some(v) if v.eq_ignore_ascii_case("true") => true,
            Some(v) if !v.eq_ignore_ascii_case("false") => {
                self.warn(variable, format!("{v:?} is neither true nor false; taken for false"));
                false
            }
            _ => false,
        }
    }

    fn number(&mut self, variable: &'static str, default: u64, range: std::ops::RangeInclusive<u64>) -> u64 {
        let Some(text) = self.value(variable) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.warn(
                    variable,
                    format!("{text:?} is no number from {least} to {most}; {default} is used"),
                );
                default
            }
        }
    }

    fn wanted(&mut self) -> bool {
        const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
        let by_endpoint = self.either([TRACES_ENDPOINT, ENDPOINT]).is_some();
        let by_exporter = match self.value(EXPORTER).as_deref() {
            None => by_endpoint,
            Some("otlp") => true,
            Some("none") => false,
            Some(other) => {
                self.warn(EXPORTER, format!("{other:?} is not supported and ignored; otlp and none are"));
                by_endpoint
            }
        };
        !self.is_true("OTEL_SDK_DISABLED") && by_exporter
    }

    fn settings(&mut self) -> Option<TraceSettings> {
        for (variable, reason) in UNSUPPORTED {
            if self.value(variable).is_some() {
                self.warn(variable, reason);
            }
        }
        let protocol = self.protocol();
        let endpoint = self.endpoint(protocol);
        let headers = self.headers();
        let gzip = self.gzip();
        let sampler = self.sampler();
        let resource = self.resource();
        let timeout = match self.either(["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]) {
            Some((variable, _)) => self.number(variable, 10_000, 1..=600_000),
            None => 10_000,
        };
        let queue = self.queue();
        Some(TraceSettings {
            endpoint: endpoint?,
            protocol,
            headers,
            timeout: Duration::from_millis(timeout),
            gzip,
            sampler,
            queue,
            resource,
        })
    }

    fn protocol(&mut self) -> Protocol {
        match self.either(["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]) {
            Some((_, p)) if p.eq_ignore_ascii_case("grpc") => Protocol::Grpc,
            Some((_, p)) if p.eq_ignore_ascii_case("http/protobuf") => Protocol::HttpProtobuf,
            Some((variable, p)) => {
                self.warn(
                    variable,
                    format!("{p:?} is not supported; http/protobuf is used, grpc is the other"),
                );
                Protocol::HttpProtobuf
            }
            None => Protocol::HttpProtobuf,
        }
    }

    /// An endpoint for traces is used as it is; to a general one HTTP appends `/v1/traces`.
    fn endpoint(&mut self, protocol: Protocol) -> Option<Uri> {
        let given = self.either([TRACES_ENDPOINT, ENDPOINT]);
        let (variable, mut text) = given.unwrap_or_else(|| match protocol {
            Protocol::Grpc => (ENDPOINT, "http://localhost:4317".to_owned()),
            Protocol::HttpProtobuf => (ENDPOINT, "http://localhost:4318".to_owned()),
        });
        if protocol == Protocol::Grpc && !text.contains("://") {
            let insecure = ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
            let plain = self.either(insecure).is_some_and(|(name, _)| self.is_true(name));
            text.insert_str(0, if plain { "http://" } else { "https://" });
        }
        if protocol == Protocol::HttpProtobuf && variable == ENDPOINT {
            text.truncate(text.trim_end_matches('/').len());
            text.push_str("/v1/traces");
        }
        match text.parse::<Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() => {
                Some(uri)
            }
            _ => {
                self.fault(variable, "is no URL of the form http://host:port or https://host:port");
                None
            }
        }
    }

    fn headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let Some((variable, list)) =
            self.either(["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"])
        else {
            return Vec::new();
        };
        let mut headers = Vec::new();
        for (place, entry) in list.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty()) {
            let header = entry.split_once('=').and_then(|(name, value)| {
                let name = HeaderName::try_from(name.trim()).ok()?;
                let mut value = HeaderValue::from_str(&percent_decoded(value.trim())?).ok()?;
                value.set_sensitive(true);
                Some((name, value))
            });
            match header {
                Some(header) => headers.push(header),
                None => {
                    self.fault(variable, format!("entry {} is no header of the form name=value", place + 1))
                }
            }
        }
        headers
    }

    fn gzip(&mut self) -> bool {
        let names = ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"];
        match self.either(names) {
            Some((_, c)) if c.eq_ignore_ascii_case("gzip") => true,
            Some((variable, c)) if !c.eq_ignore_ascii_case("none") => {
                self.warn(variable, format!("{c:?} is not supported and ignored; gzip and none are"));
                false
            }
            _ => false,
        }
    }

    fn sampler(&mut self) -> Sampler {
        const NAME: &str = "OTEL_TRACES_SAMPLER";
        const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
        let Some(name) = self.value(NAME) else { return Sampler::default() };
        let mut share = 1.0;
        if let Some(text) = self.value(ARGUMENT).filter(|_| name.ends_with("traceidratio")) {
            match text.parse() {
                Ok(number) if (0.0..=1.0).contains(&number) => share = number,
                _ => self.warn(ARGUMENT, format!("{text:?} is no number from 0 to 1; 1 is used")),
            }
        }
        Sampler::named(&name, share).unwrap_or_else(|| {
            self.warn(NAME, format!("{name:?} is not supported; parentbased_always_on is used"));
            Sampler::default()
        })
    }

    /// 65,536 spans are some 50 MB, allocated at once.
    fn queue(&mut self) -> QueueSettings {
        let capacity = self.number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048, 1..=65_536);
        let batch = self.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1..=65_536).min(capacity);
        let delay = self.number("OTEL_BSP_SCHEDULE_DELAY", 5_000, 1..=600_000);
        QueueSettings {
            capacity: usize::try_from(capacity).unwrap_or(usize::MAX),
            batch: usize::try_from(batch).unwrap_or(usize::MAX),
            delay: Duration::from_millis(delay),
        }
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
        let mut resource = Vec::new();
        if let Some(list) = self.value(ATTRIBUTES) {
            let entries = list.split(',').filter(|e| !e.trim().is_empty());
            let pairs = entries.map(|e| e.split_once('=').filter(|(key, _)| !key.trim().is_empty()));
            let decoded: Option<Vec<_>> = pairs
                .map(|pair| {
                    pair.and_then(|(k, v)| Some((percent_decoded(k.trim())?, percent_decoded(v.trim())?)))
                })
                .collect();
            match decoded {
                Some(pairs) => resource = pairs,
                None => {
                    self.warn(ATTRIBUTES, "is no list of the form key=value,key=value; all of it is ignored")
                }
            }
        }
        if let Some(name) = self.value("OTEL_SERVICE_NAME") {
            resource.retain(|(key, _)| key != names::attribute::SERVICE_NAME);
            resource.push((names::attribute::SERVICE_NAME.to_owned(), name));
        }
        resource
    }
}

/// Percent-decoding as in W3C Baggage, whose form these lists have.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            if !digits.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
