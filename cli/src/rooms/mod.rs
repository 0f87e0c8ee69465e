//! `serve --service rooms`: rooms whose members hear what is said in them.
//!
//! A client [asks](request) to join, leave, say, tell, and for members and history. What happens in
//! a room comes to its members as pushes, JSON objects with `event`. [`Hall`] holds the rooms of a
//! server and decides; it knows no socket. [`Rooms`] is the handler around it.

mod afar;
mod args;
mod bucket;
mod hall;
mod report;
mod request;
mod room;
mod service;

#[cfg(test)]
mod tests;

pub(crate) use self::args::{ROOMS, RoomArgs};
pub(crate) use self::report::{RoomService, Summary};
