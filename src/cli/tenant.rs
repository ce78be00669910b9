//! `tenant`: what is stored of a tenant as a whole.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::exit::{EXIT_CODES, Exit, Failure};
use super::shell::{Body, Session, ShellArgs, entries};

/// The command line of `tenant`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct TenantCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: TenantVerb,
}

#[derive(Subcommand, Clone, Debug)]
enum TenantVerb {
    /// Remove a tenant's policies and its switch, with their history
    #[command(after_help = "\
Example:
  beamline-router tenant delete acme --yes --reason 'contract ended'

There is no way back. Shut out its users first, or their requests go on to be refused. What remains of it, where
and for how long: docs/operations.md, \"Removing a tenant\".")]
    Delete {
        /// The tenant
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// Do it; without, nothing is removed
        #[arg(long)]
        yes: bool,
        /// Why, kept in the log and in the markers of the deletes
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

impl TenantCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let TenantVerb::Delete { tenant, yes, reason } = self.verb;
        let delete = async move |session: &Session| {
            if !yes {
                let message = format!(
                    "this removes all policies of {tenant} and its switch, with their history: repeat it with --yes"
                );
                return Err(Failure::Usage(message));
            }
            delete(session, &tenant, reason).await
        };
        self.shell.run(delete).await
    }
}

/// A request removes some policies at a time: the answer that is shown has those of all requests.
async fn delete(session: &Session, tenant: &str, reason: Option<String>) -> Result<(), Failure> {
    let body = Body::new().with("tenant_id", Some(tenant)).with("reason", reason);
    let mut policies = Vec::new();
    let (mut answer, complete) = loop {
        let answer = session.change("tenant.delete", body.clone()).await?;
        policies.extend(entries(&answer, "policies"));
        let holds = |field| answer.get(field) == Some(&Value::Bool(true));
        let (complete, in_force) = (holds("complete"), holds("in_force"));
        if complete || !in_force {
            break (answer, complete);
        }
    };
    let line = removed(policies.len(), answer.get("flag") == Some(&Value::Bool(true)));
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("policies".to_owned(), policies.into());
    }
    session.out.body(&answer);
    session.out.line(&format!("{tenant}: removed {line}"));
    session.warn(&answer);
    if complete {
        return Ok(());
    }
    session.out.error(&format!("not all of {tenant} is removed: repeat the command once the log moves"));
    Err(Failure::Told(Exit::Unreachable))
}

fn removed(policies: usize, flag: bool) -> String {
    let policies = if policies == 1 { "1 policy".to_owned() } else { format!("{policies} policies") };
    format!("{policies}{}", if flag { " and its switch" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_is_counted() {
        assert_eq!(removed(0, true), "0 policies and its switch");
        assert_eq!(removed(1, false), "1 policy");
        assert_eq!(removed(101, true), "101 policies and its switch");
    }
}
