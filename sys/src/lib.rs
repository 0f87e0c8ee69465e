//! The operating system under myriapod, and nothing else.
//!
//! # The backend contract
//!
//! [`epoll`], [`kqueue`], [`poll`], [`select`] and [`portable`] each hold one
//! type with the same functions; [`Poller`] chooses one of them at run time.
//! There is no trait: this text is the contract, and one test suite
//! (`tests/contract.rs`) runs over every backend.
//!
//! - **`new()`** creates the poller. Its own descriptors are close-on-exec.
//! - **`add(fd, token, interest, mode)`** starts watching `fd`. The token comes
//!   back in every event and means nothing to the backend. A descriptor that is
//!   already watched is `EEXIST`.
//! - **`modify(fd, token, interest, mode)`** replaces token, interest and mode.
//!   A descriptor that is not watched is `ENOENT`.
//! - **`delete(fd)`** stops watching. A descriptor that is not watched is
//!   `ENOENT`.
//! - **`forget(fd)`** must come before a watched descriptor is closed, and cannot
//!   fail. It costs nothing where the kernel forgets by itself (epoll, kqueue);
//!   elsewhere the number's next owner would be watched.
//! - **`wait(events, timeout)`** appends at most `events`' free capacity of
//!   events, at least one descriptor's, and returns how many. `None` waits for
//!   ever, a zero timeout does not block, and any other timeout is rounded *up*
//!   to what the system can express, so that a timer is never early. A signal
//!   (`EINTR`) restarts the wait with the time that is left.
//!
//! What the events say:
//!
//! - **Level-triggered** unless asked otherwise: an event comes back on every
//!   wait for as long as its condition holds.
//! - One event for a descriptor and wait, whatever became ready.
//! - **An empty interest is refused** (`EINVAL`): a descriptor that nobody wants
//!   to hear of leaves the poller with `delete`, so that a hang-up cannot spin.
//! - While any interest is held, **a hang-up or an error is reported**, always
//!   as readable *and* writable, so that whoever acts on either finds out from
//!   `recv` or `send`. [`Event::is_hangup`], [`Event::is_error`] and
//!   [`Event::is_read_closed`] say more where the system does; they are hints.
//! - Modes that a backend cannot honour are refused with
//!   [`Error::Unsupported`], never silently weakened.
//!
//! # Where things are
//!
//! One file for each family of system calls; each wrapper opens with the C
//! signature. All unsafe code of myriapod is in this crate.

mod error;
mod event;

pub use error::{Errno, Error, Result};
pub use event::{Event, Events, Interest, Mode, Token};
