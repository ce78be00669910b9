//! The reference page, held against the reader.

use super::*;

const PAGE: &str = include_str!("../../../../docs/rollout-plan.md");

/// The blocks of code in one language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let opening = format!("```{language}\n");
    PAGE.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// The cells of the row whose first cell is this field.
fn row(field: &str) -> Vec<&'static str> {
    let head = format!("| `{field}` |");
    let mut rows = PAGE.lines().filter(|line| line.starts_with(&head));
    let row = rows.next().unwrap_or_else(|| panic!("no row for {field}"));
    assert_eq!(rows.next(), None, "{field}");
    row.trim_matches('|').split('|').map(str::trim).collect()
}

/// The fields of an object with their values, members of blocks by their path.
fn fields(path: &str, value: &Value, into: &mut Vec<(String, Value)>) {
    for (name, value) in value.as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            Value::Object(members) if !members.is_empty() => fields(&path, value, into),
            _ => into.push((path, value.clone())),
        }
    }
}

#[test]
fn the_first_example_is_sound_and_warns_of_nothing() {
    let example = serde_json::from_str(blocks("json")[0]).unwrap();
    let checked = parse(&example).unwrap();
    assert_eq!(checked.warnings, Vec::<String>::new());
}

#[test]
fn every_field_has_a_row_with_its_default() {
    let mut all = Vec::new();
    fields("", &effective(&plan(json!({}))), &mut all);
    assert!(all.len() > 20, "{all:?}");
    for (field, default) in all {
        let row = row(&field);
        let told = match field.as_str() {
            "kind" | "id" => "required".to_owned(),
            "phases" => "[four](#phases)".to_owned(),
            _ => format!("`{default}`"),
        };
        assert_eq!((row.len(), row[3]), (5, told.as_str()), "{field}");
    }
    let phase = effective(&plan(one_phase(json!({}))))["phases"][0].clone();
    let of_phase = phase.as_object().unwrap().keys().map(|name| format!("phases[].{name}"));
    let of_facts = ["critical", "owner", "notified"].map(|name| format!("facts.*.{name}"));
    for field in of_phase.chain(of_facts) {
        assert_eq!(row(&field).len(), 5, "{field}");
    }
}

#[test]
fn the_default_phases_are_those_of_the_table() {
    for phase in effective(&plan(json!({})))["phases"].as_array().unwrap() {
        let name = phase["name"].as_str().unwrap();
        let cells = row(name);
        for (cell, field) in cells.iter().skip(1).zip(["tenants", "ladder", "bake", "min", "max", "block"]) {
            let told = cell.trim_matches('`');
            let told = serde_json::from_str(told).unwrap_or_else(|_| json!(told));
            assert_eq!(told, phase[field], "{name} {field}");
        }
    }
}

#[test]
fn the_faults_of_the_wrong_example_are_those_shown() {
    let example = serde_json::from_str(blocks("json").last().unwrap()).unwrap();
    let found = parse(&example).unwrap_err();
    let told: Vec<_> = found.iter().map(|f| format!("{}: {}", f.path, f.message)).collect();
    assert_eq!(told, blocks("text")[0].lines().collect::<Vec<_>>());
}

#[test]
fn the_warnings_shown_are_those_told() {
    let mut document = one_phase(json!({
        "tenants": {"count": 1, "critical": false}, "ladder": [20], "min": "5s", "block": "1s",
    }));
    document["after_phase"] = json!(10);
    document["analysis"] = json!({
        "latency": {"quantiles": []}, "harm": {"margin": 0.01}, "safe": {"margin": 0.01},
    });
    assert_eq!(warnings(document), blocks("text")[1].lines().collect::<Vec<_>>());
}
