//! Rooms whose members hear what is said in them: what `myriapod serve --service rooms` serves, and
//! [`chat`], a client for people.
//!
//! A client asks to join, leave, say, tell, and for members and history. What happens in
//! a room comes to its members as pushes, JSON objects with `event`. `Hall` holds the rooms of a
//! server and decides; it knows no socket. [`Rooms`] is the handler around it.
#![forbid(unsafe_code)]

mod afar;
mod args;
mod broker_tls;
mod bucket;
pub mod chat;
mod hall;
mod report;
mod request;
mod room;
mod service;

#[cfg(test)]
mod tests;

pub use self::args::RoomArgs;
pub use self::report::{RoomService, Summary};
pub use self::service::Rooms;
