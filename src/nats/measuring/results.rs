use std::time::Duration;

use async_nats::{Client, PublishError, Subject};
use bytes::BytesMut;
use tokio::sync::oneshot;

use super::AskerFailed;
use super::pacing::Pace;
use crate::clock::Clock;
use crate::config::ClientSettings;
use crate::nats::connect::connect_once;

/// Where results are published, and how calls end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The executors' subject.
    pub subject: String,
    /// A provider whose calls all fail; those of the others go well.
    pub down: Option<&'static str>,
}

/// Publishes a result for each decision, as an executor would after the call.
pub(super) struct Results {
    subject: Subject,
    down: Option<&'static str>,
    buffer: BytesMut,
    published: u64,
}

impl Results {
    pub(super) fn to(reports: Reports) -> Self {
        let Reports { subject, down } = reports;
        Self { subject: Subject::from(subject), down, buffer: BytesMut::with_capacity(1 << 16), published: 0 }
    }

    pub(super) const fn published(&self) -> u64 {
        self.published
    }

    /// Takes provider and request id from the answer. A core publish, as the contract allows: what the
    /// stream then holds is counted by who measures.
    pub(super) async fn publish(
        &mut self,
        client: &Client,
        answer: &[u8],
        tenant: u64,
    ) -> Result<(), PublishError> {
        let provider = text_after(answer, b"\"provider_id\":\"");
        let request = text_after(answer, b"\"request_id\":\"");
        let is_down = self.down.is_some_and(|down| down.as_bytes() == provider);
        let end = End { failed: is_down, latency_ms: latency_ms(self.published) };
        write(&mut self.buffer, tenant, provider, request, end);
        self.published += 1;
        client.publish(self.subject.clone(), self.buffer.split().freeze()).await
    }
}

/// How a call ended.
#[derive(Clone, Copy)]
struct End {
    failed: bool,
    latency_ms: u64,
}

fn write(buffer: &mut BytesMut, tenant: u64, provider: &[u8], request: &[u8], end: End) {
    buffer.reserve(1_024);
    let tenant = tenant_id(tenant);
    let status: &[u8] = if end.failed { b"error" } else { b"success" };
    for part in [
        b"{\"assignment_id\":\"" as &[u8],
        request,
        b"\",\"request_id\":\"",
        request,
        b"\",\"status\":\"",
        status,
        b"\",\"provider_id\":\"",
        provider,
        b"\",\"job\":{\"type\":\"text.generate\"},\"latency_ms\":",
        end.latency_ms.to_string().as_bytes(),
        b",\"cost\":0.012,\"tenant_id\":\"",
        tenant.as_bytes(),
        b"\"}",
    ] {
        buffer.extend_from_slice(part);
    }
}

/// The latency of call `n`: from 106 ms to 6.8 s around a median of 850 ms, the sum of four even spreads of one and a half
/// octaves each. So a histogram of latencies has as many buckets as one of real calls.
fn latency_ms(n: u64) -> u64 {
    let [.., a, b, c, d] = xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes()).to_le_bytes();
    let spread = [a, b, c, d].into_iter().map(|part| (f64::from(part) - 127.5) / 255.0 * 1.5).sum::<f64>();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 106 to 6,800")]
    let ms = (850.0 * spread.exp2()).round() as u64;
    ms
}

/// The tenants of a measurement.
#[must_use]
pub fn tenant_id(number: u64) -> String {
    format!("tenant-{number:06}")
}

/// The text behind a key, up to its closing quote; ids hold none.
fn text_after<'a>(answer: &'a [u8], key: &[u8]) -> &'a [u8] {
    let Some(at) = answer.windows(key.len()).position(|window| window == key) else { return b"" };
    let rest = answer.get(at + key.len()..).unwrap_or_default();
    rest.split(|byte| *byte == b'"').next().unwrap_or_default()
}

/// What was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Results published.
    pub count: u64,
    /// How long that took, in nanoseconds.
    pub nanos: u64,
}

