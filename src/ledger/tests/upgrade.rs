//! Versions of the fold.

use super::snapshots::{STREAM, busy};
use super::steps::{judged, overlay};
use super::*;
use crate::domain::check_assignment_id;
use crate::ledger::SnapshotError;
use crate::log::{FoldVersion, FoldVersionEntry, IdentityKey};
use xxhash_rust::xxh3::xxh3_64;

/// A fold that has something of everything, as a router without versions of the fold had it.
fn before() -> Log {
    let mut log = busy();
    log.step("cb", 1, Some(overlay(&[("acme", 50)])));
    for n in 0..200_u32 {
        let status = if n.is_multiple_of(7) { Status::Error } else { Status::Success };
        let mut result = outcome("acme", "a", status, u64::from(n) + 1_000_000);
        result.request_id = Some(format!("r{n}").into());
        log.after(5_000).result(result);
        if n.is_multiple_of(2) {
            log.apply(judged(log.at.position, "cb", 0, START));
        }
    }
    log
}

/// Its snapshot, as a router without versions of the fold wrote it.
const SNAPSHOT_4: &[u8] = include_bytes!("fixtures/snapshot-4.bin");

pub(super) fn raise(version: u32) -> Entry<'static> {
    let identity_key = IdentityKey([1, 2]);
    Entry::FoldVersion(FoldVersionEntry { version: FoldVersion(version), identity_key })
}

impl Log {
    pub(super) fn raise(&mut self, version: u32) -> bool {
        match self.apply(raise(version)).what {
            What::FoldVersion { newer } => newer,
            other => panic!("{other:?}"),
        }
    }

    /// A result of an assignment.
    fn answers(&mut self, tenant_id: &str, assignment_id: &str, status: Status) -> Disposition {
        let identity = identity_of(tenant_id, Some(assignment_id), b"");
        let mut result = outcome(tenant_id, "a", status, identity);
        result.assignment_id = Some(assignment_id.to_owned().into());
        self.result(result)
    }
}

#[test]
fn a_snapshot_of_the_version_before_is_read() {
    let mut log = before();
    let mut again = Log::new();
    assert_eq!(again.fold.restore(SNAPSHOT_4, STREAM, OFFSET), Ok(log.fold.at()));
    assert_eq!(
        log.fold.snapshot(STREAM).as_deref(),
        Ok(SNAPSHOT_4),
        "and it is written until the version rises"
    );
    assert_eq!(again.fold.snapshot(STREAM).as_deref(), Ok(SNAPSHOT_4));
    assert_eq!((again.fold.version(), again.fold.digest()), (FoldVersion::FIRST, log.fold.digest()));
}

#[test]
fn a_version_holds_from_its_entry_on_and_older_ones_change_nothing() {
    let mut log = Log::acme();
    assert_eq!(log.fold.version(), FoldVersion::FIRST);
    assert!(log.raise(2));
    let state = log.fold.snapshot(STREAM);
    assert!(!log.raise(2) && !log.raise(1));
    let identities = log.fold.identities;
    log.apply(Entry::FoldVersion(FoldVersionEntry {
        version: FoldVersion(2),
        identity_key: IdentityKey([3, 4]),
    }));
    assert_eq!(log.fold.identities, identities, "the first key holds");
    let mut again = Log::new();
    assert!(again.fold.restore(&state.unwrap(), STREAM, OFFSET).is_ok());
    assert_eq!((again.fold.version(), again.fold.identities), (FoldVersion(2), identities));
}

#[test]
fn a_version_that_this_program_does_not_have_is_not_applied() {
    let newer = FoldVersion(FoldVersion::NEWEST.0 + 1);
    assert_eq!(Fold::unsupported(&raise(FoldVersion::NEWEST.0)), None);
    assert_eq!(Fold::unsupported(&raise(newer.0)), Some(newer));
    let mut log = Log::acme();
    assert!(!log.raise(newer.0));
    log.fold.version = newer;
    let bytes = log.fold.snapshot(STREAM).unwrap();
    assert_eq!(Log::new().fold.restore(&bytes, STREAM, OFFSET), Err(SnapshotError::Fold(newer)));
}

