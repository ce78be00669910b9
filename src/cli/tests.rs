//! What the command line promises before anything is asked.

use clap::{CommandFactory, Parser};

use super::*;

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_that_does_something_shows_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        if command.get_name() == "help" {
            return;
        }
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            command.get_subcommands().for_each(|sub| walk(sub, &path));
        } else {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example") && help.contains(path.trim_start()), "{path}");
        }
    }
    walk(&Cli::command(), "");
}

#[test]
fn examples_in_the_help_are_commands() {
    fn walk(command: &clap::Command) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter_map(|line| line.split_once("beamline-router ")) {
            let line = line.1.split(" > ").next().unwrap_or_default();
            // Quoted words stand for one.
            let words: String = line
                .split('\'')
                .enumerate()
                .map(|(n, part)| if n % 2 == 1 { part.replace(' ', "_") } else { part.to_owned() })
                .collect();
            if let Err(error) = parsed(&format!("beamline-router {words}")) {
                panic!("{line}: {error}");
            }
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

#[test]
fn flags_of_the_connection_may_stand_anywhere() {
    for line in [
        "beamline-router policy --nats-url nats://a --json list",
        "beamline-router policy list --nats-url nats://a --json",
    ] {
        match parsed(line).expect("a command").command {
            Command::Policy(command) => assert!(format!("{command:?}").contains("nats://a"), "{command:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn top_takes_ids_only() {
    assert!(parsed("beamline-router top --tenant acme.eu --provider a:b").is_ok());
    assert!(parsed("beamline-router top --tenant <b>").is_err());
    assert!(parsed("beamline-router top --provider a/b").is_err());
}

#[test]
fn an_emergency_switch_has_no_default_scope() {
    assert!(parsed("beamline-router flag set off").is_err());
    assert!(parsed("beamline-router flag set off --global --tenant acme").is_err());
    assert!(parsed("beamline-router flag set off --tenant acme").is_ok());
}
