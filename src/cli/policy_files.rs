//! Policy documents in files, for `policy put|apply|validate` and for `serve --policy-dir`.
//!
//! A document is the bare policy, or an envelope `{"tenant_id": …, "policy": {…}}`. In a folder,
//! `<tenant>/<anything>.json` belongs to that tenant, and a file beside those folders needs an envelope
//! or a tenant from elsewhere. Where a tenant is said twice, both must agree. Only `*.json` is read;
//! names that begin with a dot are passed over, since mounted volumes keep their own there. Every fault
//! of a folder is told, not the first one only.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::document::read_text;

/// Longer files are no policies: the broker takes no message of this length by default.
const MAX_BYTES: u64 = 1 << 20;

/// The policy that a document without `policy_id` is.
const DEFAULT_POLICY: &str = "default";

/// A policy document and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyFile {
    /// The tenant, by flag, folder or envelope.
    pub tenant_id: String,
    /// The bare policy, unchecked.
    pub document: Value,
    /// Where it stands; `-` is standard input.
    pub path: PathBuf,
}

/// A policy document, whosever it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The tenant, if folder or envelope names one.
    pub tenant_id: Option<String>,
    /// The bare policy, unchecked.
    pub document: Value,
    /// Where it stands; `-` is standard input.
    pub path: PathBuf,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong.
    pub message: String,
    /// Whether it could not even be read, so that nothing can be said of what it holds.
    pub unreadable: bool,
}

impl FileFault {
    pub(super) fn unfit(path: &Path, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), message: message.into(), unreadable: false }
    }

    pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        Self { path: path.to_owned(), message: format!("cannot be read: {error}"), unreadable: true }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.message)
    }
}

impl std::error::Error for FileFault {}

/// Reads the policies of a file, a folder or (`-`) of standard input, each with its tenant; `tenant`
/// is that of documents which name none. In the order of their paths.
///
/// # Errors
/// All files that cannot be used.
pub fn load(path: &Path, tenant: Option<&str>) -> Result<Vec<PolicyFile>, Vec<FileFault>> {
    let mut files: Vec<PolicyFile> = Vec::new();
    let mut faults = Vec::new();
    let mut seen: BTreeMap<(String, String), PathBuf> = BTreeMap::new();
    let (documents, unusable) = documents(path);
    faults.extend(unusable);
    for Document { tenant_id, document, path } in documents {
        let tenant_id = match agreed(tenant_id, tenant, &path, "--tenant") {
            Ok(Some(tenant_id)) => tenant_id,
            Ok(None) => {
                let message =
                    "names no tenant: give --tenant, a folder <tenant>/, or {\"tenant_id\", \"policy\"}";
                faults.push(FileFault::unfit(&path, message));
                continue;
            }
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        if let Some(policy_id) = policy_id(&document) {
            let key = (tenant_id.clone(), policy_id.to_owned());
            if let Some(first) = seen.insert(key, path.clone()) {
                let message = format!("{tenant_id}/{policy_id} stands in {} too", first.display());
                faults.push(FileFault::unfit(&path, message));
                continue;
            }
        }
        files.push(PolicyFile { tenant_id, document, path });
    }
    if faults.is_empty() { Ok(files) } else { Err(faults) }
}

/// Reads one JSON value, whatever it is, of a file or (`-`) of standard input.
///
/// # Errors
/// When it cannot be read, is too long, or is no JSON.
pub fn read_json(path: &Path) -> Result<Value, FileFault> {
    json(path, &read(path)?)
}

/// Reads the documents of a file, a folder or (`-`) of standard input, whosever they are, and tells of
/// those that cannot be used.
#[must_use]
pub fn documents(path: &Path) -> (Vec<Document>, Vec<FileFault>) {
    let mut found = Found::default();
    if path.is_dir() {
        found.folder(path, None);
        if found.documents.is_empty() && found.faults.is_empty() {
            found.unfit(path, "holds no *.json file");
        }
    } else {
        found.file(path, None);
    }
    (found.documents, found.faults)
}

/// The policy's id: the default one if it names none, nothing if what it names is no text.
#[must_use]
pub fn policy_id(document: &Value) -> Option<&str> {
    match document.get("policy_id") {
        None => Some(DEFAULT_POLICY),
        Some(id) => id.as_str(),
    }
}

#[derive(Default)]
struct Found {
    documents: Vec<Document>,
    faults: Vec<FileFault>,
}

impl Found {
    fn unfit(&mut self, path: &Path, message: &str) {
        self.faults.push(FileFault::unfit(path, message));
    }

    fn folder(&mut self, path: &Path, tenant: Option<&str>) {
        let entries = match std::fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(entries) => entries,
            Err(error) => return self.faults.push(FileFault::unreadable(path, &error)),
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else {
                self.unfit(&path, "the name is not Unicode");
                continue;
            };
            if name.starts_with('.') {
                continue;
            }
            match (path.is_dir(), tenant, path.extension().and_then(OsStr::to_str)) {
                (true, None, _) => self.folder(&path, Some(name)),
                (true, Some(_), _) => self.unfit(&path, "a tenant's folder holds files only"),
                (false, _, Some("json")) => self.file(&path, tenant),
                (false, _, Some("yaml" | "yml" | "toml")) => {
                    self.unfit(&path, "policies are read from *.json only");
                }
                (false, _, _) => {}
            }
        }
    }

    fn file(&mut self, path: &Path, tenant: Option<&str>) {
        match read_json(path).and_then(|document| opened(path, document, tenant)) {
            Ok(document) => self.documents.push(document),
            Err(fault) => self.faults.push(fault),
        }
    }
}

