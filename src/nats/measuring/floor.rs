use beamline_nats::encode::Outgoing;
use futures_util::StreamExt as _;

use super::AskerFailed;
use crate::config::ClientSettings;
use crate::nats::connect::{connect_once, connect_traffic};

/// What a responder that only echoes is built on.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EchoOver {
    /// The client library: the floor.
    Library,
    /// The connection that decide requests arrive over.
    Connection,
}

/// Answers every request with its own body until the connection closes: the least that a responder can do.
/// One loop; give it a current-thread runtime of its own.
///
/// # Errors
/// Why it cannot begin.
pub async fn echo(over: EchoOver, settings: &ClientSettings, subject: &str) -> Result<(), AskerFailed> {
    match over {
        EchoOver::Library => echo_over_library(settings, subject).await,
        EchoOver::Connection => echo_over_connection(settings, subject).await,
    }
}

async fn echo_over_connection(settings: &ClientSettings, subject: &str) -> Result<(), AskerFailed> {
    let client = connect_traffic(&settings.nats, settings.timeout, |_| {}).await?;
    let failed = |error: &dyn std::error::Error| AskerFailed::Client(error.to_string());
    let mut requests = client.subscribe(subject, Some("floor")).map_err(|error| failed(&error))?;
    client.flush().await.map_err(|error| failed(&error))?;
    while let Some(batch) = requests.next_batch().await {
        for request in batch.iter() {
            if let Ok(Some(reply)) = request.reply() {
                let (subject, payload) = (reply.as_bytes(), request.payload());
                let answer = Outgoing { subject, reply: b"", headers: &[], payload };
                client.publish(&answer).map_err(|error| failed(&error))?;
            }
        }
    }
    Ok(())
}

async fn echo_over_library(settings: &ClientSettings, subject: &str) -> Result<(), AskerFailed> {
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
