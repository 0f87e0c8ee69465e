//! What a socket's two queues hold, as netstat shows it, and again whenever it changes.

#![allow(clippy::print_stdout, reason = "for programs that print")]

use std::io::{IsTerminal, Write};

use myriapod::sys::{self, AsFd, SocketAddr, SystemError, TcpState};

const HEADING: &str = "Proto Recv-Q Send-Q  Local Address          Foreign Address        (state)";

/// One connection's line.
pub(crate) fn row(socket: impl AsFd) -> Result<String, SystemError> {
    let socket = socket.as_fd();
    let (recv_q, send_q) = sys::queue_sizes(socket)?;
    let (local, foreign) = (sys::local_address(socket)?, sys::peer_address(socket)?);
    let proto = match local {
        SocketAddr::V4(_) => "tcp4",
        SocketAddr::V6(_) => "tcp6",
        SocketAddr::Unix(_) => "unix",
    };
    // Not every system tells it.
    let state = sys::tcp_info(socket).map_or(TcpState::Established, |info| info.state);
    // netstat's names have underscores where RFC 9293's have hyphens.
    let (local, foreign, state) =
        (local.to_string(), foreign.to_string(), state.to_string().replace('-', "_"));
    Ok(format!("{proto:<5} {recv_q:>6} {send_q:>6}  {local:<22} {foreign:<22} {state}"))
}

/// Rows that stay in place on a terminal; elsewhere each row is a line whenever it has changed.
#[derive(Default)]
pub(crate) struct Table {
    shown: Vec<String>,
    has_heading: bool,
}

impl Table {
    pub(crate) fn show(&mut self, rows: Vec<String>) -> std::io::Result<()> {
        if rows == self.shown {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        if !self.has_heading {
            self.has_heading = true;
            writeln!(out, "{HEADING}")?;
        }
        if out.is_terminal() {
            // Up to the first row, and each line written over its old self.
            if !self.shown.is_empty() {
                write!(out, "\x1b[{}A\x1b[J", self.shown.len())?;
            }
            rows.iter().try_for_each(|row| writeln!(out, "{row}"))?;
        } else {
            let changed = rows.iter().filter(|row| !self.shown.contains(row));
            changed.into_iter().try_for_each(|row| writeln!(out, "{row}"))?;
        }
        self.shown = rows;
        out.flush()
    }
}
