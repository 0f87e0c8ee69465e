//! Each option, read back from the kernel.

mod support;

use std::time::Duration;

use myriapod_sys::{
    Errno, Keepalive, ListenOptions, Listener, Shutdown, Socket, SystemError, TcpState, nodelay,
    queue_sizes, recv_buffer_size, reuse_address, reuse_port, send_buffer_size, set_keepalive,
    set_linger, set_nodelay, set_recv_buffer_size, set_reuse_address, set_reuse_port,
    set_send_buffer_size, set_tcp_user_timeout, set_v6_only, tcp_info, v6_only,
};
use nix::sys::socket::{getsockopt, sockopt};
use support::{accept_one, connect, listen, tcp_pair, v4, v6, wait_readable};

#[cfg(target_os = "linux")]
#[test]
fn are_keepalive_times_rounded_up_to_seconds() {
    let (socket, _peer) = tcp_pair();
    assert!(!getsockopt(&socket, sockopt::KeepAlive).unwrap());
    let probes = Keepalive {
        idle: Duration::from_millis(61_001),
        interval: Duration::from_nanos(1),
        count: 3,
    };
    set_keepalive(&socket, Some(probes)).unwrap();
    assert!(getsockopt(&socket, sockopt::KeepAlive).unwrap());
    assert_eq!(getsockopt(&socket, sockopt::TcpKeepIdle), Ok(62));
    assert_eq!(getsockopt(&socket, sockopt::TcpKeepInterval), Ok(1));
    assert_eq!(getsockopt(&socket, sockopt::TcpKeepCount), Ok(3));
    set_keepalive(&socket, None).unwrap();
    assert!(!getsockopt(&socket, sockopt::KeepAlive).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn are_keepalive_times_out_of_range_refused_by_name() {
    let (socket, _peer) = tcp_pair();
    let day = Duration::from_secs(86_400);
    let second = Duration::from_secs(1);
    for (idle, interval, count, call) in [
        (day, second, 3, "setsockopt TCP_KEEPIDLE"),
        (second, Duration::MAX, 3, "setsockopt TCP_KEEPINTVL"),
        (second, second, 0, "setsockopt TCP_KEEPCNT"),
    ] {
        let refused = set_keepalive(&socket, Some(Keepalive { idle, interval, count }));
        assert_eq!(refused, Err(SystemError::call(call, Errno::EINVAL, "")));
        assert!(!getsockopt(&socket, sockopt::KeepAlive).unwrap(), "not half set");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn is_the_user_timeout_rounded_up_to_milliseconds() {
    let (socket, _peer) = tcp_pair();
    for (timeout, expected) in [
        (Duration::from_secs(30), 30_000),
        (Duration::from_micros(1_001), 2),
        (Duration::ZERO, 0),
        (Duration::MAX, i32::MAX.unsigned_abs()),
    ] {
        set_tcp_user_timeout(&socket, timeout).unwrap();
        assert_eq!(getsockopt(&socket, sockopt::TcpUserTimeout), Ok(expected), "{timeout:?}");
    }
}

#[test]
fn do_switches_go_on_and_off() {
    let (socket, _peer) = tcp_pair();
    for on in [true, false] {
        set_nodelay(&socket, on).unwrap();
        assert_eq!(nodelay(&socket), Ok(on));
        set_reuse_address(&socket, on).unwrap();
        assert_eq!(reuse_address(&socket), Ok(on));
    }
    let listener = listen(&v4());
    for on in [true, false] {
        set_reuse_port(&listener, on).unwrap();
        assert_eq!(reuse_port(&listener), Ok(on));
    }
    if let Some(address) = v6() {
        // Once bound it is fixed, so on a socket that is not.
        let fresh = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet6,
            nix::sys::socket::SockType::Stream,
            nix::sys::socket::SockFlag::empty(),
            None,
        )
        .unwrap();
        for on in [true, false] {
            set_v6_only(&fresh, on).unwrap();
            assert_eq!(v6_only(&fresh), Ok(on));
        }
        let error = set_v6_only(listen(&address), true).unwrap_err();
        assert_eq!(error, SystemError::call("setsockopt IPV6_V6ONLY", Errno::EINVAL, ""));
    }
}

#[test]
fn is_linger_set_in_whole_seconds() {
    let (socket, _peer) = tcp_pair();
    for (linger, onoff, seconds) in [
        (Some(Duration::from_millis(1500)), 1, 2),
        (Some(Duration::ZERO), 1, 0),
        (Some(Duration::MAX), 1, i32::from(i16::MAX)),
        (None, 0, 0),
    ] {
        set_linger(&socket, linger).unwrap();
        let read = getsockopt(&socket, sockopt::Linger).unwrap();
        assert_eq!(read.l_onoff, onoff, "{linger:?}");
        if onoff == 1 {
            assert_eq!(read.l_linger, seconds, "{linger:?}");
        }
    }
}

#[test]
fn are_buffer_sizes_set_and_read() {
    let (socket, _peer) = Socket::pair().unwrap();
    let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
    set_recv_buffer_size(&socket, 32 * 1024).unwrap();
    assert_eq!(recv_buffer_size(&socket), Ok(factor * 32 * 1024));
    set_send_buffer_size(&socket, 16 * 1024).unwrap();
    assert_eq!(send_buffer_size(&socket), Ok(factor * 16 * 1024));
    if cfg!(target_os = "linux") {
        // More than the kernel takes is cut, also where it does not fit an int.
        set_send_buffer_size(&socket, 1 << 32).unwrap();
        assert!(send_buffer_size(&socket).unwrap() > 32 * 1024);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn do_queue_sizes_count_what_was_not_read() {
    let (ours, theirs) = tcp_pair();
    ours.send(&[0; 1000]).unwrap();
    wait_readable(&theirs);
    // Loopback may deliver in pieces; the last has come when all is counted.
    while queue_sizes(&theirs).unwrap().0 < 1000 {}
    assert_eq!(queue_sizes(&theirs), Ok((1000, 0)));
    assert_eq!(theirs.recv(&mut [0; 400]), Ok(400));
    assert_eq!(queue_sizes(&theirs), Ok((600, 0)));
    let error = queue_sizes(listen(&v4())).unwrap_err();
    assert_eq!(error, SystemError::call("ioctl SIOCINQ", Errno::EINVAL, ""));

    // A peer that does not read leaves our sending queue full.
    let chunk = vec![0; 1 << 16];
    while ours.send(&chunk).is_ok() {}
    assert!(queue_sizes(&ours).unwrap().1 > 0);
}

#[cfg(target_os = "linux")]
#[test]
fn does_a_bound_on_what_is_unsent_hold_for_accepted_sockets() {
    // All that the kernel takes while nobody reads.
    let held = |max_unsent| {
        let options = ListenOptions { max_unsent, ..ListenOptions::default() };
        let listener = Listener::bind(&v4(), &options).unwrap();
        let _client = connect(&listener.local_address().unwrap()).unwrap();
        let (server, _) = accept_one(&listener);
        let piece = vec![0; 64 << 10];
        // What is on its way makes room for a moment: it is full when it stays so.
        let (mut held, mut quiet) = (0, 0);
        while quiet < 200 {
            match server.send(&piece) {
                Ok(sent) => (held, quiet) = (held + sent, 0),
                Err(_) => quiet += 1,
            }
            std::thread::yield_now();
        }
        held
    };
    let (bounded, free) = (held(Some(64 << 10)), held(None));
    assert!(bounded < free, "{bounded} bytes, and {free} without a bound");
}

#[cfg(target_os = "linux")]
#[test]
fn do_listeners_hand_down_the_sizes_of_buffers() {
    let options = ListenOptions {
        receive_buffer: Some(30_000),
        send_buffer: Some(40_000),
        ..ListenOptions::default()
    };
    let listener = Listener::bind(&v4(), &options).unwrap();
    let _client = connect(&listener.local_address().unwrap()).unwrap();
    let (server, _) = accept_one(&listener);
    assert_eq!(recv_buffer_size(&server), Ok(60_000));
    assert_eq!(send_buffer_size(&server), Ok(80_000));
}

#[cfg(target_os = "linux")]
#[test]
fn does_tcp_info_follow_the_state() {
    let listener = listen(&v4());
    assert_eq!(tcp_info(&listener).unwrap().state, TcpState::Listen);
    let client = connect(&listener.local_address().unwrap()).unwrap();
    let (server, _) = accept_one(&listener);
    let info = tcp_info(&client).unwrap();
    assert_eq!(info.state, TcpState::Established);
    assert_eq!(info.state.to_string(), "ESTABLISHED");
    assert!(info.rtt > Duration::ZERO && info.rtt < Duration::from_secs(60), "{info:?}");
    client.shutdown(Shutdown::Write).unwrap();
    wait_readable(&server);
    assert_eq!(server.recv(&mut [0]), Ok(0));
    assert_eq!(tcp_info(&server).unwrap().state, TcpState::CloseWait);
    let state = tcp_info(&client).unwrap().state;
    assert!(matches!(state, TcpState::FinWait1 | TcpState::FinWait2), "{state}");
}

#[test]
fn does_a_refused_option_name_itself() {
    let (unix, _peer) = Socket::pair().unwrap();
    let error = set_nodelay(&unix, true).unwrap_err().to_string();
    assert!(error.starts_with("setsockopt TCP_NODELAY: E"), "{error}");
    if cfg!(target_os = "linux") {
        let error = tcp_info(&unix).unwrap_err().to_string();
        assert!(error.starts_with("getsockopt TCP_INFO: EOPNOTSUPP ("), "{error}");
    }
}
