//! What a server says of itself.

use serde::Deserialize;

/// INFO, as far as this client looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// What it is known by, of its own choice at each start.
    pub server_id: String,
    /// Its name.
    pub server_name: String,
    /// Its version.
    pub version: String,
    /// The longest message that it takes, in bytes.
    pub max_payload: usize,
    /// What to sign, where it accepts keys.
    pub nonce: String,
    /// Whether it accepts TLS only.
    pub tls_required: bool,
    /// Whether it is about to go: clients should move to another server.
    #[serde(rename = "ldm")]
    pub lame_duck: bool,
    /// The cluster that it belongs to; empty if to none.
    pub cluster: String,
    /// Addresses of all servers of the cluster that clients may use.
    pub connect_urls: Vec<String>,
}

/// The default of a server that does not say.
const MAX_PAYLOAD: usize = 1 << 20;

impl ServerInfo {
    /// Reads it; `None` if it is no JSON object.
    #[must_use]
    pub fn parse(json: &[u8]) -> Option<Self> {
        let mut info: Self = serde_json::from_slice(json).ok()?;
        if info.max_payload == 0 {
            info.max_payload = MAX_PAYLOAD;
        }
        Some(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_has_a_default() {
        let info = ServerInfo::parse(b"{\"ldm\":true,\"unknown\":[1],\"connect_urls\":[\"a:1\"]}").unwrap();
        assert_eq!((info.max_payload, info.lame_duck, info.tls_required), (MAX_PAYLOAD, true, false));
        assert_eq!(info.connect_urls, ["a:1"]);
        assert_eq!(ServerInfo::parse(b"[]x"), None);
    }
}
