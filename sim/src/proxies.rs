//! One world: a server behind proxies, whose headers come in pieces, are late, or are wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use myriapod::protocol::Raw;
use myriapod::proxy_protocol::{Command, Refusal, kind, write_v1, write_v2};
use myriapod::sys::Time;
use myriapod::sys::sim::{Faults, Remote, Rng};
use myriapod::{Handler, HandlerResult, Limits, Message, Reply, Server, SocketAddr, View};

use crate::run::Life;

const SERVER: ([u8; 4], u16) = ([10, 0, 0, 1], 7);

/// Rounds within which everything ends once nothing goes wrong any more.
const MOST_ROUNDS: u32 = 20_000;

/// Whom the handler has seen, and how many bytes it got from each.
#[derive(Debug, Default)]
struct Book {
    seen: BTreeMap<SocketAddr, u64>,
    wrong: Option<String>,
}

struct Echo(Rc<RefCell<Book>>);

impl Handler for Echo {
    type State = SocketAddr;

    fn on_open(&mut self, view: &mut View<'_>, peer: &SocketAddr) -> SocketAddr {
        let mut book = self.0.borrow_mut();
        if view.proxy().is_none() {
            book.wrong = Some(format!("{peer} entered without a header"));
        }
        if book.seen.insert(peer.clone(), 0).is_some() {
            book.wrong = Some(format!("{peer} entered twice"));
        }
        peer.clone()
    }

    fn on_message(
        &mut self,
        own: &mut SocketAddr,
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let mut book = self.0.borrow_mut();
        if reply.view().peer().as_ref() != Some(own) {
            book.wrong = Some(format!("{own} has become {:?}", reply.view().peer()));
        }
        *book.seen.entry(own.clone()).or_default() += message.content().len() as u64;
        Ok(reply.echo(&message)?)
    }
}

/// What is to become of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// The handler sees this address, and every byte behind the header comes back.
    Served(SocketAddr),
    Refused(Refusal),
}

/// Somebody who connects, through a proxy or not.
struct Guest {
    remote: Option<Remote>,
    wire: Vec<u8>,
    header_len: usize,
    sent: usize,
    /// It goes on no further.
    stops_at: usize,
    got: Vec<u8>,
    fate: Fate,
    is_finished: bool,
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wire, header_len, sent, got, fate, .. } = self;
        let is_here = self.remote.is_some();
        write!(f, "{fate:?}, header {header_len} of {}, sent {sent}", wire.len())?;
        write!(f, ", got {}, is here {is_here}", got.len())
    }
}

impl Guest {
    fn come(number: u16, rng: &mut Rng) -> Self {
        let client = SocketAddr::from(([192, 0, 2, 1], 1000 + number));
        let own = SocketAddr::from(([10, 0, 1, 1], 1000 + number));
        let stranger = SocketAddr::from(([10, 0, 2, 1], 1000 + number));
        let server = SocketAddr::from(SERVER);
        let mut header = Vec::new();
        let (mut from, mut fate) = (own.clone(), Fate::Served(client.clone()));
        let mut v2 = |command, tlvs: &[(u8, &[u8])]| {
            let _fits = write_v2(&mut header, command, &client, &server, tlvs);
        };
        let mut stops_early = false;
        match rng.below(14) {
            0..=2 => write_v1(&mut header, &client, &server),
            3 => v2(Command::Proxy, &[]),
            4 => v2(Command::Proxy, &[(kind::NOOP, &[0; 2000]), (kind::CRC32C, &[])]),
            5 => {
                v2(Command::Local, &[]);
                fate = Fate::Served(own.clone());
            }
            6 => {
                header.extend_from_slice(b"PROXY UNKNOWN\r\n");
                fate = Fate::Served(own.clone());
            }
            7 => {
                header.extend_from_slice(b"hello");
                fate = Fate::Refused(Refusal::Missing);
            }
            8 => {
                header.extend_from_slice(b"PROXY TCP4 192.0.2.1 192.0.2 1 2\r\n");
                fate = Fate::Refused(Refusal::Malformed);
            }
            9 => {
                header.extend_from_slice(b"PROXY UNKNOWN ");
                header.resize(120, b'x');
                fate = Fate::Refused(Refusal::TooLong);
            }
            10 => {
                v2(Command::Proxy, &[(kind::CRC32C, &[])]);
                if let Some(last) = header.last_mut() {
                    *last ^= 1;
                }
                fate = Fate::Refused(Refusal::Checksum);
            }
            11 => {
                write_v1(&mut header, &client, &server);
                from = stranger;
                fate = Fate::Refused(Refusal::Untrusted);
            }
            _ => {
                write_v1(&mut header, &client, &server);
                stops_early = true;
                fate = Fate::Refused(Refusal::Late);
            }
        }
        let header_len = header.len();
        let rest = rng.len(0, 300);
        let mut wire = header;
        wire.extend((0..rest).map(|_| u8::try_from(rng.below(256)).unwrap_or_default()));
        let stops_at = if stops_early { rng.len(0, header_len - 1) } else { wire.len() };
        Self {
            remote: Some(Remote::connect(&from, &server)),
            wire,
            header_len,
            sent: 0,
            stops_at,
            got: Vec::new(),
            fate,
            is_finished: false,
        }
    }

