//! The servers that are compared, and how they are built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::load::{Expect, request};
use crate::servers::Contender;

/// What a server is given to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Job {
    /// Send the bytes back as they come
    Raw,
    /// Send each JSON-header message back
    Echo,
    /// Answer searches in JSON-header messages
    Search,
}

impl Job {
    pub(crate) const ALL: [Self; 3] = [Self::Raw, Self::Echo, Self::Search];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Echo => "echo",
            Self::Search => "search",
        }
    }
}

/// A server with its job.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) job: Job,
    pub(crate) contender: Contender,
    /// The most connections that it can hold.
    pub(crate) most: u64,
    pub(crate) request: Vec<u8>,
    pub(crate) expect: Expect,
}

/// The yardstick's name.
pub(crate) const YARDSTICK: &str = "c-epoll";

/// The yardstick as one of those that are compared with it: what differs is noise.
pub(crate) const YARDSTICK_AGAIN: &str = "c-epoll-again";

/// All names, in the order of the tables.
pub(crate) const NAMES: [&str; 17] = [
    YARDSTICK,
    YARDSTICK_AGAIN,
    "libuv",
    "libevent",
    "mio",
    "mio-short-read",
    "polling",
    "tokio",
    "tokio-shared",
    "message-io",
    "selectors",
    "asyncio",
    "uvloop",
    "myriapod",
    "myriapod-poll",
    "myriapod-select",
    "myriapod-portable",
];

/// Ours are measured on each of these.
const BACKENDS: [(&str, &str); 4] = [
    ("myriapod", "epoll"),
    ("myriapod-poll", "poll"),
    ("myriapod-select", "select"),
    ("myriapod-portable", "portable"),
];

/// Descriptors below 1,024, less the 64 that `serve` keeps for everything else.
const SELECT_CONNECTIONS: u64 = 960;

/// Builds what can be built here of the peers asked for; what is missing is named in `left_out`.
pub(crate) fn build(
    names: &[String],
    jobs: &[Job],
    left_out: &mut Vec<String>,
) -> Result<Vec<Peer>> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = std::env::current_exe()?.parent().map(PathBuf::from).ok_or("no directory")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    run(Command::new(&cargo)
        .args(["build", "--release", "--locked", "-p", "myriapod-cli", "--manifest-path"])
        .arg(bench.join("../Cargo.toml")))?;
    let peers = beside.join("peers");
    let rust = run(Command::new(&cargo)
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(bench.join("peers/Cargo.toml"))
        .arg("--target-dir")
        .arg(&peers));
    if let Err(error) = &rust {
        left_out.push(format!("mio, polling, tokio and message-io: {error}"));
    }
    let rust = rust.is_ok();
    let program = |name: &str| peers.join("release").join(name);
    let mut all = Vec::new();
    let mut add = |name: &'static str, job: Job, program: PathBuf, args: Vec<String>| {
        let always = name == YARDSTICK;
        let wanted = always
            || name == YARDSTICK_AGAIN
            || names.is_empty()
            || names.iter().any(|n| n == name);
        if !wanted || !(jobs.contains(&job) || always) {
            return;
        }
        let mut request = request();
        let mut expect = match job {
            _ if name == YARDSTICK_AGAIN => Expect::Same,
            Job::Raw => Expect::Same,
            Job::Echo => Expect::Json(r#"{"action":"search","value":"morpheus"}"#),
            Job::Search => Expect::Json(r#"{"result":"Follow the white rabbit. 🐰"}"#),
        };
        if name == "message-io" {
            // Its own framing: the length, 7 bits in a byte.
            request.splice(..0, [0x80 | 146 & 0x7f, 1]);
            expect = Expect::Same;
        }
        let most = if name == "myriapod-select" { SELECT_CONNECTIONS } else { u64::MAX };
        let contender = Contender { program, args };
        all.push(Peer { name, job, contender, most, request, expect });
    };

    for (name, source, libraries) in [
        (YARDSTICK, "raw_epoll.c", &[][..]),
        ("libuv", "libuv_echo.c", &["-luv"][..]),
        ("libevent", "libevent_echo.c", &["-levent"][..]),
    ] {
        let out = beside.join(source.trim_end_matches(".c"));
        let compiled = Command::new("cc")
            .args(["-O2", "-Wall", "-o"])
            .arg(&out)
            .arg(bench.join("c").join(source))
            .args(libraries)
            .stderr(Stdio::null())
            .status();
        if compiled.is_ok_and(|status| status.success()) {
            if name == YARDSTICK {
                for job in Job::ALL {
                    add(YARDSTICK_AGAIN, job, out.clone(), Vec::new());
                }
            }
            add(name, Job::Raw, out, Vec::new());
        } else if name == YARDSTICK {
            return Err("cc cannot compile raw_epoll.c, which is the yardstick".into());
        } else {
            left_out
                .push(format!("{name}: cc cannot compile {source} (no cc, or no {name} headers)"));
        }
    }
    for job in Job::ALL {
        let mut rust_peer = |name, file: &str, option: Option<&str>| {
            if rust {
                let args = [Some(job.name()), option].into_iter().flatten().map(str::to_owned);
                add(name, job, program(file), args.collect());
            }
        };
        rust_peer("mio", "mio", None);
        if job == Job::Raw {
            rust_peer("mio-short-read", "mio", Some("--short-read"));
        }
        rust_peer("polling", "polling", None);
        rust_peer("tokio", "tokio", None);
        if job == Job::Raw {
            rust_peer("tokio-shared", "tokio", Some("--shared-buffer"));
        }
        if job == Job::Echo {
            rust_peer("message-io", "message_io", None);
        }
        for (name, backend) in BACKENDS {
            let ours = Contender::myriapod_service(job.name(), &["--backend", backend])?;
            add(name, job, ours.program, ours.args);
        }
    }
    for (name, module, file, option) in [
        ("selectors", "selectors", "selectors_server.py", None),
        ("asyncio", "asyncio", "asyncio_server.py", None),
        ("uvloop", "uvloop", "asyncio_server.py", Some("--uvloop")),
    ] {
        let there = Command::new("python3")
            .args(["-c", &format!("import {module}, sys; print(sys.executable)")])
            .stderr(Stdio::null())
            .output();
        // Not by a wrapper that may start it anew.
        let python = match there {
            Ok(output) if output.status.success() => {
                PathBuf::from(String::from_utf8(output.stdout)?.trim())
            }
            _ => {
                left_out.push(format!("{name}: python3 cannot import it"));
                continue;
            }
        };
        for job in Job::ALL {
            let script = bench.join("python").join(file).to_string_lossy().into_owned();
            let args = ["-B", &script, job.name()].into_iter().chain(option).map(str::to_owned);
            add(name, job, python.clone(), args.collect());
        }
    }
    let place = |name: &str| NAMES.iter().position(|known| *known == name);
    all.sort_by_key(|peer| (peer.job as u8, place(peer.name)));
    Ok(all)
}

/// A build, whose output is shown.
fn run(command: &mut Command) -> Result<()> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{command:?}: {status}").into()),
    }
}
