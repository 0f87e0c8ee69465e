//! `myriapod resolve`: the addresses behind a name, in the order in which they are tried.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use myriapod::SocketAddr;
use myriapod::sys::{self, UnixAddr};
use serde::Serialize;

use crate::columns::{Column, Columns, Squeeze};
use crate::failure::Failure;
use crate::json::json_line;
use crate::terminal::{OneLine, print_text, size};

const EXAMPLES: &str = "\
Examples:
  myriapod resolve localhost       often both ::1 and 127.0.0.1
  myriapod resolve example.org 80  where a client would connect to, in order
  myriapod resolve 127.0.0.1       a numeric address asks nobody
  myriapod resolve localhost --json | jq -r .ip

A client tries the addresses in this order until one answers; a server listens \
on all of them. What a name means depends on /etc/hosts, \
/etc/nsswitch.conf and name servers, and may change.
Exit status: 0 success, 1 no address, 2 wrong usage.";

/// Show the addresses of a host, in the order in which they are tried
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A name, an IPv4 or IPv6 address, unix:PATH, or '' for all interfaces
    host: String,

    /// Shown with each address; none if left out
    port: Option<u16>,

    /// Print one line of JSON for each address
    #[arg(long)]
    json: bool,
}

/// One address as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    order: usize,
    family: &'a str,
    ip: Option<String>,
    port: Option<u16>,
    address: String,
    kind: &'a str,
}

const COLUMNS: [Column; 4] = [
    Column::number("", Squeeze::Keep),
    Column::new("", Squeeze::Keep),
    Column::new("", Squeeze::Keep),
    Column::new("", Squeeze::CutEnd),
];

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (addresses, took) = timed(&args.host, args.port)?;
    let mut text = String::new();
    if args.json {
        for (order, address) in (1..).zip(&addresses) {
            let line = Line {
                order,
                family: family(address),
                ip: address.ip().map(|ip| ip.to_string()),
                port: args.port.filter(|_| !address.is_unix()),
                address: shown(address, args.port),
                kind: kind(address),
            };
            text += &json_line(&line)?;
        }
    } else {
        write_table(&mut text, args, &addresses, took)?;
    }
    print_text(&text).map_err(|error| Failure::output(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn timed(host: &str, port: Option<u16>) -> Result<(Vec<SocketAddr>, Duration), Failure> {
    let start = sys::now();
    let addresses = sys::resolve(host, port.unwrap_or(0))?;
    Ok((addresses, sys::now().saturating_since(start)))
}

fn write_table(
    out: &mut String,
    args: &Args,
    addresses: &[SocketAddr],
    took: Duration,
) -> Result<(), Failure> {
    let rows = (1..).zip(addresses).map(|(order, address)| {
        let address_shown = OneLine(shown(address, args.port)).to_string();
        vec![order.to_string(), family(address).to_owned(), address_shown, kind(address).to_owned()]
    });
    let table = Columns { columns: &COLUMNS, rows: rows.collect() };
    for line in table.lines(size().map(|(width, _)| width)) {
        let _ = writeln!(out, "{line}");
    }
    match addresses.first().filter(|_| is_asked(&args.host)).and_then(SocketAddr::ip) {
        Some(ip) => {
            let (_, saved) = timed(&ip.to_string(), args.port)?;
            let _ = writeln!(
                out,
                "asking for the name took {}; `{ip}` takes {}, asks nobody and never changes",
                millis(took),
                millis(saved)
            );
        }
        None => {
            let _ = writeln!(out, "nobody had to be asked: {}", millis(took));
        }
    }
    Ok(())
}

/// Whether the system has to be asked what `host` means.
fn is_asked(host: &str) -> bool {
    let numeric = host.split('%').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok());
    !host.is_empty() && !host.starts_with("unix:") && !numeric
}

fn millis(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1000.0)
}

/// The address, with the port where one was given.
fn shown(address: &SocketAddr, port: Option<u16>) -> String {
    match (address, port) {
        (SocketAddr::V4(v4), None) => v4.ip().to_string(),
        (SocketAddr::V6(v6), None) if v6.scope_id() > 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
        (SocketAddr::V6(v6), None) => v6.ip().to_string(),
        (address, _) => address.to_string(),
    }
}

/// The first argument of `socket()`.
const fn family(address: &SocketAddr) -> &'static str {
    match address {
        SocketAddr::V4(_) => "AF_INET",
        SocketAddr::V6(_) => "AF_INET6",
        SocketAddr::Unix(_) => "AF_UNIX",
    }
}

/// Who can be reached by it.
fn kind(address: &SocketAddr) -> &'static str {
    let ip = match address {
        SocketAddr::Unix(UnixAddr::Abstract(_)) => return "this machine, a name without a file",
        SocketAddr::Unix(_) => return "this machine, a file",
        SocketAddr::V4(v4) => IpAddr::V4(*v4.ip()),
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => return "IPv4 within IPv6",
        SocketAddr::V6(v6) => IpAddr::V6(*v6.ip()),
    };
    match ip {
        ip if ip.is_loopback() => "loopback: this machine only",
        ip if ip.is_unspecified() => "every interface of this machine",
        ip if ip.is_multicast() => "multicast",
        IpAddr::V4(v4) if v4.is_broadcast() => "broadcast: TCP cannot",
        IpAddr::V4(v4) if v4.is_private() => "private network",
        IpAddr::V4(v4) if v4.is_link_local() => "link-local: this network only",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "link-local: this network only",
        IpAddr::V6(v6) if v6.is_unique_local() => "private network",
        _ => "global",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_address_told_by_its_reach() {
        for (host, family_name, reach) in [
            ("127.9.9.9", "AF_INET", "loopback"),
            ("::1", "AF_INET6", "loopback"),
            ("", "AF_INET", "every interface"),
            ("10.1.2.3", "AF_INET", "private"),
            ("fd00::1", "AF_INET6", "private"),
            ("169.254.0.1", "AF_INET", "link-local"),
            ("fe80::1%1", "AF_INET6", "link-local"),
            ("::ffff:127.0.0.1", "AF_INET6", "IPv4 within"),
            ("224.0.0.1", "AF_INET", "multicast"),
            ("192.0.2.1", "AF_INET", "global"),
            ("unix:/tmp/x", "AF_UNIX", "this machine"),
        ] {
            let address = &sys::resolve(host, 7).unwrap()[0];
            assert_eq!(family(address), family_name);
            assert!(kind(address).starts_with(reach), "{host}: {}", kind(address));
        }
    }

    #[test]
    fn is_a_port_shown_only_where_one_was_given() {
        let show = |host, port| shown(&sys::resolve(host, 0).unwrap()[0], port);
        assert_eq!(show("127.0.0.1", None), "127.0.0.1");
        assert_eq!(show("fe80::1%1", None), "fe80::1%1");
        assert_eq!(show("::1", Some(0)), "[::1]:0");
    }
}
