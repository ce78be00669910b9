use super::AskerFailed;
use crate::config::{ClientSettings, Names};
use crate::nats::connect::connect_once;

/// How much the broker holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogSize {
    /// The last entry of the log.
    pub last: u64,
    /// Bytes of the log.
    pub bytes: u64,
    /// Usage events.
    pub usage: u64,
    /// Messages of the stream of rollouts.
    pub rollout_messages: u64,
    /// Bytes of it.
    pub rollout_bytes: u64,
}

/// Asks the broker, and not a worker, what stands in a deployment's streams.
///
/// # Errors
/// Why it does not tell.
pub async fn log_size(settings: &ClientSettings, names: &Names) -> Result<LogSize, AskerFailed> {
    let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
    let jetstream = async_nats::jetstream::new(client);
    let state = async |name: &str| match jetstream.get_stream(name).await {
        Ok(stream) => Ok(stream.cached_info().state.clone()),
        Err(error) => Err(AskerFailed::Client(format!("{name}: {error}"))),
    };
    let (log, rollouts) = (state(&names.log_stream).await?, state(&names.rollouts_stream).await?);
    Ok(LogSize {
        last: log.last_sequence,
        bytes: log.bytes,
        usage: state(&names.usage_stream).await?.last_sequence,
        rollout_messages: rollouts.messages,
        rollout_bytes: rollouts.bytes,
    })
}