#[test]
fn a_list_of_assignment_subjects_is_refused_before_the_third_version() {
    let mut log = Log::acme();
    log.raise(2);
    let listed = json!({
        "policy_id": "p", "providers": [{"name": "b", "weight": 1}], "assignment_subjects": ["caf.exec.assign.gpu"],
    });
    let revision = log.next_revision();
    let refused = log.policy("acme", "p", revision, Some(listed.clone()));
    assert!(matches!(refused, PolicyChange::Refused(_)), "{refused:?}");
    assert!(log.state.breaker("acme", "b").is_none(), "what is running stays");
    log.raise(3);
    log.put("acme", "p", listed);
    assert!(log.state.breaker("acme", "b").is_some());
    let state = log.fold.snapshot(STREAM).unwrap();
    let mut again = Log::new();
    assert!(again.fold.restore(&state, STREAM, OFFSET).is_ok());
    assert_eq!(again.fold.digest(), log.fold.digest());
}

#[test]
fn from_the_fourth_version_on_a_late_command_changes_nothing() {
    let entries = |log: &mut Log, latest| {
        let force = ForceEntry { latest, ..command("acme", "a", Some(ForceTo::Open), None) };
        let reset = ForceEntry { latest, ..command("acme", "a", None, None) };
        let revision = log.next_revision();
        let Entry::Flag(flag) = flag_entry(Scope::Global, revision, false) else { unreachable!() };
        [Entry::Force(force), Entry::Reset(reset), Entry::Flag(FlagEntry { latest, ..flag })]
    };
    for (version, late) in [(3, false), (4, true)] {
        let mut log = Log::acme();
        log.raise(version);
        let past = log.at.stamp.minus(1);
        for entry in entries(&mut log, Some(past)) {
            assert_eq!(log.apply(entry).what == What::Late, late, "{version}");
        }
        assert_eq!(
            log.shown("acme", "a") == Shown::Closed && log.fold.flags().get(&Scope::Global).is_none(),
            late
        );
        let now = log.at.stamp;
        for latest in [None, Some(now), Some(now.plus(1))] {
            for entry in entries(&mut log, latest) {
                assert_ne!(log.apply(entry).what, What::Late, "{version} {latest:?}");
            }
        }
    }
}

#[test]
fn a_command_is_late_by_its_own_stamp_where_the_clock_before_was_ahead() {
    let mut log = Log::acme();
    log.raise(4);
    log.after(MINUTE_MS).ends("acme", "a", Status::Success);
    // Another leader, whose clock is a minute behind: fold time stays.
    log.at.stamp = log.at.stamp.minus(MINUTE_MS);
    let latest = Some(log.at.stamp.plus(8_000));
    let force = ForceEntry { latest, ..command("acme", "a", Some(ForceTo::Open), None) };
    assert_eq!(log.apply(Entry::Force(force)).what, What::Command { found: true });
    assert_eq!(log.shown("acme", "a"), Shown::Open);
}

#[test]
fn before_the_second_version_the_first_rollout_by_id_has_a_tenant() {
    let mut log = Log::acme();
    log.step("b", 1, Some(overlay(&[("acme", 20)])));
    log.step("a", 1, Some(overlay(&[("acme", 10)])));
    assert_eq!(log.holds("acme", "p").1, 10);
    log.raise(2);
    log.step("a", 2, None);
    assert_eq!(log.holds("acme", "p").1, 20);
}

#[test]
fn copies_of_results_from_before_the_key_are_copies() {
    let mut log = Log::acme();
    assert_eq!(log.answers("acme", "x-1", Status::Success), Disposition::Applied);
    log.ended(ended("acme", "a", "r", "x-2"));
    log.raise(2);
    assert_eq!(log.answers("acme", "x-1", Status::Success), Disposition::Duplicate);
    assert_eq!(log.answers("acme", "x-2", Status::Success), Disposition::Late);
    assert_eq!(log.answers("acme", "x-2", Status::Success), Disposition::Duplicate);
    assert!(!log.ended(ended("acme", "a", "r", "x-1")));
    // And so are copies of later ones.
    assert_eq!(log.answers("acme", "x-3", Status::Success), Disposition::Applied);
    assert_eq!(log.answers("acme", "x-3", Status::Error), Disposition::Duplicate);
    assert!(!log.ended(ended("acme", "a", "r", "x-3")));
}

