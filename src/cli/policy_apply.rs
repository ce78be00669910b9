//! `policy apply` and `policy validate`: many documents, each told of.
//!
//! Apply reads before it writes: a policy that stands as its document says is left alone, so that
//! applying a folder twice changes nothing and makes no revisions. What it writes, it writes only over
//! the revision that it has read. A document that fails does not keep the others from their turn; a
//! broker that is gone does.

use std::path::Path;

use serde_json::{Value, json};

use super::exit::{Exit, Failure, exit_of, shown_pointer, tell_control};
use super::output::shown;
use super::policy_files::{self, Document, FileFault, PolicyFile};
use super::shell::{Body, Session, entries};
use crate::nats::control_client::{ControlError, fault};

/// Tells the faults and warnings of each document.
pub(super) async fn validate(session: &Session, path: &Path) -> Result<(), Failure> {
    let out = session.out;
    let (documents, unusable) = policy_files::documents(path);
    if unusable.iter().any(|fault| fault.unreadable) {
        return Err(Failure::Files(unusable));
    }
    let mut sound = unusable.is_empty();
    let mut files: Vec<Value> = Vec::new();
    for FileFault { path, message, .. } in &unusable {
        out.line(&format!("{}: {message}", path.display()));
        files.push(json!({
            "path": path.display().to_string(), "faults": [{"path": "", "message": message}], "warnings": []
        }));
    }
    for Document { document, path: file, .. } in documents {
        let file = file.display().to_string();
        let answer = session.ask("policy.validate", Body::new().with("policy", Some(document))).await?;
        let (faults, warnings) = (entries(&answer, "faults"), entries(&answer, "warnings"));
        for (pointer, message) in faults.iter().map(fault) {
            out.line(&format!("{file}: {}: {message}", shown_pointer(&pointer)));
        }
        for warning in &warnings {
            out.note(&format!("{file}: warning: {}", shown(Some(warning))));
        }
        if faults.is_empty() {
            out.line(&format!("{file}: sound"));
        } else {
            sound = false;
        }
        if path.is_dir() {
            files.push(json!({"path": file, "faults": faults, "warnings": warnings}));
        } else {
            out.body(&answer);
        }
    }
    if !files.is_empty() {
        out.body(&json!({"ok": true, "files": files}));
    }
    if sound { Ok(()) } else { Err(Failure::Told(Exit::Refused)) }
}

/// What came of a document.
enum Applied {
    Created(Value),
    Updated(Value),
    Unchanged(Value),
}

impl Applied {
    fn word(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Updated(_) => "updated",
            Self::Unchanged(_) => "unchanged",
        }
    }

    fn answer(&self) -> &Value {
        match self {
            Self::Created(answer) | Self::Updated(answer) | Self::Unchanged(answer) => answer,
        }
    }
}

/// Puts what is not yet as it should be.
pub(super) async fn apply(session: &Session, path: &Path, tenant: Option<&str>) -> Result<(), Failure> {
    let out = session.out;
    let mut files: Vec<Value> = Vec::new();
    let mut worst: Option<Exit> = None;
    for file in policy_files::load(path, tenant)? {
        let shown_path = file.path.display().to_string();
        let policy_id = policy_files::policy_id(&file.document).unwrap_or_default();
        let named = format!("{}/{policy_id}", file.tenant_id);
        let mut entry = json!({"path": shown_path, "tenant_id": file.tenant_id, "policy_id": policy_id});
        match apply_one(session, &file).await {
            Ok(applied) => {
                let answer = applied.answer();
                let revision = shown(answer.get("revision"));
                out.line(&format!("{:<9}  {named}  revision {revision}  {shown_path}", applied.word()));
                session.warn(answer);
                entry["outcome"] = json!(applied.word());
                entry["answer"] = answer.clone();
            }
            Err(error) => {
                let exit = exit_of(&error);
                out.line(&format!("{:<9}  {named}  {shown_path}", "failed"));
                tell_control(out, Some(&shown_path), &error);
                entry["outcome"] = json!("failed");
                entry["answer"] = match &error {
                    ControlError::Refused(refusal) => refusal.body.clone(),
                    other => {
                        json!({"ok": false, "error": {"code": "unreachable", "message": other.to_string()}})
                    }
                };
                worst = match worst {
                    None => Some(exit),
                    Some(before) if before == exit => Some(exit),
                    Some(_) => Some(Exit::Refused),
                };
                if exit == Exit::Unreachable {
                    worst = Some(exit);
                    files.push(entry);
                    break;
                }
            }
        }
        files.push(entry);
    }
    out.body(&json!({"ok": worst.is_none(), "files": files}));
    worst.map_or(Ok(()), |exit| Err(Failure::Told(exit)))
}

async fn apply_one(session: &Session, file: &PolicyFile) -> Result<Applied, ControlError> {
    let body = Body::new().with("tenant_id", Some(file.tenant_id.as_str()));
    let put = body.clone().with("policy", Some(file.document.clone()));
    let Some(policy_id) = policy_files::policy_id(&file.document) else {
        // An id that is no text: the router says so, with all else that is wrong.
        return session.change("policy.put", put).await.map(Applied::Updated);
    };
    match session.ask("policy.get", body.with("policy_id", Some(policy_id))).await {
        Ok(current) => {
            let stands = ["policy", "effective"].iter().filter_map(|field| current.get(field));
            if stands.into_iter().any(|stored| same_policy(stored, &file.document)) {
                return Ok(Applied::Unchanged(current));
            }
            let put = put.with("expected_revision", current.get("revision").cloned());
            session.change("policy.put", put).await.map(Applied::Updated)
        }
        Err(error) if exit_of(&error) == Exit::NotFound => {
            let put = put.with("expected_revision", Some(0));
            session.change("policy.put", put).await.map(Applied::Created)
        }
        Err(error) => Err(error),
    }
}

/// Whether two documents say the same: the order of fields does not count, `1` is `1.0`, and a missing
/// `policy_id` is the default one.
fn same_policy(a: &Value, b: &Value) -> bool {
    let named = |document: &Value| {
        let mut document = document.clone();
        if let (Some(id), Some(fields)) =
            (policy_files::policy_id(&document).map(str::to_owned), document.as_object_mut())
        {
            fields.insert("policy_id".to_owned(), Value::String(id));
        }
        document
    };
    same(&named(a), &named(b))
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(value, other)| same(value, other))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_that_say_the_same_are_the_same() {
        let stored = json!({"policy_id": "default", "providers": [{"name": "a", "weight": 70}]});
        assert!(same_policy(&stored, &json!({"providers": [{"weight": 70.0, "name": "a"}]})));
        assert!(!same_policy(&stored, &json!({"providers": [{"weight": 71, "name": "a"}]})));
        assert!(!same_policy(
            &stored,
            &json!({"policy_id": "x", "providers": [{"name": "a", "weight": 70}]})
        ));
        assert!(!same_policy(&stored, &json!({"providers": [{"name": "a", "weight": 70}], "sticky": null})));
    }
}
