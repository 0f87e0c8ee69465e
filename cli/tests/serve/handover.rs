//! `--handover`: a server is replaced by another process, and no connection is lost.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Client, Serving, TempDir, binary, myriapod, search};

/// A place for a server and its successors.
struct Place {
    dir: TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new();
        let path = dir.path().join("handover");
        Self { dir, path }
    }

    /// A server there, the first one or a successor.
    fn serve(&self, args: &[&str]) -> Serving {
        let path = self.path.to_str().unwrap();
        // Nothing here depends on the time that a busy machine takes.
        let patient = ["--handover", path, "--handover-timeout", "1m"];
        Serving::on_loopback(&[&patient, args].concat())
    }

    /// A successor of `before`, which must have ended well. Returns it, and how many connections it
    /// took over.
    fn replace(&self, before: Serving, args: &[&str]) -> (Serving, u64) {
        let (pid, listening) = (before.pid(), before.listening.clone());
        let after = self.serve(args);
        assert_eq!(after.listening, listening);
        let took = after.wait_for("took over ");
        assert!(took.contains(&format!(" connections from process {pid} in ")), "{took}");
        let ended = before.wait();
        let gave = ended.stderr.iter().find(|line| line.starts_with("handed over ")).unwrap();
        assert!(gave.contains(&format!(" connections to process {} in ", after.pid())), "{gave}");
        let count = |line: &str| line.split(' ').nth(2).unwrap().parse::<u64>().unwrap();
        assert_eq!((ended.status, count(gave)), (Some(0), count(&took)));
        assert_eq!(ended.count("closed_handed_over"), count(gave));
        (after, count(&took))
    }
}

#[test]
fn is_nothing_lost_under_load_while_servers_are_replaced() {
    let place = Place::new();
    let mut serving = place.serve(&[]);
    let port = serving.port().to_string();
    let mut bench = myriapod();
    bench.args(["bench", "127.0.0.1", &port, "-c", "200", "--rate", "4k", "-d", "3s"]);
    let mut bench = bench.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is under load.
    while metrics_open(&serving) < 200 {}
    for threads in ["2", "1", "3", "1"] {
        let (successor, took) = place.replace(serving, &["--threads", threads]);
        assert!(took <= 200, "{took}");
        serving = successor;
    }
    let mut said = String::new();
    bench.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(bench.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("lost 0, wrong 0, late 0, duplicate 0"), "{said}");
    assert!(said.contains("200 of 200 established\n"), "{said}");
    assert_eq!(serving.stop().status, Some(0));
}

/// How many connections a server has, as it says when it is asked.
fn metrics_open(serving: &Serving) -> u64 {
    serving.signal(Signal::SIGUSR1);
    let said = serving.wait_for("accepted=");
    let open = said.split(' ').find_map(|pair| pair.strip_prefix("open=")).unwrap();
    open.parse().unwrap()
}

#[test]
fn does_a_half_sent_message_reach_the_successor() {
    let place = Place::new();
    let mut serving = place.serve(&[]);
    let request = search("ring");
    let cuts = [1, 2, 40, request.len() - 1];
    let mut clients: Vec<_> = cuts.iter().map(|_| serving.connect()).collect();
    for (client, cut) in clients.iter_mut().zip(cuts) {
        client.ask(&request);
        client.send(&request[..cut]);
    }
    for round in 0..2 {
        let (successor, took) = place.replace(serving, &[]);
        assert_eq!(took, cuts.len() as u64);
        serving = successor;
        for (client, cut) in clients.iter_mut().zip(cuts) {
            client.send(&request[cut..]);
            let result = client.receive().result();
            assert_eq!(result, "In the caves beneath the Misty Mountains. 💍", "{round} {cut}");
            client.send(&request[..cut]);
        }
    }
    drop(clients);
    let ended = serving.stop();
    assert_eq!((ended.status, ended.count("taken_over"), ended.count("accepted")), (Some(0), 4, 0));
}

