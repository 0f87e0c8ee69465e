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
//!
//! Beside it: `myriapod check`, nc, or `echo_client` for steps 1 to 10. Watch: what `check` says of a
//! step before you read it.

use std::error::Error;
use std::process::ExitCode;

use command::Stop;

#[macro_use]
#[path = "support/command.rs"]
mod command;

#[path = "steps/step_01_one_client.rs"]
mod step_01_one_client;
#[path = "steps/step_02_one_after_another.rs"]
mod step_02_one_after_another;
#[path = "steps/step_03_threads.rs"]
mod step_03_threads;
#[path = "steps/step_04_ask_everybody.rs"]
mod step_04_ask_everybody;
#[path = "steps/step_05_select.rs"]
mod step_05_select;
#[path = "steps/step_06_poll.rs"]
mod step_06_poll;
#[path = "steps/step_07_epoll.rs"]
mod step_07_epoll;
#[path = "steps/step_08_edge.rs"]
mod step_08_edge;
#[path = "steps/step_09_edge_drained.rs"]
mod step_09_edge_drained;
#[path = "steps/step_10_selector.rs"]
mod step_10_selector;
#[path = "steps/step_11_messages.rs"]
mod step_11_messages;
#[path = "steps/step_12_search.rs"]
mod step_12_search;
#[path = "steps/step_13_engine.rs"]
mod step_13_engine;
#[path = "steps/step_14_chat.rs"]
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
