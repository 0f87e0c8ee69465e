//! Behind HAProxy and nginx: does the server see the clients, and nobody else?

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use myriapod::sys::{Descriptor, Socket};
use nix::sys::signal::Signal;

use crate::support::{Client, Serving, TempDir, json, myriapod, search};

const RING: &str = "In the caves beneath the Misty Mountains. 💍";

/// A proxy in front of a server.
struct Proxy {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str) -> bool {
    let found =
        Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_installed = found.is_ok();
    if !is_installed {
        println!("SKIPPED: {program} is not installed");
    }
    is_installed
}

impl Proxy {
    /// Runs `command` in a shell, with a listener of ours as its standard input and `config` in the
    /// file that `$1` names.
    fn start(command: &str, config: impl FnOnce(u16, &Path) -> String) -> Self {
        let dir = TempDir::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let file = dir.path().join("config");
        fs::write(&file, config(port, dir.path())).unwrap();
        let takes_it = command.contains("<&0");
        let stdin = if takes_it { OwnedFd::from(listener).into() } else { Stdio::null() };
        let child = Command::new("sh")
            .args(["-c", command, "sh"])
            .arg(&file)
            .stdin(stdin)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, port, dir }
    }

    /// HAProxy 2.6 or later, with these words for its server.
    fn haproxy(serving: &Serving, words: &str) -> Option<Self> {
        let server = serving.port();
        is_installed("haproxy").then(|| {
            Self::start("exec haproxy -db -q -f \"$1\" 3<&0 </dev/null", |_, _| {
                format!(
                    "global\n  maxconn 100\n\
                     defaults\n  mode tcp\n  timeout connect 60s\n  timeout client 60s\n  \
                     timeout server 60s\n\
                     listen it\n  bind fd@3\n  server one 127.0.0.1:{server} {words}\n"
                )
            })
        })
    }

    /// nginx with its stream module.
    fn nginx(serving: &Serving) -> Option<Self> {
        let module = Path::new("/usr/lib/nginx/modules/ngx_stream_module.so");
        if !is_installed("nginx") || !module.exists() {
            println!("SKIPPED: nginx with its stream module is not installed");
            return None;
        }
        let server = serving.port();
        loop {
            // It binds by itself: another program may be quicker, and then it ends.
            let run = "exec nginx -e stderr -p \"$(dirname \"$1\")\" -c \"$1\" ";
            let mut proxy = Self::start(run, |port, dir| {
                format!(
                    "load_module {};\ndaemon off;\nmaster_process off;\npid {}/pid;\n\
                     error_log stderr;\nevents {{ worker_connections 64; }}\n\
                     stream {{ server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{server}; \
                     proxy_protocol on; }} }}\n",
                    module.display(),
                    dir.display()
                )
            });
            while proxy.child.try_wait().unwrap().is_none() {
                // Written when it listens. Another test may be about to start a program and hold
                // our listener still, so connecting says nothing.
                if proxy.dir.path().join("pid").exists() {
                    return Some(proxy);
                }
                std::thread::yield_now();
            }
        }
    }

    /// A client at this address, and its own port.
    fn connect(&self, from: Ipv4Addr) -> (Client<TcpStream>, u16) {
        connect(from, self.port)
    }
}

fn connect(from: Ipv4Addr, to: u16) -> (Client<TcpStream>, u16) {
    let (from, to) = (SocketAddrV4::new(from, 0), SocketAddrV4::new(Ipv4Addr::LOCALHOST, to));
    // Loopback connects at once, or the first write waits for it.
    let socket = Socket::connect_start(&to.into(), Some(&from.into())).unwrap().into_socket();
    let stream = TcpStream::from(Descriptor::from(socket));
    stream.set_nonblocking(false).unwrap();
    let port = stream.local_addr().unwrap().port();
    (Client::new(stream), port)
}

fn behind(args: &[&str]) -> Serving {
    Serving::on_loopback(&[&["--proxy-protocol", "127.0.0.1"], args].concat())
}

/// Clients through this proxy are seen as what they are.
fn are_clients_seen_through(serving: &Serving, proxy: &Proxy) {
    for last in [5, 6] {
        let from = Ipv4Addr::new(127, 0, 0, last);
        let (mut client, port) = proxy.connect(from);
        assert_eq!(client.ask(&search("ring")).result(), RING);
        serving.wait_for(&format!("opened by {from}:{port}"));
        drop(client);
        serving.wait_for("closed: peer");
    }
}

#[test]
fn is_the_client_seen_through_haproxy() {
    for words in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
    {
        let serving = behind(&["-v"]);
        let Some(proxy) = Proxy::haproxy(&serving, words) else { return };
        are_clients_seen_through(&serving, &proxy);
        drop(proxy);
        let ended = serving.stop();
        assert!(ended.stderr.iter().all(|line| !line.contains("refused")), "{:?}", ended.stderr);
    }
}

