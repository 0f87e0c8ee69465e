//! The kinds of load, and the servers they are for.

use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::support::{LEN, Serving, bench, bench_raw, myriapod, reply, run};

#[test]
fn does_bench_alone_start_a_server_and_end_with_a_table() {
    let ran = bench(&["-d", "300ms"]);
    assert_eq!((ran.status, ran.reason()), (0, "completed"), "{ran:?}");
    assert_eq!(ran.json["settings"]["embedded"], true);
    assert!(ran.number("messages.ok") > 50.0 && ran.number("rate.achieved") > 0.0, "{ran:?}");
    assert!(ran.number("messages.sent") == ran.number("messages.ok"), "{ran:?}");
    for said in ["50 of 50 established", "p99.99", "server ", "ended         completed"] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
    // Where it is no terminal, a line for each phase, and nothing that steers one.
    assert!(ran.stderr.starts_with("ramp "), "{ran:?}");
    assert!(!ran.stderr.contains('\r') && !ran.stdout.contains('\x1b'), "{ran:?}");
    if cfg!(target_os = "linux") {
        assert!(ran.number("server.cpu_us_per_message") > 0.0, "{ran:?}");
        assert!(ran.number("server.rss_bytes_hold") > 1e5, "{ran:?}");
    }
}

#[test]
fn is_every_service_answered_rightly() {
    for service in ["search", "echo", "raw", "padded"] {
        for content in ["64", "9KiB"] {
            let args = ["-m", "200", "-c", "4", "-i", "4", "--service", service];
            let ran = bench(&[&args[..], &["--content", content]].concat());
            assert_eq!((ran.fates(), ran.status), ([200, 0, 0, 0, 0], 0), "{service} {ran:?}");
        }
    }
}

#[test]
fn do_large_messages_arrive_whole() {
    let ran = bench(&["-m", "20", "-c", "2", "-i", "2", "-s", "echo", "--content", "3MiB"]);
    assert_eq!((ran.fates(), ran.status), ([20, 0, 0, 0, 0], 0), "{ran:?}");
}

#[test]
fn do_processes_and_threads_add_up() {
    let shape = ["--processes", "2", "--threads", "2", "-c", "9", "--idle", "5"];
    let ran = bench(&[&shape[..], &["-m", "1000", "--source", "127.0.0.2-127.0.0.4"]].concat());
    assert_eq!((ran.fates(), ran.status), ([1000, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.number("connections.established"), 14.0, "{ran:?}");
    assert_eq!(ran.number("connections.idle"), 5.0, "{ran:?}");
    assert_eq!(ran.number("latency_ns.service.count"), 1000.0, "{ran:?}");
    let curve = ran.json["curve"]["response"].as_array().unwrap();
    assert_eq!(curve.last().unwrap()["quantile"], 1.0, "{ran:?}");
}

#[test]
fn has_each_thread_a_processor_of_its_own() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let mut cpus = allowed_cpus();
    let mut command = myriapod();
    command.args(["bench", "--pin", "--processes", "2", "--threads", "1", "-c", "4", "-d", "1m"]);
    let mut bench = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    let pinned = loop {
        // Before it is pinned, a thread may run anywhere.
        let found = processors_of_threads(bench.id());
        let single = found.iter().all(|cpus| cpus.parse::<usize>().is_ok());
        if (found.len() == 2 && (single || cpus.len() == 1)) || Instant::now() > deadline {
            break found;
        }
        thread::sleep(Duration::from_millis(5));
    };
    bench.kill().unwrap();
    bench.wait().unwrap();
    cpus.reverse();
    let mut expected: Vec<String> = (0..2).map(|nth| cpus[nth % cpus.len()].to_string()).collect();
    expected.sort();
    assert_eq!(pinned, expected);
}

/// The processors that this process may use.
fn allowed_cpus() -> Vec<usize> {
    myriapod::sys::thread_cpus().unwrap()
}

/// Where the first thread of each process of this bench's may run, in order.
fn processors_of_threads(bench: u32) -> Vec<String> {
    let status = |path: &Path, name: &str| {
        let text = fs::read_to_string(path.join("status")).ok()?;
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().to_owned())
    };
    let entries = |path: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
    };
    let children = entries(Path::new("/proc")).into_iter();
    let children = children.filter(|path| status(path, "PPid:") == Some(bench.to_string()));
    let threads = children.flat_map(|child| entries(&child.join("task")));
    let threads = threads.filter(|path| status(path, "Name:").as_deref() == Some("bench-0"));
    let mut found: Vec<_> =
        threads.filter_map(|path| status(&path, "Cpus_allowed_list:")).collect();
    found.sort();
    found
}

