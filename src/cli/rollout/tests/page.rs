use std::path::Path;

use clap::CommandFactory as _;

use super::*;
use crate::cli::Cli;
use crate::cli::rollout::plan_file;
use crate::cli::rollout::words::explained;

const PAGE: &str = include_str!("../../../../docs/rollout.md");

/// The lines of the page's tables that begin so.
fn rows(beginning: &str) -> impl Iterator<Item = &'static str> {
    PAGE.lines().filter(move |line| line.starts_with(beginning))
}

#[test]
fn the_page_has_every_verb_with_its_flags() {
    let cli = Cli::command();
    let rollout = cli.find_subcommand("rollout").unwrap();
    let mut verbs = 0;
    for verb in rollout.get_subcommands().filter(|verb| verb.get_name() != "help") {
        verbs += 1;
        let row =
            rows("| `rollout ").find(|row| row.starts_with(&format!("| `rollout {}` |", verb.get_name())));
        let row = row.unwrap_or_else(|| panic!("{} has no row", verb.get_name()));
        let general = ["reason", "expected-seq", "help"];
        for flag in
            verb.get_arguments().filter_map(clap::Arg::get_long).filter(|flag| !general.contains(flag))
        {
            assert!(row.contains(&format!("--{flag}")), "{flag}: {row}");
        }
    }
    let listed = PAGE.split("## Reference").nth(1).unwrap();
    assert_eq!(listed.lines().filter(|line| line.starts_with("| `rollout ")).count(), verbs);
}

#[test]
fn the_page_has_every_exit_code_of_the_help() {
    let help = Cli::command().find_subcommand("rollout").unwrap().get_after_help().unwrap().to_string();
    let codes: Vec<&str> = help
        .lines()
        .filter(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5", "10", "11", "13"]);
    for code in codes {
        assert!(rows(&format!("| {code} |")).count() == 1, "{code}");
    }
}

#[test]
fn the_plan_of_the_page_has_no_faults() {
    let yaml = PAGE.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let document = plan_file::parse(Path::new("page.yaml"), yaml).unwrap();
    let checked = plan::parse(&document).unwrap();
    assert_eq!(checked.warnings, Vec::<String>::new());
    assert_eq!(checked.plan.phases().len(), 4);
}

#[test]
fn reasons_of_a_pause_are_words_of_the_router() {
    let section = PAGE.split("## When it is paused").nth(1).unwrap().split("## ").next().unwrap();
    let reasons = section.lines().filter(|line| line.starts_with("| `")).flat_map(|line| {
        let cell = line.split('|').nth(1).unwrap_or_default();
        cell.split('`').skip(1).step_by(2).collect::<Vec<_>>()
    });
    let reasons: Vec<&str> = reasons.filter(|reason| *reason != "pause").collect();
    assert!(reasons.len() > 6, "{reasons:?}");
    for reason in reasons {
        assert!(explained(reason).is_some(), "{reason}");
    }
}

#[test]
fn the_picture_of_the_page_is_one_that_is_drawn() {
    let shown = PAGE.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let drawn = status::drawn(&standing(running()), 100, None);
    assert!(drawn.starts_with(shown.trim_end()), "{drawn}");
}
