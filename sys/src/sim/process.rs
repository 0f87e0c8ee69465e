//! Processes of a simulated system: each has its own descriptors and threads, and may stand still or be
//! killed between any two of its calls.

use std::time::Duration;

use super::kernel::Kernel;
use super::threads::call;

/// The number of a process; the maker of the world is in the first.
pub(super) type ProcessId = usize;

/// What becomes of a process after some of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ends at once, and whatever it had open is closed (`SIGKILL`). Its threads panic in their next
    /// call.
    Killed,
    /// It stands still for a while (`SIGSTOP`, then `SIGCONT`).
    Stopped(Duration),
}

/// A process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// What becomes of it, after so many more calls.
    fate: Option<(u64, Fate)>,
    /// It stands still until then.
    pub(super) stopped_until: Option<u64>,
    pub(super) is_dead: bool,
}

impl Kernel {
    /// The process whose thread makes the call.
    pub(super) fn process(&self) -> ProcessId {
        self.process_of(self.running)
    }

    fn of_thread(&self, thread: usize) -> Option<&Process> {
        self.processes.get(self.process_of(thread))
    }

    pub(super) fn is_dead(&self, thread: usize) -> bool {
        self.of_thread(thread).is_some_and(|process| process.is_dead)
    }

    /// Until when a thread's process stands still.
    pub(super) fn stopped_until(&self, thread: usize) -> Option<u64> {
        let until = self.of_thread(thread)?.stopped_until?;
        (until > self.now).then_some(until)
    }

    /// Decides what becomes of a process after so many more of its calls.
    pub(super) fn doom(&mut self, process: ProcessId, calls: u64, fate: Fate) {
        if let Some(process) = self.processes.get_mut(process) {
            process.fate = Some((calls.max(1), fate));
        }
    }

    /// Takes that back.
    pub(super) fn reprieve(&mut self, process: ProcessId) {
        if let Some(process) = self.processes.get_mut(process) {
            process.fate = None;
        }
    }

    /// A process has made a call. Returns whether it stands still now.
    pub(super) fn count_call(&mut self, thread: usize) -> bool {
        let id = self.process_of(thread);
        let now = self.now;
        let Some(process) = self.processes.get_mut(id) else { return false };
        let Some((left, fate)) = &mut process.fate else { return false };
        *left -= 1;
        if *left > 0 || process.is_dead {
            return false;
        }
        let fate = *fate;
        process.fate = None;
        match fate {
            Fate::Killed => {
                process.is_dead = true;
                self.close_all(id);
                false
            }
            Fate::Stopped(time) => {
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                process.stopped_until = Some(now.saturating_add(nanos));
                true
            }
        }
    }
}

/// The number of this process.
#[must_use]
pub fn pid() -> u32 {
    call(|kernel| u32::try_from(kernel.process() + 1).unwrap_or(u32::MAX))
}
