//! The rooms' direction of dependency, and what the pure ones do without: read from the source itself.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The rooms. Each may use those above it, and itself.
const ROOMS: [&str; 18] = [
    "domain",
    "document",
    "breaker",
    "policy",
    "routing",
    "log",
    "rollout",
    "state",
    "ledger",
    "wire",
    "rollout_simulation",
    "clock",
    "config",
    "telemetry",
    "nats",
    "http",
    "cli",
    "app",
];
/// Rooms that use less than stands above them.
const LEAVES: [(&str, &[&str]); 2] = [("clock", &["domain"]), ("config", &[])];
/// Rooms without a clock, a lock, a task, the world outside, or a log.
const PURE: [&str; 7] = ["domain", "document", "breaker", "policy", "routing", "log", "rollout"];
const IMPURE: [&str; 13] = [
    "tokio",
    "futures_util",
    "async_nats",
    "beamline_nats",
    "tracing",
    "SystemTime",
    "Instant",
    "Mutex",
    "RwLock",
    "Condvar",
    "ArcSwap",
    "DashMap",
    "async",
];
const IMPURE_OF_STD: [&str; 7] = ["time", "fs", "net", "io", "env", "process", "thread"];

/// A source file with its comments and texts blanked out.
struct Source {
    path: PathBuf,
    room: String,
    /// Its place in the tree of modules: 0 is the crate.
    depth: usize,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&root, &mut paths);
    assert!(paths.len() > 50, "{} files in {}", paths.len(), root.display());
    paths
        .into_iter()
        .map(|path| {
            let inside = path.strip_prefix(&root).unwrap().with_extension("");
            let mut modules: Vec<String> =
                inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            modules.pop_if(|last| matches!(last.as_str(), "mod" | "lib" | "main"));
            let code = blanked(&std::fs::read_to_string(&path).unwrap());
            let room = modules.first().cloned().unwrap_or_default();
            Source { path, room, depth: modules.len(), code }
        })
        .collect()
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The text with every comment and every string and character literal made blank; lines stay.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut blank = |from: usize, to: usize| {
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let find =
        |from: usize, what: &str| text[from..].find(what).map_or(bytes.len(), |at| from + at + what.len());
    let mut at = 0;
    while at < bytes.len() {
        let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let end = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => find(at, "\n"),
            b'/' if bytes.get(at + 1) == Some(&b'*') => find(at, "*/"),
            b'r' if !word_before && raw_fence(&bytes[at + 1..]).is_some() => {
                let hashes = raw_fence(&bytes[at + 1..]).unwrap();
                find(at + hashes + 2, &format!("\"{}", "#".repeat(hashes)))
            }
            b'"' => closing(bytes, at, b'"'),
            // Not a lifetime: a quote closes it after one character, or after an escape.
            b'\'' if bytes.get(at + 1) == Some(&b'\\') => closing(bytes, at, b'\''),
            b'\'' => {
                let char_len = text[at + 1..].chars().next().map_or(1, char::len_utf8);
                if bytes.get(at + 1 + char_len) == Some(&b'\'') { at + 2 + char_len } else { at }
            }
            _ => at,
        };
        if end > at {
            blank(at, end);
            at = end;
        } else {
            at += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

/// How many hashes open a raw string here.
fn raw_fence(after_r: &[u8]) -> Option<usize> {
    let hashes = after_r.iter().take_while(|b| **b == b'#').count();
    (after_r.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// Behind the quote that closes the literal which begins at `at`.
fn closing(bytes: &[u8], at: usize, quote: u8) -> usize {
    let mut next = at + 1;
    while next < bytes.len() {
        match bytes[next] {
            b'\\' => next += 2,
            byte if byte == quote => return next + 1,
            _ => next += 1,
        }
    }
    bytes.len()
}

/// Where `word` stands as a whole word: what follows it.
fn after_word<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = (usize, &'c str)> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).filter_map(move |(at, _)| {
        let after = &code[at + word.len()..];
        let whole = !code[..at].ends_with(part) && !after.starts_with(part);
        whole.then_some((at, after))
    })
}

/// The modules of the crate that follow a path's root: one, or those in braces.
fn heads(after_root: &str) -> Vec<&str> {
    let Some(path) = after_root.trim_start().strip_prefix("::") else { return Vec::new() };
    let path = path.trim_start();
    let word = |text: &'_ str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let Some(list) = path.strip_prefix('{') else { return vec![&path[..word(path)]] };
    let mut heads = Vec::new();
    let (mut depth, mut fresh) = (0, true);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => fresh = true,
            c if fresh && depth == 0 && !c.is_whitespace() => {
                heads.push(&list[at..at + word(&list[at..])]);
                fresh = false;
            }
            _ => {}
        }
    }
    heads
}

fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

fn told(faults: &[String]) {
    let mut text = String::new();
    for fault in faults {
        let _ = write!(text, "\n  {fault}");
    }
    assert!(faults.is_empty(), "{text}");
}

fn allowed(room: &str, used: &str) -> bool {
    let place = |name: &str| ROOMS.iter().position(|r| *r == name);
    if room == used {
        return true;
    }
    match LEAVES.iter().find(|(leaf, _)| *leaf == room) {
        Some((_, uses)) => uses.contains(&used),
        None => place(used) < place(room) && place(used).is_some(),
    }
}

/// Where a file uses a room below its own.
fn directions(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let place = |at| format!("{}:{}", source.path.display(), line(&source.code, at));
    for root in ["crate", "beamline_router"] {
        for (at, after) in after_word(&source.code, root) {
            for used in heads(after).into_iter().filter(|used| !allowed(&source.room, used)) {
                faults.push(format!("{}: {} uses {used}", place(at), source.room));
            }
        }
    }
    // A module inside the file may go up one step more.
    let inner = after_word(&source.code, "mod")
        .any(|(_, rest)| rest.find(['{', ';']).is_some_and(|end| rest[end..].starts_with('{')));
    let steps = "super::".repeat(source.depth + usize::from(inner));
    for (at, _) in source.code.match_indices(&steps) {
        faults.push(format!("{}: {} leaves its room by super", place(at), source.room));
    }
    faults
}

/// Where a file of a pure room mentions what is not.
fn impurities(source: &Source) -> Vec<String> {
    let words =
        IMPURE.into_iter().flat_map(|word| after_word(&source.code, word).map(move |(at, _)| (at, word)));
    let of_std = after_word(&source.code, "std").flat_map(|(at, after)| {
        heads(after).into_iter().filter(|head| IMPURE_OF_STD.contains(head)).map(move |head| (at, head))
    });
    let place = |at| format!("{}:{}", source.path.display(), line(&source.code, at));
    words
        .chain(of_std)
        .map(|(at, word)| format!("{}: {} is pure and mentions {word}", place(at), source.room))
        .collect()
}

#[test]
fn each_room_uses_only_those_above_it() {
    let mut faults = Vec::new();
    // The crate's own face and the program stand outside the rooms.
    for source in sources().into_iter().filter(|s| s.depth > 0) {
        if ROOMS.contains(&source.room.as_str()) {
            faults.extend(directions(&source));
        } else {
            faults.push(format!(
                "{}: give the room {} a place in the list",
                source.path.display(),
                source.room
            ));
        }
    }
    told(&faults);
}

#[test]
fn pure_rooms_know_neither_time_nor_locks_nor_the_world() {
    let pure = sources().into_iter().filter(|s| PURE.contains(&s.room.as_str()));
    told(&pure.flat_map(|source| impurities(&source)).collect::<Vec<_>>());
}

#[test]
fn only_the_nats_room_knows_the_clients() {
    let mut faults = Vec::new();
    for source in sources().into_iter().filter(|s| s.room != "nats") {
        for client in ["async_nats", "beamline_nats"] {
            for (at, _) in after_word(&source.code, client) {
                faults.push(format!("{}:{}: {client}", source.path.display(), line(&source.code, at)));
            }
        }
    }
    told(&faults);
}

/// The library gives up, or panics, over headers that anybody may send: it reads no message of a stream, and
/// hears no subject but the inbox of its own requests. What plays the programs around the router may.
#[test]
fn the_client_library_receives_nothing_that_others_send() {
    const RECEIVING: [&str; 12] = [
        "queue_subscribe",
        "get_raw_message",
        "get_last_raw_message_by_subject",
        "get_first_raw_message_by_subject",
        "direct_get",
        "messages",
        "fetch",
        "ordered",
        "watch_all",
        "entry",
        "keys",
        "send_request",
    ];
    const LABORATORY: [&str; 3] = ["simulation.rs", "audit.rs", "measuring"];
    let mut faults = Vec::new();
    for source in sources().into_iter().filter(|s| s.room == "nats") {
        let path = source.path.display().to_string();
        if LABORATORY.iter().any(|part| path.contains(part)) || !source.code.contains("async_nats") {
            continue;
        }
        for name in RECEIVING {
            let call = format!(".{name}(");
            for (at, _) in source.code.match_indices(&call) {
                faults.push(format!("{path}:{}: {name}", line(&source.code, at)));
            }
        }
    }
    told(&faults);
}

#[test]
fn the_reading_of_source_is_sound() {
    let code = blanked(
        "use crate::a; // crate::b\nlet s = \"crate::c \\\" crate::d\"; 'x: loop {} '\"'; r#\"crate::e\"#",
    );
    assert!(code.contains("use crate::a;") && code.contains("'x: loop"), "{code}");
    for gone in ["crate::b", "crate::c", "crate::d", "crate::e"] {
        assert!(!code.contains(gone), "{code}");
    }
    assert_eq!(heads("::{a::{x, y}, b, c::d as e}"), ["a", "b", "c"]);
    assert_eq!(heads("::nats::Worker"), ["nats"]);
    assert_eq!(after_word("is_crate crate crated", "crate").count(), 1);
    assert!(allowed("nats", "wire") && allowed("wire", "wire") && allowed("clock", "domain"));
    assert!(!allowed("wire", "nats") && !allowed("clock", "breaker") && !allowed("config", "domain"));
    assert!(!allowed("domain", "nonsense"));
}

#[test]
fn each_kind_of_fault_is_found() {
    let source = |depth: usize, code: &str| Source {
        path: PathBuf::from("x.rs"),
        room: "policy".to_owned(),
        depth,
        code: blanked(code),
    };
    for (code, faults) in [
        ("use crate::domain::Id;\nuse super::model;", 0),
        ("use crate::nats::Worker;", 1),
        ("use crate::{domain::Id, state::{State, Cell}, wire};", 2),
        ("fn f() -> crate::cli::Exit { beamline_router::app::x() }", 2),
        ("use super::super::domain;", 1),
        ("mod tests { use super::super::model; }", 0),
        ("mod tests { use super::super::super::domain; }", 1),
    ] {
        assert_eq!(directions(&source(2, code)).len(), faults, "{code}");
    }
    for (code, faults) in [
        ("use std::collections::BTreeMap;\nuse super::time::Stamp;", 0),
        ("use std::time::Duration;", 1),
        ("use std::{fmt, fs::File, sync::Mutex};", 2),
        ("async fn f() { tokio::spawn(x) }", 2),
    ] {
        assert_eq!(impurities(&source(2, code)).len(), faults, "{code}");
    }
}
