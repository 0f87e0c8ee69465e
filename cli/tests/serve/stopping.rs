//! What signals do.

use nix::sys::signal::Signal;

use crate::support::{Client, Serving, search};

/// A server with one connection whose second request is half sent.
fn half_a_request(args: &[&str]) -> (Serving, Client<std::net::TcpStream>, Vec<u8>) {
    let serving = Serving::on_loopback(args);
    let mut client = serving.connect();
    let request = search("ring");
    let (half, rest) = request.split_at(request.len() / 2);
    client.send(&[&request, half].concat());
    client.receive();
    (serving, client, rest.to_vec())
}

#[test]
fn do_both_signals_end_an_idle_server_in_good_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let serving = Serving::on_loopback(&[]);
        let mut idle = serving.connect();
        idle.ask(&search("ring"));
        serving.signal(signal);
        idle.expect_end();
        drop(idle);
        let ended = serving.wait();
        assert_eq!(ended.status, Some(0));
        assert_eq!((ended.count("accepted"), ended.count("messages")), (1, 1));
        assert_eq!((ended.count("open"), ended.count("closed_drained")), (0, 1));
    }
}

#[test]
fn is_a_request_in_flight_finished() {
    let (serving, mut client, rest) = half_a_request(&["--drain-timeout", "0"]);
    serving.signal(Signal::SIGTERM);
    serving.wait_for("stopping");
    client.send(&rest);
    assert_eq!(client.receive().result(), "In the caves beneath the Misty Mountains. 💍");
    client.expect_end();
    drop(client);
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("messages")), (Some(0), 2));
}

#[test]
fn are_peers_in_the_backlog_still_answered() {
    let serving = Serving::on_loopback(&[]);
    serving.signal(Signal::SIGSTOP);
    let mut client = serving.connect();
    client.send(&search("ring"));
    serving.signal(Signal::SIGTERM);
    serving.signal(Signal::SIGCONT);
    assert_eq!(client.receive().result(), "In the caves beneath the Misty Mountains. 💍");
    client.expect_end();
    drop(client);
    assert_eq!(serving.wait().status, Some(0));
}

#[test]
fn does_a_drain_out_of_time_end_with_status_1() {
    let (serving, mut client, _) = half_a_request(&["--drain-timeout", "50ms"]);
    serving.signal(Signal::SIGTERM);
    client.expect_close();
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("closed_cut_off")), (Some(1), 1));
    assert_eq!(
        ended.stderr.last().unwrap(),
        "myriapod: stopped; connections cut off: 1; \
         --drain-timeout says how long to wait for them"
    );
}

#[test]
fn does_a_second_signal_end_at_once_with_status_1() {
    let (serving, mut client, _) = half_a_request(&["--drain-timeout", "0"]);
    serving.signal(Signal::SIGINT);
    serving.wait_for("stopping");
    serving.signal(Signal::SIGTERM);
    client.expect_close();
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("closed_cut_off")), (Some(1), 1));
}

#[test]
fn does_a_second_signal_count_though_nothing_was_in_flight() {
    let serving = Serving::on_loopback(&["--drain-timeout", "0", "--linger-timeout", "0"]);
    let mut idle = serving.connect();
    idle.ask(&search("ring"));
    serving.signal(Signal::SIGTERM);
    // From here on it waits for us to close.
    idle.expect_end();
    serving.signal(Signal::SIGTERM);
    let ended = serving.wait();
    assert_eq!((ended.status, ended.count("closed_drained")), (Some(1), 1));
    assert_eq!(ended.stderr.last().unwrap(), "myriapod: stopped at once by a second signal");
}
