use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};

use super::failed::StandFailed;

/// The last lines of a log that explain why a process ended.
const LAST_LINES: usize = 12;

/// A child process whose words go to a file.
///
/// It leads a process group of its own, so that Ctrl-C in the terminal reaches this program alone, which
/// ends its children in order; and so that a wrapper's own child ends with it. Dropped, it is killed.
#[derive(Debug)]
pub(in crate::cli) struct Process {
    pub(in crate::cli) name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(in crate::cli) fn spawn(name: &str, mut command: Command, log: PathBuf) -> Result<Self, StandFailed> {
        let words = std::fs::File::create(&log).map_err(StandFailed::Folder)?;
        let same = words.try_clone().map_err(StandFailed::Folder)?;
        command.stdin(Stdio::null()).stdout(words).stderr(same).process_group(0).kill_on_drop(true);
        let program = PathBuf::from(command.as_std().get_program());
        let child = command.spawn().map_err(|source| StandFailed::Spawn { program, source })?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its id; none once it has ended.
    pub(in crate::cli) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Fails if it has ended by itself.
    pub(in crate::cli) fn check(&mut self) -> Result<(), StandFailed> {
        let status = match self.child.try_wait() {
            Ok(None) => return Ok(()),
            Ok(Some(status)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        Err(StandFailed::Ended { name: self.name.clone(), status, log: self.last_words() })
    }

    /// Its log.
    pub(in crate::cli) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of its log.
    pub(in crate::cli) fn last_words(&self) -> String {
        let text = self.log();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Asks it to end, and kills it after `grace`. Its status, if it ended in time.
    pub(in crate::cli) async fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.signal("TERM").await;
        if let Ok(Ok(status)) = tokio::time::timeout(grace, self.child.wait()).await {
            return Some(status);
        }
        self.signal("KILL").await;
        // If there is no shell to send signals with, this at least ends the process itself.
        let _gone = self.child.kill().await;
        None
    }

    /// Signals the group, through the shell: the standard library can only kill, and only one process.
    async fn signal(&self, signal: &str) {
        let Some(id) = self.id() else { return };
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", r#"kill -s "$0" -- "-$1""#, signal]).arg(id.to_string());
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _sent = shell.status().await;
    }
}

/// A folder that goes with its contents.
#[derive(Debug)]
pub(in crate::cli) struct Folder(PathBuf);

impl Folder {
    pub(in crate::cli) fn new() -> Result<Self, StandFailed> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("beamline-router-{}", uuid::Uuid::new_v4().simple()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(StandFailed::Folder)?;
        Ok(Self(path))
    }

    pub(in crate::cli) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_ends_by_itself_is_told_with_its_last_words() {
        let folder = Folder::new().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo one; echo two >&2; exit 3"]);
        let mut process = Process::spawn("it", command, folder.path().join("log")).unwrap();
        let _status = process.child.wait().await;
        let failed = process.check().unwrap_err();
        assert_eq!(failed.log(), Some("one\ntwo"));
        assert!(failed.to_string().contains("it ended by itself (exit status: 3)"), "{failed}");
    }

    #[tokio::test]
    async fn stopping_ends_the_whole_group() {
        let folder = Folder::new().unwrap();
        let mark = folder.path().join("child");
        let mut command = Command::new("/bin/sh");
        // A wrapper that starts another process, and does not pass signals on.
        command.args(["-c", r#"sleep 600 & echo $! > "$0"; wait"#]).arg(&mark);
        let mut process = Process::spawn("it", command, folder.path().join("log")).unwrap();
        let told = async || loop {
            if let Some(text) = std::fs::read_to_string(&mark).ok().filter(|text| text.ends_with('\n')) {
                return text.trim().to_owned();
            }
            tokio::task::yield_now().await;
        };
        let bound = Duration::from_secs(5);
        let child = tokio::time::timeout(bound, told()).await.unwrap();
        let alive = async || {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", r#"kill -s 0 "$0""#, &child]).stderr(Stdio::null()).status().await
        };
        assert!(alive().await.unwrap().success());
        process.stop(bound).await;
        let ended = async || while alive().await.is_ok_and(|status| status.success()) {};
        tokio::time::timeout(bound, ended()).await.unwrap();
    }

    #[test]
    fn a_folder_goes_with_its_contents() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        std::fs::write(path.join("file"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
