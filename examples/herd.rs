//! One port and several threads: how many wake up for one client, in four ways of waiting.
//!
//! ```text
//! $ cargo run --release --example herd
//! 4 threads, 200 clients, one after another
//! ```
//!
//! Each thread has a poller of its own. In the first three ways all watch one listener. In the last
//! each has a listener of its own on the same port, and the kernel deals the clients out. "Woken in
//! vain" counts the waits after which `accept` found nobody: somebody else was faster.
//!
//! Beside it: nobody. Watch: the last column.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use command::Stop;
use myriapod::Interest;
use myriapod::sys::{
    AsFd, Errno, Events, ListenOptions, Listener, Mode, Poller, Socket, SocketAddr, SystemError,
    Token,
};

#[macro_use]
#[path = "support/command.rs"]
mod command;

const THREADS: usize = 4;
const TOKEN: Token = Token(0);

fn main() -> ExitCode {
    command::run("[CLIENTS]", |arguments| {
        let clients = match arguments {
            [] => 200,
            [count] => command::number(count, "number of clients")?,
            _ => return Err(Stop::Usage),
        };
        println!("{THREADS} threads, {clients} clients, one after another");
        println!("{:<28}{:>10}{:>16}", "", "accepted", "woken in vain");
        for (name, mode, shares) in [
            ("level: all are woken", Mode::LEVEL, true),
            ("one-shot in each poller", Mode::ONE_SHOT, true),
            ("exclusive: one or a few", Mode::EXCLUSIVE, true),
            ("a listener for each", Mode::LEVEL, false),
        ] {
            match try_one(mode, shares, clients) {
                Ok((accepted, in_vain)) => println!("{name:<28}{accepted:>10}{in_vain:>16}"),
                // Not every system has each.
                Err(SystemError::Unsupported { what, by }) => {
                    println!("{name:<28}{by} has no {what}");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    })
}

#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    in_vain: AtomicU64,
    stop: AtomicBool,
}

fn try_one(mode: Mode, shares: bool, clients: u64) -> Result<(u64, u64), SystemError> {
    let options = ListenOptions { reuse_port: !shares, ..ListenOptions::default() };
    let first = Listener::bind(&SocketAddr::from(([127, 0, 0, 1], 0)), &options)?;
    let address = first.local_address()?;
    let mut listeners = vec![first];
    for _ in 1..if shares { 1 } else { THREADS } {
        listeners.push(Listener::bind(&address, &options)?);
    }
    let mut pollers = Vec::new();
    for number in 0..THREADS {
        let listener = &listeners[number % listeners.len()];
        let mut poller = Poller::new(myriapod::Backend::default())?;
        poller.add(listener.as_fd(), TOKEN, Interest::READABLE, mode)?;
        pollers.push((poller, listener));
    }
    let counts = Counts::default();
    std::thread::scope(|scope| {
        for (poller, listener) in pollers {
            scope.spawn(|| accept_all(poller, listener, mode, &counts));
        }
        for client in 1..=clients {
            let _client = Socket::connect(&address)?;
            // The next comes when this one is accepted and the others are asleep again.
            while counts.accepted.load(Ordering::SeqCst) < client {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        counts.stop.store(true, Ordering::SeqCst);
        Ok(())
    })
    .inspect_err(|_: &SystemError| counts.stop.store(true, Ordering::SeqCst))?;
    Ok((counts.accepted.into_inner(), counts.in_vain.into_inner()))
}

fn accept_all(mut poller: Poller, listener: &Listener, mode: Mode, counts: &Counts) {
    let mut events = Events::with_capacity(1);
    while !counts.stop.load(Ordering::SeqCst) {
        events.clear();
        // A moment at most, to see that it is over.
        if !matches!(poller.wait(&mut events, Some(Duration::from_millis(50))), Ok(1..)) {
            continue;
        }
        match listener.accept() {
            Ok(_client) => counts.accepted.fetch_add(1, Ordering::SeqCst),
            Err(Errno::EAGAIN) => counts.in_vain.fetch_add(1, Ordering::SeqCst),
            Err(_) => return,
        };
        if mode.is_one_shot() {
            let again = poller.modify(listener.as_fd(), TOKEN, Interest::READABLE, mode);
            if again.is_err() {
                return;
            }
        }
    }
}
