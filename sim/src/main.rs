//! `cargo sim`: the engine on a simulated kernel.
//!
//! A seed decides everything: how many peers come and how they behave, what the kernel does to them
//! and to the server, and when. After every step an oracle holds what was seen against what must be.

mod clients;
mod cluster;
mod framing;
mod handover;
mod options;
mod oracle;
mod peer;
mod planted;
mod proxies;
mod raw;
mod replies;
mod report;
mod request;
mod run;
mod serve;
mod service;
mod watch;
mod watchdog;

use std::process::ExitCode;

use self::options::Wish;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program of the command line")]
fn main() -> ExitCode {
    // Handlers panic because they are asked to; what a world panics for is in its report.
    std::panic::set_hook(Box::new(|_| {}));
    match options::read(std::env::args().skip(1)) {
        Ok(Wish::Help) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Wish::Run(options)) => {
            watchdog::start();
            report::seeds(&options)
        }
        Ok(Wish::Planted(options, name)) => {
            watchdog::start();
            planted::hunt(&options, name.as_deref())
        }
        Ok(Wish::List) => planted::list(),
        Err(error) => {
            eprintln!("myriapod-sim: {error}\nSee cargo sim --help.");
            ExitCode::from(2)
        }
    }
}
