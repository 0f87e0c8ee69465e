//! Where it listens, and what it says of that.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use crate::program::program;
use crate::support::{Client, Serving, TempDir, myriapod, search};

const RING: &str = "In the caves beneath the Misty Mountains. 💍";

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("this machine has no IPv6 loopback");
    }
    has
}

#[test]
fn is_the_real_port_told_and_the_host_as_it_was_given() {
    let serving = Serving::on_loopback(&[]);
    assert_ne!(serving.port(), 0);
    assert_eq!(serving.listening, format!("listening on ('127.0.0.1', {})", serving.port()));

    let serving = Serving::start(&["", "0"]);
    assert_eq!(serving.listening, format!("listening on ('', {})", serving.port()));
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING);

    let serving = Serving::start(&["localhost", "0"]);
    assert_eq!(serving.listening, format!("listening on ('localhost', {})", serving.port()));
    let mut client = Client::new(TcpStream::connect(("localhost", serving.port())).unwrap());
    assert_eq!(client.ask(&search("ring")).result(), RING);
}

#[test]
fn is_ipv6_served() {
    if !has_ipv6() {
        return;
    }
    let serving = Serving::start(&["::1", "0"]);
    assert_eq!(serving.listening, format!("listening on ('::1', {})", serving.port()));
    let stream = TcpStream::connect((Ipv6Addr::LOCALHOST, serving.port())).unwrap();
    assert_eq!(Client::new(stream).ask(&search("ring")).result(), RING);
}

/// `serve NAME PORT` where NAME is `::1` and `127.0.0.1`; `None` where no process may have a file of
/// hosts to itself.
fn on_two_addresses(dir: &TempDir, port: &str) -> Option<Command> {
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "::1 twofold\n127.0.0.1 twofold\n").unwrap();
    // What should not serve ends even if it does. A signal is passed on once: not to the group too.
    let mut command = Command::new("timeout");
    let script = "mount --bind \"$1\" /etc/hosts && exec \"$0\" \"$2\" twofold \"$3\"";
    let args = ["-rm", "sh", "-c", script, &program()];
    command.args(["--foreground", "60", "unshare"]).args(args).arg(&hosts).stdin(Stdio::null());
    let mut try_it = Command::new("unshare");
    let resolve = try_it.args(args).arg(&hosts).args(["resolve", "0"]).output();
    let shown = resolve.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !has_ipv6() || !shown.is_ok_and(|text| text.contains("::1") && text.contains("127.0.0.1")) {
        println!("skipped: this machine gives no name two addresses");
        return None;
    }
    command.args(["serve", port]);
    Some(command)
}