    /// Sends and receives some. Returns whether anything moved.
    fn act(&mut self, most: usize) -> bool {
        let Some(remote) = &self.remote else { return false };
        if remote.is_connecting() {
            return false;
        }
        let mut moved = false;
        let to = self.sent.saturating_add(most).min(self.stops_at);
        if to > self.sent
            && let Ok(sent) = remote.send(self.wire.get(self.sent..to).unwrap_or_default())
        {
            self.sent += sent;
            moved |= sent > 0;
        }
        if self.sent == self.wire.len() && !self.is_finished && self.stops_at == self.wire.len() {
            remote.finish();
            self.is_finished = true;
            moved = true;
        }
        match remote.recv(most) {
            Ok(bytes) if !bytes.is_empty() => {
                self.got.extend_from_slice(&bytes);
                moved = true;
            }
            Err(errno) if errno.would_block() => {}
            _ => {
                self.remote = None;
                moved = true;
            }
        }
        moved
    }
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let timeout = Duration::from_millis(rng.between(50, 2000));
    let limits = Limits {
        max_connections: Some(rng.len(2, 30)),
        arrival_timeout: timeout,
        ..Limits::default()
    };
    let book = Rc::new(RefCell::new(Book::default()));
    let proxies = "10.0.1.0/24".parse().map_err(|error| format!("{error}"))?;
    let built = Server::builder()
        .listen("10.0.0.1", SERVER.1)
        .limits(limits)
        .proxy_protocol(proxies)
        .build_with(Raw, Echo(Rc::clone(&book)));
    let mut server = built.map_err(|error| error.to_string())?;
    let is_calm = rng.chance(500);
    life.world.set_faults(if is_calm { Faults::none() } else { Faults::random(&mut rng) });
    let mut guests: Vec<Guest> = Vec::new();
    let mut first: Option<Time> = None;
    let most = rng.between(1, 25);
    for _ in 0..rng.between(50, 600) {
        life.step += 1;
        match rng.below(10) {
            0 if (guests.len() as u64) < most => {
                let number = u16::try_from(guests.len()).unwrap_or_default();
                guests.push(Guest::come(number, &mut rng));
                first = first.or(Some(life.world.now()));
            }
            0..=4 => {
                let at = rng.index(guests.len());
                let most = if rng.chance(400) { 1 } else { rng.len(1, 3000) };
                if let Some(guest) = guests.get_mut(at) {
                    guest.act(most);
                }
            }
            5 => {
                let time = if rng.chance(100) { 400_000 } else { 3000 };
                life.world.pass(Duration::from_micros(rng.between(1, time)));
            }
            _ => {
                let turn = server.event_loop().run_once(Some(Duration::ZERO));
                turn.map_err(|error| error.to_string())?;
            }
        }
        check(&server, &book, first, timeout, life.world.now())?;
    }
    life.world.set_faults(Faults::none());
    life.world.set_descriptor_limit(1024);
    let mut rounds = 0;
    loop {
        life.step += 1;
        let mut moved = false;
        for guest in &mut guests {
            moved |= guest.act(usize::MAX >> 1);
        }
        let audit = server.event_loop().audit();
        if !moved
            && audit.connections + audit.lingering + audit.alarms == 0
            && guests.iter().all(|guest| guest.remote.is_none())
        {
            break;
        }
        let turn = server.event_loop().run_once(Some(Duration::from_millis(20)));
        turn.map_err(|error| error.to_string())?;
        life.world.pass(Duration::from_millis(1));
        check(&server, &book, first, timeout, life.world.now())?;
        rounds += 1;
        if rounds > MOST_ROUNDS {
            let left: Vec<String> = guests.iter().map(ToString::to_string).collect();
            return Err(format!("not finished: {audit:?}, {}", left.join("; ")));
        }
    }
    let stats = server.stats();
    life.messages = stats.messages;
    conclude(&stats, &book.borrow(), &guests, is_calm)?;
    life.rng = rng;
    drop((server, book, guests));
    match life.world.open_descriptors() {
        0 => Ok(()),
        left => Err(format!("{left} descriptors are left of the server")),
    }
}

