//! What the router itself adds to the log, as JSON.
//!
//! Each entry's subject ends with its kind (`….log.claim`), its body is `{"v":1,"entry":{…}}`. A
//! higher version or an unknown kind is a newer router's and reads as [`Entry::Unknown`]; so does a
//! body that cannot be read, since only routers may publish there and the fold must be able to go on.

use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use crate::log::{
    ClaimEntry, Ended, Entry, FlagEntry, FoldVersionEntry, ForceEntry, MetEntry, PolicyEntry, StepEntry,
    TallyEntry,
};
use crate::policy;

/// The version of the entries that this router writes.
const VERSION: u32 = 1;

/// The kinds of entries, as their subjects end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogKind {
    /// An assignment ended without a result.
    Ended,
    /// A policy was put or deleted.
    Policy,
    /// The emergency switch was set.
    Flag,
    /// A request wants to probe.
    Claim,
    /// A claim is taken back.
    Release,
    /// An operator forces a breaker.
    Force,
    /// An operator resets a breaker.
    Reset,
    /// A rollout takes a step.
    Step,
    /// Requests met a breaker that was not closed.
    Met,
    /// What a worker has done.
    Tally,
    /// The fold applies the rules of a newer version.
    FoldVersion,
    /// Time has passed.
    Mark,
}

impl LogKind {
    /// The last token of the subject.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Policy => "policy",
            Self::Flag => "flag",
            Self::Claim => "claim",
            Self::Release => "release",
            Self::Force => "force",
            Self::Reset => "reset",
            Self::Step => "step",
            Self::Met => "met",
            Self::Tally => "tally",
            Self::FoldVersion => "fold_version",
            Self::Mark => "mark",
        }
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    entry: &'a T,
}

#[derive(Deserialize)]
struct Incoming<'a> {
    v: u32,
    #[serde(borrow)]
    entry: &'a RawValue,
}

/// The kind and the body of an entry that the router adds; `None` for those that it never writes.
#[must_use]
pub fn encode_entry(entry: &Entry<'_>) -> Option<(LogKind, Vec<u8>)> {
    match entry {
        Entry::Ended(e) => body(LogKind::Ended, e),
        Entry::Policy(e) => body(LogKind::Policy, e),
        Entry::Flag(e) => body(LogKind::Flag, e),
        Entry::Claim(e) => body(LogKind::Claim, e),
        Entry::Release(e) => body(LogKind::Release, e),
        Entry::Force(e) => body(LogKind::Force, e),
        Entry::Reset(e) => body(LogKind::Reset, e),
        Entry::Step(e) => body(LogKind::Step, e),
        Entry::Met(e) => body(LogKind::Met, e),
        Entry::Tally(e) => body(LogKind::Tally, e),
        Entry::FoldVersion(e) => body(LogKind::FoldVersion, e),
        Entry::Mark => body(LogKind::Mark, &()),
        Entry::Result(_) | Entry::Rejected | Entry::Unknown => None,
    }
}

fn body<T: Serialize>(kind: LogKind, entry: &T) -> Option<(LogKind, Vec<u8>)> {
    serde_json::to_vec(&Outgoing { v: VERSION, entry }).ok().map(|bytes| (kind, bytes))
}

/// Reads an entry that a router added; `kind` is the subject behind the log's prefix.
#[must_use]
pub fn decode_entry<'a>(kind: &str, body: &'a [u8]) -> Entry<'a> {
    fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, wrap: impl FnOnce(T) -> Entry<'a>) -> Entry<'a> {
        serde_json::from_str(raw.get()).map_or(Entry::Unknown, wrap)
    }
    let Ok(Incoming { v: VERSION, entry }) = serde_json::from_slice::<Incoming<'a>>(body) else {
        return Entry::Unknown;
    };
    match kind {
        "ended" => read::<Ended<'a>>(entry, Entry::Ended),
        "policy" => read::<PolicyEntry>(entry, Entry::Policy),
        "flag" => read::<FlagEntry>(entry, Entry::Flag),
        "claim" => read::<ClaimEntry<'a>>(entry, Entry::Claim),
        "release" => read::<ClaimEntry<'a>>(entry, Entry::Release),
        "force" => read::<ForceEntry>(entry, Entry::Force),
        "reset" => read::<ForceEntry>(entry, Entry::Reset),
        "step" => {
            read::<StepEntry>(entry, |step| if is_sound(&step) { Entry::Step(step) } else { Entry::Unknown })
        }
        "met" => read::<MetEntry>(entry, Entry::Met),
        "tally" => read::<TallyEntry>(entry, Entry::Tally),
        "fold_version" => read::<FoldVersionEntry>(entry, Entry::FoldVersion),
        "mark" => Entry::Mark,
        _ => Entry::Unknown,
    }
}

