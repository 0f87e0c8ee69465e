//! Random histories, seen by a backend and by the crate `polling` side by side.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use myriapod_sys::{Backend, Interest};
use polling::PollMode;

use crate::support::{BOTH, Fixture, READ, WRITE, drain, fill, pair, tcp_pair};

/// A stream of either family.
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Calls the same function of either.
macro_rules! either {
    ($stream:expr, $it:ident => $call:expr) => {
        match $stream {
            Stream::Unix($it) => $call,
            Stream::Tcp($it) => $call,
        }
    };
}

/// The splitmix64 generator.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// One connection: our end is watched, theirs is what happens to it.
struct Connection {
    ours: Stream,
    /// None once it is closed.
    theirs: Option<Stream>,
    /// None while it is not watched.
    interest: Option<Interest>,
    /// Whether we have shut down sending: nobody waits for room after that.
    is_shut_down: bool,
}

impl Connection {
    fn new(is_tcp: bool) -> Self {
        let (ours, theirs) = if is_tcp {
            let (ours, theirs) = tcp_pair();
            (Stream::Tcp(ours), Stream::Tcp(theirs))
        } else {
            let (ours, theirs) = pair();
            (Stream::Unix(ours), Stream::Unix(theirs))
        };
        Self { ours, theirs: Some(theirs), interest: None, is_shut_down: false }
    }
}

struct World {
    fixture: Fixture,
    polling: polling::Poller,
    connections: Vec<Connection>,
}

impl World {
    fn watch(&mut self, place: usize, interest: Option<Interest>) {
        let connection = &mut self.connections[place];
        let fd = either!(&connection.ours, it => it.as_fd());
        let token = u64::try_from(place).unwrap();
        let polled = interest.map(|interest| {
            polling::Event::new(place, interest.is_readable(), interest.is_writable())
        });
        match (connection.interest, interest, polled) {
            (None, Some(interest), Some(polled)) => {
                self.fixture.add(&fd, token, interest);
                // SAFETY: it is deleted before the connection is dropped, see `close`.
                let added =
                    unsafe { self.polling.add_with_mode(fd.as_raw_fd(), polled, PollMode::Level) };
                added.unwrap();
            }
            (Some(_), Some(interest), Some(polled)) => {
                self.fixture.modify(&fd, token, interest);
                self.polling.modify_with_mode(fd, polled, PollMode::Level).unwrap();
            }
            (Some(_), ..) => {
                self.fixture.poller.delete(fd).unwrap();
                self.polling.delete(fd).unwrap();
            }
            (None, ..) => {}
        }
        connection.interest = interest;
    }

    /// Closes our end, and starts over with a new connection, which may get the same number.
    fn close(&mut self, place: usize, is_tcp: bool) {
        let connection = &mut self.connections[place];
        if connection.interest.take().is_some() {
            let fd = either!(&connection.ours, it => it.as_fd());
            self.fixture.poller.forget(fd);
            self.polling.delete(fd).unwrap();
        }
        *connection = Connection::new(is_tcp);
    }

