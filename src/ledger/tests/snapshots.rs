use super::convergence::random_log;
use super::*;
use crate::ledger::{SnapshotError, place_of};
use proptest::prelude::*;

pub(super) const STREAM: &str = "2024-01-01T00:00:00Z";

/// A worker that begins with a snapshot of another's fold.
fn restored(from: &Log, bytes: &[u8], offset: Offset) -> Log {
    let mut log = Log::with(offset, true);
    assert_eq!(place_of(bytes, STREAM), Ok(from.fold.at()));
    assert_eq!(log.fold.restore(bytes, STREAM, offset), Ok(from.fold.at()));
    log.at = from.at;
    log
}

fn refusal(bytes: &[u8], stream: &str) -> SnapshotError {
    Log::new().fold.restore(bytes, stream, OFFSET).unwrap_err()
}

/// A fold that has something of everything.
pub(super) fn busy() -> Log {
    let mut log = Log::acme();
    log.put("beta", "p", document(&["a", "b"]));
    log.delete("beta", "p");
    log.put("beta", "q", document(&["b"]));
    log.flag(scope_of("beta"), false);
    log.half_open().ended(ended("acme", "a", "r7", "x-7"));
    log.ends("acme", "a", Status::Success);
    log
}

#[test]
fn bytes_that_are_no_snapshot_of_this_stream_and_version_are_refused_by_name() {
    let bytes = busy().fold.snapshot(STREAM).unwrap();
    assert_eq!(refusal(&[], STREAM), SnapshotError::Mark);
    assert_eq!(refusal(&bytes[..15], STREAM), SnapshotError::Mark);
    assert_eq!(refusal(b"something else entirely", STREAM), SnapshotError::Mark);
    assert_eq!(refusal(&bytes, "2025-01-01T00:00:00Z"), SnapshotError::Stream);
    assert_eq!(place_of(&bytes, "2025-01-01T00:00:00Z"), Err(SnapshotError::Stream));
    assert_eq!(place_of(&bytes[..15], STREAM), Err(SnapshotError::Mark));
    let mut newer = bytes.clone();
    newer[4] += 10;
    assert!(matches!(refusal(&newer, STREAM), SnapshotError::Version(_)));
    assert_eq!(refusal(&bytes[..bytes.len() - 1], STREAM), SnapshotError::Checksum);
    assert_eq!(refusal(&[bytes.as_slice(), &[0]].concat(), STREAM), SnapshotError::Checksum);
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let bytes = busy().fold.snapshot(STREAM).unwrap();
    for n in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[n] ^= 1 << (n % 8);
        let told = refusal(&damaged, STREAM);
        assert!(!matches!(told, SnapshotError::Content(_) | SnapshotError::Stream), "byte {n}: {told}");
    }
}

#[test]
fn nothing_waits_for_a_look_at_the_digest_behind_a_snapshot() {
    let log = busy();
    let again = restored(&log, &log.fold.snapshot(STREAM).unwrap(), OFFSET);
    assert_eq!(again.fold.waiting(), 0);
    assert_eq!(Fold::digest(&mut { again }.fold), log.recomputed());
}

#[test]
fn what_was_seen_before_a_snapshot_is_a_copy_after_it() {
    let mut log = busy();
    let seen = outcome("acme", "a", Status::Success, 4_711);
    log.result(seen.clone());
    let bytes = log.fold.snapshot(STREAM).unwrap();
    let mut other = restored(&log, &bytes, OFFSET);
    assert_eq!(other.result(seen), Disposition::Duplicate);
    let timed_out = identity_of("acme", Some("x-7"), b"");
    assert_eq!(other.result(outcome("acme", "a", Status::Success, timed_out)), Disposition::Late);
}

#[test]
fn a_restored_worker_counts_from_nothing() {
    let log = busy();
    assert_ne!(log.counters("acme", "a"), Counters::default());
    let other = restored(&log, &log.fold.snapshot(STREAM).unwrap(), OFFSET);
    assert_eq!(other.counters("acme", "a"), Counters::default());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_worker_restored_from_a_snapshot_goes_on_as_the_one_that_wrote_it(
        entries in random_log(100),
        cut in any::<prop::sample::Index>(),
        behind_ms in 0_i64..3_000_000,
    ) {
        let (before, after) = entries.split_at(cut.index(entries.len()));
        let mut one = Log::new();
        for drawn in before {
            drawn.stamp(&mut one);
            one.apply(drawn.entry.clone());
        }
        let bytes = one.fold.snapshot(STREAM).unwrap();
        let mut other = restored(&one, &bytes, Offset(OFFSET.0 - behind_ms));
        prop_assert_eq!(&other.fold.snapshot(STREAM).unwrap(), &bytes);
        prop_assert_eq!(other.fold.digest(), one.fold.digest());
        for drawn in after {
            for log in [&mut one, &mut other] {
                drawn.stamp(log);
            }
            let (here, there) = (one.apply(drawn.entry.clone()), other.apply(drawn.entry.clone()));
            prop_assert_eq!(moves(&here), moves(&there));
            prop_assert_eq!(here.what, there.what);
            prop_assert_eq!(here.windows_closed, there.windows_closed);
            prop_assert_eq!(other.fold.digest(), one.fold.digest());
            prop_assert_eq!(other.fold.evidence(), one.fold.evidence());
            prop_assert_eq!(other.fold.evidence().closed_revision(), one.fold.evidence().closed_revision());
            one.state.for_each_breaker(|cell| {
                let twin = other.cell(cell.tenant_id.as_str(), cell.provider_id.as_str());
                assert_eq!(cell.read(one.tick()), twin.read(other.tick()));
            });
        }
        prop_assert_eq!(other.fold.snapshot(STREAM).unwrap(), one.fold.snapshot(STREAM).unwrap());
        prop_assert_eq!(other.fold.digest(), other.recomputed());
        let digests = |log: &Log| log.fold.evidence().all_closed().iter().map(|b| b.digest()).collect::<Vec<_>>();
        prop_assert_eq!(digests(&one), digests(&other));
        for tenant_id in ["acme", "beta", "nobody"] {
            for policy in ["p", "q"] {
                let found = |log: &Log| log.state.catalog().find(tenant_id, policy).map(|r| (r.revision, r.policy.clone()));
                prop_assert_eq!(found(&one), found(&other));
            }
        }
    }

    #[test]
    fn no_bytes_make_a_restore_panic(format in 4_u8..=6, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // With a sound head, and a version that has the format, so that what follows is read.
        let versioned: &[u8] = match format {
            4 => &[],
            5 => &[2, 0, 0, 0],
            _ => &[3, 0, 0, 0],
        };
        let rest = [versioned, &bytes].concat();
        let mut sound = [b'B', b'L', b'S', b'N', format, 0, 0, 0].to_vec();
        sound.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(&rest).to_le_bytes());
        sound.extend_from_slice(&rest);
        prop_assert_eq!(Log::new().fold.restore(&bytes, STREAM, OFFSET), Err(SnapshotError::Mark));
        prop_assert!(matches!(
            Log::new().fold.restore(&sound, STREAM, OFFSET),
            Err(SnapshotError::Content(_) | SnapshotError::Stream)
        ));
    }
}