#[test]
fn are_all_addresses_of_a_name_served_on_one_port() {
    let dir = TempDir::new();
    let Some(mut command) = on_two_addresses(&dir, "0") else { return };
    let mut serving = Serving::spawn(&mut command);
    let port = serving.port();
    assert_eq!(serving.listening, format!("listening on ('twofold', {port})"));
    let mut further = [serving.next_line(), serving.next_line()];
    further.sort();
    let line = |ip| format!("listening on ('{ip}', {port})");
    assert_eq!(further, [line("127.0.0.1"), line("::1")]);
    for stream in [
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
        TcpStream::connect((Ipv6Addr::LOCALHOST, port)),
    ] {
        assert_eq!(Client::new(stream.unwrap()).ask(&search("ring")).result(), RING);
    }

    // A second server finds no place, not even on a part of the addresses.
    let second = on_two_addresses(&dir, &port.to_string()).unwrap().output().unwrap();
    assert_eq!((second.status.code(), second.stdout), (Some(1), Vec::new()));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.starts_with("myriapod: bind ") && text.contains(": EADDRINUSE"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn is_one_address_in_use_an_error_though_another_is_free() {
    let dir = TempDir::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let Some(mut command) = on_two_addresses(&dir, &port) else { return };
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with(&format!("myriapod: bind 127.0.0.1:{port}: EADDRINUSE")), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

/// No test may count on a fixed port, so this one takes part only where it is free.
#[test]
fn is_the_default_place_the_tutorials() {
    let Ok(taken) = TcpListener::bind((Ipv4Addr::LOCALHOST, 65432)) else {
        println!("port 65432 is not free");
        return;
    };
    // While we hold it, the server says where it wanted to be.
    let output = myriapod().arg("serve").output().unwrap();
    drop(taken);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "myriapod: bind 127.0.0.1:65432: EADDRINUSE (Address already in use); \
         another program listens there: choose another port, or 0 for any\n"
    );
    assert_eq!(output.stdout, b"");
}

#[test]
fn is_a_unix_socket_served_and_removed_at_the_end() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let host = format!("unix:{}", path.display());
    let serving = Serving::start(&[&host]);
    assert_eq!(serving.listening, format!("listening on {host}"));
    let mut client = Client(UnixStream::connect(&path).unwrap());
    assert_eq!(client.ask(&search("ring")).result(), RING);

    // It answers, so nobody takes its place.
    let second = myriapod().args(["serve", &host]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(text.starts_with(&format!("myriapod: bind {host}: EADDRINUSE")), "{text}");
    assert!(path.exists());

    drop(client);
    assert_eq!(serving.stop().status, Some(0));
    assert!(!path.exists());
}

#[test]
fn is_a_stale_unix_socket_replaced_and_any_other_file_left() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let host = format!("unix:{}", path.display());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let serving = Serving::start(&[&host]);
    let mut client = Client(UnixStream::connect(&path).unwrap());
    assert_eq!(client.ask(&search("ring")).result(), RING);
    drop(client);
    assert_eq!(serving.stop().status, Some(0));

    fs::write(&path, "precious").unwrap();
    let refused = myriapod().args(["serve", &host]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn is_the_file_left_alone_of_a_server_that_came_after() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let host = format!("unix:{}", path.display());
    let first = Serving::start(&[&host]);
    fs::remove_file(&path).unwrap();
    let second = Serving::start(&[&host]);
    assert_eq!(first.stop().status, Some(0));
    let mut client = Client(UnixStream::connect(&path).unwrap());
    assert_eq!(client.ask(&search("ring")).result(), RING);
    drop(client);
    assert_eq!(second.stop().status, Some(0));
    assert!(!path.exists());
}

#[test]
fn does_the_file_of_a_socket_have_the_mode_asked_for() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let host = format!("unix:{}", path.display());
    // Wider than a umask allows, and narrower.
    for (asked, mode) in [("0660", 0o660), ("0777", 0o777), ("600", 0o600), ("0", 0)] {
        let serving = Serving::start(&[&host, "--socket-mode", asked]);
        let found = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(format!("{:o}", found & 0o7777), format!("{mode:o}"));
        assert_eq!(serving.stop().status, Some(0));
        assert!(!path.exists());
    }
}

#[test]
fn is_an_inherited_listener_served() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    // Standard input, as inetd does it.
    let mut command = myriapod();
    command.args(["serve", "--listen-fd", "0"]).stdin(Stdio::from(OwnedFd::from(listener)));
    let serving = Serving::spawn(&mut command);
    assert_eq!(serving.listening, format!("listening on ('127.0.0.1', {port})"));
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING);
}

/// A shell that starts `serve` with `listener` as descriptor 3, as a service manager does.
fn as_a_service(listener: OwnedFd, variables: &str, args: &str) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("exec 3<&0 0</dev/null; {variables} exec \"$0\" serve {args}");
    shell.args(["-c", &script, &program()]).stdin(Stdio::from(listener));
    shell
}

#[test]
fn are_a_service_managers_listeners_served() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut command = as_a_service(listener.into(), "LISTEN_PID=$$ LISTEN_FDS=1", "");
    let serving = Serving::spawn(&mut command);
    assert_eq!(serving.listening, format!("listening on ('127.0.0.1', {port})"));
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING);
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn does_a_host_come_beside_a_service_managers_listeners() {
    let dir = TempDir::new();
    let path = dir.path().join("search");
    let listener = UnixListener::bind(&path).unwrap();
    let variables = "LISTEN_PID=$$ LISTEN_FDS=1";
    let mut serving = Serving::spawn(&mut as_a_service(listener.into(), variables, "127.0.0.1 0"));
    assert!(serving.listening.starts_with("listening on ('127.0.0.1', "));
    assert_eq!(serving.next_line(), format!("listening on unix:{}", path.display()));
    let mut client = Client(UnixStream::connect(&path).unwrap());
    assert_eq!(client.ask(&search("ring")).result(), RING);
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING);
    drop(client);
    assert_eq!(serving.stop().status, Some(0));
    // Its maker may want to serve it again.
    assert!(path.exists());
}

#[test]
fn are_listeners_meant_for_another_process_left_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let theirs = listener.local_addr().unwrap().port();
    let variables = "LISTEN_PID=1 LISTEN_FDS=1";
    let serving = Serving::spawn(&mut as_a_service(listener.into(), variables, "127.0.0.1 0"));
    assert_ne!(serving.port(), theirs);
    assert_eq!(serving.connect().ask(&search("ring")).result(), RING);
}
