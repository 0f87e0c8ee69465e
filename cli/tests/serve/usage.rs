//! What is refused, and what help says.

use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::support::{Client, TempDir, myriapod, search};

/// Status and standard error of a command that does not serve.
fn refused(args: &[&str]) -> (Option<i32>, String) {
    let output = myriapod().arg("serve").args(args).output().unwrap();
    assert_eq!(output.stdout, b"", "{args:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn is_wrong_usage_status_2() {
    for args in [
        &["--nonsense"][..],
        &["127.0.0.1", "0", "--handover-timeout", "9ms"],
        &["127.0.0.1", "0", "--handover-timeout", "61s"],
        &["127.0.0.1", "65536"],
        &["127.0.0.1", "-1"],
        &["127.0.0.1", "0", "more"],
        &["--service", "http"],
        &["--backend", "iocp"],
        &["--idle-timeout", "5"],
        &["--idle-timeout", "5d"],
        &["--idle-timeout", "-5s"],
        &["--max-connections", "0"],
        &["--max-content-len", "0"],
        &["--max-content-len", "1MB"],
        &["--max-header-len", "65536"],
        &["--linger-bytes", "4GiB"],
        &["--low-water", "256KiB"],
        &["--listen-fd", "x"],
        &["--threads", "0"],
        &["--threads", "many"],
        &["--spin", "1ms"],
        &["--spin", "1000001"],
        &["--threads", "1025"],
        &["--threads", "2", "--max-buffer-bytes", "2MiB"],
        &["--socket-mode", "0660"],
        &["127.0.0.1", "0", "--socket-mode", "0660"],
        &["unix:x", "--socket-mode", "rw"],
        &["unix:x", "--socket-mode", "0o660"],
        &["unix:x", "--socket-mode", "+660"],
        &["unix:x", "--socket-mode", "0680"],
        &["unix:x", "--socket-mode", "1777"],
    ] {
        let (status, text) = refused(args);
        assert_eq!(status, Some(2), "{args:?}: {text}");
        assert!(!text.is_empty());
    }
    let (_, text) = refused(&["--low-water", "1MiB"]);
    assert!(
        text.starts_with("myriapod: --low-water (1048576) must be below --high-water"),
        "{text}"
    );
}

#[test]
fn does_a_place_that_is_taken_say_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_eq!(
        refused(&["127.0.0.1", &port]),
        (
            Some(1),
            format!(
                "myriapod: bind 127.0.0.1:{port}: EADDRINUSE (Address already in use); \
                 another program listens there: choose another port, or 0 for any\n"
            )
        )
    );
}

#[test]
fn does_a_place_that_cannot_be_say_why() {
    let (status, text) = refused(&["192.0.2.1", "0"]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("myriapod: bind 192.0.2.1:0: EADDRNOTAVAIL"), "{text}");
    assert!(text.contains("'' for all"), "{text}");

    let (status, text) = refused(&["unix:/nonexistent/directory/socket"]);
    assert_eq!(status, Some(1));
    assert!(text.ends_with("create its directory first\n"), "{text}");

    let (status, text) = refused(&["no.such.host.invalid", "0"]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("myriapod: getaddrinfo no.such.host.invalid: EAI_"), "{text}");
    assert_eq!(text.lines().count(), 1);

    let (status, text) = refused(&["--listen-fd", "77"]);
    assert_eq!(status, Some(1));
    assert!(text.starts_with("myriapod: fcntl descriptor 77: EBADF"), "{text}");
}

#[test]
fn does_a_host_that_is_written_wrong_get_advice_that_helps() {
    for (host, advice) in [
        ("[::1]", "write it without brackets: ::1"),
        ("[::1]:80", "host and port are two arguments: ::1 80"),
        ("127.0.0.1:80", "host and port are two arguments: 127.0.0.1 80"),
    ] {
        let (status, text) = refused(&[host, "0"]);
        assert_eq!(status, Some(1));
        assert!(text.starts_with("myriapod: getaddrinfo "), "{text}");
        assert!(text.ends_with(&format!("; {advice}\n")), "{text}");
    }
    // Without IPv6 the socket is refused before the address is.
    let (status, text) = refused(&["fe80::1", "0"]);
    assert_eq!(status, Some(1));
    assert!(text.contains("EAFNOSUPPORT") || text.contains("fe80::1%eth0"), "{text}");
}

#[test]
fn does_help_show_every_limit_with_its_default() {
    let output = myriapod().args(["serve", "--help"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = help.split_whitespace().collect();
    let help = words.join(" ");
    for (flag, default) in [
        ("max-connections", "what descriptors allow, less 64"),
        ("max-connections-per-address", "1024 but for loopback and Unix"),
        ("max-header-len", "4KiB"),
        ("max-content-len", "1MiB"),
        ("max-buffer-bytes", "256MiB"),
        ("high-water", "256KiB"),
        ("low-water", "64KiB"),
        ("linger-bytes", "64KiB"),
        ("messages-per-event", "64"),
        ("accept-batch", "64"),
        ("header-timeout", "10s"),
        ("content-timeout", "1m"),
        ("idle-timeout", "5m"),
        ("write-timeout", "30s"),
        ("linger-timeout", "2s"),
        ("drain-timeout", "10s"),
        ("service", "search"),
        ("threads", "1"),
        ("spin", "0"),
    ] {
        let (_, text) =
            help.split_once(&format!(" --{flag} <")).unwrap_or_else(|| panic!("{flag}"));
        let (_, shown) = text.split_once("[default: ").unwrap();
        assert!(shown.starts_with(&format!("{default}]")), "{flag}: {shown:.40}");
    }
}

#[test]
fn is_a_first_line_that_cannot_be_written_an_error() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        println!("this system has no /dev/full");
        return;
    };
    let command = &mut myriapod();
    let output = command.args(["serve", "127.0.0.1", "0"]).stdout(Stdio::from(full)).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("myriapod: write standard output: ENOSPC"), "{text}");
}

#[test]
fn does_it_serve_on_when_nobody_reads_what_it_says() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut server = myriapod()
        .args(["serve", "-v", &format!("unix:{}", path.display())])
        .stdout(writer.try_clone().unwrap())
        .stderr(writer)
        .spawn()
        .unwrap();
    // Without a first line to wait for, its file has to do; between bind and listen it refuses.
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(_) => assert_eq!(server.try_wait().unwrap(), None, "it ended"),
        }
        std::thread::yield_now();
    };
    let mut client = Client(stream);
    assert_eq!(client.ask(&search("x")).result(), "No match for 'x'.");
    server.kill().unwrap();
    server.wait().unwrap();
}
