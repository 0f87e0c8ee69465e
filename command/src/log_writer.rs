//! [`LogWriter`]: lines for standard error that keep nobody waiting.
//!
//! A pipe that is full and not read blocks each write to it. An event loop that waited there would
//! serve nobody. So lines go into a queue with bounds, and a thread takes them out and writes them.
//! What does not fit is counted, and told when there is room again.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use myriapod::sys::poll::wait_one;
use myriapod::sys::{self, AsFd, Interest};

use crate::json_log;
use crate::patient::Patient;

/// Lines that may wait, and their bytes.
const MAX_LINES: usize = 1 << 14;
const MAX_BYTES: usize = 1 << 20;

/// How long the end waits for the lines that are left.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The lines of this process.
pub static LOG: LogWriter = LogWriter::new();

/// A queue of lines and the thread that empties it.
#[derive(Debug)]
pub struct LogWriter {
    /// Whether lines go here; see [`LogWriter::begin`].
    is_on: AtomicBool,
    queue: Mutex<Queue>,
    /// A line came, or the last was written.
    changed: Condvar,
}

#[derive(Debug)]
struct Queue {
    entries: VecDeque<Entry>,
    /// Bytes of the lines in it.
    bytes: usize,
    /// Lines that were lost since that was last told.
    dropped: u64,
    writer: Writer,
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// With its line feed.
    Line(String),
    /// So many lines would have been here.
    Dropped(u64),
}

/// The thread that writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writer {
    /// There is none: it is made for the first line, because the C library's calls cost more in a
    /// process that has ever had two threads.
    Missing,
    /// It waits for a line.
    Idle,
    /// It writes, or is about to look for a line.
    Busy,
}

impl Queue {
    const fn new() -> Self {
        Self { entries: VecDeque::new(), bytes: 0, dropped: 0, writer: Writer::Missing }
    }

    /// Takes a line in, or counts it as dropped.
    fn push(&mut self, line: String) {
        let entries = 1 + usize::from(self.dropped > 0);
        if self.entries.len() + entries > MAX_LINES || self.bytes + line.len() > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        self.tell_dropped();
        self.bytes += line.len();
        self.entries.push_back(Entry::Line(line));
    }

    fn tell_dropped(&mut self) {
        if self.dropped > 0 {
            self.entries.push_back(Entry::Dropped(std::mem::take(&mut self.dropped)));
        }
    }

    /// What is to be written next.
    fn pop(&mut self) -> Option<Entry> {
        if self.entries.is_empty() {
            self.tell_dropped();
        }
        let entry = self.entries.pop_front();
        if let Some(Entry::Line(line)) = &entry {
            self.bytes -= line.len();
        }
        entry
    }
}

impl Entry {
    /// Writes it; returns how many lines were lost with it.
    fn write(&self) -> u64 {
        let (written, lines) = match self {
            Self::Line(line) => (write(line), 1),
            Self::Dropped(lines) if json_log::is_on() => {
                (write(&json_log::Line::new("dropped").with("lines", lines).end()), *lines)
            }
            Self::Dropped(lines) => (write(&format!("dropped {lines} log lines\n")), *lines),
        };
        if written.is_ok() { 0 } else { lines }
    }
}

/// Writes a line as writev(2) does: in a trace, that tells it from the writes of the loops.
fn write(line: &str) -> io::Result<()> {
    let mut out = Patient(io::stderr());
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        match out.write_vectored(&[IoSlice::new(rest)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl LogWriter {
    const fn new() -> Self {
        Self {
            is_on: AtomicBool::new(false),
            queue: Mutex::new(Queue::new()),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, lines are queued.
    pub fn begin(&self) {
        self.is_on.store(true, Relaxed);
    }

    /// Whether lines are queued.
    pub fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Queues a line, which ends with a line feed.
    pub fn say(&'static self, line: String) {
        let mut queue = self.lock();
        queue.push(line);
        let before = std::mem::replace(&mut queue.writer, Writer::Busy);
        drop(queue);
        match before {
            Writer::Missing => {
                if sys::spawn("log", || self.write_all()).is_err() {
                    // Tried again for the next line, and the end writes what is left.
                    self.lock().writer = Writer::Missing;
                }
            }
            Writer::Idle => self.changed.notify_all(),
            Writer::Busy => {}
        }
    }

    /// What the thread does, until the process ends.
    fn write_all(&self) {
        let mut has_failed = false;
        let mut queue = self.lock();
        loop {
            // Where nothing can be written, what was lost is told with the next line.
            let may_go_on = !has_failed || !queue.entries.is_empty();
            if let Some(entry) = may_go_on.then(|| queue.pop()).flatten() {
                drop(queue);
                let lost = entry.write();
                has_failed = lost > 0;
                queue = self.lock();
                queue.dropped += lost;
                continue;
            }
            queue.writer = Writer::Idle;
            self.changed.notify_all();
            while queue.writer == Writer::Idle {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Waits until all lines are written, but not much longer than a second.
    pub fn end(&self) {
        let until = sys::now() + LAST_WAIT;
        let mut queue = self.lock();
        while queue.writer == Writer::Busy {
            let left = until.saturating_since(sys::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.writer == Writer::Idle {
            return;
        }
        // A thread could not be made.
        while let Some(entry) = queue.pop() {
            let left = until.saturating_since(sys::now());
            let room = wait_one(io::stderr().as_fd(), Interest::WRITABLE, Some(left));
            if !matches!(room, Ok(Some(_))) || entry.write() > 0 {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_does_not_fit_counted_and_told_in_its_place() {
        let mut queue = Queue::new();
        for number in 0..MAX_LINES + 5 {
            queue.push(format!("{number}\n"));
        }
        assert_eq!((queue.entries.len(), queue.dropped), (MAX_LINES, 5));
        // Room for one line is not enough: what was dropped has a line too.
        assert_eq!(queue.pop(), Some(Entry::Line("0\n".to_owned())));
        queue.push("lost\n".to_owned());
        assert_eq!(queue.dropped, 6);
        assert_eq!(queue.pop(), Some(Entry::Line("1\n".to_owned())));
        queue.push("kept\n".to_owned());
        let entries: Vec<Entry> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(entries.len(), MAX_LINES);
        let last = [Entry::Dropped(6), Entry::Line("kept\n".to_owned())];
        assert_eq!(entries[MAX_LINES - 2..], last);
        assert_eq!((queue.bytes, queue.dropped), (0, 0));
    }

    #[test]
    fn are_the_bytes_bounded_too() {
        let mut queue = Queue::new();
        let line = format!("{}\n", "x".repeat(MAX_BYTES / 2));
        queue.push(line.clone());
        queue.push(line);
        assert_eq!((queue.entries.len(), queue.dropped), (1, 1));
        assert!(queue.pop().is_some());
        assert_eq!((queue.pop(), queue.pop()), (Some(Entry::Dropped(1)), None));
    }
}
