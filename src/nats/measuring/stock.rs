use super::AskerFailed;
use crate::config::{ClientSettings, Names};
use crate::nats::connect::connect_once;

/// How much the broker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// The last entry of the log.
    pub last: u64,
    /// Usage events.
    pub usage: u64,
}

/// Asks the broker, and not a worker, what stands in a deployment's streams.
///
/// # Errors
/// Why it does not tell.
pub async fn log_size(settings: &ClientSettings, names: &Names) -> Result<LogSize, AskerFailed> {
    let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
    let jetstream = async_nats::jetstream::new(client);
    let last = async |name: &str| match jetstream.get_stream(name).await {
        Ok(stream) => Ok(stream.cached_info().state.last_sequence),
        Err(error) => Err(AskerFailed::Client(format!("{name}: {error}"))),
    };
    Ok(LogSize { last: last(&names.log_stream).await?, usage: last(&names.usage_stream).await? })
}
