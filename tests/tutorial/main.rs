//! Do the examples do what the tutorial's programs do? As real processes, over real sockets: the
//! printed lines are those of its text, and the text's programs, written in Python, can stand on
//! either side.

#![cfg(feature = "json")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by them")]
#![allow(clippy::print_stdout, reason = "what cannot be tested here is said")]

#[path = "../common/programs.rs"]
mod programs;

mod backpressure;
mod lessons;
mod many_clients;
mod misbehaviour;
mod pairs;
mod proxy;
mod seen;
mod usage;
