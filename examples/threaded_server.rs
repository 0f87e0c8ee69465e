//! The first program: a thread for each connection, and a length in 64 bytes before each text.
//!
//! ```text
//! $ cargo run --example threaded_server -- 127.0.0.1 5050
//! [STARTING] server is starting...
//! [LISTENING] Server is listening on 127.0.0.1:5050
//! ```
//!
//! It prints what the tutorial's first server prints. That one takes whatever `recv` returns for a
//! whole message; this one goes on receiving until the message is whole. That one spins when a
//! client leaves without `!DISCONNECT`; this one sees the end.
//!
//! Beside it: `threaded_client`. Watch: the threads (`ls /proc/PID/task`): one for each client.

#![expect(clippy::print_stderr, reason = "a program for the terminal")]

use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blocking::{listen, own_host, place, send_all};
use command::Stop;
use myriapod::Interest;
use myriapod::protocol::{Decoder, Padded};
use myriapod::sys::{self, AsFd, Errno, Shutdown, Socket, SocketAddr, poll::wait_one};

#[path = "support/blocking.rs"]
mod blocking;
#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

const PORT: u16 = 5050;

/// Each connection costs a thread, so there is an end to them; more peers wait in the backlog.
const MAX_CONNECTIONS: usize = 500;

fn main() -> ExitCode {
    command::run("[HOST] [PORT]", |arguments| match arguments {
        [] => serve(&own_host()?, None),
        [host] => serve(host, None),
        [host, port] => serve(host, Some(command::port(port)?)),
        _ => Err(Stop::Usage),
    })
}

fn serve(host: &str, port: Option<u16>) -> Result<(), Stop> {
    println!("[STARTING] server is starting...");
    let listener = listen(host, port.unwrap_or(PORT))?;
    match port {
        None => println!("[LISTENING] Server is listening on {host}"),
        Some(_) => {
            let place = place(host, &listener.local_address()?);
            println!("[LISTENING] Server is listening on {place}");
        }
    }
    let active = Arc::new(Active::default());
    loop {
        let place = active.wait_for_place();
        // Waits until somebody connects.
        let (descriptor, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            // Somebody who is gone already.
            Err(Errno::ECONNABORTED | Errno::EPROTO) => continue,
            // No descriptors left: peers wait in the backlog until a connection ends.
            Err(errno @ (Errno::EMFILE | Errno::ENFILE)) => {
                eprintln!("accept: {errno}");
                drop(place);
                active.wait_for_an_end();
                continue;
            }
            Err(errno) => return Err(sys::SystemError::call("accept", errno, host).into()),
        };
        let thread = sys::spawn("client", move || {
            // Given back when the thread ends, however it does.
            let _place = place;
            if let Err(Failed(text)) = handle_client(&descriptor.into(), &peer) {
                eprintln!("{peer}: {text}");
            }
        });
        match thread {
            Ok(_) => println!("[ACTIVE CONNECTIONS] {}", active.count()),
            // The connection is closed with the thread that there is no room for.
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn handle_client(socket: &Socket, peer: &SocketAddr) -> Result<(), Failed> {
    let shown = python_repr::address(peer);
    println!("[NEW CONNECTION] {shown} connected.");
    socket.set_nonblocking(false)?;

    let mut decoder = Decoder::new(Padded::default());
    loop {
        let message = match decoder.next_message() {
            Ok(message) => message,
            Err(fault) => {
                // Told first: when the client sees our end, it stands there.
                eprintln!("{peer}: {fault}");
                return goodbye(socket);
            }
        };
        if let Some(message) = message {
            let text = message.text()?;
            println!("[{shown}] {}", python_repr::printable(&text));
            send_all(socket, Padded::RECEIVED.as_bytes())
                .map_err(|errno| Failed::of("send", errno))?;
            if text == Padded::DISCONNECT {
                return goodbye(socket);
            }
            // There may be another already.
            continue;
        }
        // Part of a message, or nothing: wait for more.
        let buffer = decoder.buffer_mut();
        buffer.reserve(4096);
        if socket.recv_append(buffer).map_err(|errno| Failed::of("recv", errno))? == 0 {
            return Ok(());
        }
    }
}

/// Ends our side, then drops what the client still sends: closing with bytes unread is a reset, and
/// that may destroy our last reply. At most so many bytes; each is waited for two seconds.
fn goodbye(socket: &Socket) -> Result<(), Failed> {
    socket.shutdown(Shutdown::Write).map_err(|errno| Failed::of("shutdown", errno))?;
    let mut buffer = [0; 4096];
    for _ in 0..16 {
        if wait_one(socket.as_fd(), Interest::READABLE, Some(Duration::from_secs(2)))?.is_none()
            || socket.recv(&mut buffer).unwrap_or(0) == 0
        {
            break;
        }
    }
    Ok(())
}

/// What ended one connection, in words; the others go on.
struct Failed(String);

impl Failed {
    fn of(call: &str, errno: Errno) -> Self {
        Self(format!("{call}: {errno}"))
    }
}

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// How many connections there are: Python's `threading.active_count() - 1`.
#[derive(Default)]
struct Active {
    connections: Mutex<usize>,
    ended: Condvar,
}

/// A connection's place among them.
struct Place(Arc<Active>);

impl Active {
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        *self.lock()
    }

    /// Until a connection ends, or for a moment: somebody else may have closed a file.
    fn wait_for_an_end(&self) {
        let moment = Duration::from_millis(100);
        drop(self.ended.wait_timeout(self.lock(), moment));
    }

    fn wait_for_place(self: &Arc<Self>) -> Place {
        let is_full = |count: &mut usize| *count >= MAX_CONNECTIONS;
        let free = self.ended.wait_while(self.lock(), is_full);
        *free.unwrap_or_else(PoisonError::into_inner) += 1;
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
        self.0.ended.notify_one();
    }
}
