//! Does everything still add up after many peers did everything at random?
//!
//! Server and peers take turns on one thread, so that a seed gives nearly the same history each
//! time; how much a socket takes is the kernel's business.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]

mod common;

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use common::{Random, assert_settled, binary, echo, on_every_backend};
use myriapod::protocol::Decoder;
use myriapod::{Backend, Cause, Handler, Limits, Server, Stats, sys};

on_every_backend! {
    do_patient_peers_get_every_reply_in_a_storm,
    does_everything_add_up_when_buffers_are_scarce,
    does_everything_add_up_when_deadlines_are_short,
    does_everything_add_up_when_the_storm_ends_in_a_shutdown,
    do_patient_peers_get_every_reply_over_unix_sockets,
    does_everything_add_up_over_unix_sockets,
}

/// A peer that does something now and then.
struct Peer {
    stream: TcpStream,
    /// What it has decided to send and not sent yet.
    outgoing: VecDeque<u8>,
    /// The first bytes and the length of each content whose echo is due.
    due: VecDeque<(u32, usize)>,
    decoder: Decoder,
    /// It has broken the framing, after the messages whose echoes are due.
    faulty: bool,
    finished: bool,
    ended: bool,
}

/// Little, so that short writes and pauses are common. With less the kernel begins to wait for
/// windows to open.
const SEND_BUFFER: usize = 16 << 10;
const RECV_BUFFER: usize = 64 << 10;

const GARBAGE: &[u8] = b"\x00\x02[]";

impl Peer {
    fn new(address: &str) -> Self {
        let stream = match address.strip_prefix("unix:") {
            // The same calls work on both, and one type will do.
            Some(path) => TcpStream::from(OwnedFd::from(UnixStream::connect(path).unwrap())),
            None => TcpStream::connect(address).unwrap(),
        };
        stream.set_nonblocking(true).unwrap();
        sys::set_recv_buffer_size(&stream, RECV_BUFFER).unwrap();
        Self {
            stream,
            outgoing: VecDeque::new(),
            due: VecDeque::new(),
            decoder: Decoder::default(),
            faulty: false,
            finished: false,
            ended: false,
        }
    }

    fn add_message(&mut self, random: &mut Random, number: u32) {
        if self.faulty || self.finished {
            return;
        }
        let largest = [1, 100, 3_000, 60_000][random.below(4)];
        let len = 4 + random.below(largest);
        let mut content = number.to_be_bytes().to_vec();
        content.resize(len, number.to_be_bytes()[3]);
        self.outgoing.extend(binary(&content));
        self.due.push_back((number, len));
    }

