//! What users type, and what kernels write: hosts, `HOST:PORT`, sizes and times of the command
//! line, and addresses in the kernel's form.
#![no_main]

#[path = "../../cli/src/units.rs"]
#[allow(dead_code, reason = "the command uses the rest of it")]
mod units;

use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use myriapod::sys::{Error, SocketAddr, UnixAddr, fuzzing, resolve};

/// Whether the host is one about which nobody has to be asked. A name server is never asked here.
fn is_told_at_once(host: &str) -> bool {
    host.is_empty()
        || host.starts_with("unix:")
        || host.parse::<Ipv4Addr>().is_ok()
        || host.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok())
        || host.contains('\0')
}

fn check_host(host: &str, port: u16) {
    match resolve(host, port) {
        Ok(addresses) => {
            let [address] = &addresses[..] else { panic!("{addresses:?}") };
            check_address(address);
            match address {
                SocketAddr::Unix(_) => assert!(host.starts_with("unix:")),
                SocketAddr::V4(_) => assert_eq!(address.port(), Some(port)),
                SocketAddr::V6(_) => {
                    assert_eq!(address.port(), Some(port));
                    assert_eq!(host.split('%').next().unwrap().parse().ok(), address.ip());
                }
            }
        }
        Err(Error::InvalidAddress { .. }) => {
            assert!(host.starts_with("unix:") || host.contains(['%', '\0']));
        }
        Err(error) => panic!("{error}"),
    }
}

/// The kernel's form and back is the same address, or there is no such form.
fn check_address(address: &SocketAddr) {
    let shown = address.to_string();
    match fuzzing::through_the_kernels_form(address) {
        Ok(back) => assert_eq!(back, *address, "{shown}"),
        Err(error) => assert!(matches!(error, Error::InvalidAddress { .. }), "{error}"),
    }
    if let Some(std) = address.to_std() {
        assert_eq!(std.to_string(), shown);
        assert_eq!(SocketAddr::from(std), *address);
    }
    let _answers = (address.is_loopback(), address.is_unix(), address.ip());
}

/// What is shown is what was typed, or means the same.
fn check_unit<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        assert_eq!(shown.parse::<T>().ok(), Some(value), "{text} is shown as {shown}");
    }
}

fuzz_target!(|input: &[u8]| {
    // Whatever a kernel might write.
    if let Ok(address) = fuzzing::from_the_kernels_form(input) {
        if !matches!(address, SocketAddr::Unix(UnixAddr::Unnamed)) {
            check_address(&address);
        }
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().unwrap_or(0)),
        None => (text, 0),
    };
    for host in [host, text] {
        if is_told_at_once(host) {
            check_host(host, port);
        }
    }
    if let Ok(place) = text.parse::<units::Place>() {
        let shown = if place.host.contains(':') {
            format!("[{}]:{}", place.host, place.port)
        } else {
            format!("{}:{}", place.host, place.port)
        };
        assert_eq!(shown.parse::<units::Place>().as_ref(), Ok(&place));
    }
    check_unit::<units::Size>(text);
    check_unit::<units::Count>(text);
    check_unit::<units::Threads>(text);
    check_unit::<units::Timeout>(text);
    check_unit::<units::OverflowPolicy>(text);
});
