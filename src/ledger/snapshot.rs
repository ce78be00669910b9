//! The fold's state as bytes, so that a restarted worker need not read the whole log.
//!
//! Equal folds make equal bytes: everything is written in a fixed order, so workers can compare the
//! hash of theirs. The bytes begin with a mark, a version and a checksum of the rest; a reader that
//! finds another version, a wrong checksum or anything that does not fit takes nothing from it.
//!
//! Kept are the policies as they were put, what rollouts lay over them and their evidence, the switches, the remembered
//! identities and each breaker without its settings, which the policies give. Counters are not: they are a worker's own.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::ahead::{AHEAD, fetch_whole};
use super::fold::Fold;
use super::identities::Identities;
use super::register::PolicyChange;
use super::seen::{InOrder, Memory, Saved as SavedIdentities};
use crate::breaker::Saved;
use crate::domain::{Offset, PolicyId, ProviderId, Stamp, TenantId};
use crate::log::{At, FlagEntry, FoldVersion, PolicyEntry, Revision, Scope};
use crate::rollout::evidence::Evidence;
use crate::state::Cell;

const MARK: &[u8; 4] = b"BLSN";
/// The version of the format.
const VERSION: u32 = 6;
/// The same with identities in log order, as they are remembered before [`FoldVersion::TIMED_IDENTITIES`].
const IN_ORDER: u32 = 5;
/// The same without [`Versioned`], as routers wrote it that had no version of the fold: it is that of the first.
const WITHOUT_FOLD_VERSION: u32 = 4;
const HEAD: usize = 16;

/// Why bytes are no snapshot for this router.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// Not a snapshot at all, or cut short.
    #[error("not a snapshot")]
    Mark,
    /// Written by another version.
    #[error("version {0} of the format; this router reads {WITHOUT_FOLD_VERSION} to {VERSION}")]
    Version(u32),
    /// Its fold has rules that this router does not have.
    #[error("version {0} of the fold; this router has up to {newest}", newest = FoldVersion::NEWEST)]
    Fold(FoldVersion),
    /// The checksum differs.
    #[error("damaged: the checksum differs")]
    Checksum,
    /// The checksum holds and the content does not fit.
    #[error("damaged: {0}")]
    Content(String),
    /// It is of another stream.
    #[error("of another stream")]
    Stream,
}

/// What stands before the body.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Versioned {
    version: FoldVersion,
    identities: Identities,
}

/// What stands behind the head. It is read whole, and written as [`Rows`] that are made one by one: a copy of
/// them all would be as large as the state itself.
#[derive(Serialize, Deserialize)]
struct Body<Stream, Overlays, Evidence, Policies, Flags, Seen, Breakers> {
    /// When the stream was made, as the broker writes it.
    stream: Stream,
    position: u64,
    stamp: Stamp,
    now: Stamp,
    /// What rollouts lay over policies, as JSON text.
    overlays: Overlays,
    evidence: Evidence,
    policies: Policies,
    flags: Flags,
    seen: Seen,
    breakers: Breakers,
}

/// A body that was read.
type Whole<Seen> = Body<
    String,
    String,
    Evidence,
    Vec<PolicyRow<TenantId, PolicyId, String>>,
    Vec<(Option<TenantId>, Revision, bool)>,
    Seen,
    Vec<(TenantId, ProviderId, Saved)>,
>;

#[derive(Serialize, Deserialize)]
struct PolicyRow<Tenant, Policy, Document> {
    tenant_id: Tenant,
    policy_id: Policy,
    seen: Revision,
    /// The revision in force, and its document as JSON text.
    live: Option<(Revision, Document)>,
}

/// What an iterator gives, as a list.
pub(super) struct Rows<I>(pub(super) I);

impl<I: ExactSizeIterator<Item: Serialize> + Clone> Serialize for Rows<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// A document as its JSON text.
struct Text<'v>(&'v Value);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&serde_json::to_string(self.0).map_err(S::Error::custom)?)
    }
}

