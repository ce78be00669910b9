//! stub until written
use std::sync::Arc;
#[derive(Debug, Default)]
/// x
pub struct Discovery {
    /// x
    pub control: E,
}
#[derive(Debug, Default)]
/// x
pub struct E;
impl E {
    /// x
    pub fn record(&self, _: u64, _: Option<&'static str>) {}
}
/// x
pub async fn run(_w: Arc<super::Worker>, stop: tokio_util::sync::CancellationToken) {
    stop.cancelled().await;
}
