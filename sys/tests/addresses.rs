//! How addresses read, and what names resolve to.

#![expect(clippy::unwrap_used, reason = "tests fail by it")]

use std::net::{Ipv4Addr, SocketAddrV6};

use myriapod_sys::{SocketAddr, SystemError, UnixAddr, resolve};

fn one(host: &str, port: u16) -> SocketAddr {
    let mut all = resolve(host, port).unwrap();
    assert_eq!(all.len(), 1, "{host}: {all:?}");
    all.remove(0)
}

#[test]
fn does_each_family_read_as_people_write_it() {
    for (host, shown) in [
        ("127.0.0.1", "127.0.0.1:65432"),
        ("::1", "[::1]:65432"),
        ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]:65432"),
        ("fe80::1%7", "[fe80::1%7]:65432"),
        ("unix:/tmp/x", "unix:/tmp/x"),
    ] {
        assert_eq!(one(host, 65432).to_string(), shown);
    }
    assert_eq!(SocketAddr::from(UnixAddr::Unnamed).to_string(), "unix:");
    let name = UnixAddr::Abstract(b"a\0\n\xff".to_vec());
    assert_eq!(SocketAddr::from(name).to_string(), "unix:@a\\x00\\n\\xff");
}

#[test]
fn does_an_address_read_back_what_it_shows() {
    for shown in [
        "127.0.0.1:0",
        "[::1]:65535",
        "[::ffff:192.0.2.1]:80",
        "[fe80::1%7]:80",
        "unix:/tmp/x",
        "unix:",
    ] {
        assert_eq!(shown.parse::<SocketAddr>().unwrap().to_string(), shown);
    }
    assert_eq!("unix:x y".parse(), Ok(UnixAddr::Path("x y".into())));
    let name = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    if let Ok(index) = nix::net::if_::if_nametoindex(name) {
        let address = format!("[fe80::1%{name}]:80").parse::<SocketAddr>().unwrap();
        assert_eq!(address.to_string(), format!("[fe80::1%{index}]:80"));
    }
}

#[test]
fn does_text_that_is_no_address_say_why() {
    for (text, reason) in [
        ("", "no port: ADDRESS:PORT is wanted"),
        ("127.0.0.1", "no port: ADDRESS:PORT is wanted"),
        ("127.0.0.1:", "no port between 0 and 65535 behind the last colon"),
        ("127.0.0.1:+80", "no port between 0 and 65535 behind the last colon"),
        ("127.0.0.1:65536", "no port between 0 and 65535 behind the last colon"),
        (
            "localhost:80",
            "no numeric IPv4 address before the port, and names are not looked up here",
        ),
        ("::1", "an IPv6 address stands in brackets before its port, as in [::1]:80"),
        ("::1:80", "an IPv6 address stands in brackets before its port, as in [::1]:80"),
        ("[::1]", "no port: [ADDRESS]:PORT is wanted"),
        ("[127.0.0.1]:80", "no IPv6 address in the brackets"),
        ("[fe80::1%nosuchif]:80", "no network interface has the name behind %"),
        ("[::1%]:80", "no network interface has the name behind %"),
        ("unix:/a\0b", "a path cannot hold a zero byte"),
    ] {
        let given = text.into();
        assert_eq!(text.parse::<SocketAddr>(), Err(SystemError::InvalidAddress { given, reason }));
    }
    assert!("/tmp/x".parse::<UnixAddr>().is_err());
}

#[cfg(target_os = "linux")]
#[test]
fn does_any_byte_of_an_abstract_name_read_back() {
    let name = UnixAddr::Abstract((0..=u8::MAX).collect());
    assert_eq!(name.to_string().parse(), Ok(name));
    for broken in [r"unix:@\", r"unix:@\x1", r"unix:@\xg0", r"unix:@\q", r"unix:@\x+1"] {
        let refused = broken.parse::<SocketAddr>().unwrap_err();
        assert!(refused.to_string().contains("backslash"), "{refused}");
    }
    // A file whose name begins with @ is reached, and not taken for an abstract name.
    let file = UnixAddr::Path("@x".into()).to_string();
    assert_eq!(file, "unix:./@x");
    assert_eq!(file.parse(), Ok(UnixAddr::Path("./@x".into())));
}

