//! How long good clients wait for their replies, without and with bad ones beside them.

use std::io::{ErrorKind, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use myriapod::sys;
use myriapod::{Interest, Selector};

use crate::Result;
use crate::load::request;
use crate::servers::{Contender, Running, pin_clients};

const GOOD: usize = 100;

/// How long the good ones are measured each time; the bad ones are closed within it.
const MEASURED: Duration = Duration::from_secs(5);

/// How long a bad one lasts.
const DEADLINE: &str = "3s";

/// A bad one sends another byte every so many steps of such a length: not all of them in one, and on
/// the good ones' thread, which they would otherwise keep from running for as long as a scheduler
/// lets them: it is the server that is asked about.
const STEPS: usize = 500;
const STEP: Duration = Duration::from_millis(1);

/// What one that never reads sends at once.
const FLOOD: usize = 64 << 10;

/// Waits of the good ones, each with one message in flight; `meanwhile` is called every step.
fn waits(port: u16, mut meanwhile: impl FnMut()) -> Result<Vec<Duration>> {
    let request = request();
    let mut selector = Selector::new()?;
    for _ in 0..GOOD {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.write_all(&request)?;
        selector.register(stream, Interest::READABLE, Instant::now())?;
    }
    let mut reply = vec![0; request.len()];
    let mut waits = Vec::new();
    let mut now = Instant::now();
    let (mut next_step, end) = (now + STEP, now + MEASURED);
    while now < end {
        selector.select(None)?;
        while let Some(ready) = selector.next_ready() {
            let Some((socket, sent_at)) = selector.entry_mut(ready.key) else { continue };
            let len = sys::recv(socket, &mut reply).map_err(|errno| format!("recv: {errno}"))?;
            if len != reply.len() {
                return Err(format!("a reply of {len} bytes to a good client").into());
            }
            waits.push(sent_at.elapsed());
            *sent_at = Instant::now();
            sys::send(socket, &request).map_err(|errno| format!("send: {errno}"))?;
        }
        now = Instant::now();
        if now >= next_step {
            next_step = now + STEP;
            meanwhile();
        }
    }
    waits.sort_unstable();
    Ok(waits)
}

/// Bad peers: what each has to send, how much of it is sent at once, and whether it reads nothing.
struct Bad {
    stream: TcpStream,
    bytes: Arc<[u8]>,
    sent: usize,
    step: usize,
}

impl Bad {
    /// Sends a little more; false where the server has closed.
    fn drip(&mut self) -> bool {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        let next = rest.get(..self.step).unwrap_or(rest);
        if next.is_empty() {
            let looked = self.stream.peek(&mut [0]);
            return looked
                .map_or_else(|error| error.kind() == ErrorKind::WouldBlock, |len| len > 0);
        }
        match self.stream.write(next) {
            Ok(sent) => self.sent += sent,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        true
    }
}

/// `each` of every kind.
fn open_bad(port: u16, each: u64) -> Result<Vec<Bad>> {
    let good = request();
    // The header's length, and then spaces without end.
    let mut slow_header = vec![0x0f, 0xff];
    slow_header.resize(4096, b' ');
    let header = good.len() - 41;
    let kinds: [(Arc<[u8]>, usize, usize); 4] = [
        (slow_header.into(), 1, 1),
        // Its 41 bytes of content take twenty seconds.
        (good.as_slice().into(), header, 1),
        (Arc::new([]), 0, 0),
        (good.repeat(10_000).into(), 0, FLOOD),
    ];
    let mut bad = Vec::new();
    for _ in 0..each {
        for (bytes, at_once, step) in &kinds {
            let (bytes, at_once, step) = (Arc::clone(bytes), *at_once, *step);
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            sys::set_recv_buffer_size(&stream, 4096)?;
            stream.set_nonblocking(true)?;
            stream.write_all(bytes.get(..at_once).unwrap_or_default())?;
            bad.push(Bad { stream, bytes, sent: at_once, step });
        }
    }
    Ok(bad)
}

/// Prints the good clients' percentiles, and the ratio of the 99th.
pub(crate) fn run(each: u64) -> Result<()> {
    sys::raise_descriptor_limit()?;
    let contender = Contender::myriapod(&[
        &format!("--header-timeout={DEADLINE}"),
        &format!("--content-timeout={DEADLINE}"),
        &format!("--idle-timeout={DEADLINE}"),
        &format!("--write-timeout={DEADLINE}"),
        "--high-water=16KiB",
        "--low-water=8KiB",
        "--max-content-len=8KiB",
    ])?;
    pin_clients()?;
    let server = Running::start(&contender)?;
    let port = server.port;
    let mut percentiles = Vec::new();
    let mut show = |what: &str, waits: &[Duration]| {
        let at =
            |percent: usize| waits.get(waits.len() * percent / 100).copied().unwrap_or_default();
        println!(
            "{what}: {} replies; median {:?}, 99th percentile {:?}",
            waits.len(),
            at(50),
            at(99)
        );
        percentiles.push(at(99).as_secs_f64());
    };
    show("without bad peers", &waits(port, || {})?);

    let bad = open_bad(port, each)?;
    let opened = bad.len();
    let mut turns: Vec<Vec<Bad>> = (0..STEPS).map(|_| Vec::new()).collect();
    for (turn, bad) in (0..STEPS).cycle().zip(bad) {
        if let Some(turn) = turns.get_mut(turn) {
            turn.push(bad);
        }
    }
    let mut turn = (0..STEPS).cycle();
    let measured = waits(port, || {
        if let Some(turn) = turn.next().and_then(|turn| turns.get_mut(turn)) {
            turn.retain_mut(Bad::drip);
        }
    })?;
    show(&format!("beside {opened} bad peers"), &measured);
    if let [without, with] = percentiles[..] {
        println!("ratio of the 99th percentiles: {:.2}", with / without);
    }
    Ok(())
}