/// What holds at every step.
fn check(
    server: &Server<Echo, Raw>,
    book: &RefCell<Book>,
    first: Option<Time>,
    timeout: Duration,
    now: Time,
) -> Result<(), String> {
    if let Some(wrong) = &book.borrow().wrong {
        return Err(wrong.clone());
    }
    let late = server.stats().refused_by_proxy_for(Refusal::Late);
    if late > 0 && first.is_none_or(|first| now < first + timeout) {
        return Err(format!("{late} were late, and the first has come {first:?}; it is {now:?}"));
    }
    Ok(())
}

/// What holds when everybody is gone.
fn conclude(
    stats: &myriapod::Stats,
    book: &Book,
    guests: &[Guest],
    is_calm: bool,
) -> Result<(), String> {
    let mut headers = 0;
    let mut refused = [0; Refusal::ALL.len()];
    for guest in guests {
        let payload = guest.wire.get(guest.header_len..).unwrap_or_default();
        match &guest.fate {
            Fate::Served(address) => {
                let is_seen = book.seen.contains_key(address);
                headers += if is_seen { guest.header_len as u64 } else { 0 };
                if !payload.starts_with(&guest.got) {
                    return Err(format!("{address} got what it had not sent"));
                }
                if is_calm && is_seen && guest.got != payload {
                    return Err(format!("{address} got {} bytes: {guest}", guest.got.len()));
                }
                // It was slow.
                if let Some(count) = refused.get_mut(Refusal::Late as usize) {
                    *count += u64::from(!is_seen);
                }
            }
            Fate::Refused(refusal) => {
                if !guest.got.is_empty() {
                    return Err(format!("one that is {refusal} was answered: {guest}"));
                }
                if let Some(count) = refused.get_mut(*refusal as usize) {
                    *count += 1;
                }
            }
        }
    }
    let served = guests.iter().filter(|guest| matches!(guest.fate, Fate::Served(_))).count();
    if book.seen.len() > served || stats.accepted != book.seen.len() as u64 {
        return Err(format!("{} of {served} entered, {stats}", book.seen.len()));
    }
    // Those that were to be refused for something else may have been slow too.
    let all = |counts: &[u64]| counts.iter().sum::<u64>();
    let is_late = |nth: usize| nth == Refusal::Late as usize;
    let pairs = || refused.iter().zip(stats.refused_by_proxy).enumerate();
    let is_right = pairs().all(|(nth, (most, count))| is_late(nth) || count <= *most);
    if is_calm && !(is_right && all(&refused) == all(&stats.refused_by_proxy)) {
        return Err(format!("refused {refused:?} are not {:?}", stats.refused_by_proxy));
    }
    let handled: u64 = book.seen.values().sum();
    if stats.bytes_in != headers + handled + stats.discarded_in {
        return Err(format!(
            "bytes in {} are not headers {headers}, handled {handled} and discarded {}",
            stats.bytes_in, stats.discarded_in
        ));
    }
    Ok(())
}
