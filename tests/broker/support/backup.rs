use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::Broker;

/// A copy of streams as they stand in a broker's store.
pub(crate) struct Backup {
    streams: Vec<String>,
    folder: TempDir,
}

impl Backup {
    /// Stops a broker, copies streams, and starts it again.
    pub(crate) async fn of(broker: &mut Broker, streams: &[&str]) -> Self {
        broker.stop().await;
        let backup = Self {
            streams: streams.iter().map(|stream| (*stream).to_owned()).collect(),
            folder: tempfile::tempdir().unwrap(),
        };
        for stream in streams {
            copy(&broker.stream_folder(stream), &backup.folder.path().join(stream));
        }
        broker.restart().await;
        backup
    }

    /// Puts them in the place of those of a broker that does not run.
    pub(crate) fn put_back(&self, broker: &Broker) {
        for stream in &self.streams {
            let folder = broker.stream_folder(stream);
            std::fs::remove_dir_all(&folder).unwrap();
            copy(&self.folder.path().join(stream), &folder);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "{from:?} to {to:?}");
}
