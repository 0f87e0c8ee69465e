//! Why the granddaddy retired: one echo server on select, poll, epoll and the others in turn, and
//! what one call costs among ever more connections that say nothing.
//!
//! ```text
//! $ cargo run --release --example granddaddy
//! microseconds for one call that finds one ready, median of 300
//! idle             10       100     1,000    10,000
//! ```
//!
//! What it finds is there already, so the call does not sleep: the cost of being put to sleep and
//! woken, which is the same for all of them, is not in these figures.
//!
//! select and poll are told the whole list at each call, and the system walks it each time. epoll
//! and kqueue keep the list, and wake up with those that are ready. And select's list is a set of
//! bits with an end: descriptor 1023 is the last that it can name.
//!
//! Beside it: nobody. Watch: which rows grow with the number of idle ones, and which has an end.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use command::{Stop, failed};
use myriapod::sys::{
    self, DatagramSocket, ListenOptions, Listener, Socket, SocketAddr, SystemError, now,
};
use myriapod::{Backend, Interest, Selector};

#[macro_use]
#[path = "support/command.rs"]
mod command;

const IDLE: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() -> ExitCode {
    command::run("[CALLS]", |arguments| match arguments {
        [] => compare(300),
        [count] => compare(command::number::<usize>(count, "number of calls")?.max(1)),
        _ => Err(Stop::Usage),
    })
}

fn compare(calls: usize) -> Result<(), Stop> {
    sys::raise_descriptor_limit()?;
    println!("microseconds for one call that finds one ready, median of {calls}");
    println!("{:<10}{:>10}{:>10}{:>10}{:>10}", "idle", "10", "100", "1,000", "10,000");
    let mut notes = Vec::new();
    // The oldest first.
    let mut backends = Backend::available().to_vec();
    backends.sort_by_key(|backend| match backend {
        Backend::Select => 0,
        Backend::Poll => 1,
        Backend::Portable => 3,
        _ => 2,
    });
    for backend in backends {
        print!("{:<10}", backend.name());
        for idle in IDLE {
            std::io::stdout().flush()?;
            let mut server = EchoServer::new(backend)?;
            // Where it cannot have as many, say how many it could, and why.
            if let Err((most, error)) = server.watch_idle(idle) {
                print!("{:>10}", "-");
                notes.push(format!("{} has {most} idle ones of {idle}: {error}", backend.name()));
                continue;
            }
            print!("{:>10.2}", server.median_call(calls)?.as_secs_f64() * 1e6);
        }
        println!();
    }
    notes.iter().for_each(|note| println!("{note}"));
    Ok(())
}

/// A server and its one client that says something.
struct EchoServer {
    selector: Selector<()>,
    client: Socket,
}

impl EchoServer {
    fn new(backend: Backend) -> Result<Self, SystemError> {
        let listener = Listener::bind(&any_port(), &ListenOptions::default())?;
        let client = Socket::connect(&listener.local_address()?)?;
        listener.set_nonblocking(false)?;
        let (connection, _) = listener.accept().map_err(failed("accept"))?;
        let mut selector = Selector::with_backend(backend)?;
        selector.register(connection, Interest::READABLE, ())?;
        Ok(Self { selector, client })
    }

    /// Watches sockets that nobody sends anything to.
    fn watch_idle(&mut self, count: usize) -> Result<(), (usize, SystemError)> {
        for made in 0..count {
            DatagramSocket::bind(&any_port())
                .and_then(|idle| self.selector.register(idle, Interest::READABLE, ()))
                .map_err(|error| (made, error))?;
        }
        Ok(())
    }

    /// How long the call takes when something is ready already.
    fn median_call(&mut self, count: usize) -> Result<Duration, SystemError> {
        let mut times = Vec::with_capacity(count);
        let mut buffer = [0; 64];
        for _ in 0..count {
            self.client.send(b"Hello, world").map_err(failed("send"))?;
            let before = now();
            self.selector.select(None)?;
            times.push(now().saturating_since(before));
            // And the echo.
            while let Some(ready) = self.selector.next_ready() {
                let Some((socket, ())) = self.selector.entry_mut(ready.key) else { continue };
                let len = sys::recv(socket, &mut buffer).map_err(failed("recv"))?;
                sys::send(socket, &buffer[..len]).map_err(failed("send"))?;
            }
            self.client.recv(&mut buffer).map_err(failed("recv"))?;
        }
        times.sort_unstable();
        Ok(times[count / 2])
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