#[test]
fn does_a_slow_reader_get_all_its_replies() {
    let place = Place::new();
    let args = ["--service", "echo", "--high-water", "64KiB", "--low-water", "16KiB"];
    let mut serving = place.serve(&args);
    let mut client = serving.connect();
    let content: Vec<u8> = (0..300_000_u32).map(|nth| nth.to_le_bytes()[1]).collect();
    let request = binary(&content);
    // More than the sockets hold: the last ones are unsent, or not even read.
    let mut writer = client.0.try_clone().unwrap();
    let rounds = 40;
    let sending = std::thread::spawn(move || {
        (0..rounds).for_each(|_| writer.write_all(&request).unwrap());
    });
    // It stands still: what is queued is above the mark.
    loop {
        serving.signal(Signal::SIGUSR1);
        if serving.wait_for("accepted=").contains(" paused_reads=") {
            break;
        }
    }
    for _ in 0..2 {
        let (successor, took) = place.replace(serving, &args);
        assert_eq!(took, 1);
        serving = successor;
    }
    for _ in 0..rounds {
        assert!(client.receive().content == content);
    }
    sending.join().unwrap();
    drop(client);
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn does_a_successor_serve_padded_texts_and_raw_bytes() {
    let padded = |text: &str| format!("{:<64}{text}", text.len());
    let cases =
        [("padded", padded("hello"), "Msg received".to_owned()), ("raw", "a".into(), "a".into())];
    for (service, request, reply) in cases {
        let place = Place::new();
        let mut serving = place.serve(&["--service", service]);
        let mut client = serving.connect();
        for _ in 0..2 {
            let half = request.len() / 2;
            client.send(&request.as_bytes()[..half]);
            let (successor, took) = place.replace(serving, &["--service", service]);
            assert_eq!(took, 1);
            serving = successor;
            client.send(&request.as_bytes()[half..]);
            let mut got = vec![0; reply.len()];
            client.0.read_exact(&mut got).unwrap();
            assert_eq!(String::from_utf8(got).unwrap(), reply);
        }
        drop(client);
        assert_eq!(serving.stop().status, Some(0));
    }
}

#[test]
fn is_a_successor_that_serves_something_else_refused() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let mut client = serving.connect();
    client.ask(&search("ring"));
    let path = place.path.to_str().unwrap();
    let other_port = serving.port().to_string();
    for (args, other) in [
        (
            &["127.0.0.1", "0", "--service", "echo"][..],
            "--service echo in place of --service search",
        ),
        (&["127.0.0.1", "0", "--framing", "lines"], "--service search --framing lines"),
        (&["127.0.0.1", &other_port], "listening on \"127.0.0.1\" "),
        (&["127.0.0.1", "0", "--one-shot"], "closing after one reply: true"),
    ] {
        let output =
            myriapod().arg("serve").args(args).args(["--handover", path]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]), "{said}");
        assert!(said.contains("it would serve something else: ") && said.contains(other), "{said}");
        let told = serving.wait_for("not handed over to process ");
        assert!(told.contains(other) && told.ends_with("; serving on"), "{told}");
        client.ask(&search("ring"));
    }
    drop(client);
    assert_eq!(serving.stop().count("messages"), 5);
}

/// A successor that does not go all the way.
struct Impostor(UnixStream);

impl Impostor {
    fn knock(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    fn say(&mut self, kind: u8, rest: &[u8]) {
        let len = u32::try_from(rest.len()).unwrap();
        // The other end may have given up.
        let _ = self.0.write_all(&[&[kind], &len.to_le_bytes()[..], rest].concat());
    }

    fn hello(&mut self, version: u16, served: &str) {
        let mut hello = version.to_le_bytes().to_vec();
        hello.extend_from_slice(&7_u32.to_le_bytes());
        hello.extend_from_slice(&u32::try_from(served.len()).unwrap().to_le_bytes());
        self.say(1, &[&hello, served.as_bytes()].concat());
    }

    /// The kind of the next message, and the rest of it. Descriptors that come along are closed.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        if self.0.read_exact(&mut head).is_err() {
            // It has given up, and we have missed that it said so.
            return (3, Vec::new());
        }
        let len = u32::from_le_bytes(head[1..].try_into().unwrap()) as usize;
        let mut rest = vec![0; len];
        self.0.read_exact(&mut rest).unwrap();
        (head[0], rest)
    }

    /// Goes on until so many messages were heard. Returns the kind of the last.
    fn go_on(&mut self, messages: usize) -> u8 {
        let mut last = 0;
        for _ in 0..messages {
            let (kind, rest) = self.hear();
            last = kind;
            match kind {
                // It took us too long.
                3 => return 3,
                4 => {
                    self.say(7, b"");
                    if rest == [0xff; 4] {
                        self.say(5, b"");
                    }
                }
                6 => self.say(7, b""),
                // The next word would be the last.
                9 => return 9,
                _ => {}
            }
        }
        last
    }
}

const SERVED: &str =
    "--service search\nlistening on \"127.0.0.1\" 0\nclosing after one reply: false";

