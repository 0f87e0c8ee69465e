//! Does `myriapod doctor` foretell what a server then reaches? Asked of the kernel.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use myriapod::sys;

/// Held by the test that has peers: all that this process may have is needed by one test alone.
static PEERS: Mutex<()> = Mutex::new(());

/// What takes longer fails the test; nothing that works comes near it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A message for the echo service.
const MESSAGE: &[u8] = b"\0\x5c{\"byteorder\": \"big\", \"content-type\": \"x\", \
    \"content-encoding\": \"binary\", \"content-length\": 1}a";

/// A shell that does `first` and then becomes the command.
fn myriapod(first: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_myriapod")]);
    command.args(args).stdin(Stdio::null());
    command
}

fn doctor(first: &str, args: &[&str]) -> (serde_json::Value, Option<i32>) {
    let done = myriapod(first, &[&["doctor", "--json"], args].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let found = serde_json::from_slice(&done.stdout);
    (found.unwrap_or_else(|error| panic!("{error}: {said}")), done.status.code())
}

/// A server, ended when this goes.
struct Serving {
    child: Child,
    port: u16,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    fn start(first: &str) -> Self {
        let args = ["serve", "127.0.0.1", "0", "--service", "echo", "--idle-timeout", "0"];
        let mut command = myriapod(first, &args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim_end().trim_end_matches(')').rsplit_once(", ").unwrap().1;
        Self { port: port.parse().unwrap(), child }
    }

    /// A peer that has sent a message.
    fn peer(&self) -> TcpStream {
        let mut peer = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        peer.write_all(MESSAGE).unwrap();
        peer
    }

    /// As many peers, each of which has been answered.
    fn peers(&self, count: u64) -> Vec<TcpStream> {
        let answered = |nth| {
            let mut peer = self.peer();
            // The same content comes back, behind a header of which the length says enough here.
            let mut len = [0; 2];
            let read = peer.read_exact(&mut len);
            assert!(read.is_ok(), "peer {nth} of {count}: {read:?}");
            let mut rest = vec![0; usize::from(u16::from_be_bytes(len)) + 1];
            peer.read_exact(&mut rest).unwrap();
            assert_eq!(rest.last(), Some(&b'a'), "{}", String::from_utf8_lossy(&rest));
            peer
        };
        (0..count).map(answered).collect()
    }
}

fn reaches_exactly(first: &str) {
    sys::raise_descriptor_limit().unwrap();
    let (found, status) = doctor(first, &[]);
    let ceiling = found["ceiling"].as_u64().unwrap();
    if ceiling > 100_000 || found["limits"][0]["scope"] != "process" {
        println!("skipped: descriptors are not what bites first here: {}", found["says"]);
        return;
    }
    assert_eq!(status, Some(0));
    println!("{first} {}", found["says"]);

    let alone = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut serving = Serving::start(first);
    let peers = serving.peers(ceiling);
    // One more has to wait, and the server says so.
    let _waiting = serving.peer();
    let stderr = BufReader::new(serving.child.stderr.take().unwrap());
    let reached = format!("max_connections ({ceiling}) reached");
    let said = stderr.lines().map_while(Result::ok).find(|line| line.contains("reached"));
    assert!(said.as_ref().is_some_and(|line| line.contains(&reached)), "{said:?}");
    drop((peers, alone));

    for (asked, expected) in [(ceiling, 0), (ceiling + 1, 1)] {
        let (found, status) = doctor(first, &["--connections", &asked.to_string()]);
        assert_eq!(status, Some(expected), "{asked}");
        assert_eq!(found["suffices"], expected == 0);
    }
}

#[test]
fn is_the_ceiling_of_this_machine_reached_exactly() {
    if cfg!(debug_assertions) {
        println!("skipped: it may take tens of thousands of connections; release builds do it");
        return;
    }
    reaches_exactly("");
}

#[test]
fn is_the_ceiling_reached_exactly_under_a_lowered_hard_limit() {
    reaches_exactly("ulimit -n 300;");
}

#[test]
fn is_a_lowered_soft_limit_no_ceiling_since_servers_raise_it() {
    let (usual, _) = doctor("", &[]);
    let (lowered, _) = doctor("ulimit -Sn 100;", &[]);
    assert_eq!(usual["ceiling"], lowered["ceiling"]);
    let limits = lowered["limits"].as_array().unwrap();
    let limit = limits.iter().find(|limit| limit["name"] == "RLIMIT_NOFILE").unwrap();
    let reading = limit["reading"].as_str().unwrap();
    assert!(reading.starts_with("100 soft, ") && reading.contains("raised to "), "{reading}");
    // And the same with a hard limit that is not the machine's own.
    reaches_exactly("ulimit -Sn 90; ulimit -Hn 400;");
}

#[test]
fn does_serve_say_in_advance_what_it_will_not_reach() {
    let args = ["serve", "127.0.0.1", "0", "--max-connections", "999999999"];
    let mut child =
        myriapod("", &args).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let _ = child.kill();
    let _ = child.wait();
    let (found, _) = doctor("", &["--connections", "999999999"]);
    let because = found["limits"][0]["because"].as_str().unwrap();
    // Figures of memory move while others use it.
    let because = because.split(|c: char| c.is_ascii_digit()).next().unwrap();
    assert!(line.contains(because), "{line}: {because}");
}

/// A memory control group of one test's own.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    fn new() -> Option<Self> {
        let name = format!("myriapod-doctor-{}", std::process::id());
        let places =
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        places.into_iter().find_map(|(place, limit)| {
            let folder = Path::new(place).join(&name);
            fs::create_dir(&folder).ok()?;
            let group = Self { folder, limit };
            group.limit("100000000").then_some(group)
        })
    }

    fn limit(&self, bytes: &str) -> bool {
        fs::write(self.folder.join(self.limit), bytes).is_ok()
    }

    /// What a shell does to be in it.
    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs;", self.folder.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel lets go of it a moment after its last process has ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn is_what_is_foretold_of_a_small_control_group_reached() {
    let Some(group) = Group::new() else {
        println!("skipped: no memory control group can be made here");
        return;
    };
    sys::raise_descriptor_limit().unwrap();
    assert!(group.limit("8388608"));
    let (found, _) = doctor(&group.enter(), &[]);
    let limit = &found["limits"][0];
    let name = group.folder.join(group.limit);
    assert_eq!(limit["name"], name.to_string_lossy().as_ref(), "{found}");
    let ceiling = found["ceiling"].as_u64().unwrap();
    println!("{}", found["says"]);
    assert!((1_000..10_000).contains(&ceiling), "{found}");
    let alone = PEERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut serving = Serving::start(&group.enter());
    let peers = serving.peers(ceiling);
    assert!(serving.child.try_wait().unwrap().is_none(), "it is alive with all of them");
    drop((peers, alone));

    // The command that is printed lifts it.
    let command = limit["remedies"][0]["run"].as_str().unwrap();
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    let (lifted, _) = doctor(&group.enter(), &[]);
    let lifted = lifted["limits"].as_array().unwrap().clone();
    let lifted = lifted.iter().find(|limit| limit["name"] == name.to_string_lossy().as_ref());
    assert!(lifted.unwrap()["allows"].as_u64().unwrap() >= 990_000, "{lifted:?}");
}