#[test]
fn has_each_pinned_server_a_processor_of_its_own() {
    let mut limited = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_myriapod");
    let script = format!("ulimit -n 100; exec {program} bench --pin -c 70 -m 70 \"$@\"");
    let ran = run(limited.args(["-c", &script, "sh"]).stdin(Stdio::null()));
    let cpus = allowed_cpus();
    let servers = ran.json["server"]["pids"].as_array().map_or(0, Vec::len);
    if servers < 2 || cpus.len() < 2 {
        eprintln!("SKIPPED: {servers} servers on {} processors", cpus.len());
        return;
    }
    assert_eq!((servers, ran.status), (2, 0), "{ran:?}");
    let named = ran.json["server"]["cpus_allowed"].as_str().unwrap();
    assert!(
        [format!("{}-{}", cpus[0], cpus[1]), format!("{},{}", cpus[0], cpus[1])]
            .contains(&named.to_owned()),
        "{ran:?}"
    );
}

#[test]
fn is_a_server_that_may_run_beside_pinned_threads_told() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let server = Serving::myriapod(&[]);
    let (port, pid) = (server.port.to_string(), server.pid());
    let ran = bench(&["127.0.0.1", &port, "--server-pid", &pid, "--pin", "-m", "100"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let last = *allowed_cpus().last().unwrap();
    assert_eq!(ran.json["settings"]["cpus"], serde_json::json!([last]), "{ran:?}");
    assert!(ran.warned_of(&format!("the server may run on processor {last}")), "{ran:?}");
}

#[test]
fn does_it_spread_over_processes_where_descriptors_end() {
    let server = Serving::myriapod(&[]);
    let mut limited = Command::new("sh");
    let script = format!(
        "ulimit -n 100; exec {} bench 127.0.0.1 {} -c 200 -m 400 \"$@\"",
        env!("CARGO_BIN_EXE_myriapod"),
        server.port
    );
    limited.args(["-c", &script, "sh"]).stdin(Stdio::null());
    let ran = run(&mut limited);
    if ran.number("settings.processes") == 1.0 {
        eprintln!("SKIPPED: this user may raise the limit of descriptors again");
        return;
    }
    assert_eq!((ran.number("settings.processes"), ran.status), (6.0, 0), "{ran:?}");
    assert_eq!(ran.number("connections.established"), 200.0, "{ran:?}");
}

#[test]
fn does_an_open_loop_offer_what_it_was_told_to() {
    for arrivals in [&["--poisson"][..], &[]] {
        let ran = bench(&[&["-r", "500", "-d", "1s", "-c", "5"], arrivals].concat());
        assert_eq!(ran.status, 0, "{ran:?}");
        let offered = ran.number("rate.offered");
        assert!((350.0..650.0).contains(&offered), "{ran:?}");
        assert_eq!(ran.number("messages.lost"), 0.0);
    }
}

#[test]
fn is_all_sent_that_is_due_while_connections_are_free() {
    let ran = bench(&["-s", "raw", "-c", "4000", "-r", "100k", "-d", "10ms"]);
    let (sent, unsent) = (ran.number("messages.sent"), ran.number("messages.unsent"));
    assert!(sent > 100.0, "{ran:?}");
    // A machine that is slow to end the run lets more become due than there are connections.
    assert!(unsent == 0.0 || sent + unsent > 4000.0, "{ran:?}");
}

#[test]
fn does_a_run_go_on_when_its_idle_connections_are_closed() {
    let server = Serving::myriapod(&["--idle-timeout", "400ms"]);
    let port = server.port.to_string();
    let load = ["-c", "2", "--idle", "4", "-r", "200", "-d", "1s"];
    let args = [&["127.0.0.1", &port], &load[..]].concat();
    let mut ran = bench(&args);
    for _ in 0..2 {
        // Where the machine holds bench up, those at work are idle too.
        if ran.number("connections.lost") > 4.0 {
            ran = bench(&args);
        }
    }
    assert_eq!((ran.number("connections.lost"), ran.status), (4.0, 1), "{ran:?}");
    assert_eq!(
        ran.reason().split(';').next(),
        Some("4 connections ended before bench closed them")
    );
    assert!(ran.number("messages.ok") >= 120.0, "{ran:?}");
}

#[test]
fn does_a_short_run_say_who_closes_first() {
    let keeps = Serving::myriapod(&[]);
    let closes = Serving::myriapod(&["--one-shot"]);
    for (server, closer) in [(&keeps, "client"), (&closes, "server")] {
        let port = server.port.to_string();
        let ran = bench(&["127.0.0.1", &port, "--short", "-c", "8", "-m", "300"]);
        assert_eq!((ran.fates(), ran.status), ([300, 0, 0, 0, 0], 0), "{ran:?}");
        assert_eq!(ran.number("connections.opened"), 300.0, "{ran:?}");
        let first = ran.number(&format!("short.closed_first_by_{closer}"));
        // The one before the run may be waited for too briefly where the machine is slow.
        assert!(first >= 280.0, "{ran:?}");
        if cfg!(target_os = "linux") {
            assert!(ran.stdout.contains("TIME_WAIT"), "{ran:?}");
        }
    }
    // Without --short, such a server is known by what it does.
    let port = closes.port.to_string();
    let ran = bench(&["127.0.0.1", &port, "-c", "3", "-m", "300"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.reason().contains("--short"), "{ran:?}");
}

#[test]
fn is_a_short_run_complete_that_has_fewer_messages_than_places() {
    let server = Serving::myriapod(&["--one-shot"]);
    let port = server.port.to_string();
    let ran = bench(&["127.0.0.1", &port, "--short", "-m", "10"]);
    assert_eq!((ran.fates(), ran.status), ([10, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.reason(), "completed");
    assert!(ran.stdout.contains("10 opened, at most 50 at once"), "{ran:?}");
}

#[test]
fn does_a_short_run_fail_where_connecting_does() {
    // It answers 20 connections, and the one before the run, and is gone.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut listener = Some(listener);
        for nth in 0..=20 {
            let (mut stream, _) = listener.as_ref().unwrap().accept().unwrap();
            let mut message = [0; LEN];
            stream.read_exact(&mut message).unwrap();
            if nth == 20 {
                listener = None;
            }
            reply(&mut stream, &message);
        }
    });
    let ran = bench_raw(port, &["--short", "-c", "1", "-m", "100"]);
    assert_eq!((ran.fates(), ran.status), ([20, 0, 0, 0, 0], 1), "{ran:?}");
    assert!(ran.number("connections.failed") > 0.0, "{ran:?}");
    assert!(ran.reason().contains("connect"), "{ran:?}");
    assert!(ran.reason().contains("is the server running"), "{ran:?}");
}

#[test]
fn does_it_work_with_the_tutorials_own_server() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python/app_server.py");
    if Command::new("python3").arg("--version").output().is_err() || !program.exists() {
        eprintln!("SKIPPED: python3 or {} is missing", program.display());
        return;
    }
    let mut python = Command::new("python3");
    let server = Serving::start(python.arg("-u").arg(program).args(["127.0.0.1", "0"]));
    let port = server.port.to_string();
    let ran = bench(&["127.0.0.1", &port, "--short", "-c", "4", "-m", "100"]);
    assert_eq!((ran.fates(), ran.status), ([100, 0, 0, 0, 0], 0), "{ran:?}");
    assert_eq!(ran.number("short.closed_first_by_server"), 100.0, "{ran:?}");
}

#[test]
fn is_memory_measured_of_the_process_that_is_named() {
    let server = Serving::myriapod(&[]);
    let (port, pid) = (server.port.to_string(), server.pid());
    let shape = ["-c", "10", "--idle", "1000", "--hold", "100ms", "-m", "100"];
    let ran = bench(&[&["127.0.0.1", &port, "--server-pid", &pid], &shape[..]].concat());
    if !cfg!(target_os = "linux") {
        return;
    }
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.json["server"]["pids"][0].to_string(), pid);
    let each = ran.number("server.rss_bytes_per_connection");
    assert!((0.0..2000.0).contains(&each), "{ran:?}");
    assert!(ran.json["memory"].as_array().unwrap().len() >= 2, "{ran:?}");
    let phases = ran.json["phases"].as_array().unwrap();
    let phases: Vec<&str> = phases.iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["ramp", "hold", "run", "close"]);
}

