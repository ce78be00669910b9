//! `policy`: what the router decides by.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::exit::{EXIT_CODES, Exit, Failure};
use super::output::{Table, shown, switched};
use super::policy_apply;
use super::policy_files::{self, PolicyFile};
use super::shell::{Body, Session, ShellArgs};

/// The command line of `policy`.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct PolicyCommand {
    #[command(flatten)]
    shell: ShellArgs,
    #[command(subcommand)]
    verb: PolicyVerb,
}

/// Which policy.
#[derive(Args, Clone, Debug)]
struct Which {
    /// The tenant
    #[arg(long, value_name = "ID")]
    tenant: String,
    /// The policy
    #[arg(long, value_name = "ID", default_value = "default")]
    policy: String,
}

/// What every change takes.
#[derive(Args, Clone, Debug)]
struct Change {
    /// Change only what is at this revision; 0: only if there is none
    #[arg(long, value_name = "N")]
    expected_revision: Option<u64>,
    /// Why, kept in the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum PolicyVerb {
    /// Put a policy from a file, whatever stands there
    #[command(after_help = "\
Examples:
  beamline-router policy put -f canary.json --tenant acme
  beamline-router policy put -f canary.json --tenant acme --expected-revision 0
  generate-policy | beamline-router policy put -f - --tenant acme

FILE holds the policy, or {\"tenant_id\": …, \"policy\": {…}}.")]
    Put {
        /// The document; - is standard input
        #[arg(short, long, value_name = "FILE")]
        file: PathBuf,
        /// The tenant, unless the file names it
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
        #[command(flatten)]
        change: Change,
    },
    /// Change some fields of a policy (JSON merge patch, RFC 7396)
    #[command(after_help = "\
Examples:
  beamline-router policy patch --tenant acme --patch '{\"circuit_breaker\": {\"enabled\": true}}'
  beamline-router policy patch --tenant acme --policy canary -f patch.json --expected-revision 7")]
    Patch {
        #[command(flatten)]
        which: Which,
        /// The patch
        #[arg(long, value_name = "JSON", required_unless_present = "file", conflicts_with = "file")]
        patch: Option<String>,
        /// The patch in a file; - is standard input
        #[arg(short, long, value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        change: Change,
    },
    /// Show a policy as it was put; its revision goes to standard error
    #[command(after_help = "\
Examples:
  beamline-router policy get --tenant acme > acme.json
  beamline-router policy get --tenant acme --policy canary --effective")]
    Get {
        #[command(flatten)]
        which: Which,
        /// With every default filled in
        #[arg(long)]
        effective: bool,
    },
    /// List policies
    #[command(after_help = "\