/// Publishes results of calls at a fixed rate: `tenants` in turn, each with a provider in turn. Runs on a
/// thread of its own.
///
/// # Errors
/// Why nothing could be published.
pub async fn report_at(
    settings: ClientSettings,
    subject: String,
    per_second: u32,
    lasting: Duration,
    tenants: u32,
    providers: &'static [&'static str],
) -> Result<Reported, AskerFailed> {
    let (done, reported) = oneshot::channel();
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let reported = match runtime {
            Err(error) => Err(AskerFailed::Thread(error.to_string())),
            Ok(runtime) => {
                runtime.block_on(report(&settings, subject, per_second, lasting, tenants, providers))
            }
        };
        let _gone = done.send(reported);
    };
    let thread = std::thread::Builder::new().name("reporter".to_owned()).spawn(run);
    thread.map_err(|error| AskerFailed::Thread(error.to_string()))?;
    reported.await.map_err(|_| AskerFailed::Thread("it died".to_owned()))?
}

async fn report(
    settings: &ClientSettings,
    subject: String,
    per_second: u32,
    lasting: Duration,
    tenants: u32,
    providers: &[&str],
) -> Result<Reported, AskerFailed> {
    let failed = |error: &dyn std::error::Error| AskerFailed::Client(error.to_string());
    let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
    let clock = Clock::start();
    let subject = Subject::from(subject);
    let mut buffer = BytesMut::with_capacity(1 << 16);
    let began = clock.nanos();
    let run = clock.wall_ms();
    let pace = Pace::from(began, per_second);
    let ends = began + u64::try_from(lasting.as_nanos()).unwrap_or(u64::MAX / 4);
    let mut count = 0_u64;
    while pace.moment(count) < ends {
        let now = clock.nanos();
        while pace.moment(count) <= now && pace.moment(count) < ends {
            let (turn, tenant) = (count / u64::from(tenants.max(1)), count % u64::from(tenants.max(1)));
            let at = usize::try_from(turn).unwrap_or(0) % providers.len().max(1);
            let provider = providers.get(at).copied().unwrap_or("");
            let request = format!("{run:x}-{count:x}");
            let end = End { failed: false, latency_ms: latency_ms(count) };
            write(&mut buffer, tenant, provider.as_bytes(), request.as_bytes(), end);
            client.publish(subject.clone(), buffer.split().freeze()).await.map_err(|e| failed(&e))?;
            count += 1;
        }
        // The timer's grain is a millisecond: what is due by then goes as one.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.flush().await.map_err(|e| failed(&e))?;
    Ok(Reported { count, nanos: clock.nanos() - began })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_one_that_the_router_reads() {
        let answer = br#"{"ok":true,"decision":{"provider_id":"anthropic","priority":50},"context":{"request_id":"r-1"}}"#;
        let mut buffer = BytesMut::new();
        let (provider, request) =
            (text_after(answer, b"\"provider_id\":\""), text_after(answer, b"\"request_id\":\""));
        write(&mut buffer, 7, provider, request, End { failed: true, latency_ms: 20 });
        let result: serde_json::Value = serde_json::from_slice(&buffer).unwrap();
        assert_eq!((result["status"].as_str(), result["latency_ms"].as_u64()), (Some("error"), Some(20)));
        assert_eq!(result["provider_id"], "anthropic");
        assert_eq!(result["request_id"], "r-1");
        assert_eq!(result["tenant_id"], "tenant-000007");
        assert_eq!(text_after(b"{}", b"\"x\":\""), b"");
    }

    #[test]
    fn latencies_spread_around_their_median() {
        let mut all: Vec<u64> = (0..10_001).map(latency_ms).collect();
        all.sort_unstable();
        assert!(all[0] >= 106 && all[10_000] <= 6_800, "{} {}", all[0], all[10_000]);
        assert!(all[5_000].abs_diff(850) < 30 && all[500] < 500 && all[9_500] > 1_500, "{}", all[5_000]);
    }
}