#[test]
fn what_was_remembered_before_the_third_version_is_remembered_after_it() {
    for before in [1, 2] {
        let mut log = Log::acme();
        log.raise(before);
        assert_eq!(log.answers("acme", "x-1", Status::Success), Disposition::Applied);
        log.ended(ended("acme", "a", "r", "x-2"));
        assert!(log.after(10).raise(3));
        assert_eq!(log.answers("acme", "x-3", Status::Success), Disposition::Applied);
        let state = log.fold.snapshot(STREAM).unwrap();
        let mut again = Log::new();
        assert!(again.fold.restore(&state, STREAM, OFFSET).is_ok());
        again.at = log.at;
        assert_eq!(again.fold.snapshot(STREAM).as_ref(), Ok(&state));
        for log in [&mut log, &mut again] {
            // Long after, too, as long as there is room.
            log.after(86_400_000);
            assert_eq!(log.answers("acme", "x-1", Status::Success), Disposition::Duplicate);
            assert_eq!(log.answers("acme", "x-2", Status::Success), Disposition::Late);
            assert_eq!(log.answers("acme", "x-2", Status::Success), Disposition::Duplicate);
            assert_eq!(log.answers("acme", "x-3", Status::Success), Disposition::Duplicate);
            assert_eq!(log.answers("acme", "x-4", Status::Success), Disposition::Applied);
        }
    }
}

#[test]
fn a_snapshot_whose_format_is_not_that_of_its_version_is_refused() {
    for (version, format) in [(2, 6), (3, 5)] {
        let mut log = Log::acme();
        log.raise(version);
        let mut bytes = log.fold.snapshot(STREAM).unwrap();
        assert!(Log::new().fold.restore(&bytes, STREAM, OFFSET).is_ok());
        bytes[4] = format;
        let refused = Log::new().fold.restore(&bytes, STREAM, OFFSET);
        assert!(matches!(refused, Err(SnapshotError::Content(_))), "{refused:?}");
    }
}

/// An id of 8 bytes whose unkeyed identity for a tenant is a given one, if such an id is printable. XXH3 of 8 bytes
/// is a permutation, which this turns round.
fn id_of_identity(tenant_id: &str, identity: u64) -> Option<String> {
    const PRIME_MX2: u64 = 0x9FB2_1C65_1E98_DF25;
    // Words 1 and 2 of XXH3's default secret, combined.
    const SECRET: u64 = 0x1CAD_21F7_2C81_017C ^ 0xDB97_9083_E96D_D4DE;
    let inverse = (0..6).fold(1_u64, |x, _| x.wrapping_mul(2_u64.wrapping_sub(PRIME_MX2.wrapping_mul(x))));
    let seed = xxh3_64(tenant_id.as_bytes());
    let seed = seed ^ (u64::from(u32::try_from(seed & 0xFFFF_FFFF).unwrap().swap_bytes()) << 32);
    let unshift = |mut h: u64, by: u32| {
        let hash = h;
        for _ in 0..64 / by {
            h = hash ^ (h >> by);
        }
        h
    };
    let mut h = unshift(identity, 28);
    h = h.wrapping_mul(inverse);
    // The high bits are as they were.
    h ^= (h >> 35) + 8;
    h = h.wrapping_mul(inverse);
    // h ^= rotl(h, 49) ^ rotl(h, 24) is linear over bits, and its 64th power changes nothing.
    let mix = |h: u64| h ^ h.rotate_left(49) ^ h.rotate_left(24);
    let before = (0..63).fold(h, |h, _| mix(h));
    let keyed = before ^ SECRET.wrapping_sub(seed);
    let bytes = keyed.rotate_left(32).to_le_bytes();
    let id = String::from_utf8(bytes.to_vec()).ok()?;
    (check_assignment_id(&id).is_ok() && identity_of(tenant_id, Some(&id), b"") == identity).then_some(id)
}

#[test]
fn another_tenant_cannot_make_a_result_look_like_a_copy() {
    // The two ids differ by a word that follows from the two tenants, so some tenants suit better than others.
    let found = (0..1_000_000).find_map(|n| {
        let (evil, victim) = (format!("evil-{}", n / 50), format!("{:08}", n % 50));
        let identity = identity_of("acme", Some(&victim), b"");
        id_of_identity(&evil, identity).map(|attack| (evil, victim, attack))
    });
    let (evil, victim, attack) = found.unwrap();
    let world = |version| {
        let mut log = Log::acme();
        log.put(&evil, "p", document(&["a"]));
        log.raise(version);
        assert_eq!(log.answers(&evil, &attack, Status::Success), Disposition::Applied);
        log.answers("acme", &victim, Status::Error)
    };
    assert_eq!(world(1), Disposition::Duplicate, "it was possible");
    assert_eq!(world(2), Disposition::Applied);
}