Examples:
  beamline-router policy list
  beamline-router policy list --tenant acme --json")]
    List {
        /// Of this tenant only
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
    /// Delete a policy; its history stays
    #[command(after_help = "\
Example:
  beamline-router policy delete --tenant acme --policy canary --reason 'trial is over'")]
    Delete {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// List what a policy was before
    #[command(after_help = "\
Examples:
  beamline-router policy history --tenant acme
  beamline-router policy history --tenant acme --revision 5")]
    History {
        #[command(flatten)]
        which: Which,
        /// Show the document of this revision
        #[arg(long, value_name = "N")]
        revision: Option<u64>,
    },
    /// Write an old revision of a policy as a new one
    #[command(after_help = "\
Example:
  beamline-router policy rollback --tenant acme --revision 5 --reason 'weights were wrong'")]
    Rollback {
        #[command(flatten)]
        which: Which,
        /// The revision whose content comes back
        #[arg(long, value_name = "N")]
        revision: u64,
        #[command(flatten)]
        change: Change,
    },
    /// Tell every fault of policies, and change nothing; 1 if there are any
    #[command(after_help = "\
Examples:
  beamline-router policy validate -f canary.json
  beamline-router policy validate -f policies/

With --json, a FILE gives the router's answer, a DIR {\"ok\", \"files\": [{\"path\", \"faults\", \"warnings\"}]}.")]
    Validate {
        /// The document, or a folder of them; - is standard input
        #[arg(short, long, value_name = "FILE|DIR")]
        file: PathBuf,
    },
    /// Put policies from files, and leave those that are as they should be
    #[command(after_help = "\
Examples:
  beamline-router policy apply -f policies/
  beamline-router policy apply -f canary.json --tenant acme

In DIR, <tenant>/<anything>.json belongs to that tenant. A file holds the policy, or
{\"tenant_id\": …, \"policy\": {…}}. A policy that someone else changes in between is a conflict.
With --json: {\"ok\", \"files\": [{\"path\", \"tenant_id\", \"policy_id\", \"outcome\", \"answer\"}]}, where
outcome is created, updated, unchanged or failed.")]
    Apply {
        /// The document, or a folder of them; - is standard input
        #[arg(short, long, value_name = "FILE|DIR")]
        file: PathBuf,
        /// The tenant of documents that name none
        #[arg(long, value_name = "ID")]
        tenant: Option<String>,
    },
}

impl PolicyCommand {
    /// Does what the command line asks.
    pub async fn run(self) -> ExitCode {
        let verb = self.verb;
        self.shell.run(async move |session: &Session| verb.run(session).await).await
    }
}

impl Which {
    fn body(&self) -> Body {
        Body::new()
            .with("tenant_id", Some(self.tenant.as_str()))
            .with("policy_id", Some(self.policy.as_str()))
    }

    fn named(&self) -> String {
        format!("{}/{}", self.tenant, self.policy)
    }
}

impl Change {
    fn onto(self, body: Body) -> Body {
        body.with("expected_revision", self.expected_revision).with("reason", self.reason)
    }
}

impl PolicyVerb {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let out = session.out;
        match self {
            Self::Put { file, tenant, change } => {
                let file = one(policy_files::load(&file, tenant.as_deref())?)?;
                let id = policy_files::policy_id(&file.document).unwrap_or_default();
                let named = format!("{}/{id}", file.tenant_id);
                let body =
                    Body::new().with("tenant_id", Some(file.tenant_id)).with("policy", Some(file.document));
                let answer = session.change("policy.put", change.onto(body)).await?;
                changed(
                    session,
                    &answer,
                    &format!("{named} is at revision {}", shown(answer.get("revision"))),
                );
            }
            Self::Patch { which, patch, file, change } => {
                let patch = match file {
                    Some(file) => policy_files::read_json(&file).map_err(|fault| vec![fault])?,
                    None => serde_json::from_str(&patch.unwrap_or_default())
                        .map_err(|error| Failure::Usage(format!("--patch: not JSON: {error}")))?,
                };
                let body = change.onto(which.body().with("patch", Some(patch)));
                let answer = session.change("policy.patch", body).await?;
                let revision = shown(answer.get("revision"));
                changed(session, &answer, &format!("{} is at revision {revision}", which.named()));
            }
            Self::Get { which, effective } => {
                let answer = session.ask("policy.get", which.body()).await?;
                out.body(&answer);
                let field = if effective { "effective" } else { "policy" };
                out.document(answer.get(field).unwrap_or(&Value::Null));
                if !out.is_json() {
                    out.note(&format!("{} is at revision {}", which.named(), shown(answer.get("revision"))));
                }
            }
            Self::List { tenant } => {
                let body = Body::new().with("tenant_id", tenant);
                let (answer, policies) = session.list("policy.list", body, "policies").await?;
                let mut table = Table::new(&["TENANT", "POLICY", "REVISION", "BREAKER", "PROVIDERS"]);
                for policy in &policies {
                    let text = |field| shown(policy.get(field));
                    let breaker = switched(policy.get("circuit_breaker_enabled"));
                    table.row([
                        text("tenant_id"),
                        text("policy_id"),
                        text("revision"),
                        breaker,
                        text("providers"),
                    ]);
                }
                out.body(&answer);
                out.table(&table);
            }
            Self::Delete { which, change } => {
                let answer = session.change("policy.delete", change.onto(which.body())).await?;
                let revision = shown(answer.get("revision"));
                changed(session, &answer, &format!("{} is deleted, at revision {revision}", which.named()));
            }
            Self::History { which, revision } => history(session, &which, revision).await?,
            Self::Rollback { which, revision, change } => {
                let body = change.onto(which.body().with("revision", Some(revision)));
                let answer = session.change("policy.rollback", body).await?;
                let now = shown(answer.get("revision"));
                let line = format!("{} is at revision {now}, as it was at {revision}", which.named());
                changed(session, &answer, &line);
            }
            Self::Validate { file } => policy_apply::validate(session, &file).await?,
            Self::Apply { file, tenant } => policy_apply::apply(session, &file, tenant.as_deref()).await?,
        }
        Ok(())
    }
}

async fn history(session: &Session, which: &Which, revision: Option<u64>) -> Result<(), Failure> {
    let (answer, revisions) = session.list("policy.history", which.body(), "revisions").await?;
    session.out.body(&answer);
    let Some(revision) = revision else {
        let mut table = Table::new(&["REVISION", "AT", "OPERATION", "ACTOR", "REASON"]);
        table.rows(&revisions, &["revision", "at", "operation", "actor", "reason"]);
        session.out.table(&table);
        return Ok(());
    };
    let entry =
        revisions.iter().find(|entry| entry.get("revision").and_then(Value::as_u64) == Some(revision));
    match entry.and_then(|entry| entry.get("policy")) {
        Some(document) => {
            session.out.document(document);
            Ok(())
        }
        None => {
            session.out.error(&format!("{} has no document at revision {revision}", which.named()));
            Err(Failure::Told(Exit::NotFound))
        }
    }
}

fn changed(session: &Session, answer: &Value, line: &str) {
    session.out.body(answer);
    session.out.line(line);
    session.warn(answer);
}

fn one(files: Vec<PolicyFile>) -> Result<PolicyFile, Failure> {
    let mut files = files.into_iter();
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        _ => Err(Failure::Usage("policy put takes one document; policy apply takes a folder".to_owned())),
    }
}