/// Reads the text of a file or (`-`) of standard input.
pub(super) fn read(path: &Path) -> Result<String, FileFault> {
    if path == Path::new("-") {
        return read_from(path, std::io::stdin().lock());
    }
    let file = std::fs::File::open(path).map_err(|error| FileFault::unreadable(path, &error))?;
    read_from(path, file)
}

fn read_from(path: &Path, source: impl Read) -> Result<String, FileFault> {
    let mut bytes = Vec::new();
    source
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FileFault::unreadable(path, &error))?;
    if u64::try_from(bytes.len()).is_ok_and(|n| n > MAX_BYTES) {
        return Err(FileFault::unfit(path, format!("longer than {MAX_BYTES} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| FileFault::unfit(path, "not UTF-8".to_owned()))
}

/// The JSON value in the text of a file.
pub(super) fn json(path: &Path, text: &str) -> Result<Value, FileFault> {
    read_text(text).map_err(|faults| {
        let told = faults.iter().map(|f| match f.path.as_str() {
            "" => format!("not JSON: {}", f.message),
            path => format!("{path}: {}", f.message),
        });
        let told = told.collect::<Vec<_>>();
        FileFault::unfit(path, told.join("; "))
    })
}

/// The policy out of its envelope, if it has one. A policy has no field `policy`, so an object that has
/// one is an envelope.
fn opened(path: &Path, document: Value, folder: Option<&str>) -> Result<Document, FileFault> {
    let unfit = |message: String| FileFault::unfit(path, message);
    let Value::Object(mut fields) = document else {
        return Err(unfit("want a JSON object: a policy, or {\"tenant_id\", \"policy\"}".to_owned()));
    };
    let mut envelope = None;
    let document = match fields.remove("policy") {
        None => Value::Object(fields),
        Some(policy) => {
            envelope = match fields.remove("tenant_id") {
                None => None,
                Some(Value::String(tenant_id)) => Some(tenant_id),
                Some(_) => return Err(unfit("/tenant_id: want a string".to_owned())),
            };
            if let Some(other) = fields.keys().next() {
                return Err(unfit(format!("/{other}: an envelope has tenant_id and policy only")));
            }
            policy
        }
    };
    if !document.is_object() {
        return Err(unfit("/policy: want an object".to_owned()));
    }
    let tenant_id = agreed(envelope, folder, path, "its folder")?;
    Ok(Document { tenant_id, document, path: path.to_owned() })
}

fn agreed(
    own: Option<String>,
    other: Option<&str>,
    path: &Path,
    source: &str,
) -> Result<Option<String>, FileFault> {
    match (own, other) {
        (Some(own), Some(other)) if own != other => {
            Err(FileFault::unfit(path, format!("belongs to tenant {own}, but {source} says {other}")))
        }
        (own, other) => Ok(own.or_else(|| other.map(str::to_owned))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        dir
    }

    fn faults(dir: &tempfile::TempDir, tenant: Option<&str>) -> Vec<String> {
        let faults = load(dir.path(), tenant).expect_err("faults");
        let base = dir.path().display().to_string();
        faults.iter().map(|fault| fault.to_string().replace(&base, "")).collect()
    }

    #[test]
    fn the_tenant_is_the_folders_the_envelopes_or_the_flags() {
        let dir = folder(&[
            ("acme/a.json", r#"{"policy_id": "a"}"#),
            ("acme/b.json", r#"{"tenant_id": "acme", "policy": {"policy_id": "b"}}"#),
            ("c.json", r#"{"tenant_id": "other", "policy": {}}"#),
            ("README.md", "not a policy"),
            (".hidden/x.json", "not JSON"),
        ]);
        let loaded = load(dir.path(), None).expect("sound");
        let found: Vec<_> =
            loaded.iter().map(|f| (f.tenant_id.as_str(), policy_id(&f.document).expect("an id"))).collect();
        assert_eq!(found, [("acme", "a"), ("acme", "b"), ("other", "default")]);
        assert_eq!(loaded[1].document, json!({"policy_id": "b"}));

        let bare = folder(&[("p.json", "{}")]);
        assert_eq!(load(&bare.path().join("p.json"), Some("t")).expect("sound")[0].tenant_id, "t");
    }

    #[test]
    fn every_fault_of_a_folder_is_told() {
        let dir = folder(&[
            ("acme/a.json", "{"),
            ("acme/b.json", r#"{"tenant_id": "other", "policy": {}}"#),
            ("acme/c.yaml", "x: 1"),
            ("acme/deep/d.json", "{}"),
            ("e.json", "{}"),
            ("f.json", "[]"),
            ("g.json", r#"{"policy": {}, "tenant": "acme"}"#),
        ]);
        let told = faults(&dir, None);
        for (path, part) in [
            ("/acme/a.json", "not JSON"),
            ("/acme/b.json", "belongs to tenant other, but its folder says acme"),
            ("/acme/c.yaml", "*.json only"),
            ("/acme/deep", "files only"),
            ("/e.json", "names no tenant"),
            ("/f.json", "want a JSON object"),
            ("/g.json", "/tenant: an envelope"),
        ] {
            assert!(told.iter().any(|t| t.starts_with(path) && t.contains(part)), "{path}: {told:?}");
        }
        assert_eq!(told.len(), 7);
    }

    #[test]
    fn one_policy_stands_in_one_file() {
        let dir = folder(&[("acme/a.json", "{}"), ("acme/b.json", r#"{"policy_id": "default"}"#)]);
        let told = faults(&dir, None);
        assert_eq!(told, ["/acme/b.json: acme/default stands in /acme/a.json too"]);
    }

    #[test]
    fn what_is_missing_empty_or_too_long_is_told() {
        let dir = folder(&[("big.json", &" ".repeat(1 << 20)), ("huge.json", &" ".repeat((1 << 20) + 1))]);
        assert!(load(&dir.path().join("nowhere.json"), None).expect_err("a fault")[0].unreadable);
        assert!(faults(&dir, Some("t"))[0].contains("not JSON"));
        assert!(faults(&dir, Some("t"))[1].contains("longer than"));
        assert_eq!(faults(&folder(&[]), None), [": holds no *.json file"]);
    }
}
