//! The log lines of the program, read from its source and held against docs/operations.md: every event
//! with its levels and its fields, in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a line tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

type Events = BTreeMap<String, Told>;

const MACRO: &str = "tracing::";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // Tests log what they like.
        let is_test = path.file_stem().is_some_and(|name| name == "tests");
        if path.is_dir() && !is_test {
            walk(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
            into.push(path);
        }
    }
}

/// The arguments of a call that opens before `text`, parted at the commas between them.
fn arguments(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_u32;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ')' | ']' | '}' if depth == 0 => break,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        let part = parts.last_mut().unwrap();
        part.push(c);
        if c == '"' {
            while let Some(c) = chars.next() {
                part.push(c);
                match c {
                    '\\' => part.extend(chars.next()),
                    '"' => break,
                    _ => {}
                }
            }
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// The constants of `names::event`.
fn constants() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("src/telemetry/names.rs")).unwrap();
    let of = text.split("pub mod event {").nth(1).unwrap().split("\n}").next().unwrap();
    let constant = |line: &str| {
        let (name, value) = line.trim().strip_prefix("pub const ")?.split_once(": &str = \"")?;
        Some((format!("names::event::{name}"), value.trim_end_matches("\";").to_owned()))
    };
    of.lines().filter_map(constant).collect()
}

/// Every log line of a source: its event, its level, its fields.
fn lines(source: &str, constants: &BTreeMap<String, String>) -> Vec<(String, String, BTreeSet<String>)> {
    let code = source.split("mod tests {").next().unwrap();
    let mut found = Vec::new();
    for (at, _) in code.match_indices(MACRO) {
        let after = &code[at + MACRO.len()..];
        let Some(level) = LEVELS.iter().find(|l| after.starts_with(&format!("{l}!("))) else { continue };
        let mut event = None;
        let mut fields = BTreeSet::new();
        for argument in arguments(&after[level.len() + 2..]) {
            if argument.starts_with('"') {
                fields.insert("message".to_owned());
                continue;
            }
            let (name, value) = match argument.split_once(" = ") {
                Some((name, value)) => (name, Some(value)),
                None => (argument.as_str(), None),
            };
            if name == "event" {
                let value = value.unwrap_or_default();
                event = Some(
                    constants.get(value).map_or_else(|| value.trim_matches('"').to_owned(), Clone::clone),
                );
            } else {
                let name = name.trim_start_matches(['%', '?']);
                fields.insert(name.rsplit('.').next().unwrap().to_owned());
            }
        }
        let event =
            event.unwrap_or_else(|| panic!("a line without an event: {}", &after[..after.len().min(120)]));
        found.push((event, (*level).to_owned(), fields));
    }
    found
}

fn said() -> Events {
    let mut paths = Vec::new();
    walk(&root().join("src"), &mut paths);
    let constants = constants();
    let mut events = Events::new();
    for path in paths {
        for (event, level, fields) in lines(&std::fs::read_to_string(path).unwrap(), &constants) {
            let told = events.entry(event).or_default();
            told.levels.insert(level);
            told.fields.extend(fields);
        }
    }
    events
}

fn quoted(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The cells of the table that begins with this line.
fn table<'p>(page: &'p str, head: &'p str) -> impl Iterator<Item = Vec<&'p str>> {
    let lines = page.lines().skip_while(move |line| *line != head).skip(2);
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|l| l.trim_matches('|').split(" | ").map(str::trim).collect())
}

#[test]
fn every_line_of_the_log_is_documented_with_its_fields_and_no_other() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let said = said();
    assert!(said.len() > 50, "{} events are found in the source", said.len());
    let mut documented = Events::new();
    for row in table(&page, "| event | level | fields |") {
        let levels = row[1].split(", ").map(str::to_owned).collect();
        let event = quoted(row[0]).pop_first().unwrap();
        documented.insert(event, Told { levels, fields: quoted(row[2]) });
    }
    for event in said.keys().chain(documented.keys()) {
        assert_eq!(said.get(event), documented.get(event), "{event}: said, and documented");
    }
    let explained: BTreeSet<_> = table(&page, "| event | level | what it means, and what to do |")
        .flat_map(|row| quoted(row[0]))
        .collect();
    assert_eq!(said.into_keys().collect::<BTreeSet<_>>(), explained, "said, and explained");
}

#[test]
fn lines_are_read_as_they_are_written() {
    let source = r#"
        tracing::warn!(event = "a_b", tenant_id, error = %e.to_string(), at = f(1, "x, )"), "a (message");
        tracing::info!(event = names::event::C, actor = entry.actor, %subject, self.count);
        let x = tracing::level_filters::LevelFilter::INFO;
#[cfg(test)]
mod tests {
    tracing::warn!(event = "not_this");
}"#;
    let constants = BTreeMap::from([("names::event::C".to_owned(), "c".to_owned())]);
    let fields = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(
        lines(source, &constants),
        [
            ("a_b".to_owned(), "warn".to_owned(), fields(&["tenant_id", "error", "at", "message"])),
            ("c".to_owned(), "info".to_owned(), fields(&["actor", "subject", "count"])),
        ]
    );
}
