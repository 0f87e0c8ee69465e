//! A running server, and a client that writes its bytes itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::program::program;

/// What takes longer fails the test; nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program under test.
pub(crate) fn myriapod() -> Command {
    let mut command = Command::new(program());
    command.stdin(Stdio::null());
    command
}

/// A process of ours, ended at the latest when this goes.
struct Running(Child);

/// A server.
pub(crate) struct Serving {
    child: Running,
    stdout: BufReader<std::process::ChildStdout>,
    stderr: Receiver<String>,
    /// Its first line, without the line feed.
    pub(crate) listening: String,
}

/// How a server ended.
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    /// What was not yet read of standard error.
    pub(crate) stderr: Vec<String>,
}

impl Ended {
    /// One of the counts of the summary.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let summaries = self.stderr.iter().filter(|line| line.starts_with("accepted="));
        let summaries: Vec<&String> = summaries.collect();
        let [summary] = summaries[..] else { panic!("no summary of one line: {:?}", self.stderr) };
        let pair = summary.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.map_or(0, |count| count.parse().unwrap())
    }
}

impl Serving {
    /// `serve` with these arguments.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(myriapod().arg("serve").args(args))
    }

    /// `serve 127.0.0.1 0` with these arguments.
    pub(crate) fn on_loopback(args: &[&str]) -> Self {
        Self::start(&[&["127.0.0.1", "0"], args].concat())
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (to, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|l| to.send(l)));
        let mut listening = String::new();
        stdout.read_line(&mut listening).unwrap();
        let serving = Self { child: Running(child), stdout, stderr: lines, listening };
        assert!(serving.listening.ends_with('\n'), "{:?}", serving.wait().stderr);
        Self { listening: serving.listening.trim_end().to_owned(), ..serving }
    }

    /// Another line of standard output.
    pub(crate) fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The port that the first line tells.
    pub(crate) fn port(&self) -> u16 {
        let (_, port) = self.listening.rsplit_once(", ").unwrap();
        port.strip_suffix(')').unwrap().parse().unwrap()
    }

    /// A client of an IPv4 server.
    pub(crate) fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port())).unwrap())
    }

    /// Waits for a line of standard error that holds `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("{text:?} was not said: {error}"),
            }
        }
    }

    /// What standard error holds by now and was not yet read.
    pub(crate) fn said(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// Processor time so far, in user space and in the kernel.
    pub(crate) fn cpu_time(&self) -> Duration {
        // Of each thread, the first number: nanoseconds on a processor.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let nanoseconds = threads.map(|thread| {
            let path = thread.unwrap().path().join("schedstat");
            let text = std::fs::read_to_string(path).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.0.id().try_into().unwrap());
        signal::kill(pid, signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(mut self) -> Ended {
        // Standard error ends with the process.
        let mut stderr = Vec::new();
        loop {
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) => stderr.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("the server does not end: {error}; {stderr:?}"),
            }
        }
        Ended { status: self.child.0.wait().unwrap().code(), stderr }
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.wait()
    }
}

/// A server that a failed test leaves behind.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A message, written without any help of ours.
pub(crate) fn message(content_type: &str, encoding: &str, content: &[u8]) -> Vec<u8> {
    let header = format!(
        r#"{{"byteorder": "little", "content-type": "{content_type}", "content-encoding": "{encoding}", "content-length": {}}}"#,
        content.len()
    );
    let mut bytes = u16::try_from(header.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(content);
    bytes
}

pub(crate) fn json(content: &str) -> Vec<u8> {
    message("text/json", "utf-8", content.as_bytes())
}

pub(crate) fn search(value: &str) -> Vec<u8> {
    json(&format!(r#"{{"action": "search", "value": "{value}"}}"#))
}

pub(crate) fn binary(content: &[u8]) -> Vec<u8> {
    message("binary/custom-client-binary-type", "binary", content)
}

/// One message of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) header: serde_json::Value,
    pub(crate) content: Vec<u8>,
}

impl Answer {
    /// The text of `{"result": …}`.
    pub(crate) fn result(&self) -> String {
        assert_eq!(self.header["content-type"], "text/json");
        let content: serde_json::Value = serde_json::from_slice(&self.content).unwrap();
        content["result"].as_str().unwrap().to_owned()
    }
}

/// A peer that waits no longer than a minute for anything.
pub(crate) struct Client<S>(pub(crate) S);

impl Client<TcpStream> {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Whether all of it could be sent.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub(crate) fn receive(&mut self) -> Answer {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).unwrap();
        self.receive_rest(len)
    }

    /// The next message, or `None` where the connection ends instead, even by a reset.
    pub(crate) fn try_receive(&mut self) -> Option<Answer> {
        let mut len = [0; 2];
        self.0.read_exact(&mut len).ok()?;
        Some(self.receive_rest(len))
    }

    fn receive_rest(&mut self, len: [u8; 2]) -> Answer {
        let mut header = vec![0; usize::from(u16::from_be_bytes(len))];
        self.0.read_exact(&mut header).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        let len = header["content-length"].as_u64().unwrap();
        let mut content = vec![0; usize::try_from(len).unwrap()];
        self.0.read_exact(&mut content).unwrap();
        Answer { header, content }
    }

    pub(crate) fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.receive()
    }

    /// The server has shut down its side, and sent nothing more before.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.0.read(&mut [0; 64]).unwrap(), 0);
    }

    /// The server closes, with or without a reset.
    pub(crate) fn expect_close(&mut self) {
        if let Ok(len) = self.0.read(&mut [0; 64]) {
            assert_eq!(len, 0);
        }
    }
}

/// A directory of one test's own, removed with what is in it.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The system's own, since the path of a socket is short.
        let name = format!("myriapod-serve-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
