//! Echo over UDP: what is lost and what is reordered is no longer the kernel's problem, but ours.
//!
//! ```text
//! $ cargo run --example datagram_echo
//! client: sends 1 2 3 4 5 6
//! ```
//!
//! Without arguments, a client, an echo server and a network between them that drops a datagram
//! and swaps two, as networks may. With `HOST PORT`, an echo server for datagrams of your own.
//!
//! Beside it: nobody; with HOST PORT any sender of datagrams. Watch: that the client, not the
//! network, notices the loss.

use std::process::ExitCode;
use std::time::Duration;

use command::{Stop, failed};
use myriapod::sys::{
    self, AsFd, DatagramSocket, Interest, SocketAddr, SystemError, poll::wait_one,
};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

/// For lack of a better sign: what has not come by then is taken for lost.
const PATIENCE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    command::run("[HOST PORT]", |arguments| match arguments {
        [] => lesson(),
        [host, port] => serve(host, command::port(port)?),
        _ => Err(Stop::Usage),
    })
}

/// No connections, so nothing to accept and nobody to keep: one socket serves all clients.
fn serve(host: &str, port: u16) -> Result<(), Stop> {
    let socket = DatagramSocket::bind(&sys::resolve(host, port)?.swap_remove(0))?;
    socket.set_nonblocking(false)?;
    println!("listening on {}", python_repr::address(&socket.local_address()?));
    // No datagram is longer than this.
    let mut buffer = vec![0; 65_535];
    loop {
        let datagram = socket.recv_from(&mut buffer).map_err(failed("recvmsg"))?;
        let (content, from) = (&buffer[..datagram.len], python_repr::address(&datagram.from));
        println!("echoing {} to {from}", python_repr::bytes(content));
        if let Err(errno) = socket.send_to(content, &datagram.from) {
            println!("sendto {from}: {errno}");
        }
    }
}

fn lesson() -> Result<(), Stop> {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let bind = || DatagramSocket::bind(&any_port);
    let (client, network, server) = (bind()?, bind()?, bind()?);
    let (entrance, destination) = (network.local_address()?, server.local_address()?);

    let send = |numbers: &[u8]| -> Result<(), SystemError> {
        println!("client: sends {}", list(numbers));
        numbers.iter().try_for_each(|&number| {
            client.send_to(&[number], &entrance).map_err(failed("sendto")).map(drop)
        })
    };
    send(&[1, 2, 3, 4, 5, 6])?;
    let mut way = receive(&network, 6)?;
    println!("network: drops 3, and 5 overtakes 4; the client is told of neither");
    way.retain(|&(number, _)| number != 3);
    way.swap(2, 3);
    carry(&way, &network, &server, &destination)?;
    let mut got: Vec<u8> = receive(&client, 6)?.into_iter().map(|(number, _)| number).collect();
    println!("client: receives {}", list(&got));

    // What TCP does for a stream, the program does here: number, wait, send again, sort.
    let missing: Vec<u8> = (1..=6).filter(|number| !got.contains(number)).collect();
    println!("client: {} is missing, and may be lost or late", list(&missing));
    send(&missing)?;
    carry(&receive(&network, missing.len())?, &network, &server, &destination)?;
    got.extend(receive(&client, missing.len())?.into_iter().map(|(number, _)| number));
    got.sort_unstable();
    println!("client: has {} in order", list(&got));
    Ok(())
}

/// At most `count` datagrams, and fewer where no more come: numbers, and who sent them.
fn receive(socket: &DatagramSocket, count: usize) -> Result<Vec<(u8, SocketAddr)>, SystemError> {
    let mut received = Vec::new();
    while received.len() < count {
        let ready = wait_one(socket.as_fd(), Interest::READABLE, Some(PATIENCE));
        if ready.map_err(failed("poll"))?.is_none() {
            break;
        }
        let mut number = [0];
        let datagram = socket.recv_from(&mut number).map_err(failed("recvmsg"))?;
        received.push((number[0], datagram.from));
    }
    Ok(received)
}

/// To the server, which echoes each to where it came from, and back to its sender.
fn carry(
    way: &[(u8, SocketAddr)],
    network: &DatagramSocket,
    server: &DatagramSocket,
    destination: &SocketAddr,
) -> Result<(), SystemError> {
    for (number, sender) in way {
        network.send_to(&[*number], destination).map_err(failed("sendto"))?;
        for (echoed, from) in receive(server, 1)? {
            server.send_to(&[echoed], &from).map_err(failed("sendto"))?;
        }
        for (echoed, _) in receive(network, 1)? {
            network.send_to(&[echoed], sender).map_err(failed("sendto"))?;
        }
    }
    Ok(())
}

fn list(numbers: &[u8]) -> String {
    numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(" ")
}
