//! How every example answers those who do not know it yet, and what it says when it cannot work.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::programs::{Running, example};

const USAGES: [(&str, &str); 20] = [
    ("app_client", "<host> <port> <action> <value>"),
    ("app_server", "<host> <port>"),
    ("backpressure_client", "<host> <port> <action> <value>"),
    ("backpressure_server", "<host> <port>"),
    ("byteorder", ""),
    ("cpu_pool", "<host> <port>"),
    ("datagram_echo", "[HOST PORT]"),
    ("dual_stack", ""),
    ("echo_client", "[HOST] [PORT]"),
    ("echo_server", "[HOST] [PORT]"),
    ("embedded_loop", "[TICKS]"),
    ("granddaddy", "[CALLS]"),
    ("half_close", ""),
    ("multiconn_client", "<host> <port> <num_connections>"),
    ("multiconn_server", "<host> <port>"),
    ("padded_on_engine", "[HOST] [PORT] [padded|json|raw]"),
    ("tcp_proxy", "HOST PORT TO_HOST TO_PORT"),
    ("threaded_client", "[HOST] [PORT]"),
    ("threaded_server", "[HOST] [PORT]"),
    ("timeouts", ""),
];

#[test]
fn does_every_example_of_the_tutorial_say_how_it_is_used() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let there: BTreeSet<String> = files
        .filter_map(|name| name.into_string().unwrap().strip_suffix(".rs").map(str::to_owned))
        .collect();
    for (name, usage) in USAGES {
        assert!(there.contains(name), "{name}");
        let asked = Running::start({
            let mut command = example(name);
            command.arg("--help");
            command
        });
        let expected = format!("{name} {usage}");
        let is_usage = |line: &str| {
            line.starts_with("usage: ")
                && line.ends_with(expected.trim_end())
                && !line.contains('\n')
        };
        let lines = asked.succeed();
        assert!(is_usage(&lines[0]), "{lines:?}");
        // Then its purpose, an example with its arguments, who is beside it and what to watch.
        let text = lines[1..].join("\n");
        for part in
            ["$ cargo run --", format!("--example {name}").as_str(), "Beside it: ", "Watch: "]
        {
            assert!(text.contains(part), "{name} does not say {part:?}: {text}");
        }

        let mut command = example(name);
        command.args(["1", "2", "3", "4", "5", "6"]);
        let (lines, status, errors) = Running::start(command).finish();
        assert_eq!((lines.len(), status), (0, Some(2)), "{name}");
        assert!(is_usage(errors.trim_end()), "{errors}");
    }
}

#[test]
fn is_an_argument_that_cannot_be_meant_named() {
    for (name, arguments, says) in [
        ("threaded_server", &["127.0.0.1", "65536"][..], "port \"65536\": no such number; usage: "),
        ("multiconn_server", &["127.0.0.1", "http"], "port \"http\": no such number; usage: "),
        ("multiconn_client", &["127.0.0.1", "1", "-1"], "num_connections \"-1\": no such number; "),
        ("padded_on_engine", &["127.0.0.1", "0", "xml"], "usage: "),
    ] {
        let mut command = example(name);
        command.args(arguments);
        let (_, status, errors) = Running::start(command).finish();
        assert_eq!(status, Some(2), "{name}");
        assert!(errors.starts_with(says) && errors.lines().count() == 1, "{errors}");
    }
}

#[test]
fn does_a_failure_name_its_call_and_its_errno() {
    // Held, so that nobody else gets the port; a client's own port refuses others.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let client = std::net::TcpStream::connect(taken).unwrap();
    let refusing = client.local_addr().unwrap();
    let port_of = |address: std::net::SocketAddr| address.port().to_string();

    for name in
        ["threaded_server", "echo_server", "multiconn_server", "app_server", "padded_on_engine"]
            .into_iter()
            .chain(["cpu_pool", "backpressure_server"])
    {
        let mut command = example(name);
        command.args(["127.0.0.1", &port_of(taken)]);
        let (_, status, errors) = Running::start(command).finish();
        assert_eq!(status, Some(1), "{name}");
        let says = format!("bind {taken}: EADDRINUSE (Address already in use); ");
        assert!(errors.starts_with(&says) && errors.lines().count() == 1, "{name}: {errors}");
    }
    for (name, more) in [
        ("threaded_client", &[][..]),
        ("echo_client", &[]),
        ("app_client", &["search", "morpheus"]),
        ("backpressure_client", &["binary", "test"]),
        ("multiconn_client", &["1"]),
    ] {
        let mut command = example(name);
        command.args(["127.0.0.1", &port_of(refusing)]).args(more);
        let (_, status, errors) = Running::start(command).finish();
        assert_eq!(status, Some(1), "{name}");
        let says = format!("connect {refusing}: ECONNREFUSED (Connection refused); ");
        assert!(errors.starts_with(&says), "{name}: {errors}");
    }
}

#[test]
fn does_a_lesson_end_well_when_nobody_reads_it_to_its_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = example("byteorder");
    let output = command.stdout(writer).output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn does_a_server_outlive_the_reader_of_its_lines() {
    let mut command = example("app_server");
    command.args(["127.0.0.1", "0"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let port: u16 =
        first.trim_end_matches([')', '\n']).rsplit(", ").next().unwrap().parse().unwrap();
    for _ in 0..2 {
        let mut client = myriapod::Client::connect("127.0.0.1", port).unwrap();
        let asked = serde_json::json!({ "action": "search", "value": "ring" });
        let reply = client.request_json(&asked).unwrap();
        assert_eq!(reply.json().unwrap()["result"], "In the caves beneath the Misty Mountains. 💍");
    }
    child.kill().unwrap();
    let said = child.wait_with_output().unwrap().stderr;
    assert_eq!(String::from_utf8(said).unwrap(), "");
}
