//! Processes that a test starts: their output is kept, and they end with the test.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::eventually;

/// Lines as they come.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let to = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).split(b'\n').map_while(Result::ok) {
                to.0.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
            }
        });
        lines
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// A running process; dropped, it is killed. A test that fails shows the end of what it said.
pub(crate) struct Process {
    name: String,
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

impl Process {
    pub(crate) fn spawn(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {command:?}: {error}"));
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `None` while it runs.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) async fn ends(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(&what, bound, async || self.exited()).await
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let sent =
            Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.id())]).status().unwrap();
        assert!(sent.success(), "{name} to {}", self.name);
    }

    /// SIGSTOP, and waits until none of its threads runs.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.id());
        let stopped = |stat: &str| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        let began = Instant::now();
        while !std::fs::read_dir(&tasks).unwrap().all(|task| {
            std::fs::read_to_string(task.unwrap().path().join("stat")).is_ok_and(|stat| stopped(&stat))
        }) {
            assert!(began.elapsed() < Duration::from_secs(10), "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let end = self.exited();
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ({})", self.name, end.map_or("ran".to_owned(), |e| e.to_string()));
            for lines in [self.stdout.all(), self.stderr.all()] {
                for line in &lines[lines.len().saturating_sub(40)..] {
                    eprintln!("    {line}");
                }
            }
        }
    }
}

/// How a program ended that ran to its end.
#[derive(Debug)]
pub(crate) struct Done {
    /// -1 if a signal ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program to its end, off the test's own thread.
pub(crate) async fn run(mut command: Command, stdin: &str) -> Done {
    // The load scenarios end by themselves after three minutes.
    const LONGEST: Duration = Duration::from_secs(200);
    let stdin = stdin.to_owned();
    let run = move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut input = child.stdin.take().unwrap();
        std::thread::spawn(move || input.write_all(stdin.as_bytes()));
        let read = |mut source: Box<dyn Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = source.read_to_end(&mut bytes);
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(Box::new(child.stdout.take().unwrap()));
        let stderr = read(Box::new(child.stderr.take().unwrap()));
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if began.elapsed() > LONGEST {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{command:?}: still ran after {LONGEST:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Done {
            code: status.code().unwrap_or(-1),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
        }
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// A program of the tests: named by a variable, or placed by `scripts/tools.py`, or on PATH. Scripts on
/// PATH are passed over: a version manager's wrapper starts the real program as another process, which
/// would outlive the one that is killed here.
pub(crate) fn tool(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable).filter(|v| !v.is_empty()) {
        return Some(named.into());
    }
    let placed = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin").join(name);
    if placed.exists() {
        return Some(placed);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| {
        let mut start = [0; 2];
        std::fs::File::open(program).and_then(|mut f| f.read_exact(&mut start)).is_ok() && start != *b"#!"
    })
}
