//! The ladder: fourteen servers, from one blocking socket to a chat, one idea more in each.
//!
//! ```text
//! $ cargo run --example steps
//! $ cargo run --example steps -- 7 127.0.0.1 65432
//! $ cargo run -- check 127.0.0.1 0 --run 'target/debug/examples/steps 7 127.0.0.1 {port}'
//! ```
//!
//! Each step is a file of its own, to be read from top to bottom. Steps 1 to 9 use no line of this
//! crate. The guide's page `ladder` says what each step fails at, and which step mends it.

use std::error::Error;
use std::process::ExitCode;

use command::Stop;

#[macro_use]
#[path = "../support/command.rs"]
mod command;

mod step_01_one_client;
mod step_02_one_after_another;
mod step_03_threads;
mod step_04_ask_everybody;
mod step_05_select;
mod step_06_poll;
mod step_07_epoll;
mod step_08_edge;
mod step_09_edge_drained;
mod step_10_selector;
mod step_11_messages;
mod step_12_search;
mod step_13_engine;
mod step_14_chat;

/// How a step is started: with the host and the port.
type Serve = fn(&str, u16) -> Result<(), Box<dyn Error>>;

/// What a step serves, in the words of `check --service`, and what it is about.
const STEPS: [(Serve, &str, &str); 14] = [
    (step_01_one_client::serve, "echo", "one client, and the end"),
    (step_02_one_after_another::serve, "echo", "one client after another"),
    (step_03_threads::serve, "echo", "a thread for each client"),
    (step_04_ask_everybody::serve, "echo", "one thread that asks everybody, always"),
    (step_05_select::serve, "echo", "ask the kernel who is ready: select"),
    (step_06_poll::serve, "echo", "poll, and the bytes that did not fit"),
    (step_07_epoll::serve, "echo", "epoll, level-triggered, in 60 lines"),
    (step_08_edge::serve, "echo", "epoll, edge-triggered, read once: it hangs"),
    (step_09_edge_drained::serve, "echo", "epoll, edge-triggered, read until EAGAIN"),
    (step_10_selector::serve, "echo", "Selector: a queue with an end, and EMFILE"),
    (step_11_messages::serve, "padded", "messages: a decoder beside each socket"),
    (step_12_search::serve, "search", "a search server by hand, with deadlines"),
    (step_13_engine::serve, "search", "the same on the engine"),
    (step_14_chat::serve, "search", "clients that hear each other"),
];

fn main() -> ExitCode {
    command::run("[STEP HOST PORT]", |arguments| match arguments {
        [] => {
            for (number, (_, service, about)) in (1..).zip(STEPS) {
                println!("{number:>4}  {service:<8}{about}");
            }
            Ok(())
        }
        [step, host, port] => {
            let number = command::number::<usize>(step, "step")?;
            let step = number.checked_sub(1).and_then(|index| STEPS.get(index));
            let Some((serve, ..)) = step else {
                return Err(Stop::Argument(format!("step {number}: there are 1 to 14")));
            };
            let port = command::port(port)?;
            serve(host, port).map_err(|error| Stop::Failed(error.to_string()))
        }
        _ => Err(Stop::Usage),
    })
}
