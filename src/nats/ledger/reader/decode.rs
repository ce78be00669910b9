use beamline_nats::{Malformed, MessageRef};

use crate::config::Names;
use crate::log::{Entry, FoldVersion};
use crate::nats::Worker;
use crate::wire::{self, Content, subjects};

/// The entry of a message; one that cannot be read is rejected, on every worker alike.
pub(in crate::nats) fn read<'m>(
    worker: &Worker,
    version: FoldVersion,
    message: &MessageRef<'m>,
) -> Result<Entry<'m>, Malformed> {
    read_under(&worker.settings.names, version, message)
}

/// The same under the names of a deployment.
pub(in crate::nats) fn read_under<'m>(
    names: &Names,
    version: FoldVersion,
    message: &MessageRef<'m>,
) -> Result<Entry<'m>, Malformed> {
    let message = message.read()?;
    if let Some(kind) = message.subject.strip_prefix(names.log_prefix.as_str()) {
        return Ok(wire::decode_entry(kind, message.payload));
    }
    let tenant = subjects::token_at_star(&names.exec_result_tenants, message.subject);
    let decoded = Content::of(&message.headers, message.payload)
        .ok()
        .and_then(|content| wire::decode_result_under(version, content, message.payload, tenant).ok());
    Ok(decoded.map_or(Entry::Rejected, Entry::Result))
}
