//! By what results are known, so that each counts once.

use std::hash::Hasher as _;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

use super::seen::{Kind, Memory};
use crate::domain::Stamp;
use crate::log::IdentityKey;

/// What follows the tenant in what is hashed: what makes the rest.
const ASSIGNMENT: u8 = 0;
const BODY: u8 = 1;

/// The identity of one result, refusal or timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'n> {
    pub(super) tenant_id: &'n str,
    /// The assignment that it answers, if it names one.
    pub(super) assignment_id: Option<&'n str>,
    /// [`identity_of`](crate::domain::identity_of) it.
    pub(super) unkeyed: u64,
}

/// How identities are made.
///
/// At first an identity is a hash that everybody can compute, so whoever may report results of one tenant can find
/// an id that has the identity of another tenant's result. From version 2 of the fold on it is
/// SipHash-2-4 (Aumasson and Bernstein 2012) under a key that stands in the log, of the tenant and of the assignment id
/// or, where there is none, of the first identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identities {
    key: Option<IdentityKey>,
    /// The place of the entry that brought it.
    since: u64,
    /// For how many more results an unkeyed identity may be remembered.
    unkeyed_left: u64,
}

impl Identities {
    /// Makes identities by a key from the entry behind this place on, where at most so many are remembered.
    pub(super) fn set_key(&mut self, key: IdentityKey, position: u64, remembered: usize) {
        *self = Self { key: Some(key), since: position, unkeyed_left: remembered as u64 };
    }

    /// Behind which entry results are known by a key.
    pub(super) fn keyed_since(&self) -> Option<u64> {
        self.key.map(|_| self.since)
    }

    /// The identity by which a result is known.
    pub(super) fn of(&self, named: Named<'_>) -> u64 {
        let Some(IdentityKey([one, other])) = self.key else { return named.unkeyed };
        let mut hasher = SipHasher24::new_with_keys(one, other);
        hasher.write(named.tenant_id.as_bytes());
        match named.assignment_id {
            Some(id) => {
                // No id holds this byte, so the tenant's end is where it stands.
                hasher.write_u8(ASSIGNMENT);
                hasher.write(id.as_bytes());
            }
            None => {
                hasher.write_u8(BODY);
                hasher.write(&named.unkeyed.to_le_bytes());
            }
        }
        hasher.finish()
    }

    /// Takes note of a result, and gives what it was seen as before. A copy of one that came before the key is known
    /// by its unkeyed identity.
    pub(super) fn note(
        &mut self,
        seen: &mut Memory,
        named: Named<'_>,
        kind: Kind,
        now: Stamp,
    ) -> Option<Kind> {
        if self.unkeyed_left > 0 && seen.contains(named.unkeyed) {
            return seen.note(named.tenant_id, named.unkeyed, kind, now);
        }
        let before = seen.note(named.tenant_id, self.of(named), kind, now);
        if before.is_none() {
            self.unkeyed_left = self.unkeyed_left.saturating_sub(1);
        }
        before
    }
}
