//! A program in a terminal: its screen is read as a person would, and its keys are pressed.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::worker::program;
use super::{Broker, SOON, eventually};

/// A running `beamline-router` and the terminal that it has to itself; killed when dropped.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    /// Kept open, so that what the program left behind can be read after its end.
    line: File,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    screen: vt100::Parser,
    bytes: Vec<u8>,
}

impl Terminal {
    /// Runs the program on a screen of so many rows and columns.
    pub(crate) fn run(broker: &Broker, size: (u16, u16), args: &[&str], env: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let line = OpenOptions::new().read(true).write(true).open(name).unwrap();
        let master = File::from(master);
        resize(&master, size);
        // A session of its own, with this as its terminal: else a change of size would not be told.
        let program = program();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program.get_program()).args(args).env_clear();
        command.envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))));
        command.env("NATS_URL", broker.url()).env("TERM", "xterm-256color").envs(env.iter().copied());
        let end = || Stdio::from(line.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen = vt100::Parser::new(size.0, size.1, 0);
        let seen = Arc::new(Mutex::new(Seen { screen, bytes: Vec::new() }));
        let (mut from, to) = (master.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                let mut seen = to.lock().unwrap();
                seen.screen.process(&bytes[..n]);
                seen.bytes.extend_from_slice(&bytes[..n]);
            }
        });
        Self { child, master, line, seen }
    }

    /// What the screen shows.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().screen.screen().contents()
    }

    /// All that was ever written to it.
    pub(crate) fn bytes(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap().bytes).into_owned()
    }

    /// Waits until the screen is as wanted, and shows it if it never is.
    #[track_caller]
    pub(crate) fn shows(&self, what: &str, wanted: impl Fn(&str) -> bool) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            if super::within(SOON, async || wanted(&self.screen())).await.is_none() {
                panic!("{place}: never on the screen: {what}\n{}", self.screen());
            }
        }
    }

    /// Waits until a text is on the screen.
    #[track_caller]
    pub(crate) fn says(&self, text: &str) -> impl Future<Output = ()> {
        self.shows(text, move |screen| screen.contains(text))
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn resize(&mut self, size: (u16, u16)) {
        self.seen.lock().unwrap().screen.screen_mut().set_size(size.0, size.1);
        resize(&self.master, size);
    }

    /// Sends a signal by its name, without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for the end, checks that the terminal was given back as it was, and tells the exit code.
    pub(crate) async fn ends(&mut self) -> i32 {
        let status = eventually("the program ends", SOON, async || self.child.try_wait().unwrap()).await;
        eventually("the first screen and the cursor are back", Duration::from_secs(5), async || {
            let seen = self.seen.lock().unwrap();
            let screen = seen.screen.screen();
            !screen.alternate_screen() && !screen.hide_cursor()
        })
        .await;
        let modes = tcgetattr(self.line.as_fd()).unwrap().local_modes;
        let usual = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        assert!(modes.contains(usual), "the terminal is still raw: {modes:?}");
        status.code().unwrap_or(-1)
    }
}

fn resize(master: &File, (rows, columns): (u16, u16)) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).unwrap();
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