#[test]
fn is_what_the_server_used_divided_by_its_answers_meanwhile() {
    // It answers ten messages during the run, and a thousand when that is over.
    let program = "
import socket, time
server = socket.create_server(('127.0.0.1', 0))
print(server.getsockname(), flush=True)
connection = server.accept()[0]
connection.sendall(connection.recv(640, socket.MSG_WAITALL))
time.sleep(1)
while received := connection.recv(65536):
    connection.sendall(received)
";
    if !cfg!(target_os = "linux") || Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: it needs Linux and python3");
        return;
    }
    let server = Serving::start(Command::new("python3").args(["-c", program]));
    let (port, pid) = (server.port.to_string(), server.pid());
    let load = ["-s", "raw", "-c", "1", "-i", "1000", "-d", "500ms", "--server-pid", &pid];
    let ran = bench(&[&["127.0.0.1", &port], &load[..]].concat());
    assert_eq!((ran.number("messages.ok"), ran.status), (1010.0, 0), "{ran:?}");
    let used = ran.number("server.cpus") * 0.5 * 1e6;
    let answers = used / ran.number("server.cpu_us_per_message");
    assert!((1.0..100.0).contains(&answers), "{answers}: {ran:?}");
}

#[test]
fn is_a_server_that_is_not_there_said_so() {
    // A port that was free a moment ago.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let ran = bench(&["127.0.0.1", &port.to_string(), "-c", "3", "-d", "1s"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let error = &ran.json["errors"][0];
    assert_eq!((&error["errno"], &error["count"]), (&"ECONNREFUSED".into(), &3.into()), "{ran:?}");
    assert!(ran.reason().contains("0 of 3 connections"), "{ran:?}");
    assert!(ran.reason().contains("is the server running"), "{ran:?}");
}

