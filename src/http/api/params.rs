//! What stands in paths and queries, checked.

use std::collections::BTreeMap;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query};
use axum::http::Uri;

use super::answer::Fault;
use crate::breaker::State;
use crate::domain::{IdError, PolicyId, ProviderId, RolloutId, TenantId, check_id};

/// The largest whole number that every reader of JSON knows exactly: 2^53 - 1. No revision and no number of
/// a rollout comes near it.
pub(super) const MAX_WHOLE: u64 = 9_007_199_254_740_991;

/// The query of a request. Parameters that are not known are refused, and so are empty ones: a misspelt
/// filter filters nothing, nor does one whose value a script has lost.
pub(super) struct Params(BTreeMap<String, String>);

impl Params {
    pub(super) fn read(uri: &Uri, known: &[&'static str]) -> Result<Self, Fault> {
        let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
            return Err(Fault::Parameter("query", "cannot be read".to_owned()));
        };
        let mut map = BTreeMap::new();
        for (name, value) in pairs {
            let Some(known) = known.iter().find(|k| **k == name) else {
                return Err(Fault::Parameter("query", format!("knows only {}", known.join(", "))));
            };
            if map.insert(name, value).is_some() {
                return Err(Fault::Parameter(known, "is given twice".to_owned()));
            }
        }
        Ok(Self(map))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn number(
        &self,
        name: &'static str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, Fault> {
        let Some(text) = self.text(name) else { return Ok(default) };
        // `parse` takes a sign too.
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n| digits && range.contains(n)).ok_or_else(|| {
            let problem = format!("must be a whole number from {} to {}", range.start(), range.end());
            Fault::Parameter(name, problem)
        })
    }

    pub(super) fn tenant_id(&self) -> Result<Option<TenantId>, Fault> {
        self.id("tenant_id", |text| TenantId::try_new(text))
    }

    pub(super) fn provider_id(&self) -> Result<Option<ProviderId>, Fault> {
        self.id("provider_id", |text| ProviderId::try_new(text))
    }

    pub(super) fn state(&self) -> Result<Option<State>, Fault> {
        let Some(text) = self.text("state") else { return Ok(None) };
        match State::ALL.into_iter().find(|s| s.as_str() == text) {
            Some(state) => Ok(Some(state)),
            None => Err(Fault::Parameter("state", "must be closed, open or half_open".to_owned())),
        }
    }

    /// The two ids of a cursor, as texts: one may name what is no more.
    pub(super) fn cursor_of_pair(&self) -> Result<Option<(&str, &str)>, Fault> {
        self.cursor(|text| {
            let (first, second) = text.split_once('/')?;
            (check_id(first).is_ok() && check_id(second).is_ok()).then_some((first, second))
        })
    }

    /// A cursor in the form that an answer gave it, as `read` knows it.
    pub(super) fn cursor<'p, T>(
        &'p self,
        read: impl FnOnce(&'p str) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.text("cursor") else { return Ok(None) };
        let problem = || Fault::Parameter("cursor", "must be the cursor of the page before".to_owned());
        read(text).map(Some).ok_or_else(problem)
    }

    fn id<T>(
        &self,
        name: &'static str,
        check: impl FnOnce(&str) -> Result<T, IdError>,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.text(name) else { return Ok(None) };
        check(text).map(Some).map_err(|error| Fault::Parameter(name, error.to_string()))
    }
}

/// Two ids of a path.
pub(super) type Pair = Result<Path<(String, String)>, PathRejection>;

pub(super) fn breaker_of(path: Pair) -> Result<(TenantId, ProviderId), Fault> {
    let (tenant, provider) = pair(path)?;
    Ok((tenant, ProviderId::try_new(provider).map_err(|e| Fault::Parameter("provider_id", e.to_string()))?))
}

pub(super) fn policy_of(path: Pair) -> Result<(TenantId, PolicyId), Fault> {
    let (tenant, policy) = pair(path)?;
    Ok((tenant, PolicyId::try_new(policy).map_err(|e| Fault::Parameter("policy_id", e.to_string()))?))
}

/// One id of a path.
pub(super) type Single = Result<Path<String>, PathRejection>;

/// Ids of rollouts hold no dot, so that none needs a `~` before it.
pub(super) fn rollout_of(path: Single) -> Result<RolloutId, Fault> {
    let Ok(Path(rollout)) = path else { return Err(unreadable()) };
    RolloutId::try_new(rollout).map_err(|e| Fault::Parameter("rollout", e.to_string()))
}

fn unreadable() -> Fault {
    Fault::Parameter("path", "cannot be read".to_owned())
}

/// An id may stand behind a `~`, which no id holds: browsers, and most clients, resolve a path's `.` and
/// `..` away, however they are encoded.
fn pair(path: Pair) -> Result<(TenantId, String), Fault> {
    let Ok(Path((tenant, other))) = path else { return Err(unreadable()) };
    let bare = |id: &str| id.strip_prefix('~').unwrap_or(id).to_owned();
    let tenant = TenantId::try_new(bare(&tenant));
    Ok((tenant.map_err(|e| Fault::Parameter("tenant_id", e.to_string()))?, bare(&other)))
}
