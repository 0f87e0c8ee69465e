//! `myriapod check`: a socket server of somebody's own, checked rung by rung.
//!
//! The rooms: `args` (the command line), `lessons` (the rungs, and what there is to learn), `ladder`
//! (their order, twice before it fails), `ground` (what a rung stands on), the rungs themselves
//! (`basics`, `messages`, `errors`, `flow`, `load`), what they use (`peer`, `service`, `server`,
//! `evidence`, `trace`, `words`), and `report`.

mod args;
mod basics;
mod errors;
mod evidence;
mod flow;
mod ground;
mod ladder;
mod lessons;
mod load;
mod messages;
mod peer;
mod report;
mod server;
mod service;
mod trace;
mod words;

use std::process::ExitCode;

use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd as _, Interest, Signal, Signals};

pub use self::args::Args;
use self::evidence::is_listening;
use self::ground::Settings;
use self::ladder::Ladder;
use self::report::Report;
use self::server::Server;
use myriapod_command::failure::{FAILED, Failure};
use myriapod_command::{failure, json, sockets, terminal, units};

/// What a shell says of a command that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Checks the server, rung by rung, and prints what there is to learn.
///
/// # Errors
///
/// Arguments that cannot work, a server that is not there, and standard output that is full.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.list {
        report::list()?;
        return Ok(ExitCode::SUCCESS);
    }
    let run = args.run()?;
    let rungs = args.rungs()?;
    let settings = Settings {
        service: args.service,
        one_shot: args.one_shot,
        patience: args.patience()?,
        buffer: args.buffer.0 as u64,
        limit: args.limit.0,
    };
    let address = sys::resolve(args.host(), args.port())?
        .into_iter()
        .next()
        .ok_or_else(|| Failure::new(format_args!("{}: no address", args.host())))?;
    let children = sys::descriptor_limit()?.soft;
    sys::raise_descriptor_limit()?;
    if args.runs_a_child() {
        if !cfg!(target_os = "linux") {
            return Err(Failure::new("--run: only on Linux, whose /proc says who listens"));
        }
        end_child_with_us()?;
    } else if address.is_loopback() && cfg!(target_os = "linux") && !is_listening(&address) {
        // To look first, and not to connect: a server may serve one client and end.
        return Err(Failure::new(format_args!("nobody listens on {address}"))
            .with_next_step("start your server first, or let --run do it"));
    }
    let begun = sys::now();
    let mut report = Report::new(args, run);
    let server = Server::new(address, run.map(str::to_owned), children);
    Ladder::new(args, settings, server).climb(&rungs, &mut report)?;
    let all_well = report.end(sys::now().saturating_since(begun))?;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Ctrl-C and SIGTERM end the server that we started, too.
fn end_child_with_us() -> Result<(), Failure> {
    let mut signals = Signals::install(&[Signal::Interrupt, Signal::Terminate])?;
    std::thread::spawn(move || {
        loop {
            if wait_one(signals.as_fd(), Interest::READABLE, None).is_err() {
                return;
            }
            if signals.take().is_some() {
                server::end_child();
                std::process::exit(INTERRUPTED);
            }
        }
    });
    Ok(())
}
