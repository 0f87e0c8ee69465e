//! The `myriapod` command.

mod bench;
mod columns;
mod config_file;
mod decode;
mod decode_limits;
mod errors;
mod http;
mod identify;
mod limits;
mod live;
mod message_line;
mod metrics;
mod paper;
mod ping;
mod reload;
mod replacement;
mod resolve;
mod send;
mod serve;
mod service_manager;
mod services;
mod sockets;
mod tls;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use myriapod_check as check;
use myriapod_command::{failure, interrupt, json, json_log, log_writer, terminal, units};
use myriapod_doctor as doctor;
use myriapod_rooms::chat;

use self::log_writer::LOG;
use self::terminal::tell_failure;

/// What a newcomer types first.
const EXAMPLES: &str = "\
Examples:
  myriapod serve                                 listen on 127.0.0.1 65432
  myriapod send 127.0.0.1 65432 search morpheus  ask it something
  myriapod serve '' 0 --service echo -v          all interfaces, any free port
  myriapod decode capture.bin                    one line of JSON per message
  myriapod identify capture.bin                  how its messages are framed
  myriapod errors EADDRINUSE                     what an error means, and what to do
  myriapod resolve localhost                     the addresses of a name, in order
  myriapod sockets --port 65432                  who is connected, and what waits
  myriapod ping 127.0.0.1 65432 --message        how long connecting and answering take
  myriapod check 127.0.0.1 65432                 does a server of your own hold?
  myriapod doctor                                how many connections this machine holds
  myriapod man | man -l -                        the manual page

Exit status: 0 success, 1 failure, 2 wrong usage.";

/// Serve, send and decode JSON-header messages; find out what is wrong with a connection.
#[derive(Debug, Parser)]
#[command(name = "myriapod", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Send(send::Args),
    Chat(chat::Args),
    Decode(decode::Args),
    Identify(identify::Args),
    Errors(errors::Args),
    Resolve(resolve::Args),
    Ping(ping::Args),
    Doctor(doctor::Args),
    Sockets(sockets::Args),
    Bench(Box<bench::Args>),
    Check(Box<check::Args>),
    Man(paper::ManArgs),
    Completions(paper::CompletionsArgs),
    /// A process of bench's own
    #[command(name = bench::WORKER, hide = true)]
    BenchWorker,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(args) => serve::run(args.config.as_deref()),
        Command::Send(args) => send::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Decode(args) => decode::run(&args),
        Command::Identify(args) => identify::run(&args),
        Command::Errors(args) => errors::run(&args),
        Command::Resolve(args) => resolve::run(&args),
        Command::Ping(args) => ping::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Sockets(args) => sockets::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Man(args) => paper::man(&args, Cli::command()),
        Command::Completions(args) => paper::completions(&args, Cli::command()),
        Command::BenchWorker => bench::work(),
    };
    let code = done.unwrap_or_else(|failure| {
        if !failure.message.is_empty() {
            tell_failure(&failure);
        }
        ExitCode::from(failure.code)
    });
    LOG.end();
    code
}