/// Has a successor go so many messages far and no further, with a request half sent. It then dies, or
/// stands still.
fn try_to_replace(serving: &Serving, place: &Place, messages: usize, stands_still: bool) {
    let request = search("ring");
    let (half, rest) = request.split_at(request.len() / 2);
    let mut client = serving.connect();
    client.ask(&request);
    client.send(half);
    let mut impostor = Impostor::knock(&place.path);
    impostor.hello(1, SERVED);
    impostor.go_on(messages);
    let held = stands_still.then_some(impostor);
    let told = serving.wait_for("not handed over to process 7: ");
    assert!(!stands_still || told.contains("stood still"), "{told}");
    drop(held);
    client.send(rest);
    client.receive();
    // New ones are served too.
    serving.connect().ask(&request);
}

#[test]
fn is_nothing_lost_where_the_successor_dies_at_any_step() {
    let place = Place::new();
    let serving = place.serve(&["--threads", "2"]);
    // On both loops, most likely.
    let mut clients: Vec<_> = (0..8).map(|_| serving.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.ask(&search("ring"))));
    // Welcome, listeners, batches, parcels, Prepare.
    for messages in 0..=8 {
        try_to_replace(&serving, &place, messages, false);
    }
    // And a real one takes over afterwards.
    let (successor, took) = place.replace(serving, &[]);
    // Those that have just left may be among them.
    assert!(took >= 8, "{took}");
    clients.iter_mut().for_each(|client| drop(client.ask(&search("ring"))));
    drop(clients);
    let ended = successor.stop();
    assert_eq!((ended.status, ended.count("messages")), (Some(0), 8));
}

#[test]
fn is_nothing_lost_where_the_successor_stands_still() {
    let place = Place::new();
    let serving = Serving::on_loopback(&[
        "--handover",
        place.path.to_str().unwrap(),
        "--handover-timeout",
        "200ms",
    ]);
    for messages in [0, 3, 4, 6] {
        try_to_replace(&serving, &place, messages, true);
    }
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn is_a_successor_of_another_version_or_with_nonsense_refused() {
    let place = Place::new();
    let serving = place.serve(&[]);
    for (kind, rest, why) in [
        (1, &[9, 0, 7, 0, 0, 0, 1, 2, 3][..], "it hands over as version 9, and we as version 1"),
        (11, b"", "it does not say who it is"),
        (99, b"", "cannot be understood"),
        (1, &[1, 0, 7, 0, 0, 0, 255, 255, 255, 255], "cannot be understood"),
    ] {
        let mut impostor = Impostor::knock(&place.path);
        impostor.say(kind, rest);
        serving.wait_for(why);
        // It is told why, too.
        let (kind, said) = impostor.hear();
        assert_eq!(kind, 3);
        assert!(String::from_utf8_lossy(&said).contains(why), "{why}");
    }
    // What announces too much is not waited for.
    let mut impostor = Impostor::knock(&place.path);
    impostor.0.write_all(&[1, 255, 255, 255, 255]).unwrap();
    serving.wait_for("cannot be understood");
    // One at a time.
    let mut first = Impostor::knock(&place.path);
    first.hello(1, SERVED);
    assert_eq!(first.go_on(1), 2);
    let (kind, said) = Impostor::knock(&place.path).hear();
    assert_eq!((kind, &said[4..]), (3, &b"another hand-over is under way"[..]));
    drop(first);
    serving.wait_for("not handed over to process 7: ");
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn is_the_path_private_taken_over_when_stale_and_removed() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path), 0o600);
    // A process that is killed leaves the file behind.
    serving.signal(Signal::SIGKILL);
    assert_eq!(serving.wait().status, None);
    assert!(place.path.exists());
    let serving = place.serve(&[]);
    // The successor has the file of its predecessor.
    let inode = fs::metadata(&place.path).unwrap().ino();
    let (serving, _) = place.replace(serving, &[]);
    assert_eq!((fs::metadata(&place.path).unwrap().ino(), mode(&place.path)), (inode, 0o600));
    assert_eq!(serving.stop().status, Some(0));
    assert!(!place.path.exists());
    // A file that is no socket is left alone.
    fs::write(&place.path, "precious").unwrap();
    let path = place.path.to_str().unwrap();
    let output = myriapod().args(["serve", "127.0.0.1", "0", "--handover", path]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&place.path).unwrap(), "precious");
}

