//! IPv4 and IPv6 on one socket, and a Unix socket beside it: one server, three kinds of address.
//!
//! ```text
//! $ cargo run --example dual_stack
//! listening on [::]:40123
//! listening on unix:/tmp/myriapod-dual-stack-4711
//! ```
//!
//! Python's address tuples have two members for IPv4 and four for IPv6: flow label and scope too.
//!
//! Beside it: nobody. Watch: what an IPv4 client looks like to an IPv6 socket.

use std::process::ExitCode;

use command::Stop;
use myriapod::sys::{self, ListenOptions};
use myriapod::{Client, Handler, HandlerResult, Message, Reply, Server, SocketAddr, View};

#[macro_use]
#[path = "support/command.rs"]
mod command;
#[path = "support/python_repr.rs"]
mod python_repr;

fn main() -> ExitCode {
    command::lesson(serve)
}

/// Tells every client the address that it has for the server.
struct WhoAmI;

impl Handler for WhoAmI {
    type State = SocketAddr;

    fn on_open(&mut self, _view: &mut View<'_>, peer: &SocketAddr) -> SocketAddr {
        println!("server: accepted connection from {}", python_repr::address(peer));
        peer.clone()
    }

    fn on_message(
        &mut self,
        peer: &mut SocketAddr,
        _message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let kind = match peer {
            SocketAddr::V4(_) => "IPv4",
            // ::ffff:127.0.0.1 is how an IPv6 socket shows an IPv4 peer (RFC 4291, 2.5.5.2).
            SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => "IPv4, mapped into IPv6",
            SocketAddr::V6(_) => "IPv6",
            SocketAddr::Unix(_) => "Unix",
        };
        reply.json(kind)?;
        Ok(())
    }
}

fn serve() -> Result<(), Stop> {
    let path = format!("myriapod-dual-stack-{}", sys::pid());
    let unix = format!("unix:{}", std::env::temp_dir().join(path).display());
    // `::` is every address of the machine. Without IPV6_V6ONLY the socket takes IPv4 as well;
    // systems differ in what they do when nobody says, so say it.
    let options = ListenOptions { v6_only: Some(false), ..ListenOptions::default() };
    let build = |host: &str| {
        let builder = Server::builder().listen_options(options.clone());
        builder.listen(host, 0).listen(&unix, 0).build(WhoAmI)
    };
    let mut server = match build("::") {
        Ok(server) => server,
        Err(error) => {
            println!("this machine has no IPv6 ({error}), so IPv4 alone:");
            build("127.0.0.1")?
        }
    };
    for address in server.addresses() {
        println!("listening on {address}");
    }
    let port = server.addresses()[0].port().unwrap_or(0);
    let handle = server.handle();
    let clients = sys::spawn("clients", move || {
        for host in ["127.0.0.1", "::1", &unix] {
            match ask(host, port) {
                Ok(kind) => println!("client: connected to {host}, the server calls it {kind}"),
                Err(error) => println!("client: {error}"),
            }
        }
        handle.shutdown()
    })?;
    server.run()?;
    Ok(clients.join()?)
}

fn ask(host: &str, port: u16) -> Result<String, myriapod::Error> {
    let mut client = Client::connect(host, port)?;
    Ok(client.request_json("who am I?")?.json_as()?)
}
