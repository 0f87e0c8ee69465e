//! Real brokers on free ports of loopback, without persistence, ended at the latest with the test.

#[path = "../../../cli/tests/common/pem.rs"]
mod pem;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What takes longer fails the test; nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until this is so.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Redis,
    Nats,
}

/// A broker, which can be killed and started again.
pub(crate) struct Broker {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// For looking at it, in plain text.
    monitor: u16,
    /// Its certificate as DER, where it has one.
    pub(crate) certificate: Option<Vec<u8>>,
    dir: PathBuf,
    child: Option<Child>,
    more: Vec<String>,
}

impl Broker {
    /// The name in its certificate.
    pub(crate) const NAME: &str = "broker.test";

    /// One that answers; `None` where it is not installed, which is said.
    pub(crate) fn start(kind: Kind, more: &[&str]) -> Option<Self> {
        Self::start_as(kind, more, false)
    }

    /// The same over TLS, with a certificate for [`Self::NAME`], which is in its folder as `cert.pem`
    /// beside its key, `key.pem`.
    pub(crate) fn secure(kind: Kind, more: &[&str]) -> Option<Self> {
        Self::start_as(kind, more, true)
    }

    fn start_as(kind: Kind, more: &[&str], is_secure: bool) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("myriapod-broker-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        std::fs::create_dir(&dir).unwrap();
        let more = more.iter().map(ToString::to_string).collect();
        let certificate = is_secure.then(|| write_certificate(&dir));
        let mut broker = Self { kind, port: 0, monitor: 0, certificate, dir, child: None, more };
        // Somebody may take a port that was free a moment ago.
        for _ in 0..10 {
            (broker.port, broker.monitor) = free_ports();
            match broker.launch() {
                Ok(true) => return Some(broker),
                Ok(false) => broker.kill(),
                Err(error) => {
                    println!("SKIPPED: {kind:?} cannot be started: {error}");
                    return None;
                }
            }
        }
        panic!("{kind:?} does not start");
    }

    /// Starts the process; says whether it answers.
    fn launch(&mut self) -> std::io::Result<bool> {
        let (port, monitor) = (self.port.to_string(), self.monitor.to_string());
        let mut command = match self.kind {
            Kind::Redis => {
                let mut command = Command::new("redis-server");
                command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
                if self.certificate.is_some() {
                    command.args(["--port", &monitor, "--tls-port", &port]);
                    command.args(["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]);
                    command.args(["--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no"]);
                } else {
                    command.args(["--port", &port]);
                }
                command
            }
            Kind::Nats => {
                let mut command = Command::new("nats-server");
                command.args(["-a", "127.0.0.1", "-p", &port, "-m", &monitor]);
                if self.certificate.is_some() {
                    command.args(["--tls", "--tlscert", "cert.pem", "--tlskey", "key.pem"]);
                }
                command
            }
        };
        command.args(&self.more).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn()?);
        let start = Instant::now();
        loop {
            let child = self.child.as_mut().unwrap();
            if child.try_wait()?.is_some() || start.elapsed() > PATIENCE {
                return Ok(false);
            }
            let is_there = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
                && (self.kind == Kind::Redis || self.monitored("/varz").is_some());
            if is_there {
                return Ok(true);
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn start_again(&mut self) {
        wait_until("the broker starts again", || {
            let is_there = self.launch().unwrap();
            if !is_there {
                self.kill();
            }
            is_there
        });
    }

    /// As it is named on a command line.
    pub(crate) fn url(&self) -> String {
        let scheme = match (self.kind, self.certificate.is_some()) {
            (Kind::Redis, false) => "redis",
            (Kind::Redis, true) => "rediss",
            (Kind::Nats, false) => "nats",
            (Kind::Nats, true) => "tls",
        };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// A file in its folder.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The channels that are subscribed, each as often as it is, in order; of clients whose name is
    /// ours where it tells names.
    pub(crate) fn channels(&self) -> Vec<String> {
        let mut channels = match self.kind {
            Kind::Redis => {
                let channels = self.redis("PUBSUB CHANNELS\r\n");
                let names = channels.lines().filter(|line| !line.starts_with(['*', '$']));
                let mut all = Vec::new();
                for name in names {
                    let count = self.redis(&format!("PUBSUB NUMSUB {name}\r\n"));
                    let count = count.lines().last().and_then(|line| line.strip_prefix(':'));
                    let count: usize = count.unwrap().parse().unwrap();
                    all.extend(std::iter::repeat_n(name.to_owned(), count));
                }
                all
            }
            Kind::Nats => {
                let text = self.monitored("/connz?subs=1").unwrap_or_default();
                let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let connections = value["connections"].as_array().cloned().unwrap_or_default();
                let lists =
                    connections.iter().filter_map(|one| one["subscriptions_list"].as_array());
                lists.flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
            }
        };
        channels.sort_unstable();
        channels
    }

    /// Asks Redis something by its protocol of lines.
    pub(crate) fn redis(&self, command: &str) -> String {
        let port = if self.certificate.is_some() { self.monitor } else { self.port };
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{command}QUIT\r\n").as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply.strip_suffix("+OK\r\n").unwrap().to_owned()
    }

    /// A page of NATS' monitoring.
    fn monitored(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.monitor)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).ok()?;
        Some(reply.split_once("\r\n\r\n")?.1.to_owned())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes a certificate and its key; returns the certificate as DER.
fn write_certificate(dir: &Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed([Broker::NAME.to_owned()]).unwrap();
    let write = |name, label, der: &[u8]| std::fs::write(dir.join(name), pem::pem(label, der));
    write("cert.pem", "CERTIFICATE", made.cert.der()).unwrap();
    write("key.pem", "PRIVATE KEY", made.signing_key.serialized_der()).unwrap();
    made.cert.der().to_vec()
}

fn free_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
    (ports[0], ports[1])
}
