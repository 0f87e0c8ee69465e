//! Simulated threads: real ones of which only one runs at a time, chosen by the seed.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::faults::FaultKind;
use super::kernel::Kernel;
use super::process::{Process, ProcessId};
use crate::Interest;

/// A thread of a simulated world.
#[derive(Debug)]
pub(super) struct Thread {
    standing: Standing,
    process: ProcessId,
    /// Told when it is its turn.
    turn: Arc<Condvar>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    /// Waits for something, until a moment at the latest.
    Blocked {
        on: Awaited,
        until: Option<u64>,
    },
    Ended,
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// That a poller has something to report.
    Poller(i32),
    /// That a descriptor is ready.
    Descriptor(i32, Interest),
    /// The end of another thread.
    Thread(usize),
    /// That something has come on a channel.
    Channel(u64),
}

impl Thread {
    pub(super) fn ready(process: ProcessId) -> Self {
        Self { standing: Standing::Ready, process, turn: Arc::new(Condvar::new()) }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.standing == Standing::Ended
    }
}

/// A kernel and the baton of its threads.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Kernel>);

impl Shared {
    pub(super) fn new(kernel: Kernel) -> Arc<Self> {
        Arc::new(Self(Mutex::new(kernel)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Kernel> {
        // What a panic left is what the trace of the failure is about.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the baton on, and waits until it comes back.
fn wait_turn(mut kernel: MutexGuard<'_, Kernel>, id: usize) -> MutexGuard<'_, Kernel> {
    kernel.tell_whose_turn();
    let Some(turn) = kernel.threads.get(id).map(|thread| Arc::clone(&thread.turn)) else {
        return kernel;
    };
    while kernel.running != id && kernel.dead.is_none() {
        kernel = turn.wait(kernel).unwrap_or_else(PoisonError::into_inner);
    }
    kernel
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
    let stands_still = kernel.count_call(id);
    let rate = kernel.faults.preempted;
    if kernel.threads.len() > 1 && kernel.rng.chance(rate) || stands_still {
        kernel.set(id, Standing::Ready);
        kernel.next_thread();
        if kernel.running != id {
            kernel.note(FaultKind::Preempted);
            kernel = wait_turn(kernel, id);
        }
    }
    end_if_dead(kernel, id);
    result
}

/// Where the world has ended, or the process, its threads end too; one that is doing so already is let
/// go.
fn end_if_dead(kernel: MutexGuard<'_, Kernel>, id: usize) {
    let killed = || kernel.is_dead(id).then_some("the process was killed");
    let Some(why) = kernel.dead.or_else(killed) else { return };
    if kernel.dead.is_some() {
        kernel.tell_whose_turn();
    }
    drop(kernel);
    if !std::thread::panicking() {
        panic!("{why}");
    }
}

/// A call where there may be no world any more, as when a value is dropped late.
pub(super) fn call_if_there(run: impl FnOnce(&mut Kernel)) {
    let here = HERE.try_with(|here| here.borrow().clone()).ok().flatten();
    if let Some(Here { shared, .. }) = here {
        run(&mut shared.lock());
    }
}

/// A system call that waits until `check` has a result, which it cannot have before `on` has come,
/// and no longer than `until`. Whatever else happens in the world happens meanwhile.
pub(super) fn block<R>(
    on: Awaited,
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
        kernel.set(id, Standing::Blocked { on, until });
        kernel.next_thread();
        kernel = wait_turn(kernel, id);
        kernel.set(id, Standing::Ready);
        if kernel.dead.is_some() || kernel.is_dead(id) {
            if !std::thread::panicking() {
                end_if_dead(kernel, id);
                return None;
            }
            // Also one that ends waits for threads that it has started.
            if kernel.dead.is_some() || !matches!(on, Awaited::Thread(_)) {
                return None;
            }
        }
    }
}

/// Starts a thread that runs `run` when it is its turn.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    is_process: bool,
    run: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<(std::thread::JoinHandle<T>, usize)> {
    let Here { shared, .. } = here();
    let id = {
        let mut kernel = shared.lock();
        let process = if is_process {
            kernel.processes.push(Process::default());
            kernel.processes.len() - 1
        } else {
            kernel.process()
        };
        kernel.threads.push(Thread::ready(process));
        kernel.threads.len() - 1
    };
    let in_thread = Arc::clone(&shared);
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        HERE.with(|here| *here.borrow_mut() = Some(Here { shared: Arc::clone(&in_thread), id }));
        let _end = EndOfThread { shared: Arc::clone(&in_thread), id };
        drop(wait_turn(in_thread.lock(), id));
        run()
    });
    if started.is_err() {
        shared.lock().set(id, Standing::Ended);
    }
    started.map(|handle| (handle, id))
}

/// Waits for the end of a thread.
pub(super) fn wait_for(thread: usize) {
    block(Awaited::Thread(thread), None, |kernel| {
        kernel.threads.get(thread).is_none_or(Thread::has_ended).then_some(())
    });
}

/// Hands the baton on when a thread ends, also by a panic.
struct EndOfThread {
    shared: Arc<Shared>,
    id: usize,
}

impl Drop for EndOfThread {
    fn drop(&mut self) {
        HERE.with(|here| *here.borrow_mut() = None);
        let mut kernel = self.shared.lock();
        kernel.set(self.id, Standing::Ended);
        kernel.next_thread();
        kernel.tell_whose_turn();
    }
}

impl Kernel {
    /// The process of a thread.
    pub(super) fn process_of(&self, thread: usize) -> ProcessId {
        self.threads.get(thread).map_or(0, |thread| thread.process)
    }

    /// Ends the world for all threads that are left. Returns how many there are.
    pub(super) fn end(&mut self, why: &'static str) -> usize {
        let left = self.threads.iter().skip(1).filter(|thread| !thread.has_ended()).count();
        if left > 0 {
            self.dead = Some(why);
            self.tell_whose_turn();
        }
        left
    }

    fn set(&mut self, id: usize, standing: Standing) {
        if let Some(thread) = self.threads.get_mut(id) {
            thread.standing = standing;
        }
    }

    /// Wakes the thread that has the baton, and all where nothing can happen any more.
    fn tell_whose_turn(&self) {
        for (id, thread) in self.threads.iter().enumerate() {
            if id == self.running || self.dead.is_some() {
                thread.turn.notify_one();
            }
        }
    }

    fn has_come(&self, awaited: Awaited) -> bool {
        match awaited {
            Awaited::Poller(number) => self.has_ready(number),
            Awaited::Descriptor(number, interest) => self.is_ready(number, interest),
            Awaited::Thread(id) => self.threads.get(id).is_none_or(Thread::has_ended),
            Awaited::Channel(number) => self.channels.get(&number).copied().unwrap_or(false),
        }
    }

    /// Gives the baton to a thread that can go on, letting time pass until there is one.
    fn next_thread(&mut self) {
        loop {
            let can_go_on = |(id, thread): &(usize, &Thread)| match thread.standing {
                Standing::Ended => false,
                _ if self.stopped_until(*id).is_some() => false,
                Standing::Ready => true,
                // One that was killed ends, but not before those that it waits for.
                Standing::Blocked { on: Awaited::Thread(on), .. } if self.is_dead(*id) => {
                    self.has_come(Awaited::Thread(on))
                }
                Standing::Blocked { on, until } => {
                    self.is_dead(*id)
                        || until.is_some_and(|until| until <= self.now)
                        || self.has_come(on)
                }
            };
            let threads = self.threads.iter().enumerate();
            let ready: Vec<usize> = threads.filter(can_go_on).map(|(id, _)| id).collect();
            if let Some(id) = self.rng.pick(&ready) {
                self.running = *id;
                return;
            }
            let threads = self.threads.iter().enumerate();
            let deadlines = threads.filter_map(|(id, thread)| match thread.standing {
                Standing::Ended => None,
                Standing::Blocked { until, .. } => self.stopped_until(id).or(until),
                Standing::Ready => self.stopped_until(id),
            });
            let Some(next) = deadlines.chain(self.next_happening()).min() else {
                self.dead = Some("all threads wait, and nothing can happen any more");
                return;
            };
            self.pass_until(next);
        }
    }
}