/// packaging/haproxy.cfg, with two servers of ours in the place of its own.
#[test]
fn does_the_packaged_haproxy_spread_clients_of_rooms() {
    let nodes = [(); 2].map(|()| behind(&["--service", "rooms"]));
    if !is_installed("haproxy") {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/haproxy.cfg");
    let packaged = fs::read_to_string(path).unwrap();
    let proxy = Proxy::start("exec haproxy -db -q -f \"$1\" 3<&0 </dev/null", |_, _| {
        let (before, _) = packaged.split_once("    server node1").unwrap();
        let servers = nodes.each_ref().map(|node| {
            let port = node.port();
            format!("    server node{port} 127.0.0.1:{port}\n")
        });
        before.replace("bind :65432", "bind fd@3") + &servers.concat()
    });
    // Without a broker a name is free on each server, so both can join only if they are spread.
    let join = json(r#"{"action": "join", "room": "r", "name": "Neo"}"#);
    let clients = [(); 2].map(|()| {
        let (mut client, _) = proxy.connect(Ipv4Addr::LOCALHOST);
        assert_eq!(client.ask(&join).result(), "joined");
        client
    });
    drop(clients);
    let ended = nodes.map(Serving::stop);
    assert!(ended.iter().all(|ended| ended.stderr.iter().all(|line| !line.contains("refused"))));
}

#[test]
fn is_the_client_seen_through_nginx() {
    let serving = behind(&["-v", "--threads", "2"]);
    let Some(proxy) = Proxy::nginx(&serving) else { return };
    are_clients_seen_through(&serving, &proxy);
}

/// Asks for reports until one says that so many connections were accepted.
fn wait_for_accepted(serving: &Serving, least: u64) {
    loop {
        serving.signal(Signal::SIGUSR1);
        let line = serving.wait_for("accepted=");
        let accepted = line.split(' ').next().and_then(|pair| pair.strip_prefix("accepted="));
        if accepted.unwrap().parse::<u64>().unwrap() >= least {
            return;
        }
    }
}

#[test]
fn do_health_checks_leave_no_line_and_take_no_place() {
    // Of version 2 they are LOCAL: one that counted them would refuse some. Version 1 has no such
    // word, so they have the proxy's own address and count there.
    let limit = &["--max-connections-per-address", "1"][..];
    for (words, limit) in [("send-proxy", &[][..]), ("send-proxy-v2", limit)] {
        let serving = behind(limit);
        let words = format!("{words} check-send-proxy check inter 20ms");
        let Some(proxy) = Proxy::haproxy(&serving, &words) else { return };
        wait_for_accepted(&serving, 5);
        let (mut client, _) = proxy.connect(Ipv4Addr::new(127, 0, 0, 5));
        assert_eq!(client.ask(&search("ring")).result(), RING);
        drop((client, proxy));
        let ended = serving.stop();
        let told = |line: &&String| !line.starts_with("accepted=") && !line.starts_with("stopping");
        let others: Vec<_> = ended.stderr.iter().filter(told).collect();
        assert!(others.iter().all(|line| !line.contains("refused")), "{others:?}");
        assert_eq!(ended.count("refused_by_address"), 0);
    }
}

#[test]
fn does_the_limit_by_address_count_clients_and_not_the_proxy() {
    let serving = behind(&["-v", "--max-connections-per-address", "1"]);
    let Some(proxy) = Proxy::haproxy(&serving, "send-proxy-v2") else { return };
    let (mut first, _) = proxy.connect(Ipv4Addr::new(127, 0, 0, 5));
    let (mut other, _) = proxy.connect(Ipv4Addr::new(127, 0, 0, 6));
    assert_eq!(first.ask(&search("ring")).result(), RING);
    assert_eq!(other.ask(&search("ring")).result(), RING);
    let (mut second, port) = proxy.connect(Ipv4Addr::new(127, 0, 0, 5));
    second.expect_close();
    serving.wait_for(&format!("127.0.0.5:{port}: refused"));
    drop((first, other, proxy));
    assert_eq!(serving.stop().count("refused_by_address"), 1);
}

#[test]
fn is_each_refusal_told_with_its_cause() {
    let serving = behind(&["-v", "--arrival-timeout", "10ms"]);
    // No header, none in time, and none that would be taken.
    let mut without = serving.connect();
    without.send(&search("ring"));
    without.expect_close();
    serving.wait_for("refused, it did not begin with a PROXY header");
    serving.connect().expect_close();
    serving.wait_for("refused, its PROXY header was not whole in time");
    let (mut stranger, port) = connect(Ipv4Addr::new(127, 0, 0, 5), serving.port());
    stranger.expect_close();
    serving.wait_for(&format!("127.0.0.5:{port}: refused, it is in no network"));
    let ended = serving.stop();
    for cause in ["missing", "late", "untrusted"] {
        assert_eq!(ended.count(&format!("refused_proxy_{cause}")), 1);
    }
    let output = myriapod().args(["serve", "--proxy-protocol", "127.0.0.1/8"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn do_send_and_bench_write_a_header() {
    let serving = behind(&["-v"]);
    let port = serving.port().to_string();
    let send = |client: &[&str]| {
        let ask = ["send", "127.0.0.1", &port, "search", "ring"];
        myriapod().args(ask).args(client).output().unwrap()
    };
    let sent = send(&["--proxy-from", "192.0.2.7:4000"]);
    assert_eq!(String::from_utf8_lossy(&sent.stdout).trim_end(), RING);
    serving.wait_for("opened by 192.0.2.7:4000");
    let sent = send(&["--proxy-from", "2001:db8::7"]);
    assert!(sent.status.success());
    serving.wait_for("opened by [2001:db8::7]:");
    assert_eq!(send(&[]).status.code(), Some(1));
    serving.wait_for("did not begin with a PROXY header");
    for kind in [&["-c", "3", "-m", "30", "--idle", "2"][..], &["--short", "-m", "10"]] {
        let bench = ["bench", "127.0.0.1", &port, "--proxy-from", "192.0.2.8"];
        let output = myriapod().args(bench).args(kind).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serving.wait_for("opened by 192.0.2.8:");
    }
    assert_eq!(serving.stop().count("refused_proxy_missing"), 1);
}