#[test]
fn is_wrong_usage_told_from_failure() {
    let usage: [&[&str]; 8] = [
        &["127.0.0.1"],
        &["--content", "33"],
        &["--content", "/no/such/file"],
        &["--find-rate"],
        &["--short", "-i", "2"],
        &["--ports", "1-2"],
        &["-c", "0"],
        &["-m", "10", "-d", "1s"],
    ];
    for args in usage {
        let output = myriapod().arg("bench").args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let expected = if args.contains(&"/no/such/file") { 1 } else { 2 };
        assert_eq!(output.status.code(), Some(expected), "{args:?} {stderr}");
        assert!(!stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn are_all_served_again_after_a_storm() {
    let server = Serving::myriapod(&["--service", "echo"]);
    let port = server.port.to_string();
    for processes in ["1", "2"] {
        let load = ["-s", "echo", "-m", "200", "-c", "40", "--processes", processes];
        let load = [&load[..], &["--reconnect", "2"]].concat();
        let ran = bench(&[&["127.0.0.1", port.as_str()], &load[..]].concat());
        assert_eq!((ran.status, ran.reason()), (0, "completed"), "{ran:?}");
        let storms = ran.json["storms"].as_array().unwrap();
        assert_eq!(storms.len(), 2, "{ran:?}");
        for storm in storms {
            assert_eq!((&storm["connections"], &storm["served"]), (&40.into(), &40.into()));
            let time = |key: &str| storm[key].as_u64().unwrap();
            assert!(0 < time("p50_ns") && time("p99_ns") <= time("all_ns"), "{storm}");
        }
        // They are no part of the run's figures, but for what was connected.
        assert_eq!(ran.number("messages.sent"), 200.0, "{ran:?}");
        assert_eq!(ran.number("latency_ns.response.count"), 200.0, "{ran:?}");
        assert_eq!(ran.number("connections.opened"), 120.0, "{ran:?}");
        assert!(ran.stdout.contains("storm         2: 40 of 40 served again"), "{ran:?}");
    }
}

#[test]
fn are_slow_ones_beside_the_others_no_part_of_the_figures() {
    let server = Serving::myriapod(&["--service", "echo", "--header-timeout", "300ms"]);
    let port = server.port.to_string();
    let load = ["-s", "echo", "-d", "1500ms", "-c", "4", "--slow", "20"];
    let ran = bench(&[&["127.0.0.1", port.as_str()], &load[..]].concat());
    assert_eq!((ran.status, ran.reason()), (0, "completed"), "{ran:?}");
    assert_eq!(ran.number("connections.established"), 4.0, "{ran:?}");
    assert_eq!(ran.number("messages.sent"), ran.number("messages.ok"), "{ran:?}");
    // Those that send a byte at a time run into the server's deadline, and come back; not more often
    // than their turn comes.
    let closed = ran.number("connections.slow_closed");
    assert!((1.0..=80.0).contains(&closed), "{ran:?}");
    // One that nobody closes stays.
    let patient = Serving::myriapod(&["--service", "echo"]);
    let port = patient.port.to_string();
    let ran = bench(&[&["127.0.0.1", port.as_str()], &load[..]].concat());
    assert_eq!((ran.status, ran.number("connections.slow_closed")), (0, 0.0), "{ran:?}");
    assert!(ran.stdout.contains("4 connections and 20 slow"), "{ran:?}");
}