/// Whether the breaker block of a step is valid by itself, as the block of every plan is. A step with another block
/// reads as unknown.
fn is_sound(step: &StepEntry) -> bool {
    step.overlay.as_ref().is_none_or(|overlay| {
        policy::parse(&json!({
            "policy_id": "p", "providers": [{"name": "p", "weight": 1}], "circuit_breaker": overlay.circuit_breaker,
        }))
        .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Authenticated, ClaimId, PolicyId, ProviderId, RolloutId, Stamp, Status, TenantId};
    use crate::log::{
        ArmTotals, EvidenceSettings, Fate, FoldVersion, ForceTo, IdentityKey, JudgedWindow, Met,
        OverlaySettings, Revision, Scope, Share, StepNumber, WorkerRun,
    };

    fn round_trip(entry: &Entry<'_>, golden: &str) {
        let (kind, bytes) = encode_entry(entry).unwrap();
        assert_eq!(std::str::from_utf8(&bytes).unwrap(), golden);
        assert_eq!(format!("{:?}", decode_entry(kind.as_str(), &bytes)), format!("{entry:?}"));
    }

    #[test]
    fn every_kind_reads_back_as_it_was_written() {
        let tenant_id = TenantId::try_new("acme").unwrap();
        let revision = Revision { created: 5, revision: 7 };
        round_trip(
            &Entry::Ended(Ended {
                tenant_id: Cow::Borrowed("acme"),
                provider_id: Cow::Borrowed("openai"),
                request_id: Cow::Borrowed("r"),
                assignment_id: Cow::Borrowed("a"),
                status: Status::Timeout,
                elapsed_ms: 5_000,
            }),
            r#"{"v":1,"entry":{"tenant_id":"acme","provider_id":"openai","request_id":"r","assignment_id":"a","status":"timeout","elapsed_ms":5000}}"#,
        );
        round_trip(
            &Entry::Policy(PolicyEntry {
                tenant_id: tenant_id.clone(),
                policy_id: PolicyId::try_new("default").unwrap(),
                revision,
                document: Some(Arc::new(serde_json::json!({"policy_id": "default"}))),
                actor: Some("ops".into()),
                reason: None,
                authenticated: Some(Authenticated { account: "OPS".into(), user: Some("alice".into()) }),
            }),
            r#"{"v":1,"entry":{"tenant_id":"acme","policy_id":"default","created":5,"revision":7,"document":{"policy_id":"default"},"actor":"ops","authenticated":{"account":"OPS","user":"alice"}}}"#,
        );
        for (scope, golden) in [
            (
                Scope::Global,
                r#"{"v":1,"entry":{"scope":"global","created":5,"revision":7,"circuit_breaker_enabled":false,"latest":9}}"#,
            ),
            (
                Scope::Tenant { tenant_id: tenant_id.clone() },
                r#"{"v":1,"entry":{"scope":"tenant","tenant_id":"acme","created":5,"revision":7,"circuit_breaker_enabled":false,"latest":9}}"#,
            ),
        ] {
            let flag = FlagEntry {
                scope,
                revision,
                circuit_breaker_enabled: false,
                latest: Some(Stamp(9)),
                actor: None,
                reason: None,
                authenticated: None,
            };
            round_trip(&Entry::Flag(flag), golden);
        }
        let claim = ClaimEntry {
            tenant_id: Cow::Borrowed("acme"),
            provider_id: Cow::Borrowed("openai"),
            request_id: Cow::Borrowed("r"),
            claim: ClaimId(9),
            latest: Stamp(11),
            lease_ms: 0,
            takes: None,
        };
        let golden = r#"{"v":1,"entry":{"tenant_id":"acme","provider_id":"openai","request_id":"r","claim":9,"latest":11,"lease_ms":0}}"#;
        round_trip(&Entry::Claim(claim.clone()), golden);
        round_trip(&Entry::Release(claim.clone()), golden);
        let golden = golden.replace("}}", r#","takes":8}}"#);
        round_trip(&Entry::Claim(ClaimEntry { takes: Some(ClaimId(8)), ..claim }), &golden);
        let force = ForceEntry {
            tenant_id,
            provider_id: ProviderId::try_new("openai").unwrap(),
            to: Some(ForceTo::Open),
            ttl_ms: Some(1_000),
            latest: Some(Stamp(9)),
            actor: None,
            reason: Some("maintenance".into()),
            authenticated: None,
        };
        round_trip(
            &Entry::FoldVersion(FoldVersionEntry {
                version: FoldVersion(2),
                identity_key: IdentityKey([1, u64::MAX]),
            }),
            r#"{"v":1,"entry":{"version":2,"identity_key":[1,18446744073709551615]}}"#,
        );
        let golden = r#"{"v":1,"entry":{"tenant_id":"acme","provider_id":"openai","to":"open","ttl_ms":1000,"latest":9,"reason":"maintenance"}}"#;
        round_trip(&Entry::Force(force.clone()), golden);
        round_trip(&Entry::Reset(force), golden);
    }

    #[test]
    fn what_a_rollout_adds_reads_back_as_it_was_written() {
        let tenant_id = TenantId::try_new("acme").unwrap();
        let rollout = RolloutId::try_new("cb-2026").unwrap();
        let step = StepEntry {
            rollout: rollout.clone(),
            number: StepNumber { made: 5, n: 7 },
            at_seq: 40,
            overlay: Some(OverlaySettings {
                circuit_breaker: serde_json::from_str(r#"{"timeout_ms":30000}"#).unwrap(),
                tenants: [(tenant_id.clone(), Share { percent: 0, split: 50 })].into(),
                evidence: EvidenceSettings {
                    block_ms: 300_000,
                    settle_ms: 120_000,
                    max_stale_ms: 600_000,
                    sample_ppm: 1_000_000,
                },
                completed: false,
            }),
        };
        round_trip(
            &Entry::Step(step.clone()),
            r#"{"v":1,"entry":{"rollout":"cb-2026","made":5,"n":7,"at_seq":40,"overlay":{"circuit_breaker":{"timeout_ms":30000},"tenants":{"acme":{"percent":0,"split":50}},"evidence":{"block_ms":300000,"settle_ms":120000,"max_stale_ms":600000,"sample_ppm":1000000},"completed":false}}}"#,
        );
        round_trip(
            &Entry::Step(StepEntry { overlay: None, ..step }),
            r#"{"v":1,"entry":{"rollout":"cb-2026","made":5,"n":7,"at_seq":40}}"#,
        );
        let run = WorkerRun { worker: "w-1".to_owned(), boot: 9 };
        let met = MetEntry {
            tenant_id: tenant_id.clone(),
            policy_id: PolicyId::try_new("default").unwrap(),
            run: run.clone(),
            number: 3,
            met: vec![
                Met { hash: 17, fate: Fate::Spared, retry: false },
                Met { hash: u64::MAX, fate: Fate::NoProvider, retry: true },
            ],
        };
        round_trip(
            &Entry::Met(met),
            r#"{"v":1,"entry":{"tenant_id":"acme","policy_id":"default","worker":"w-1","boot":9,"number":3,"met":[{"hash":17,"fate":"spared"},{"hash":18446744073709551615,"fate":"no_provider","retry":true}]}}"#,
        );
        let tally = TallyEntry {
            run,
            position: 99,
            met: 3,
            enforcing: true,
            judged: [(rollout, JudgedWindow { number: 12, end: Stamp(500) })].into(),
            tenants: [(tenant_id, ArmTotals { asked: [5, 6], ..ArmTotals::default() })].into(),
            last: true,
        };
        round_trip(
            &Entry::Tally(tally),
            r#"{"v":1,"entry":{"worker":"w-1","boot":9,"position":99,"met":3,"enforcing":true,"judged":{"cb-2026":{"number":12,"end":500}},"tenants":{"acme":{"asked":[5,6],"no_provider":[0,0],"fell_back":[0,0],"spared":[0,0]}},"last":true}}"#,
        );
    }

    fn step(block: &str, percent: u8) -> String {
        format!(
            r#"{{"v":1,"entry":{{"rollout":"cb","made":1,"n":1,"at_seq":1,"overlay":{{"circuit_breaker":{block},"tenants":{{"t":{{"percent":{percent},"split":50}}}},"evidence":{{"block_ms":1000,"settle_ms":100,"max_stale_ms":1000,"sample_ppm":1}}}}}}}}"#
        )
    }

    #[test]
    fn a_newer_version_an_unknown_kind_and_garbage_are_unknown() {
        for (kind, body) in [
            ("claim", r#"{"v":2,"entry":{}}"#),
            ("merge", r#"{"v":1,"entry":{}}"#),
            ("claim", r#"{"v":1,"entry":{"tenant_id":1}}"#),
            ("claim", "\u{0}"),
            ("step", &step(r#"{}"#, 101)),
            ("step", &step(r#"{"failure_threshold":0}"#, 10)),
            ("step", &step(r#"{"no_such_field":1}"#, 10)),
            ("step", &step(&format!(r#"{{"jitter_ratio":{}1{}}}"#, "[".repeat(100), "]".repeat(100)), 10)),
        ] {
            assert!(matches!(decode_entry(kind, body.as_bytes()), Entry::Unknown), "{body}");
        }
        assert!(matches!(
            decode_entry("step", step(r#"{"failure_threshold":3}"#, 100).as_bytes()),
            Entry::Step(_)
        ));
    }
}
