use futures_util::StreamExt as _;

use super::AskerFailed;
use crate::config::ClientSettings;
use crate::nats::connect::connect_once;

/// Answers every request with its own body until the connection closes: the least that a responder over
/// this client library can do. One loop; give it a current-thread runtime of its own.
///
/// # Errors
/// Why it cannot begin.
pub async fn echo(settings: &ClientSettings, subject: &str) -> Result<(), AskerFailed> {
    let client = connect_once(&settings.nats, settings.timeout, |_| {}).await?;
    let failed = |error: &dyn std::error::Error| AskerFailed::Client(error.to_string());
    let mut requests = client
        .queue_subscribe(subject.to_owned(), "floor".to_owned())
        .await
        .map_err(|error| failed(&error))?;
    client.flush().await.map_err(|error| failed(&error))?;
    while let Some(request) = requests.next().await {
        if let Some(reply) = request.reply {
            client.publish(reply, request.payload).await.map_err(|error| failed(&error))?;
        }
    }
    Ok(())
}
