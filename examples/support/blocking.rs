//! What the programs over blocking sockets share: hosts and ports, and sending all of it.

#![allow(dead_code, reason = "servers do not connect, and clients do not listen")]

use myriapod::SocketAddr;
use myriapod::sys::{self, Errno, ListenOptions, Listener, Socket, SystemError};

/// The address that this machine's own name has, as the tutorial's first program asks for it.
pub(crate) fn own_host() -> Result<String, SystemError> {
    let name = sys::host_name()?;
    let v4 = |address: SocketAddr| address.ip().filter(std::net::IpAddr::is_ipv4);
    let nothing = || SystemError::call("bind", Errno::EADDRNOTAVAIL, &name);
    let found = sys::resolve(&name, 0)?.into_iter().find_map(v4).ok_or_else(nothing)?;
    Ok(found.to_string())
}

/// Listens on the first address of `host` that can be bound; the listener is blocking.
pub(crate) fn listen(host: &str, port: u16) -> Result<Listener, SystemError> {
    let listener =
        first(host, port, "bind", |address| Listener::bind(address, &ListenOptions::default()))?;
    listener.set_nonblocking(false)?;
    Ok(listener)
}

/// Connects to the first address of `host` that answers; the socket is blocking.
pub(crate) fn connect(host: &str, port: u16) -> Result<Socket, SystemError> {
    first(host, port, "connect", Socket::connect)
}

/// `HOST:PORT` of a server: the host as it was given, and the real port where 0 was.
pub(crate) fn place(host: &str, address: &SocketAddr) -> String {
    match address.port() {
        Some(port) if host.contains(':') => format!("[{host}]:{port}"),
        Some(port) if !host.is_empty() => format!("{host}:{port}"),
        _ => address.to_string(),
    }
}

fn first<T>(
    host: &str,
    port: u16,
    call: &'static str,
    attempt: impl Fn(&SocketAddr) -> Result<T, SystemError>,
) -> Result<T, SystemError> {
    let mut error = SystemError::call(call, Errno::EADDRNOTAVAIL, host);
    for address in sys::resolve(host, port)? {
        match attempt(&address) {
            Ok(done) => return Ok(done),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

/// Python's `sendall`: `send` may take only a part, and says how much.
pub(crate) fn send_all(socket: &Socket, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let sent = socket.send(bytes)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}
