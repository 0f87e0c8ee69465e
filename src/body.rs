//! Contents that are not held in memory: [`Body`] goes out, [`Incoming`] comes in, [`Places`] counts
//! how many of both there are.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use myriapod_sys::{self as sys, AsFd, BorrowedFd, Descriptor};

use crate::sync::atomic::{
    AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};

/// Bytes that are asked of a source at once.
pub(crate) const PIECE: usize = 64 << 10;

/// The content of a reply that is read when the socket has room.
pub(crate) struct Body {
    from: From,
    /// Bytes that it has yet to give.
    left: u64,
    _place: Place,
}

enum From {
    /// A file, from this place on, which the system may send by itself.
    File {
        file: Descriptor,
        offset: u64,
        is_sent: bool,
    },
    Source(Box<dyn Read + Send>),
}

/// What became of asking a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// There are bytes.
    Bytes,
    /// There are none for now.
    Waits,
    /// There will be none, though more were announced; or it panicked.
    Broken { has_panicked: bool },
}

impl Body {
    pub(crate) fn of_file(file: Descriptor, offset: u64, len: u64, place: Place) -> Self {
        Self { from: From::File { file, offset, is_sent: true }, left: len, _place: place }
    }

    pub(crate) fn of_source(source: Box<dyn Read + Send>, len: u64, place: Place) -> Self {
        Self { from: From::Source(source), left: len, _place: place }
    }

    /// Bytes that it has yet to give.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// The file that the system may send by itself, from which place on, and how much of it at most.
    pub(crate) fn file(&self) -> Option<(BorrowedFd<'_>, u64, u64)> {
        match &self.from {
            From::File { file, offset, is_sent: true } => Some((file.as_fd(), *offset, self.left)),
            From::File { .. } | From::Source(_) => None,
        }
    }

    /// The system does not send this file by itself: it is read from now on.
    pub(crate) fn read_only(&mut self) {
        if let From::File { is_sent, .. } = &mut self.from {
            *is_sent = false;
        }
    }

    /// So many bytes of a file were sent.
    pub(crate) fn advance(&mut self, sent: u64) {
        self.left = self.left.saturating_sub(sent);
        if let From::File { offset, .. } = &mut self.from {
            *offset = offset.saturating_add(sent);
        }
    }

    /// How much of it one piece holds.
    pub(crate) fn next_len(&self) -> usize {
        usize::try_from(self.left).map_or(PIECE, |left| left.min(PIECE))
    }

    /// Appends the next piece, within the capacity of `out`.
    pub(crate) fn fill(&mut self, out: &mut Vec<u8>) -> Filled {
        let (before, most) = (out.len(), self.next_len().min(out.capacity() - out.len()));
        match &mut self.from {
            From::File { file, offset, .. } => {
                match sys::read_at(file.as_fd(), *offset, most, out) {
                    Ok(read) if read > 0 => {}
                    _ => return Filled::Broken { has_panicked: false },
                }
            }
            From::Source(source) => {
                let read = catch_unwind(AssertUnwindSafe(|| read_into(&mut **source, out, most)));
                match read {
                    Ok(Filled::Bytes) => {}
                    Ok(other) => return other,
                    Err(_panic) => {
                        out.truncate(before);
                        return Filled::Broken { has_panicked: true };
                    }
                }
            }
        }
        self.advance((out.len() - before) as u64);
        Filled::Bytes
    }
}

fn read_into(source: &mut dyn Read, out: &mut Vec<u8>, most: usize) -> Filled {
    let before = out.len();
    out.resize(before + most, 0);
    let read = loop {
        let room = out.get_mut(before..).unwrap_or_default();
        match source.read(room) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A source that claims more than it was given room for is not to be trusted.
            Ok(read) if read > most => break Ok(0),
            other => break other,
        }
    };
    out.truncate(before + *read.as_ref().unwrap_or(&0));
    match read {
        Ok(0) => Filled::Broken { has_panicked: false },
        Ok(_) => Filled::Bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Filled::Waits,
        Err(_) => Filled::Broken { has_panicked: false },
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A content that is received and not held.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// Bytes that have yet to come, and that have come.
    pub(crate) left: u64,
    pub(crate) came: u64,
    /// Its place among the streams; without one, nobody wants it, and it is dropped.
    pub(crate) place: Option<Place>,
    /// What replies to it carry, as JSON text.
    pub(crate) id: Box<[u8]>,
}

impl Incoming {
    pub(crate) fn new(len: u64, place: Option<Place>, id: Box<[u8]>) -> Self {
        Self { left: len, came: 0, place, id }
    }

    /// Whether nobody wants it.
    pub(crate) fn is_dropped(&self) -> bool {
        self.place.is_none()
    }

    /// The next of it has come, as much of `bytes` as is its own.
    pub(crate) fn take<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let len = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.left -= len as u64;
        self.came += len as u64;
        bytes.get(..len).unwrap_or_default()
    }
}

/// How many contents a loop streams at once, in both directions.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    pub(crate) most: usize,
}

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::new(AtomicUsize::new(0)), most }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    /// Takes one, if there is one left.
    pub(crate) fn take(&self) -> Option<Place> {
        if self.taken() >= self.most {
            return None;
        }
        self.taken.fetch_add(1, AcqRel);
        Some(Place(Arc::clone(&self.taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(source: impl Read + Send + 'static, len: u64) -> Body {
        Body::of_source(Box::new(source), len, Places::new(1).take().unwrap())
    }

    struct Dull(Option<ErrorKind>);

    impl Read for Dull {
        fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
            match self.0.take() {
                Some(ErrorKind::Other) => panic!("a bug"),
                Some(kind) => Err(kind.into()),
                None => Ok(room.len() + 1),
            }
        }
    }

    #[test]
    fn does_a_source_give_no_more_than_was_announced() {
        let mut body = body(&[7_u8; 100][..], 60);
        let mut out = Vec::with_capacity(40);
        assert_eq!(body.fill(&mut out), Filled::Bytes);
        assert_eq!((out.len(), body.left()), (40, 20));
        out.clear();
        assert_eq!(body.fill(&mut out), Filled::Bytes);
        assert_eq!((out.len(), body.left()), (20, 0));
    }

    #[test]
    fn is_a_source_that_ends_fails_or_panics_broken() {
        let broken = Filled::Broken { has_panicked: false };
        for (kind, expected) in [
            (Some(ErrorKind::WouldBlock), Filled::Waits),
            (Some(ErrorKind::InvalidData), broken),
            (Some(ErrorKind::Other), Filled::Broken { has_panicked: true }),
            // It claims more than there was room for.
            (None, broken),
        ] {
            let mut out = Vec::with_capacity(10);
            assert_eq!(body(Dull(kind), 5).fill(&mut out), expected, "{kind:?}");
            assert!(out.is_empty());
        }
        assert_eq!(body(&[][..], 5).fill(&mut Vec::with_capacity(10)), broken);
    }

    #[test]
    fn is_a_place_given_back_by_whatever_had_it() {
        let places = Places::new(1);
        let incoming = Incoming::new(5, places.take(), Box::default());
        assert!(places.take().is_none());
        drop(incoming);
        assert!(places.take().is_some());
        assert_eq!(places.taken(), 0);
    }
}
