//! Do rooms, their clients and several servers of them do what they promise, over real sockets?

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]
#![expect(clippy::print_stdout, reason = "what cannot be tested here is said")]

mod bench;
#[path = "../../../cluster/tests/brokers/support.rs"]
#[allow(dead_code, reason = "the tests of the cluster need all of it")]
mod broker;
mod chat;
mod crowd;
mod member;
mod nodes;
#[path = "../common/program.rs"]
mod program;
mod service;
#[path = "../serve/support.rs"]
#[allow(dead_code, reason = "the tests of serve need all of it")]
mod support;
