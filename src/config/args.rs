//! The flags of the command line, built from the table of settings.
//!
//! The command line parser takes them as text only. It never reads the environment: [`super::Reader`]
//! does, so that a fault in a variable is told together with those in flags.

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};

use super::keys::{CLIENT, CONNECTION, Key, Kind, SERVE};
use super::reader::Given;

/// The flags of `serve`.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs(Given);

/// The flags of the control verbs; they may stand anywhere on the command line.
#[derive(Clone, Debug, Default)]
pub struct ClientArgs(Given);

impl ServeArgs {
    pub(super) fn given(&self) -> &Given {
        &self.0
    }
}

impl ClientArgs {
    pub(super) fn given(&self) -> &Given {
        &self.0
    }
}

fn arg(key: &'static Key) -> Arg {
    let mut help = format!("{} [env: {}]", key.help, key.env);
    if let Some(default) = key.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    let arg = Arg::new(key.flag).long(key.flag).value_name(key.value).help(help);
    match key.kind {
        Kind::Value => arg.action(ArgAction::Set),
        Kind::Secret => arg.action(ArgAction::Set).allow_hyphen_values(true),
        Kind::Switch => {
            arg.action(ArgAction::Set).num_args(0..=1).require_equals(true).default_missing_value("true")
        }
        Kind::List => arg.action(ArgAction::Append),
    }
}

fn take(matches: &ArgMatches, keys: impl Iterator<Item = &'static Key>) -> Result<Given, Error> {
    let mut given = Given::default();
    for key in keys {
        if let Some(values) = matches.get_many::<String>(key.flag) {
            given.0.insert(key.flag, values.cloned().collect());
        }
    }
    Ok(given)
}

fn serve_keys() -> impl Iterator<Item = &'static Key> {
    CONNECTION.into_iter().chain(SERVE)
}

fn client_keys() -> impl Iterator<Item = &'static Key> {
    CONNECTION.into_iter().chain(CLIENT)
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        take(matches, serve_keys()).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ServeArgs {
    fn augment_args(command: Command) -> Command {
        let command = CONNECTION
            .into_iter()
            .fold(command, |command, key| command.arg(arg(key).help_heading("Connection")));
        SERVE.into_iter().fold(command, |command, key| command.arg(arg(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ClientArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        take(matches, client_keys()).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ClientArgs {
    fn augment_args(command: Command) -> Command {
        client_keys().fold(command, |command, key| {
            let arg = arg(key).global(true).help_heading("Connection");
            // `-h` of a verb shows the verb; `--help` shows these too.
            command.arg(arg.hide_short_help(true))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
