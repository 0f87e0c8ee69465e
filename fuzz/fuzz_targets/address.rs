//! What users type, and what kernels write: hosts, `HOST:PORT`, sizes and times of the command
//! line, and addresses in the kernel's form.
#![no_main]

#[path = "../../command/src/units.rs"]
#[allow(dead_code, reason = "the command uses the rest of it")]
mod units;

use std::fmt::{Debug, Display};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use myriapod::sys::{SystemError, SocketAddr, UnixAddr, fuzzing, resolve};

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
                SocketAddr::Unix(unix) => {
                    let path = host.strip_prefix("unix:").unwrap();
                    if let UnixAddr::Path(of) = unix {
                        assert_eq!(of.as_os_str(), path);
                    } else {
                        assert!(path.starts_with('@'), "{host}: {unix:?}");
                    }
                }
                SocketAddr::V4(_) => {
                    assert_eq!(address.port(), Some(port));
                    // All interfaces, where nothing is said.
                    let told = if host.is_empty() { "0.0.0.0" } else { host };
                    assert_eq!(told.parse().ok(), address.ip());
                }
                SocketAddr::V6(_) => {
                    assert_eq!(address.port(), Some(port));
                    assert_eq!(host.split('%').next().unwrap().parse().ok(), address.ip());
                }
            }
        }
        Err(SystemError::InvalidAddress { .. }) => {
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
        Err(error) => assert!(matches!(error, SystemError::InvalidAddress { .. }), "{error}"),
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
    let place = text.parse::<units::Place>();
    if let Ok(std) = text.parse::<std::net::SocketAddr>() {
        let place = place.as_ref().expect("an address and a port are a place");
        assert_eq!(place.port, std.port());
        assert_eq!(place.host.split('%').next().unwrap().parse(), Ok(std.ip()));
    }
    if let Ok(place) = place {
        let shown = if place.host.contains(':') {
            format!("[{}]:{}", place.host, place.port)
        } else {
            format!("{}:{}", place.host, place.port)
        };
        assert_eq!(shown.parse::<units::Place>().as_ref(), Ok(&place));
    }
    check_unit::<units::Size>(text);
    let number = text.strip_suffix("KiB").unwrap_or(text);
    if let Ok(number) = number.parse::<u32>()
        && text.starts_with(|first: char| ('1'..='9').contains(&first))
    {
        let bytes = number as usize * if text.ends_with("KiB") { 1024 } else { 1 };
        assert_eq!(text.parse::<units::Size>(), Ok(units::Size(bytes)));
    }
    check_unit::<units::Count>(text);
    check_unit::<units::Threads>(text);
    check_unit::<units::Timeout>(text);
    check_unit::<units::OverflowPolicy>(text);
});
