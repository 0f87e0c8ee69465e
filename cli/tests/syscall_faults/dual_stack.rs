//! A server whose listener takes IPv4 on a socket of IPv6. `serve` leaves that to the system, so
//! this is a program of its own.

use std::net::TcpListener;

use myriapod::sys::{ListenOptions, Signal};
use myriapod::{Error, Server};

/// What starts it.
pub(crate) fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let test = concat!(module_path!(), "::server").split_once("::").unwrap().1;
    let arguments = ["--exact", test, "--ignored", "--nocapture"].map(str::to_owned);
    std::iter::once(program).chain(arguments).collect()
}

pub(crate) fn is_possible() -> bool {
    TcpListener::bind(("::1", 0)).is_ok()
}

#[test]
#[ignore = "it is the server of a scenario, which starts it"]
fn server() {
    if let Err(error) = serve() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn serve() -> Result<(), Error> {
    let options = ListenOptions { v6_only: Some(false), ..ListenOptions::default() };
    let mut server = Server::builder()
        .listen_options(options)
        .listen("::", 0)
        .signals(&[Signal::Terminate])
        .answer(|message, reply| Ok(reply.echo(&message)?))?;
    println!("\nlistening on ('::', {})", server.addresses()[0].port().unwrap_or(0));
    server.run()?;
    eprintln!("{}", server.stats());
    Ok(())
}
