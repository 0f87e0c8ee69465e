//! What a service manager is told, in order, and what it hands over.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::program::program;
use crate::support::{Client, Serving, TempDir, myriapod, search};

/// A service manager's socket.
struct Manager {
    socket: UnixDatagram,
    _dir: TempDir,
}

impl Manager {
    fn new() -> (Self, std::path::PathBuf) {
        let dir = TempDir::new();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        (Self { socket, _dir: dir }, path)
    }

    /// The next message that is no sign of life.
    fn next(&self) -> String {
        loop {
            let message = self.any();
            if !message.starts_with("WATCHDOG=1") {
                return message;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 1024];
        let len = self.socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }
}

#[test]
fn is_a_service_manager_told_everything_in_order() {
    let (manager, path) = Manager::new();
    let dir = TempDir::new();
    let config = dir.path().join("config");
    fs::write(&config, "max-content-len = \"1KiB\"\n").unwrap();
    let mut command = myriapod();
    command.args(["serve", "127.0.0.1", "0", "--threads", "2", "--config"]).arg(&config);
    let serving = Serving::spawn(command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "40000"));
    let pid = serving.pid();
    let ready = format!("READY=1\nMAINPID={pid}\nSTATUS=");
    let first = manager.any();
    assert!(first.starts_with(&ready), "{first}");
    let alive = manager.any();
    assert!(alive.starts_with("WATCHDOG=1\nSTATUS=connections open: 0"), "{alive}");
    let mut client = serving.connect();
    client.ask(&search("ring"));
    while manager.any() != "WATCHDOG=1\nSTATUS=connections open: 1; messages: 1" {}
    serving.signal(Signal::SIGHUP);
    let reloading = manager.next();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(micros.parse::<u64>().is_ok(), "{reloading}");
    let again = manager.next();
    assert!(again.starts_with(&ready), "{again}");
    assert!(again.ends_with("connections open: 1; messages: 1"), "{again}");
    serving.signal(Signal::SIGTERM);
    let stopping = manager.next();
    assert!(stopping.starts_with("STOPPING=1\nSTATUS=stopping; connections open: "), "{stopping}");
    client.expect_end();
    drop(client);
    assert_eq!(serving.wait().status, Some(0));
}

#[test]
fn is_a_service_manager_that_does_not_listen_an_error() {
    for (name, value) in [("NOTIFY_SOCKET", "/nowhere/at/all"), ("WATCHDOG_USEC", "0")] {
        let (_manager, path) = Manager::new();
        let mut command = myriapod();
        command.args(["serve", "127.0.0.1", "0"]).env("NOTIFY_SOCKET", path).env(name, value);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn is_the_listener_named_metrics_served_as_such() {
    let listeners: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
    let [first, second] = <[TcpListener; 2]>::try_from(listeners).unwrap();
    let script = "export LISTEN_PID=$$; exec 3<&0 4<&1 0</dev/null 1>&2; exec \"$0\" serve";
    let mut child = Command::new("sh")
        .args(["-c", script, &program()])
        .env("LISTEN_FDS", "2")
        .env("LISTEN_FDNAMES", "search:metrics")
        .stdin(OwnedFd::from(first))
        .stdout(OwnedFd::from(second))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = Client::new(TcpStream::connect(("127.0.0.1", ports[0])).unwrap());
    client.ask(&search("ring"));
    let mut metrics = Client::new(TcpStream::connect(("127.0.0.1", ports[1])).unwrap());
    metrics.send(b"GET /metrics HTTP/1.1\r\n\r\n");
    let mut head = [0; 15];
    std::io::Read::read_exact(&mut metrics.0, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether a program is there; says so if it is not.
fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let has = command.status().is_ok();
    if !has {
        println!("SKIPPED: {program} is not installed");
    }
    has
}

#[test]
fn does_systemd_take_the_unit_and_the_socket() {
    if !has("systemd-analyze") {
        return;
    }
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let dir = TempDir::new();
    for name in ["myriapod.service", "myriapod.socket"] {
        let text = fs::read_to_string(packaging.join(name)).unwrap();
        // Where the program is here.
        let text = text.replace("/usr/bin/myriapod", &program());
        fs::write(dir.path().join(name), text).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["myriapod.service", "myriapod.socket"].map(|name| dir.path().join(name)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("myriapod")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn are_the_flags_of_the_unit_flags_of_serve() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
    let unit = fs::read_to_string(packaging.join("myriapod.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    assert_eq!(start, "/usr/bin/myriapod serve --config /etc/myriapod.toml");
    // The file that comes with it says what can be said.
    let config = packaging.join("myriapod.toml");
    let serving = Serving::spawn(
        myriapod()
            .args(["serve", "127.0.0.1", "0", "--metrics", "127.0.0.1:0", "--config"])
            .arg(config),
    );
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn do_the_metrics_pass_promtool() {
    if !has("promtool") {
        return;
    }
    let serving = Serving::on_loopback(&["--metrics", "127.0.0.1:0"]);
    let line = serving.wait_for("metrics at http://");
    let address = line.trim_start_matches("metrics at http://").trim_end_matches("/metrics");
    let mut stream = TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut response = String::new();
    std::io::Read::read_to_string(&mut stream, &mut response).unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1.to_owned();
    let dir = TempDir::new();
    let file = dir.path().join("metrics");
    fs::write(&file, &body).unwrap();
    let output = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&file).unwrap())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // What the dashboard asks for is there.
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/grafana.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dashboard).unwrap()).unwrap();
    let mut asked = 0;
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let text = target["expr"].as_str().unwrap();
            let name = text.split("myriapod_").nth(1).unwrap();
            let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
            let name = format!("# TYPE myriapod_{} ", &name[..end.unwrap_or(name.len())]);
            assert!(body.contains(&name), "{text}");
            asked += 1;
        }
    }
    assert!(asked > 8, "{asked}");
}