#[test]
fn does_an_address_know_its_parts() {
    let v4 = one("192.0.2.1", 80);
    assert_eq!((v4.port(), v4.ip()), (Some(80), Some("192.0.2.1".parse().unwrap())));
    assert_eq!(v4.to_std(), Some("192.0.2.1:80".parse().unwrap()));
    let unix = one("unix:/tmp/x", 80);
    assert_eq!((unix.port(), unix.ip(), unix.to_std()), (None, None, None));
    assert!(unix.is_unix() && !v4.is_unix());
    let v6: SocketAddr = SocketAddrV6::new("2001:db8::1".parse().unwrap(), 443, 0, 0).into();
    assert_eq!((v6.port(), v6.ip()), (Some(443), Some("2001:db8::1".parse().unwrap())));
    assert_eq!(SocketAddr::from("[2001:db8::1]:443".parse::<std::net::SocketAddr>().unwrap()), v6);
}

#[test]
fn is_loopback_told_in_every_notation() {
    for (host, expected) in [
        ("127.0.0.1", true),
        ("127.255.0.9", true),
        ("128.0.0.1", false),
        ("0.0.0.0", false),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("::ffff:10.0.0.1", false),
        ("::127.0.0.1", false),
        ("unix:/tmp/x", false),
    ] {
        assert_eq!(one(host, 1).is_loopback(), expected, "{host}");
    }
}

#[test]
fn does_no_host_mean_every_ipv4_interface() {
    let any = one("", 65432);
    assert_eq!(any.ip(), Some(Ipv4Addr::UNSPECIFIED.into()));
    assert_eq!(any.port(), Some(65432));
}

#[test]
fn is_a_scope_taken_by_name_and_by_number() {
    let SocketAddr::V6(by_number) = one("fe80::1%42", 1) else { panic!("IPv6") };
    assert_eq!(by_number.scope_id(), 42);
    let name = if cfg!(target_os = "linux") { "lo" } else { "lo0" };
    if let Ok(index) = nix::net::if_::if_nametoindex(name) {
        let SocketAddr::V6(by_name) = one(&format!("fe80::1%{name}"), 1) else { panic!("IPv6") };
        assert_eq!(by_name.scope_id(), index);
    }
    assert_eq!(
        resolve("fe80::1%nosuchif", 1).unwrap_err().to_string(),
        "address \"fe80::1%nosuchif\": no network interface has the name behind %"
    );
}

#[test]
fn is_a_unix_path_checked_before_it_is_used() {
    let longest =
        format!("unix:/{}", "x".repeat(if cfg!(target_os = "linux") { 106 } else { 102 }));
    assert_eq!(one(&longest, 0).to_string(), longest);
    for (host, reason) in [
        (format!("{longest}x"), "too long for the kernel"),
        ("unix:".to_owned(), "an empty path names no socket"),
        ("unix:/a\0b".to_owned(), "a path cannot hold a zero byte"),
    ] {
        let given = host.clone().into();
        assert_eq!(resolve(&host, 0), Err(SystemError::InvalidAddress { given, reason }));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn is_an_abstract_name_taken_behind_the_at_sign() {
    let address = one("unix:@myriapod", 0);
    assert_eq!(address, UnixAddr::Abstract(b"myriapod".to_vec()).into());
    assert_eq!(address.to_string(), "unix:@myriapod");
    assert!(resolve(&format!("unix:@{}", "x".repeat(108)), 0).is_err());
}

#[test]
fn does_localhost_resolve_to_loopback_without_doubles() {
    let all = resolve("localhost", 65432).unwrap();
    assert!(!all.is_empty());
    for (index, address) in all.iter().enumerate() {
        assert!(address.is_loopback(), "{address}");
        assert_eq!(address.port(), Some(65432));
        assert!(!all[..index].contains(address), "{address} twice");
    }
}

#[test]
fn is_the_order_of_getaddrinfo_kept() {
    use std::net::ToSocketAddrs;

    let mut theirs: Vec<SocketAddr> =
        ("localhost", 7).to_socket_addrs().unwrap().map(Into::into).collect();
    theirs.dedup();
    assert_eq!(resolve("localhost", 7).unwrap(), theirs);
}

// Names that no name server can be asked for, so that nothing leaves this machine.
#[test]
fn does_a_name_without_address_say_what_getaddrinfo_said() {
    let long_label = "x".repeat(64);
    for host in [":::", "::1::", &long_label] {
        let error = resolve(host, 1).unwrap_err();
        assert!(matches!(error, SystemError::Resolve { .. }), "{host}: {error:?}");
        if cfg!(target_env = "gnu") && host != long_label {
            let reason = "EAI_NONAME (Name or service not known)";
            assert_eq!(error.to_string(), format!("getaddrinfo {host}: {reason}"));
        }
    }
}

#[test]
fn is_a_zero_byte_in_a_name_refused() {
    let error = resolve("local\0host", 1).unwrap_err();
    assert_eq!(error.to_string(), "address \"local\\0host\": a name cannot hold a zero byte");
}