impl Fold {
    /// The state as bytes. `stream` tells the log's stream from one that is made anew under its name.
    ///
    /// # Errors
    /// [`SnapshotError::Content`] if it cannot be written.
    pub fn snapshot(&self, stream: &str) -> Result<Vec<u8>, SnapshotError> {
        let policies = self.register().iter().map(|((tenant_id, policy_id), record)| {
            let live = record.live.as_ref().map(|live| (live.revision, Text(&live.document)));
            PolicyRow { tenant_id, policy_id, seen: record.seen, live }
        });
        let flags = self.flags().iter().map(|(scope, flag)| {
            let tenant_id = match scope {
                Scope::Global => None,
                Scope::Tenant { tenant_id } => Some(tenant_id),
            };
            (tenant_id, flag.revision, flag.enabled)
        });
        let cells = self.breakers_by_name();
        let breakers = cells.iter().enumerate().map(|(n, cell)| {
            if n.is_multiple_of(AHEAD) {
                fetch_whole(cells.iter().skip(n).take(AHEAD));
            }
            (&cell.tenant_id, &cell.provider_id, cell.lock().breaker.save())
        });
        let body = Body {
            stream,
            position: self.at().position,
            stamp: self.at().stamp,
            now: self.now(),
            overlays: serde_json::to_string(self.overlays())
                .map_err(|e| SnapshotError::Content(e.to_string()))?,
            evidence: self.evidence(),
            policies: Rows(policies),
            flags: Rows(flags),
            seen: &self.seen,
            breakers: Rows(breakers),
        };
        // A worker of the version before compares its snapshots with ours for as long as its rules hold.
        let versioned = (self.version > FoldVersion::FIRST)
            .then_some(Versioned { version: self.version, identities: self.identities });
        let format = format_for(self.version);
        let mut bytes = Vec::with_capacity(HEAD + 1_024);
        bytes.extend_from_slice(MARK);
        bytes.extend_from_slice(&format.to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        let mut bytes = match versioned {
            Some(versioned) => postcard::to_extend(&(versioned, body), bytes),
            None => postcard::to_extend(&body, bytes),
        }
        .map_err(|e| SnapshotError::Content(e.to_string()))?;
        let sum = xxh3_64(bytes.get(HEAD..).unwrap_or_default());
        if let Some(place) = bytes.get_mut(8..HEAD) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
        Ok(bytes)
    }

    /// Every breaker, by tenant and provider. Each is of a tenant that the register tells of.
    fn breakers_by_name(&self) -> Vec<Arc<Cell>> {
        let mut cells = Vec::with_capacity(self.roster.len());
        let mut last = None;
        for ((tenant_id, _), _) in self.register().iter() {
            if last.replace(tenant_id) != Some(tenant_id) {
                cells.extend(self.state.breakers_of(tenant_id.as_str()));
            }
        }
        debug_assert_eq!(cells.len(), self.roster.len());
        cells
    }

    /// Takes over the state of a snapshot; this fold must be a fresh one over an empty state. Returns
    /// where the snapshot stands in the log.
    ///
    /// # Errors
    /// [`SnapshotError`]; the fold and its state are then of no use and must be made anew.
    pub fn restore(&mut self, bytes: &[u8], stream: &str, offset: Offset) -> Result<At, SnapshotError> {
        let (format, rest) = read(bytes)?;
        let (versioned, rest) = match format {
            WITHOUT_FOLD_VERSION => (Versioned::default(), rest),
            _ => postcard::take_from_bytes(rest).map_err(unfit)?,
        };
        if versioned.version > FoldVersion::NEWEST {
            return Err(SnapshotError::Fold(versioned.version));
        }
        if format != format_for(versioned.version) {
            return Err(SnapshotError::Content(
                "a format that its version of the fold does not have".to_owned(),
            ));
        }
        if format == VERSION {
            self.take_over::<SavedIdentities>(versioned, rest, stream, offset)
        } else {
            self.take_over::<InOrder>(versioned, rest, stream, offset)
        }
    }

    fn take_over<Seen>(
        &mut self,
        versioned: Versioned,
        rest: &[u8],
        stream: &str,
        offset: Offset,
    ) -> Result<At, SnapshotError>
    where
        Seen: DeserializeOwned + TryInto<Memory, Error = &'static str>,
    {
        let body: Whole<Seen> = postcard::from_bytes(rest).map_err(unfit)?;
        if body.stream != stream {
            return Err(SnapshotError::Stream);
        }
        self.version = versioned.version;
        self.identities = versioned.identities;
        let mut step = self.restoring(At { position: body.position, stamp: body.stamp }, body.now, offset);
        for (tenant_id, revision, enabled) in body.flags {
            let scope = tenant_id.map_or(Scope::Global, |tenant_id| Scope::Tenant { tenant_id });
            let entry = FlagEntry {
                scope,
                revision,
                circuit_breaker_enabled: enabled,
                latest: None,
                actor: None,
                reason: None,
                authenticated: None,
            };
            self.flag(&entry, &mut step);
        }
        let overlays = serde_json::from_str(&body.overlays)
            .map_err(|e| SnapshotError::Content(format!("what rollouts lay over policies: {e}")))?;
        self.restore_overlays(overlays);
        for row in body.policies {
            self.restore_policy(row, &mut step)?;
        }
        self.seen = body.seen.try_into().map_err(|unfit| SnapshotError::Content(unfit.to_owned()))?;
        for (tenant_id, provider_id, saved) in body.breakers {
            if !self.restore_breaker(&tenant_id, &provider_id, saved, offset) {
                return Err(SnapshotError::Content("a breaker that no policy names".to_owned()));
            }
        }
        self.restore_evidence(body.evidence);
        // Nobody may look at the digest for long: what waits for it would only grow from here.
        self.digest();
        Ok(self.at())
    }

    fn restore_policy(
        &mut self,
        row: PolicyRow<TenantId, PolicyId, String>,
        step: &mut super::step::Step,
    ) -> Result<(), SnapshotError> {
        let entry = |revision, document| PolicyEntry {
            tenant_id: row.tenant_id.clone(),
            policy_id: row.policy_id.clone(),
            revision,
            document,
            actor: None,
            reason: None,
            authenticated: None,
        };
        match row.live {
            None => {
                self.policy(&entry(row.seen, None), step);
            }
            Some((revision, text)) => {
                let document = serde_json::from_str(&text)
                    .map_err(|e| SnapshotError::Content(format!("the policy {}: {e}", row.policy_id)))?;
                let change = self.policy(&entry(revision, Some(Arc::new(document))), step);
                if let PolicyChange::Refused(_) = change {
                    return Err(SnapshotError::Content(format!("the policy {} is refused", row.policy_id)));
                }
                self.register_mut().note_seen(&row.tenant_id, &row.policy_id, row.seen);
                self.register_mut().note_newest(row.seen, step.now);
            }
        }
        Ok(())
    }
}

/// Where a snapshot of a stream stands in its log, without taking it over.
///
/// # Errors
/// [`SnapshotError`], as far as its beginning shows it.
pub fn place_of(bytes: &[u8], stream: &str) -> Result<At, SnapshotError> {
    let (format, rest) = read(bytes)?;
    let rest = match format {
        WITHOUT_FOLD_VERSION => rest,
        _ => postcard::take_from_bytes::<Versioned>(rest).map_err(unfit)?.1,
    };
    // The first fields of the body.
    let ((made, position, stamp), _) =
        postcard::take_from_bytes::<(&str, u64, Stamp)>(rest).map_err(unfit)?;
    if made == stream { Ok(At { position, stamp }) } else { Err(SnapshotError::Stream) }
}

const fn format_for(version: FoldVersion) -> u32 {
    if version.0 < FoldVersion::KEYED_IDENTITIES.0 {
        WITHOUT_FOLD_VERSION
    } else if version.0 < FoldVersion::TIMED_IDENTITIES.0 {
        IN_ORDER
    } else {
        VERSION
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn unfit(error: postcard::Error) -> SnapshotError {
    SnapshotError::Content(error.to_string())
}

/// The format of a snapshot, and what follows its head.
fn read(bytes: &[u8]) -> Result<(u32, &[u8]), SnapshotError> {
    let (Some(head), Some(rest)) = (bytes.get(..HEAD), bytes.get(HEAD..)) else {
        return Err(SnapshotError::Mark);
    };
    if !head.starts_with(MARK) {
        return Err(SnapshotError::Mark);
    }
    let word =
        |at: usize| -> [u8; 4] { head.get(at..at + 4).and_then(|b| b.try_into().ok()).unwrap_or_default() };
    let version = u32::from_le_bytes(word(4));
    if !(WITHOUT_FOLD_VERSION..=VERSION).contains(&version) {
        return Err(SnapshotError::Version(version));
    }
    let sum = u64::from(u32::from_le_bytes(word(8))) | u64::from(u32::from_le_bytes(word(12))) << 32;
    if sum != xxh3_64(rest) {
        return Err(SnapshotError::Checksum);
    }
    Ok((version, rest))
}
