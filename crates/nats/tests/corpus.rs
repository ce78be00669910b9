//! What the fuzzer has kept, replayed by the stable toolchain.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on panics")]

#[path = "../fuzz/check.rs"]
mod check;

use std::path::Path;

#[test]
fn every_input_that_the_fuzzer_has_kept_is_received_the_same_however_it_is_split() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/server_bytes");
    let mut count = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        check::server_bytes(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 20, "{count} inputs in {}", corpus.display());
}
