//! What the command prints, and with which status it ends.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use super::servers::{check, python, rungs, serve, with_result};

fn seen(args: &[&str]) -> (String, String, i32) {
    let output = check(args);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// Echoes each message on its own thread; rung by rung it is the same process.
fn echo_here() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut piece) {
                    if stream.write_all(&piece[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn does_a_failure_say_what_there_is_to_learn() {
    let Some(run) = python("multiconn_server") else { return };
    let (out, err, status) = seen(&["127.0.0.1", "0", "--run", &run, "-l", "rude", "-l", "burst"]);
    assert_eq!((err.as_str(), status), ("", 1), "{out}");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "ok    answers, next-client");
    assert_eq!(
        lines[1],
        "FAIL  rude        a client reset its connection in the middle of a message, and your server ended"
    );
    assert_eq!(
        lines[2],
        "                  (status 1: ConnectionResetError: [Errno 104] Connection reset by peer)"
    );
    assert_eq!(
        lines[3],
        "      lesson      an error of one connection ends that connection, never the server"
    );
    assert_eq!(
        lines[4],
        "      read        guide, errors: \"Which errors end what?\"; myriapod errors ECONNRESET"
    );
    let again = format!("myriapod check 127.0.0.1 0 --run '{run}' --lesson rude --trace");
    assert_eq!(lines[5], format!("      try         {again}"));
    assert!(out.contains("FAIL  burst"), "a rung that is named is tried: {out}");
}

#[test]
fn are_the_rungs_behind_a_failed_one_not_tried() {
    let Some(run) = python("echo_server") else { return };
    let (out, _, status) = seen(&["127.0.0.1", "0", "--run", &run]);
    assert_eq!(status, 1);
    let skip =
        "skip  3 to 25     not tried: behind next-client; --keep-going tries them all the same";
    assert!(out.contains(skip), "{out}");
    assert!(out.contains("one client came and left, and your server ended (status 0)"), "{out}");
    assert!(out.contains("1 ok, 1 failed, 23 not tried, in "), "{out}");
}

#[test]
fn is_what_cannot_be_seen_skipped_and_never_ok() {
    let port = echo_here().to_string();
    let lessons = ["-l", "rude", "-l", "restart", "-l", "descriptors", "-l", "stop", "-l", "empty"];
    let args = [&["127.0.0.1", &port, "--json"][..], &lessons].concat();
    let output = check(&args);
    let rungs = rungs(&output);
    assert_eq!(with_result(&rungs, "ok"), ["answers", "next-client", "rude"]);
    assert_eq!(with_result(&rungs, "skipped"), ["restart", "descriptors", "stop"]);
    assert_eq!(with_result(&rungs, "does not apply"), ["empty"]);
    assert!(rungs.iter().all(|rung| rung["result"] != "skipped" || rung["saw"] == "needs --run"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn is_a_wrong_reply_shown_with_its_place() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut piece = [0; 64];
            let mut stream = stream.unwrap();
            let count = stream.read(&mut piece).unwrap();
            piece[3] = b'?';
            stream.write_all(&piece[..count]).unwrap();
        }
    });
    let (out, _, status) = seen(&["127.0.0.1", &port, "--trace"]);
    assert_eq!(status, 1);
    assert!(out.contains("FAIL  answers     byte 4 of the reply is b'?k-"), "{out}");
    assert!(out.contains(" A       connect") && out.contains("-> 18 bytes"), "{out}");
    let behind = "not tried: nothing can be told of a server that does not answer";
    assert!(out.contains(&format!("skip  2 to 25     {behind}")), "{out}");
}

#[test]
fn is_a_wrong_use_status_2_with_the_next_step() {
    let refused = |args: &[&str]| {
        let (out, err, status) = seen(args);
        assert_eq!((out.as_str(), status), ("", 2), "{err}");
        err
    };
    assert_eq!(
        refused(&["127.0.0.1", "0", "--run", "python3 server.py"]),
        "myriapod: --run python3 server.py: no {port} in it; each process gets a port of its own: \
         write {port} where the command has it\n"
    );
    assert_eq!(
        refused(&["127.0.0.1", "7", "-l", "answer"]),
        "myriapod: --lesson answer: there is no such rung; `myriapod check --list` names them\n"
    );
    assert!(refused(&["127.0.0.1"]).contains("<PORT>"));
    assert!(refused(&["127.0.0.1", "7", "--patience", "0"]).contains("--patience 0"));
}

#[test]
fn is_a_server_that_is_not_there_no_failed_rung() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (out, err, status) = seen(&["127.0.0.1", &free.port().to_string()]);
    assert_eq!((out.as_str(), status), ("", 1));
    let said = format!(
        "myriapod: nobody listens on {free}; start your server first, or let --run do it\n"
    );
    assert_eq!(err, said);

    let (_, err, status) = seen(&["127.0.0.1", "0", "--run", "echo no >&2; exit 3 # {port}"]);
    assert_eq!(status, 1);
    assert!(err.contains("ended before it listened, status 3: no; run it by hand first"), "{err}");
}

#[test]
fn does_the_list_name_all_rungs_and_what_they_need() {
    let (out, _, status) = seen(&["--list"]);
    assert_eq!(status, 0);
    assert!(out.starts_with("  1  answers      one message; its reply and no more\n"), "{out}");
    for name in ["two-at-once", "no-reset", "stop"] {
        assert!(out.contains(&format!("  {name} ")), "{out}");
    }
    assert!(out.contains("[padded or search, --slow]") && out.contains("[--run]"), "{out}");
}

/// The server that was started is ended too, whatever it is doing.
#[test]
fn does_an_interrupt_end_the_server_with_the_command() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let mut child = Command::new(env!("CARGO_BIN_EXE_myriapod"))
        .args(["check", "127.0.0.1", "0", "--json", "-l", "idle-cpu", "--run", &serve("raw")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    // The third rung begins when the second is told, and takes more than a second.
    stdout.read_line(&mut line).unwrap();
    stdout.read_line(&mut line).unwrap();
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let children = || {
        let list = format!("/proc/{pid}/task/{pid}/children");
        std::fs::read_to_string(list).unwrap_or_default()
    };
    let started = std::time::Instant::now();
    let server = loop {
        let server: Option<i32> = children().split(' ').next().and_then(|pid| pid.parse().ok());
        if let Some(server) = server {
            break Pid::from_raw(server);
        }
        assert!(started.elapsed().as_secs() < 60, "no server is started");
        std::thread::yield_now();
    };
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let is_there = || {
        std::fs::read_to_string(format!("/proc/{server}/cmdline"))
            .is_ok_and(|text| !text.is_empty())
    };
    while is_there() {
        assert!(started.elapsed().as_secs() < 60, "the server is still there");
        std::thread::yield_now();
    }
}
