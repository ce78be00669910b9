//! What the system says of a process: Linux's `/proc`.

use std::path::PathBuf;

/// Nanoseconds that all threads of a process have run. A thread that has ended is forgotten; none of
/// those measured ends before its process.
pub(super) fn cpu_nanos(id: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(PathBuf::from(format!("/proc/{id}/task"))) else { return 0 };
    let ran = |task: std::fs::DirEntry| {
        let told = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        told.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.filter_map(Result::ok).filter_map(ran).sum()
}

/// Resident memory of a process, in bytes.
pub(super) fn resident_bytes(id: u32) -> u64 {
    let told = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kilobytes = line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1_024
}

/// What the processes of a measurement had used at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) responders: u64,
    pub(super) broker: u64,
    pub(super) asker: u64,
}

impl Used {
    /// Of these processes, now.
    pub(super) fn by(responders: &[u32], broker: u32) -> Self {
        Self {
            responders: responders.iter().map(|id| cpu_nanos(*id)).sum(),
            broker: cpu_nanos(broker),
            asker: cpu_nanos(std::process::id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Of a process of its own: the threads of other tests come and go in this one.
    #[test]
    fn a_process_runs_and_resides() {
        let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let id = busy.id();
        let before = cpu_nanos(id);
        let mut after = before;
        for _ in 0..10_000_000 {
            after = cpu_nanos(id);
            if after > before {
                break;
            }
        }
        let resident = resident_bytes(id);
        busy.kill().unwrap();
        busy.wait().unwrap();
        assert!(after > before, "{before} {after}");
        assert!(resident > 100 << 10, "{resident}");
        assert_eq!((cpu_nanos(u32::MAX), resident_bytes(u32::MAX)), (0, 0), "no such process");
    }
}
