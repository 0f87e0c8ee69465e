//! Runs of bench, servers for them, and what they wrote.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

/// Bytes of a raw request, and of its reply.
pub(crate) const LEN: usize = 64;

/// How a run ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) json: Value,
}

impl Ran {
    /// A number of the result, by its path.
    pub(crate) fn number(&self, path: &str) -> f64 {
        let value = path.split('.').fold(&self.json, |value, key| &value[key]);
        value.as_f64().unwrap_or_else(|| panic!("{path} is {value}: {self:?}"))
    }

    /// The messages' fates: ok, lost, wrong, late, duplicate.
    pub(crate) fn fates(&self) -> [u64; 5] {
        ["ok", "lost", "wrong", "late", "duplicate"].map(|fate| {
            self.json["messages"][fate].as_u64().unwrap_or_else(|| panic!("{fate}: {self:?}"))
        })
    }

    pub(crate) fn reason(&self) -> &str {
        self.json["exit_reason"].as_str().unwrap()
    }

    pub(crate) fn warned_of(&self, text: &str) -> bool {
        self.json["warnings"].as_array().unwrap().iter().any(|w| w.as_str().unwrap().contains(text))
    }
}

pub(crate) fn myriapod() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_myriapod"));
    command.stdin(Stdio::null());
    command
}

/// A file of one test's own, removed with this.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(ending: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("myriapod-bench-{}-{number}.{ending}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// `bench` with these arguments, to its end.
pub(crate) fn bench(args: &[&str]) -> Ran {
    run(myriapod().arg("bench").args(args))
}

/// The same, with any command that ends in `bench` and its arguments.
pub(crate) fn run(command: &mut Command) -> Ran {
    let json = TempFile::new("json");
    let output = command.arg("--json").arg(&json.0).output().unwrap();
    let written = std::fs::read(&json.0).unwrap_or_default();
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        json: serde_json::from_slice(&written).unwrap_or_default(),
    }
}

/// `bench` of a raw server on this port.
pub(crate) fn bench_raw(port: u16, args: &[&str]) -> Ran {
    let port = port.to_string();
    bench(&[&["127.0.0.1", &port, "--service", "raw"], args].concat())
}

/// A process of a server, ended with this.
pub(crate) struct Serving {
    child: Child,
    pub(crate) port: u16,
}

impl Serving {
    /// A program whose first line ends in the port, as `('127.0.0.1', 65432)`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.trim().rsplit_once(", ").and_then(|(_, port)| port.strip_suffix(')'));
        let port = port.unwrap_or_else(|| panic!("where does it listen? {line:?}"));
        // Whatever else it says is read, or it would wait for that one day.
        thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        Self { port: port.parse().unwrap(), child }
    }

    pub(crate) fn myriapod(args: &[&str]) -> Self {
        Self::start(myriapod().args(["serve", "127.0.0.1", "0"]).args(args))
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a faulty server does with the `nth` message of all, on one connection.
pub(crate) type Fault = dyn Fn(u32, &[u8; LEN], &mut TcpStream) + Send + Sync;

/// A raw echo server, a thread for each connection, that leaves the reply to each message to
/// `fault`. Returns its port; it ends with the test's process.
pub(crate) fn faulty(
    fault: impl Fn(u32, &[u8; LEN], &mut TcpStream) + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let fault: Arc<Fault> = Arc::new(fault);
    let number = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, fault, number) = (stream.unwrap(), fault.clone(), number.clone());
            stream.set_nodelay(true).unwrap();
            thread::spawn(move || {
                let mut message = [0; LEN];
                while stream.read_exact(&mut message).is_ok() {
                    fault(number.fetch_add(1, Ordering::Relaxed), &message, &mut stream);
                }
                let _ = stream.shutdown(Shutdown::Both);
            });
        }
    });
    port
}

/// Sends a reply; that the peer has left is its business.
pub(crate) fn reply(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}
