//! `report` and `rebuild`: the pages of a rollout as files. They are made from the stream of rollouts alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::exit::{Exit, Failure};
use crate::cli::shell::Session;
use crate::domain::RolloutId;
use crate::rollout::pages::pages;

/// Writes the pages into a folder.
pub(super) async fn report(session: &Session, id: &str, folder: &Path) -> Result<(), Failure> {
    let pages = made(session, id).await?;
    write(&pages, folder).map_err(|(path, error)| Failure::Usage(format!("{}: {error}", path.display())))?;
    let paths: Vec<&String> = pages.keys().collect();
    session.out.body(&json!({ "ok": true, "rollout": id, "out": folder, "pages": paths }));
    session.out.line(&format!("{} pages of {id} are in {}", pages.len(), folder.display()));
    Ok(())
}

/// Makes the pages again and compares them with those of a folder.
pub(super) async fn rebuild(session: &Session, id: &str, folder: &Path) -> Result<(), Failure> {
    let pages = made(session, id).await?;
    let differing = differing(&pages, folder);
    session.out.body(&json!({
        "ok": differing.is_empty(), "rollout": id, "pages": pages.len(), "differing": differing,
    }));
    if differing.is_empty() {
        session.out.line(&format!("{} pages of {id} are as the stream makes them", pages.len()));
        return Ok(());
    }
    for path in &differing {
        session.out.error(&format!("{}: is missing, or not as the stream makes it", path.display()));
    }
    Err(Failure::Told(Exit::Refused))
}

async fn made(session: &Session, id: &str) -> Result<BTreeMap<String, String>, Failure> {
    let rollout = RolloutId::try_new(id).map_err(|error| Failure::Usage(format!("rollout: {error}")))?;
    let recorded = session.rollout_messages(&rollout).await?;
    if recorded.messages.is_empty() {
        session.out.error(&format!("there is no rollout {id}"));
        return Err(Failure::Told(Exit::NotFound));
    }
    Ok(pages(recorded.made, &rollout, recorded.messages))
}

/// The files of a folder that are missing or have other bytes than the pages.
pub(in crate::cli) fn differing(pages: &BTreeMap<String, String>, folder: &Path) -> Vec<PathBuf> {
    let files = pages.iter().map(|(path, text)| (folder.join(path), text));
    let differing =
        files.filter(|(path, text)| !std::fs::read(path).is_ok_and(|found| found == text.as_bytes()));
    differing.map(|(path, _)| path).collect()
}

/// Writes pages into a folder. The error names the file that was not written.
pub(in crate::cli) fn write(
    pages: &BTreeMap<String, String>,
    folder: &Path,
) -> Result<(), (PathBuf, io::Error)> {
    for (path, text) in pages {
        let path = folder.join(path);
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::write(&path, text)).map_err(|error| (path, error))?;
    }
    Ok(())
}