    fn send_some(&mut self, random: &mut Random) {
        let largest = [1, 50, 5_000, 100_000][random.below(4)];
        let len = 1 + random.below(largest);
        let piece: Vec<u8> = self.outgoing.iter().copied().take(len).collect();
        match self.stream.write(&piece) {
            Ok(count) => drop(self.outgoing.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.outgoing.clear(),
        }
    }

    /// Reads and checks; `false` where nothing was there.
    fn read_some(&mut self, len: usize) -> bool {
        let mut piece = vec![0; len];
        match self.stream.read(&mut piece) {
            Ok(0) => {
                self.ended = true;
                true
            }
            Ok(count) => {
                self.decoder.feed(&piece[..count]);
                while let Some(message) = self.decoder.next_message().unwrap() {
                    if message.header("status").is_some() {
                        let is_full = message.header("error") == Some("BufferLimit".into());
                        let is_last = self.faulty && self.due.is_empty();
                        assert!(is_full || is_last, "only behind all echoes");
                        continue;
                    }
                    let (number, len) = self.due.pop_front().expect("a reply for each request");
                    let content = message.content();
                    assert_eq!(content.len(), len);
                    assert_eq!(content[..4], number.to_be_bytes());
                    assert!(content[4..].iter().all(|byte| *byte == number.to_be_bytes()[3]));
                }
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.ended = true;
                true
            }
        }
    }

    fn finish(&mut self) {
        if self.outgoing.is_empty() && !self.finished {
            self.finished = true;
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

/// What the handler saw.
#[derive(Default)]
struct Seen {
    request_bytes: Cell<u64>,
    reply_bytes: Cell<u64>,
}

struct Storm<H: Handler> {
    server: Server<H>,
    seen: Rc<Seen>,
    peers: Vec<Peer>,
    random: Random,
    number: u32,
    /// Of the Unix socket.
    file: Option<PathBuf>,
}

fn storm(backend: Backend, limits: Limits, seed: u64) -> Storm<impl Handler + use<>> {
    let any_port = sys::SocketAddr::from(([127, 0, 0, 1], 0));
    storm_at(backend, &any_port, limits, seed)
}

fn unix_storm(backend: Backend, limits: Limits, seed: u64) -> Storm<impl Handler + use<>> {
    let name = format!("myriapod-storm-{}-{backend}-{seed}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let storm = storm_at(backend, &sys::UnixAddr::Path(path.clone()).into(), limits, seed);
    Storm { file: Some(path), ..storm }
}

fn storm_at(
    backend: Backend,
    place: &sys::SocketAddr,
    limits: Limits,
    seed: u64,
) -> Storm<impl Handler + use<>> {
    let seen = Rc::new(Seen::default());
    let noted = Rc::clone(&seen);
    let listener = sys::Listener::bind(place, &sys::ListenOptions::default()).unwrap();
    // Accepted sockets inherit it.
    sys::set_send_buffer_size(&listener, SEND_BUFFER).unwrap();
    let server = Server::builder()
        .backend(backend)
        .listener(listener)
        .limits(limits)
        .answer(move |message: myriapod::Message<'_>, reply: &mut myriapod::Reply<'_>| {
            let add = |cell: &Cell<u64>, len: usize| cell.set(cell.get() + len as u64);
            echo(message, reply)?;
            add(&noted.request_bytes, message.bytes().len());
            add(&noted.reply_bytes, reply.encoded().len());
            Ok(())
        })
        .unwrap();
    Storm { server, seen, peers: Vec::new(), random: Random(seed), number: 0, file: None }
}

impl<H: Handler> Storm<H> {
    fn turn(&mut self) {
        self.server.event_loop().run_once(Some(Duration::ZERO)).unwrap();
        let stats = self.server.stats();
        assert_eq!(stats.accepted, stats.open + stats.closed.iter().sum::<u64>());
        assert!(stats.pool_buffers <= 2 * stats.open);
    }

    /// One step of one peer. Rude ones break the framing, or leave in the middle.
    fn step(&mut self, rude: bool) {
        let random = &mut self.random;
        if self.peers.is_empty() || (self.peers.len() < 12 && random.below(20) == 0) {
            self.peers.push(Peer::new(&self.server.addresses()[0].to_string()));
        }
        let which = random.below(self.peers.len());
        let peer = &mut self.peers[which];
        match random.below(40) {
            0..10 => {
                self.number += 1;
                peer.add_message(random, self.number);
            }
            10..22 => peer.send_some(random),
            22..30 => {
                let len = 1 + random.below(30_000);
                peer.read_some(len);
            }
            30 if rude && !peer.faulty && !peer.finished => {
                peer.faulty = true;
                peer.outgoing.extend(GARBAGE);
                // Something may follow it, of which nothing is ever read.
                peer.outgoing.extend(vec![b'x'; random.below(3_000)]);
            }
            31 => peer.finish(),
            32 if rude => drop(self.peers.swap_remove(which)),
            // Now and then nobody does anything for a while.
            33 if rude && random.below(8) == 0 => {
                let a_while = Some(Duration::from_millis(13));
                self.server.event_loop().run_once(a_while).unwrap();
            }
            _ => self.turn(),
        }
    }

    /// All peers send what they have decided to and read what comes, until their streams end.
    fn calm(&mut self) {
        let mut quiet = 0;
        while self.peers.iter().any(|peer| !peer.ended) {
            let mut moved = false;
            for peer in self.peers.iter_mut().filter(|peer| !peer.ended) {
                if !peer.outgoing.is_empty() {
                    peer.send_some(&mut self.random);
                    moved = true;
                }
                peer.finish();
                while !peer.ended && peer.read_some(60_000) {
                    moved = true;
                }
            }
            self.turn();
            quiet = if moved { 0 } else { quiet + 1 };
            if quiet > 10 {
                // Deadlines may be all that is left to wait for.
                self.server.event_loop().run_once(Some(Duration::from_millis(5))).unwrap();
            }
            assert!(quiet < 10_000, "stuck: {}", self.server.stats());
        }
    }

    /// Nothing is left, and every byte is accounted for.
    fn check(&mut self) -> Stats {
        self.peers.clear();
        self.server.handle().shutdown().unwrap();
        self.server.run().unwrap();
        if let Some(file) = &self.file {
            std::fs::remove_file(file).unwrap();
        }
        let stats = self.server.stats();
        assert_settled(&stats);
        assert_eq!(stats.bytes_in, self.seen.request_bytes.get() + stats.discarded_in, "{stats}");
        let faults = stats.faults.iter().sum::<u64>();
        assert_eq!(stats.replies, stats.messages + faults + stats.refused_messages);
        let errors = faults * error_reply_len() + stats.refused_messages * full_reply_len();
        let encoded = self.seen.reply_bytes.get() + errors;
        assert_eq!(stats.bytes_out + stats.discarded_out, encoded, "{stats}");
        stats
    }
}

/// The length of the reply to the garbage, which is always the same.
fn error_reply_len() -> u64 {
    use myriapod::protocol::{Framing, JsonHeader};
    let mut framing = JsonHeader::default();
    let error = framing.find(GARBAGE).unwrap_err();
    let mut wire = Vec::new();
    framing.error_reply(&mut wire, error.kind().name(), &error.to_string()).unwrap();
    wire.len() as u64
}

/// The length of the reply to a message for which there is no room.
fn full_reply_len() -> u64 {
    use myriapod::protocol::{Framing, JsonHeader};
    let mut wire = Vec::new();
    let text = "the buffers of all connections are full; try again later";
    JsonHeader::default().error_reply(&mut wire, "BufferLimit", text).unwrap();
    wire.len() as u64
}

/// Small numbers everywhere, so that every limit is met often.
fn narrow() -> Limits {
    Limits {
        max_content_len: 60_010,
        messages_per_event: 3,
        high_water: 15_000,
        low_water: 4_000,
        linger_bytes: 1 << 20,
        accept_batch: 3,
        ..Limits::default()
    }
}

const SEEDS: u64 = 6;
const STEPS: usize = 2_500;

fn do_patient_peers_get_every_reply_in_a_storm(backend: Backend) {
    let mut pauses = 0;
    for seed in 0..SEEDS {
        let mut storm = storm(backend, Limits { max_connections: Some(8), ..narrow() }, seed);
        for _ in 0..STEPS {
            storm.step(false);
        }
        storm.calm();
        for peer in &storm.peers {
            assert!(peer.due.is_empty(), "seed {seed}: {} replies are missing", peer.due.len());
        }
        let stats = storm.check();
        pauses += stats.paused_reads;
        assert_eq!(stats.closed_for(Cause::Peer), stats.accepted, "seed {seed}: {stats}");
        assert_eq!((stats.discarded_in, stats.discarded_out), (0, 0), "seed {seed}");
    }
    assert!(pauses > 0, "it was one");
}

fn does_everything_add_up_when_buffers_are_scarce(backend: Backend) {
    let mut met = 0;
    for seed in 100..100 + SEEDS {
        let limits = Limits { max_buffer_bytes: 150_000, ..narrow() };
        let mut storm = storm(backend, limits, seed);
        for _ in 0..STEPS {
            storm.step(true);
        }
        storm.calm();
        let stats = storm.check();
        met += stats.closed_for(Cause::BufferLimit);
    }
    assert!(met > 0, "the limit was met");
}

fn does_everything_add_up_when_deadlines_are_short(backend: Backend) {
    let mut met = 0;
    for seed in 200..200 + SEEDS {
        let short = Duration::from_millis(11);
        let limits = Limits {
            header_timeout: short,
            content_timeout: short,
            idle_timeout: short * 2,
            write_timeout: short,
            linger_timeout: short,
            ..narrow()
        };
        let mut storm = storm(backend, limits, seed);
        for _ in 0..STEPS {
            storm.step(true);
        }
        storm.calm();
        let stats = storm.check();
        met += stats.closed_for(Cause::ContentTimeout) + stats.closed_for(Cause::WriteTimeout);
    }
    assert!(met > 0, "deadlines were met");
}

fn does_everything_add_up_when_the_storm_ends_in_a_shutdown(backend: Backend) {
    let mut met = 0;
    for seed in 300..300 + SEEDS {
        let limits = Limits {
            max_connections: Some(5),
            drain_timeout: Duration::from_millis(50),
            ..narrow()
        };
        let mut storm = storm(backend, limits, seed);
        for _ in 0..STEPS / 2 {
            storm.step(true);
        }
        // Nobody leaves: who reads and sends nothing any more is cut off.
        storm.server.handle().shutdown().unwrap();
        storm.server.run().unwrap();
        for peer in &mut storm.peers {
            peer.stream.set_nonblocking(false).unwrap();
            while !peer.ended {
                peer.read_some(60_000);
            }
        }
        let stats = storm.check();
        met += stats.closed_for(Cause::CutOff) + stats.closed_for(Cause::Drained);
    }
    assert!(met > 0, "some were open");
}

fn do_patient_peers_get_every_reply_over_unix_sockets(backend: Backend) {
    for seed in 400..400 + SEEDS {
        let mut storm = unix_storm(backend, narrow(), seed);
        for _ in 0..STEPS {
            storm.step(false);
        }
        storm.calm();
        for peer in &storm.peers {
            assert!(peer.due.is_empty(), "seed {seed}: {} replies are missing", peer.due.len());
        }
        let stats = storm.check();
        assert_eq!((stats.discarded_in, stats.discarded_out), (0, 0), "seed {seed}");
    }
}

fn does_everything_add_up_over_unix_sockets(backend: Backend) {
    for seed in 500..500 + SEEDS {
        let limits = Limits { max_buffer_bytes: 150_000, ..narrow() };
        let mut storm = unix_storm(backend, limits, seed);
        for _ in 0..STEPS {
            storm.step(true);
        }
        storm.calm();
        storm.check();
    }
}
