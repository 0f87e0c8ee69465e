//! Do rooms, their clients and several servers of them do what they promise, over real sockets?

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by them")]

mod chat;
mod member;
mod service;
#[path = "../serve/support.rs"]
#[allow(dead_code, reason = "the tests of serve need all of it")]
mod support;
