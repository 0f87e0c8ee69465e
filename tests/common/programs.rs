//! Real processes: the examples, and the tutorial's programs in Python.
#![allow(dead_code, reason = "not every file uses all of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]
#![allow(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long a test waits for what must come. Nothing is asserted about how soon it does.
const PATIENCE: Duration = Duration::from_secs(60);

/// An example. `cargo test` has built all of them; `cargo test --test tutorial` has not.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    // Tests are in `deps`; a newer cargo has them further below, in `build`.
    let folder = |at: &&Path| ["deps", "build"].iter().any(|name| at.ends_with(name));
    let profile = test.ancestors().find(folder).and_then(Path::parent).unwrap();
    let program = profile.join("examples").join(name);
    if !program.exists() {
        let named = match profile.file_name().and_then(|name| name.to_str()).unwrap() {
            "debug" => "dev",
            named => named,
        };
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let built = Command::new(cargo)
            .args(["build", "--example", name, "--profile", named, "--target-dir"])
            .arg(profile.parent().unwrap())
            .status();
        assert!(built.unwrap().success(), "{name} cannot be built");
    }
    Command::new(program)
}

/// A program of `tests/python`; `None`, and a line that says so, without `python3`.
pub(crate) fn python(name: &str) -> Option<Command> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: there is no python3 for {name}");
        return None;
    }
    let mut command = Command::new("python3");
    let program = format!("{}/tests/python/{name}.py", env!("CARGO_MANIFEST_DIR"));
    // Unbuffered, and UTF-8 whatever the machine's locale is.
    command.args(["-u", "-X", "utf8", &program]);
    Some(command)
}

/// Asks again and again until there is an answer.
pub(crate) fn patiently<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::yield_now();
    }
    panic!("in vain waited for {what}")
}

/// A program that runs; ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    told: Vec<String>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = streams.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                if to.send(line.unwrap()).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        Self { child, stdin, lines, told: Vec::new() }
    }

    /// The next line that it prints, which must come.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.told.push(line.clone());
                line
            }
            Err(RecvTimeoutError::Timeout) => panic!("no more lines than {:?}", self.told),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = self.child.kill();
                let mut errors = String::new();
                let _ = self.child.stderr.take().map(|mut it| it.read_to_string(&mut errors));
                panic!("it ended after {:?}: {errors}", self.told)
            }
        }
    }

    /// A line that it has printed already.
    pub(crate) fn line_if_any(&mut self) -> Option<String> {
        self.lines.try_recv().ok()
    }

    pub(crate) fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// The port behind the last colon or comma of the next line that ends with one.
    pub(crate) fn port(&mut self) -> u16 {
        loop {
            let line = self.line();
            let end = line.trim_end_matches(')').rsplit([':', ' ']).next().unwrap_or_default();
            if let Ok(port) = end.parse() {
                return port;
            }
        }
    }

    /// Presses Enter.
    pub(crate) fn enter(&mut self) {
        self.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed, however it ends, with its status and what it says on stderr.
    pub(crate) fn finish(mut self) -> (Vec<String>, Option<i32>, String) {
        drop(self.stdin.take());
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.child.wait().unwrap();
        self.told.extend(self.lines.iter());
        (std::mem::take(&mut self.told), status.code(), errors)
    }

    /// What it has printed; it must end well, without a word on stderr.
    pub(crate) fn succeed(self) -> Vec<String> {
        let (lines, status, errors) = self.finish();
        assert_eq!((status, errors.as_str()), (Some(0), ""), "{lines:?}");
        lines
    }

    /// Ends it now, and returns what it said on stderr.
    pub(crate) fn end(mut self) -> String {
        self.child.kill().unwrap();
        self.finish().2
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
