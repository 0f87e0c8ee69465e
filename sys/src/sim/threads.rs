//! Simulated threads: real ones of which only one runs at a time, chosen by the seed.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::faults::FaultKind;
use super::kernel::Kernel;

/// A thread of a simulated world.
#[derive(Debug)]
pub(super) struct Thread(Standing);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    /// Waits until a moment, or until something changes after so many changes.
    Blocked {
        until: Option<u64>,
        seen: u64,
    },
    Ended,
}

impl Thread {
    pub(super) const fn ready() -> Self {
        Self(Standing::Ready)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0 == Standing::Ended
    }
}

/// A kernel and the baton of its threads.
#[derive(Debug)]
pub(super) struct Shared {
    kernel: Mutex<Kernel>,
    turn: Condvar,
}

impl Shared {
    pub(super) fn new(kernel: Kernel) -> Arc<Self> {
        Arc::new(Self { kernel: Mutex::new(kernel), turn: Condvar::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Kernel> {
        // What a panic left is what the trace of the failure is about.
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the baton.
    fn wait_turn<'a>(
        &'a self,
        mut kernel: MutexGuard<'a, Kernel>,
        id: usize,
    ) -> MutexGuard<'a, Kernel> {
        if kernel.running != id {
            self.turn.notify_all();
        }
        while kernel.running != id && !kernel.dead {
            kernel = self.turn.wait(kernel).unwrap_or_else(PoisonError::into_inner);
        }
        kernel
    }
}

/// Which thread of which world this is.
#[derive(Clone, Debug)]
struct Here {
    shared: Arc<Shared>,
    id: usize,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

fn here() -> Here {
    let here = HERE.with(|here| here.borrow().clone());
    here.unwrap_or_else(|| panic!("this thread is in no simulated world: call World::enter first"))
}

/// Makes this thread the first of a world, or takes it out of its world.
pub(super) fn set_here(shared: Option<Arc<Shared>>) {
    HERE.with(|here| *here.borrow_mut() = shared.map(|shared| Here { shared, id: 0 }));
}

/// A system call that does not wait.
pub(super) fn call<R>(run: impl FnOnce(&mut Kernel) -> R) -> R {
    let Here { shared, id } = here();
    let mut kernel = shared.lock();
    let result = run(&mut kernel);
    let rate = kernel.faults.preempted;
    if kernel.threads.len() > 1 && kernel.rng.chance(rate) {
        kernel.set(id, Standing::Ready);
        kernel.next_thread();
        if kernel.running != id {
            kernel.note(FaultKind::Preempted);
            kernel = shared.wait_turn(kernel, id);
        }
    }
    drop(kernel);
    result
}

/// Looks at the kernel, which is no call.
pub(super) fn peek<R>(look: impl FnOnce(&Kernel) -> R) -> R {
    look(&here().shared.lock())
}

/// The same where there may be no world any more, as when a value is dropped late.
pub(super) fn call_if_there(run: impl FnOnce(&mut Kernel)) {
    let here = HERE.try_with(|here| here.borrow().clone()).ok().flatten();
    if let Some(Here { shared, .. }) = here {
        run(&mut shared.lock());
    }
}

/// A system call that waits until `check` has a result, and no longer than `until`. Whatever else
/// happens in the world happens meanwhile.
pub(super) fn block<R>(
    until: Option<u64>,
    mut check: impl FnMut(&mut Kernel) -> Option<R>,
) -> Option<R> {
    let Here { shared, id } = here();
    let mut kernel = shared.lock();
    loop {
        if let Some(result) = check(&mut kernel) {
            return Some(result);
        }
        if until.is_some_and(|until| until <= kernel.now) {
            return None;
        }
        let seen = kernel.changes;
        kernel.set(id, Standing::Blocked { until, seen });
        kernel.next_thread();
        kernel = shared.wait_turn(kernel, id);
        kernel.set(id, Standing::Ready);
        if kernel.dead {
            shared.turn.notify_all();
            drop(kernel);
            panic!("all threads wait, and nothing can happen any more");
        }
    }
}

/// Starts a thread that runs `run` when it is its turn.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<(std::thread::JoinHandle<T>, usize)> {
    let Here { shared, .. } = here();
    let id = {
        let mut kernel = shared.lock();
        kernel.threads.push(Thread::ready());
        kernel.changes += 1;
        kernel.threads.len() - 1
    };
    let in_thread = Arc::clone(&shared);
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        HERE.with(|here| *here.borrow_mut() = Some(Here { shared: Arc::clone(&in_thread), id }));
        let _end = EndOfThread { shared: Arc::clone(&in_thread), id };
        drop(in_thread.wait_turn(in_thread.lock(), id));
        run()
    });
    if started.is_err() {
        shared.lock().set(id, Standing::Ended);
    }
    started.map(|handle| (handle, id))
}

/// Waits for the end of a thread.
pub(super) fn wait_for(thread: usize) {
    block(None, |kernel| kernel.threads.get(thread).is_none_or(Thread::has_ended).then_some(()));
}

/// Hands the baton on when a thread ends, also by a panic.
struct EndOfThread {
    shared: Arc<Shared>,
    id: usize,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        let mut kernel = self.shared.lock();
        kernel.set(self.id, Standing::Ended);
        kernel.changes += 1;
        kernel.next_thread();
        drop(kernel);
        self.shared.turn.notify_all();
        HERE.with(|here| *here.borrow_mut() = None);
    }
}

impl Kernel {
    fn set(&mut self, id: usize, standing: Standing) {
        if let Some(thread) = self.threads.get_mut(id) {
            thread.0 = standing;
        }
    }

    /// Gives the baton to a thread that can go on, letting time pass until there is one.
    fn next_thread(&mut self) {
        loop {
            let (now, changes) = (self.now, self.changes);
            let can_go_on = |thread: &Thread| match thread.0 {
                Standing::Ready => true,
                Standing::Blocked { until, seen } => {
                    seen != changes || until.is_some_and(|until| until <= now)
                }
                Standing::Ended => false,
            };
            let ready: Vec<usize> = self
                .threads
                .iter()
                .enumerate()
                .filter(|(_, thread)| can_go_on(thread))
                .map(|(id, _)| id)
                .collect();
            if let Some(id) = self.rng.pick(&ready) {
                self.running = *id;
                return;
            }
            let deadlines = self.threads.iter().filter_map(|thread| match thread.0 {
                Standing::Blocked { until, .. } => until,
                _ => None,
            });
            let Some(next) = deadlines.chain(self.next_happening()).min() else {
                self.dead = true;
                return;
            };
            self.pass_until(next);
        }
    }
}