    fn step(&mut self, random: &mut Random) -> String {
        let place = usize::try_from(random.below(self.connections.len() as u64)).unwrap();
        let connection = &mut self.connections[place];
        let what = match random.below(24) {
            0..=5 => {
                if let Some(theirs) = &mut connection.theirs {
                    let bytes = vec![1; usize::try_from(random.below(3_000)).unwrap()];
                    // A full or broken pipe is as good a state as any.
                    let _ = either!(theirs, it => it.write(&bytes));
                }
                "they write"
            }
            6..=9 => {
                let mut bytes = [0; 2_000];
                let _ = either!(&mut connection.ours, it => it.read(&mut bytes));
                "we read some"
            }
            10 => {
                either!(&mut connection.ours, it => drain(it));
                "we read all"
            }
            11..=12 if connection.theirs.is_some() && !connection.is_shut_down => {
                // To a peer that reset the connection nothing can be written.
                let is_over = either!(&connection.ours, it => it.peer_addr().is_err());
                if !is_over && connection.interest.is_none_or(|interest| interest != READ) {
                    fill_what_can_be(&mut connection.ours);
                }
                "we write until it is full"
            }
            13..=14 => {
                if let Some(theirs) = &mut connection.theirs {
                    either!(theirs, it => drain(it));
                }
                "they read all"
            }
            15 => {
                if let Some(theirs) = &mut connection.theirs {
                    let _ = either!(theirs, it => it.shutdown(Shutdown::Write));
                }
                "they shut down sending"
            }
            16 => {
                connection.theirs = None;
                "they close"
            }
            17 => {
                let _ = either!(&connection.ours, it => it.shutdown(Shutdown::Write));
                connection.is_shut_down = true;
                if connection.interest.is_some() {
                    self.watch(place, Some(READ));
                }
                "we shut down sending"
            }
            18..=19 => {
                let is_tcp = random.below(2) == 0;
                self.close(place, is_tcp);
                "we close and start over"
            }
            _ => {
                let wanted = match random.below(5) {
                    0 => None,
                    1 | 2 => Some(READ),
                    3 => Some(WRITE),
                    _ => Some(BOTH),
                };
                let wanted = if connection.is_shut_down { wanted.map(|_| READ) } else { wanted };
                self.watch(place, wanted);
                "we want something else"
            }
        };
        format!("{what} ({place})")
    }

    /// What is ready of what was asked for, as the backend sees it.
    fn ours(&mut self) -> BTreeMap<usize, Interest> {
        let events = self.fixture.now();
        let seen: BTreeMap<_, _> = events
            .iter()
            .map(|event| {
                let place = usize::try_from(event.token().0).unwrap();
                let wanted = self.connections[place].interest.expect("not watched");
                (place, event.readiness() & wanted)
            })
            .collect();
        assert_eq!(seen.len(), events.len(), "two events of one descriptor");
        seen
    }

    /// And as `polling` sees it.
    fn theirs(&mut self) -> BTreeMap<usize, Interest> {
        let mut events = polling::Events::new();
        self.polling.wait(&mut events, Some(Duration::ZERO)).unwrap();
        let interest = |event: &polling::Event| {
            let read = if event.readable { READ } else { Interest::NONE };
            read | if event.writable { WRITE } else { Interest::NONE }
        };
        events
            .iter()
            .map(|event| {
                let wanted = self.connections[event.key].interest.expect("not watched");
                (event.key, interest(&event) & wanted)
            })
            .collect()
    }
}

/// Writes until there is no more room, if there is anyone to write to.
fn fill_what_can_be(stream: &mut Stream) {
    let can_write = either!(&mut *stream, it => it.write(&[0]).is_ok());
    if can_write {
        either!(stream, it => fill(it));
    }
}

pub(crate) fn do_random_histories_look_as_polling_sees_them(backend: Backend) {
    for seed in 0..8 {
        let mut random = Random(seed);
        let mut world = World {
            fixture: Fixture::new(backend),
            polling: polling::Poller::new().unwrap(),
            connections: (0..8).map(|place| Connection::new(place % 2 == 0)).collect(),
        };
        let mut steps: Vec<String> = Vec::new();
        for _ in 0..400 {
            steps.push(world.step(&mut random));
            // Segments may be on their way between the two looks.
            let mut tries = 0;
            loop {
                let (ours, theirs) = (world.ours(), world.theirs());
                if ours == theirs {
                    break;
                }
                tries += 1;
                let last = &steps[steps.len().saturating_sub(12)..];
                assert!(tries < 2_000, "seed {seed}: ours {ours:?}, theirs {theirs:?}, {last:#?}");
                std::thread::yield_now();
            }
        }
        for place in 0..world.connections.len() {
            world.close(place, false);
        }
    }
}