#[test]
fn do_a_unix_socket_and_its_file_go_to_the_successor() {
    let place = Place::new();
    let socket = place.dir.path().join("search");
    let host = format!("unix:{}", socket.display());
    let start = || Serving::spawn(myriapod().args(["serve", &host, "--handover"]).arg(&place.path));
    let first = start();
    let mut client = Client(UnixStream::connect(&socket).unwrap());
    client.ask(&search("ring"));
    let second = start();
    assert_eq!(first.wait().status, Some(0));
    assert!(socket.exists());
    client.ask(&search("ring"));
    Client(UnixStream::connect(&socket).unwrap()).ask(&search("ring"));
    drop(client);
    assert_eq!(second.stop().count("messages"), 2);
    assert!(!socket.exists());
}

#[test]
fn does_a_service_manager_hear_of_the_successor_in_order() {
    let place = Place::new();
    let notify = place.dir.path().join("notify");
    let manager = UnixDatagram::bind(&notify).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = || {
        let mut buffer = [0; 1024];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    };
    let start = || {
        let mut command = myriapod();
        command.args(["serve", "127.0.0.1", "0", "--handover"]).arg(&place.path);
        Serving::spawn(command.env("NOTIFY_SOCKET", &notify))
    };
    let first = start();
    assert!(next().starts_with(&format!("READY=1\nMAINPID={}\n", first.pid())));
    let second = start();
    let told = next();
    assert!(told.starts_with(&format!("MAINPID={}\n", second.pid())), "{told}");
    let told = next();
    assert!(told.starts_with(&format!("READY=1\nMAINPID={}\n", second.pid())), "{told}");
    assert_eq!(first.wait().status, Some(0));
    second.signal(Signal::SIGTERM);
    assert!(next().starts_with("STOPPING=1\n"));
    assert_eq!(second.wait().status, Some(0));
}

#[test]
fn do_metrics_move_to_the_successor() {
    let place = Place::new();
    // A port that is free, most likely: both servers are told the same.
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let at = at.to_string();
    let serving = place.serve(&["--metrics", &at]);
    let mut client = serving.connect();
    client.ask(&search("ring"));
    let (serving, took) = place.replace(serving, &["--metrics", &at]);
    assert_eq!(took, 1);
    let page = loop {
        // The predecessor may have had it a moment ago.
        let Ok(mut stream) = TcpStream::connect(&at) else { continue };
        let mut page = String::new();
        let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n");
        if asked.is_ok() && stream.read_to_string(&mut page).is_ok() && !page.is_empty() {
            break page;
        }
    };
    assert!(
        page.contains("myriapod_taken_over_total 1\n") || page.contains("taken_over_total{"),
        "{page}"
    );
    drop(client);
    assert_eq!(serving.stop().status, Some(0));
}

#[test]
fn is_a_client_behind_a_proxy_known_to_the_successor() {
    let place = Place::new();
    let args = ["--proxy-protocol", "127.0.0.0/8", "--verbose"];
    let serving = place.serve(&args);
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 5000 65432\r\n";
    let mut whole = serving.connect();
    whole.send(header);
    whole.ask(&search("ring"));
    let mut half = serving.connect();
    half.send(&header[..20]);
    // The server has taken what has come: the next one is served.
    let mut next = serving.connect();
    next.send(header);
    next.ask(&search("ring"));
    let pid = serving.pid();
    let successor = place.serve(&args);
    let mut opened = 0;
    while opened < 2 {
        let line = successor.wait_for(" opened by ");
        assert!(line.ends_with(" opened by 192.0.2.7:5000"), "{line}");
        opened += 1;
    }
    assert_eq!(serving.wait().status, Some(0), "{pid}");
    half.send(&header[20..]);
    for client in [&mut whole, &mut half, &mut next] {
        client.ask(&search("ring"));
    }
    drop((whole, half, next));
    let ended = successor.stop();
    assert_eq!((ended.count("taken_over"), ended.count("accepted")), (2, 1));
    assert_eq!((ended.status, ended.count("messages")), (Some(0), 3));
}

#[test]
fn do_listeners_for_tls_go_and_never_become_plain_ones() {
    let place = Place::new();
    let serving = place.serve(&["--tls-self-signed"]);
    serving.wait_for("secure connections: finished here when another process takes over");
    let path = place.path.to_str().unwrap();
    let output = myriapod().args(["serve", "127.0.0.1", "0", "--handover", path]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("in place of listening on \"127.0.0.1\" 0, secure"), "{said}");
    let (serving, took) = place.replace(serving, &["--tls-self-signed"]);
    assert_eq!(took, 0);
    assert_eq!(serving.stop().status, Some(0));
}
