//! What becomes of many peers that are slow, silent or do not read, beside good ones.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;

use myriapod::sys;

use crate::support::{Client, Serving, binary};

/// Of each kind: so few that one round over all of them is short beside the deadlines.
const EACH: usize = 500;
const GOOD: usize = 100;

/// A peer that sends its bytes one by one; or, with `endless`, as fast as it can, over and over.
struct Bad {
    stream: TcpStream,
    bytes: Vec<u8>,
    sent: usize,
    endless: bool,
}

impl Bad {
    fn new(serving: &Serving, bytes: Vec<u8>, sent: usize, endless: bool) -> Self {
        let mut stream = serving.connect().0;
        if endless {
            // So that the kernel soon holds all that it will.
            sys::set_recv_buffer_size(&stream, 4096).unwrap();
            sys::set_send_buffer_size(&stream, 4096).unwrap();
        }
        stream.write_all(&bytes[..sent]).unwrap();
        stream.set_nonblocking(true).unwrap();
        Self { stream, bytes, sent, endless }
    }

    /// Goes on; false where the server has closed.
    fn go_on(&mut self) -> bool {
        let rest = &self.bytes[self.sent..];
        let next = if self.endless { rest } else { &rest[..rest.len().min(1)] };
        if next.is_empty() {
            // It has nothing to say, and looks whether anybody is there.
            return match self.stream.peek(&mut [0]) {
                Ok(len) => len > 0,
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
        }
        match self.stream.write(next) {
            Ok(sent) => {
                self.sent += sent;
                if self.endless {
                    self.sent %= self.bytes.len();
                }
                true
            }
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn are_bad_peers_closed_for_their_cause_and_good_ones_served() {
    let limit = sys::raise_descriptor_limit().unwrap();
    // Other tests of this process need some too.
    let spare = usize::try_from(limit.soft).unwrap().saturating_sub(4_000);
    let each = EACH.min(spare / 4);
    if each == 0 {
        println!("skipped: only {} descriptors are allowed", limit.soft);
        return;
    }
    // No message is whole before its deadline, one byte at a time.
    let serving = Serving::on_loopback(&[
        "--service=echo",
        "--header-timeout=2s",
        "--content-timeout=2s",
        "--idle-timeout=2s",
        "--write-timeout=2s",
        "--max-content-len=1MiB",
        "--high-water=16KiB",
        "--low-water=8KiB",
    ]);
    let mut good: Vec<_> = (0..GOOD).map(|_| serving.connect()).collect();
    let whole = binary(&[7; 8 << 10]);
    let long = binary(&vec![7; 1 << 20]);
    let header = long.len() - (1 << 20);
    let mut padded = vec![0x0f, 0xff];
    padded.resize(2 + 0x0fff, b' ');

    let mut bad = Vec::new();
    let mut exchanged = 0;
    let mut exchange = |good: &mut Vec<Client<TcpStream>>| {
        for client in good {
            assert_eq!(client.ask(&binary(b"good")).content, b"good");
            exchanged += 1;
        }
    };
    for nth in 0..each {
        bad.push(Bad::new(&serving, padded.clone(), 1, false));
        bad.push(Bad::new(&serving, long[..header + 10_000].to_vec(), header, false));
        bad.push(Bad::new(&serving, Vec::new(), 0, false));
        bad.push(Bad::new(&serving, whole.clone(), 0, true));
        if nth % 100 == 0 {
            exchange(&mut good);
        }
    }
    while !bad.is_empty() {
        bad.retain_mut(Bad::go_on);
        exchange(&mut good);
    }
    drop(good);
    let ended = serving.stop();
    let each = each as u64;
    let causes = ["header_timeout", "content_timeout", "idle", "write_timeout", "peer"];
    let mut counts = causes.map(|cause| ended.count(&format!("closed_{cause}")));
    // The signal may overtake the ends of the good ones on a busy machine.
    counts[4] += ended.count("closed_drained");
    println!("{causes:?}: {counts:?}");
    assert_eq!(counts, [each, each, each, each, GOOD as u64]);
    assert_eq!(ended.status, Some(0));
}
