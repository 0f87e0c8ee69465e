//! [`bind_all`]: a host becomes the listeners of all its addresses.

use myriapod_sys::{self as sys, Errno, ListenOptions, Listener, SocketAddr, SystemError};

/// How often the kernel is asked for a port that is free on all addresses of a host.
const PORT_TRIES: usize = 16;

/// What became of the addresses of one host.
#[derive(Debug)]
pub(crate) struct Bound {
    /// At least one.
    pub(crate) listeners: Vec<Listener>,
    /// Why the other addresses could not be bound.
    pub(crate) failures: Vec<SystemError>,
    /// How the listeners were bound.
    pub(crate) options: ListenOptions,
}

/// Binds all addresses of a host. Those that cannot be bound are told in `failures`.
///
/// An address in use is an error: its peers would reach another program. Where port 0 was asked
/// for, all addresses get the same port, unless no such port is found in a few tries.
///
/// With `is_shared`, the listeners of several loops share the port. Nobody else does, unless that
/// was asked for in `options`.
///
/// # Errors
///
/// An address that is in use; the first failure where no address can be bound.
pub(crate) fn bind_all(
    host: &str,
    addresses: &[SocketAddr],
    options: &ListenOptions,
    is_shared: bool,
) -> sys::Result<Bound> {
    let mut options = options.clone();
    // Each family has an address of its own, so IPv6 must not take that of IPv4.
    if addresses.len() > 1 && options.v6_only.is_none() {
        options.v6_only = Some(true);
    }
    let mut tries_left = PORT_TRIES;
    loop {
        tries_left -= 1;
        let is_last_try = tries_left == 0;
        // `None`: another program has the port on one of the addresses, so another port is tried.
        if let Some(bound) = try_all(host, addresses, &options, is_shared, is_last_try)? {
            return Ok(bound);
        }
    }
}

/// `None` where the port that the kernel chose for one address is in use on another.
fn try_all(
    host: &str,
    addresses: &[SocketAddr],
    options: &ListenOptions,
    is_shared: bool,
    is_last_try: bool,
) -> sys::Result<Option<Bound>> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    let mut chosen = None;
    for address in addresses {
        let wanted = match chosen {
            Some(port) if address.port() == Some(0) => with_port(address, port),
            _ => address.clone(),
        };
        let mut bound = bind(&wanted, options, is_shared);
        if let Err(error) = &bound
            && error.errno() == Some(Errno::EADDRINUSE)
        {
            if wanted == *address {
                return bound.map(|_| None);
            }
            if !is_last_try {
                return Ok(None);
            }
            bound = bind(address, options, is_shared);
        }
        match bound {
            Ok(listener) => {
                chosen = chosen.or(listener.local_address()?.port());
                listeners.push(listener);
            }
            Err(error) => failures.push(error),
        }
    }
    if listeners.is_empty() {
        let nothing = || SystemError::call("bind", Errno::EADDRNOTAVAIL, host);
        return Err(failures.into_iter().next().unwrap_or_else(nothing));
    }
    Ok(Some(Bound { listeners, failures, options: options.clone() }))
}

fn bind(address: &SocketAddr, options: &ListenOptions, is_shared: bool) -> sys::Result<Listener> {
    if !is_shared || address.is_unix() {
        return Listener::bind(address, options);
    }
    if !options.reuse_port && address.port() != Some(0) {
        Listener::probe(address, options)?;
    }
    Listener::bind(address, &ListenOptions { reuse_port: true, ..options.clone() })
}

fn with_port(address: &SocketAddr, port: u16) -> SocketAddr {
    let mut address = address.clone();
    match &mut address {
        SocketAddr::V4(v4) => v4.set_port(port),
        SocketAddr::V6(v6) => v6.set_port(port),
        SocketAddr::Unix(_) => {}
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], port))
    }

    fn bind_both(addresses: &[SocketAddr], is_shared: bool) -> sys::Result<Bound> {
        bind_all("name", addresses, &ListenOptions::default(), is_shared)
    }

    fn places(bound: &Bound) -> Vec<SocketAddr> {
        bound.listeners.iter().map(|listener| listener.local_address().unwrap()).collect()
    }

    #[test]
    fn do_all_addresses_of_a_name_get_the_same_port() {
        let v6 = sys::resolve("::1", 0).unwrap().remove(0);
        let has_v6 = Listener::bind(&v6, &ListenOptions::default()).is_ok();
        let other = if has_v6 { v6 } else { v4(2, 0) };
        for is_shared in [false, true] {
            let bound = bind_both(&[other.clone(), v4(1, 0)], is_shared).unwrap();
            let places = places(&bound);
            let port = places[0].port().unwrap();
            assert_ne!(port, 0);
            assert_eq!(places, [with_port(&other, port), v4(1, port)]);
            assert_eq!(bound.failures, []);
        }
    }

    #[test]
    fn is_an_address_in_use_never_a_reason_to_take_the_next() {
        let options = ListenOptions::default();
        for is_shared in [false, true] {
            let first = bind_both(&[v4(1, 0), v4(2, 0)], is_shared).unwrap();
            let port = places(&first)[0].port().unwrap();
            let error = bind_both(&[v4(1, port), v4(2, port)], is_shared).unwrap_err();
            assert_eq!(error.errno(), Some(Errno::EADDRINUSE));
            drop(first);
            // Also where it is the second address alone.
            let taken = Listener::bind(&v4(2, 0), &options).unwrap();
            let port = taken.local_address().unwrap().port().unwrap();
            let error = bind_both(&[v4(1, port), v4(2, port)], is_shared).unwrap_err();
            assert_eq!(
                error.to_string().split(": ").next().unwrap(),
                format!("bind {}", v4(2, port))
            );
        }
    }

    #[test]
    fn is_an_address_that_cannot_be_bound_told_and_others_served() {
        // TEST-NET-1 of RFC 5737: no interface has it.
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
        let bound = bind_both(&[nowhere.clone(), v4(1, 0)], false).unwrap();
        assert_eq!(places(&bound).len(), 1);
        assert_eq!(bound.failures.len(), 1);
        assert_eq!(bound.failures[0].errno(), Some(Errno::EADDRNOTAVAIL));
        let error = bind_both(&[nowhere.clone(), nowhere], false).unwrap_err();
        assert_eq!(error.errno(), Some(Errno::EADDRNOTAVAIL));
        assert!(bind_both(&[], false).is_err());
    }
}
