//! One world: servers that replace each other while their guests are in the midst of messages. Each is a
//! process of its own, and may be killed or stand still after any of its calls.

mod service;

use std::time::Duration;

use myriapod::sys::sim::{Fate, Faults};
use myriapod::sys::{self, JoinHandle};
use myriapod::{
    Cause, Error, HandleError, Handover, Limits, Outgoing, Overflow, Server, SocketAddr,
};

use self::service::{GROUP, Service, Shared, is_member};
use crate::framing::FramingKind;
use crate::peer::{End, Habits, Peer};
use crate::replies::{To, push_content};
use crate::run::Life;
use crate::serve::meddle::ask_to_stop;
use crate::service::FIRST_PORT;

/// Where successors knock.
const PATH: &str = "/run/sim/handover";

/// Rounds of 20 ms within which everything ends once nothing goes wrong any more.
const MOST_ROUNDS: u32 = 3000;

/// A successor waits longer than that for nobody.
const PATIENCE: Duration = Duration::from_millis(500);

fn server_at() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 65432))
}

fn address_of(guest: u32) -> SocketAddr {
    let port = FIRST_PORT + u16::try_from(guest).unwrap_or_default();
    SocketAddr::from(([10, 0, 1, 1], port))
}

/// What all servers of a world are made with.
#[derive(Clone)]
struct Plan {
    framing: FramingKind,
    limits: Limits,
    book: Shared,
}

impl Plan {
    /// The life of one process. Returns whether it served.
    fn live(&self, threads: usize) -> Result<bool, String> {
        let process = sys::pid();
        let (framing, limits) = (self.framing, self.limits.clone());
        let (book, log) = (self.book.clone(), self.book.clone());
        let built = Server::builder()
            .listen("10.0.0.1", server_at().port().unwrap_or_default())
            .limits(limits.clone())
            .threads(threads)
            .handover(Handover::at(PATH).timeout(PATIENCE))
            .log_each(move |event| log.note(process, event))
            .log_messages(false)
            .build_each_with(move || framing.framing(&limits), move || Service::new(book.clone()));
        let mut servers = match built {
            Ok(servers) => servers,
            // Nothing came of it.
            Err(Error::Handover { .. } | Error::System(_)) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        let handle = servers.handle();
        self.book.open().serving.insert(process, handle);
        let ran = servers.run();
        self.book.open().serving.remove(&process);
        let stats = servers.stats().sum();
        ran.map_err(|error| error.to_string())?;
        if stats.open != 0 || (stats.pool_bytes, stats.pool_buffers) != (0, 0) {
            return Err(format!("process {process} leaves something behind: {stats}"));
        }
        Ok(true)
    }
}

/// A process that was started.
struct Process {
    number: usize,
    thread: Option<JoinHandle<Result<bool, String>>>,
}

impl Process {
    /// What it is called by others.
    fn pid(&self) -> u32 {
        u32::try_from(self.number + 1).unwrap_or(u32::MAX)
    }
}

struct Scene<'a> {
    life: &'a mut Life,
    plan: Plan,
    habits: Habits,
    guests: Vec<Peer>,
    processes: Vec<Process>,
    next_push: u64,
    is_calm: bool,
    /// Whether a process was to be killed or to stand still.
    is_troubled: bool,
    /// Whether peers may be turned away because no descriptor is free.
    turns_away: bool,
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let framing = if rng.chance(300) { FramingKind::Padded } else { FramingKind::JsonHeader };
    // No deadline ends a connection: whatever is missing was lost.
    let off = Duration::ZERO;
    let limits = Limits {
        max_header_len: 1000,
        max_content_len: 20_000,
        high_water: rng.len(100, 6000),
        low_water: 50,
        overflow: Overflow::DropNewest,
        arrival_timeout: off,
        header_timeout: off,
        content_timeout: off,
        min_content_rate: 0,
        min_read_rate: 0,
        idle_timeout: off,
        write_timeout: off,
        drain_timeout: off,
        ..Limits::default()
    };
    let habits = Habits {
        framing,
        most_requests: *rng.pick(&[3, 12, 40]).unwrap_or(&12),
        longest_answer: *rng.pick(&[10, 500, 5000]).unwrap_or(&10),
        max_header_len: limits.max_header_len,
        max_content_len: limits.max_content_len,
        longest_padding: *rng.pick(&[0, 100, 2500]).unwrap_or(&0),
        later: *rng.pick(&[0, 100, 300]).unwrap_or(&0),
        trouble: 0,
    };
    let mut faults = Faults::random(&mut rng);
    // These end servers and connections, as they should.
    (faults.unwatched, faults.threadless, faults.aborted) = (0, 0, 0);
    let turns_away = faults.exhausted > 0;
    life.world.set_faults(faults);
    life.rng = rng;
    let mut scene = Scene {
        life,
        plan: Plan { framing, limits, book: Shared::default() },
        habits,
        guests: Vec::new(),
        processes: Vec::new(),
        next_push: 0,
        is_calm: false,
        is_troubled: false,
        turns_away,
    };
    scene.play()
}

impl Scene<'_> {
    fn play(&mut self) -> Result<(), String> {
        let steps = *self.life.rng.pick(&[100, 300, 800]).unwrap_or(&300);
        let most_guests = self.life.rng.len(1, 16);
        let most_guests = self.life.cut.peers_of(most_guests);
        let most_processes = self.life.rng.len(2, 6);
        self.succeed()?;
        for _ in 0..500 {
            if self.serving().is_some() {
                break;
            }
            self.pause(Duration::from_millis(20));
        }
        for _ in 0..steps {
            self.life.step += 1;
            match self.life.rng.below(100) {
                0..=54 => {
                    let at = self.life.rng.index(self.guests.len());
                    if let Some(guest) = self.guests.get_mut(at) {
                        guest.act(&mut self.life.rng)?;
                    }
                }
                55..=74 => {
                    let time = self.life.rng.between(1, 3000);
                    self.pause(Duration::from_micros(time));
                }
                75..=76 => {
                    let time = self.life.rng.between(1, 300);
                    self.pause(Duration::from_millis(time));
                }
                77..=82 if self.guests.len() < most_guests => self.come(),
                83..=88 => self.keep_promise(),
                89..=92 => self.push(),
                93..=96 if self.processes.len() < most_processes => self.succeed()?,
                _ => {}
            }
            self.check()?;
        }
        self.calm()?;
        self.settle()?;
        self.broadcast()?;
        self.conclude()?;
        self.stop()
    }

    /// Lets time pass, and everybody else act.
    fn pause(&mut self, time: Duration) {
        let (_nobody, nothing) = sys::channel::<()>();
        let _ = nothing.recv_timeout(time);
    }

    fn come(&mut self) {
        let number = u32::try_from(self.guests.len()).unwrap_or_default();
        let mut guest = Peer::new(number, &mut self.life.rng, self.habits);
        guest.connect(&address_of(number), &server_at());
        self.guests.push(guest);
    }

    /// Starts a process, which takes over from the one that serves, if there is any.
    fn succeed(&mut self) -> Result<(), String> {
        let is_under_way = self.processes.last().is_some_and(|last| {
            let is_over = last.thread.as_ref().is_none_or(JoinHandle::is_finished);
            !is_over && !self.plan.book.open().serving.contains_key(&last.pid())
        });
        if is_under_way {
            return Ok(());
        }
        let (plan, threads) = (self.plan.clone(), self.life.rng.len(1, 2));
        let name = format!("server-{}", self.processes.len());
        let started = self.life.world.start_process(&name, move || plan.live(threads));
        let (number, thread) = started.ok_or("the real system has no thread")?;
        if self.is_calm {
            self.processes.push(Process { number, thread: Some(thread) });
            return Ok(());
        }
        let rng = &mut self.life.rng;
        let calls = *rng.pick(&[20, 100, 300, 1000]).unwrap_or(&100);
        let calls = rng.between(1, calls);
        let still = Fate::Stopped(Duration::from_millis(rng.between(1, 3000)));
        let before = self.processes.last().map(|last| last.number);
        let (successor, predecessor) = match rng.below(20) {
            0..=3 => (Some(Fate::Killed), None),
            4..=6 => (Some(still), None),
            7..=8 => (None, Some(Fate::Killed)),
            9..=11 => (None, Some(still)),
            _ => (None, None),
        };
        self.is_troubled |= successor.is_some() || predecessor.is_some();
        if let Some(fate) = successor {
            self.life.world.doom(number, calls, fate);
        }
        if let (Some(fate), Some(before)) = (predecessor, before) {
            self.life.world.doom(before, calls, fate);
        }
        self.processes.push(Process { number, thread: Some(thread) });
        Ok(())
    }

    /// Makes one of the answers that were left for later.
    fn keep_promise(&mut self) {
        let promise = {
            let mut book = self.plan.book.open();
            if book.promises.is_empty() {
                return;
            }
            let at = self.life.rng.index(book.promises.len());
            book.promises.swap_remove(at)
        };
        if self.was_killed(promise.process) {
            // It has nobody left who could say anything.
            std::mem::forget(promise.deferred);
            return;
        }
        // One that is over has closed the connection.
        let _ = promise.deferred.send(promise.outgoing);
    }

    fn was_killed(&self, pid: u32) -> bool {
        self.life.world.was_killed(pid as usize - 1)
    }

    /// The newest server that serves, as far as anybody knows.
    fn serving(&self) -> Option<myriapod::Handle> {
        let book = self.plan.book.open();
        book.serving.iter().next_back().map(|(_, handle)| handle.clone())
    }

    /// Pushes to all that are in the group.
    fn push(&mut self) {
        self.next_push += 1;
        let content = push_content(To::All, self.next_push, self.life.rng.len(0, 300));
        if let Some(handle) = self.serving() {
            // It may be over.
            let _ = handle.broadcast(GROUP, Outgoing::binary("sim/push", content));
        }
    }

    fn check(&mut self) -> Result<(), String> {
        let book = self.plan.book.open();
        self.life.messages = book.messages;
        self.life.replaced = (book.done, book.failed);
        self.life.taken_over = book.restored;
        book.wrong.clone().map_or(Ok(()), Err)
    }

    /// Nothing goes wrong any more, and somebody serves.
    fn calm(&mut self) -> Result<(), String> {
        self.life.world.set_faults(Faults::none());
        self.life.world.make_room();
        for process in &self.processes {
            self.life.world.reprieve(process.number);
        }
        self.is_calm = true;
        for round in 0..MOST_ROUNDS {
            self.life.step += 1;
            self.end_those_that_are_over()?;
            self.pause(Duration::from_millis(20));
            // More than once: a server may begin to end late.
            if round % 300 == 299 {
                self.cut_off_the_unfaithful();
            }
            let last = self.processes.last();
            let is_there = last.is_some_and(|last| {
                self.plan.book.open().serving.contains_key(&last.pid()) && last.thread.is_some()
            });
            let others = self.processes.iter().rev().skip(1);
            let are_others_over = others.into_iter().all(|process| process.thread.is_none());
            if is_there && are_others_over {
                return self.check();
            }
            self.keep_promise();
            for guest in &mut self.guests {
                guest.receive(usize::MAX)?;
            }
            // None is left: the next one begins anew.
            let nobody_is_left = self.processes.iter().all(|process| process.thread.is_none());
            if nobody_is_left || !is_there && self.serving().is_some() {
                self.succeed()?;
            }
        }
        let left: Vec<String> = self.guests.iter().map(|guest| self.what_of(guest)).collect();
        Err(format!("no server is alone in the end: {}", left.join("; ")))
    }

    /// Servers that wait for nobody but guests who never read, or have sent half a message and send no
    /// more, are stopped: deadlines are off.
    fn cut_off_the_unfaithful(&mut self) {
        let handles = {
            let mut book = self.plan.book.open();
            let waits = |pid: u32| {
                book.seats.iter().any(|(guest, seat)| {
                    let guest = self.guests.get(*guest as usize);
                    let is_open = seat.process == pid && seat.cause.is_none();
                    let will_end = |guest: &Peer| guest.unfinished(guest.sent()).is_none();
                    is_open && guest.is_some_and(|guest| guest.is_faithful() && will_end(guest))
                })
            };
            let over: Vec<u32> = book.ending.keys().copied().filter(|pid| !waits(*pid)).collect();
            over.iter().filter_map(|pid| book.ending.remove(pid)).collect::<Vec<_>>()
        };
        for handle in handles {
            let _ = handle.stop_now();
        }
    }

    /// Waits for threads that have ended.
    fn end_those_that_are_over(&mut self) -> Result<(), String> {
        for process in &mut self.processes {
            let Some(thread) = process.thread.take_if(|thread| thread.is_finished()) else {
                continue;
            };
            let number = process.number;
            match thread.wait() {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(format!("process {number}: {error}")),
                None if self.life.world.was_killed(number) => {
                    self.plan.book.open().serving.remove(&process.pid());
                }
                None => return Err(format!("process {number} panicked")),
            }
        }
        Ok(())
    }

    /// Whether whatever a guest misses is excused: a process was killed that had its connection.
    fn is_excused(&self, guest: u32) -> bool {
        let killed = |pid: u32| self.was_killed(pid);
        match self.plan.book.open().seats.get(&guest) {
            Some(seat) => {
                // One that was to go later, and came back to a server that ends.
                let came_back = seat.cause == Some(Cause::Drained) && self.is_troubled;
                killed(seat.process) || seat.cause == Some(Cause::Fault) || came_back
            }
            // Where descriptors are lacking, some are turned away.
            None => self.turns_away || self.processes.iter().any(|process| killed(process.pid())),
        }
    }

    /// Everybody gets what it is owed.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            self.life.step += 1;
            let mut is_quiet = self.plan.book.open().promises.is_empty();
            self.keep_promise();
            for guest in &mut self.guests {
                if guest.vanished {
                    continue;
                }
                is_quiet &= !guest.send(usize::MAX);
                if guest.is_faithful() {
                    is_quiet &= !guest.receive(usize::MAX)?;
                }
                let is_there = guest.remote.is_some() && guest.end.is_none();
                let has_seat = self.plan.book.open().seats.contains_key(&guest.number);
                is_quiet &= has_seat || !is_there || !guest.is_faithful();
            }
            self.check()?;
            let owed = |guest: &&Peer| guest.is_faithful() && guest.is_owed();
            let owed = self.guests.iter().filter(owed).find(|guest| !self.is_excused(guest.number));
            if is_quiet && owed.is_none() {
                return Ok(());
            }
            self.pause(Duration::from_millis(20));
        }
        let owed = |guest: &&Peer| guest.is_faithful() && guest.is_owed();
        let owed = self.guests.iter().filter(owed).find(|guest| !self.is_excused(guest.number));
        let restless: Vec<String> = self.guests.iter().map(|guest| self.what_of(guest)).collect();
        let promises = self.plan.book.open().promises.len();
        let restless =
            || format!("{promises} promises, the world is not quiet: {}", restless.join("; "));
        Err(owed.map_or_else(restless, |guest| self.what_of(guest)))
    }

    fn what_of(&self, guest: &Peer) -> String {
        let book = self.plan.book.open();
        format!(
            "guest {} ({:?}): {} answers are missing, has sent all {}, end {:?}, remote {:?}, seat \
             {:?}",
            guest.number,
            guest.temper,
            guest.owed(),
            guest.has_sent_all(),
            guest.end,
            guest.remote.as_ref().map(|remote| (
                remote.is_connecting(),
                remote.is_accepted(),
                remote.unread(),
                remote.unreceived()
            )),
            book.seats.get(&guest.number),
        )
    }

    /// A last push reaches exactly those that are in the group.
    fn broadcast(&mut self) -> Result<(), String> {
        self.next_push += 1;
        let number = self.next_push;
        let handle = self.serving().ok_or("nobody serves")?;
        let content = push_content(To::All, number, 0);
        let sent = handle.broadcast(GROUP, Outgoing::binary("sim/push", content));
        sent.map_err(|error| error.to_string())?;
        // Some is on its way for seconds still.
        for _ in 0..200 {
            self.pause(Duration::from_millis(20));
            for guest in self.guests.iter_mut().filter(|guest| guest.is_faithful()) {
                guest.receive(usize::MAX)?;
            }
        }
        for guest in self.guests.iter().filter(|guest| guest.is_faithful()) {
            let is_there = guest.remote.is_some() && guest.end.is_none();
            let seat = self.plan.book.open().seats.get(&guest.number).map(|seat| seat.cause);
            let is_there = is_there && !guest.finished && !guest.ends && seat == Some(None);
            let has_got = guest.has_got_push(number);
            let is_told = is_member(guest.number);
            if has_got && !is_told || is_there && is_told && !has_got {
                return Err(format!(
                    "guest {} ({:?}) has got the last push of the group: {has_got}",
                    guest.number, guest.temper
                ));
            }
        }
        Ok(())
    }

    /// All guests come to their end.
    fn conclude(&mut self) -> Result<(), String> {
        for _ in 0..MOST_ROUNDS {
            self.life.step += 1;
            let mut has_moved = false;
            for guest in &mut self.guests {
                has_moved |= guest.conclude()?;
                // Those that would stay go now.
                if !has_moved && guest.remote.is_some() && !guest.finished && !guest.is_owed() {
                    guest.finish();
                }
                if !guest.is_faithful() && guest.remote.is_some() {
                    guest.leave();
                }
            }
            self.check()?;
            if !has_moved && self.guests.iter().all(Peer::is_done) {
                break;
            }
            self.pause(Duration::from_millis(20));
        }
        for guest in &self.guests {
            if !guest.is_faithful() || self.is_excused(guest.number) {
                continue;
            }
            let is_whole = !guest.is_owed() && !guest.has_half_a_message() && guest.has_sent_all();
            let in_order = guest.garbled || guest.end == Some(End::Finished) && is_whole;
            if !guest.is_done() || !in_order {
                return Err(self.what_of(guest));
            }
        }
        Ok(())
    }

    /// The last server is stopped: nothing may be left of any.
    fn stop(&mut self) -> Result<(), String> {
        let handle = self.serving().ok_or("nobody serves")?;
        match ask_to_stop(&handle) {
            Ok(()) | Err(HandleError::Gone) => {}
            Err(error) => return Err(error.to_string()),
        }
        // Who has vanished with something to be sent to it is never done with.
        let is_waited_for = self.guests.iter().any(|guest| !guest.is_faithful());
        for round in 0..MOST_ROUNDS {
            if round == 200 && is_waited_for {
                let _ = handle.stop_now();
            }
            self.end_those_that_are_over()?;
            if self.life.world.threads() == 0 {
                break;
            }
            self.pause(Duration::from_millis(20));
        }
        drop(handle);
        let (ending, promises) = {
            let mut book = self.plan.book.open();
            (std::mem::take(&mut book.ending), std::mem::take(&mut book.promises))
        };
        drop((ending, promises));
        if self.life.world.threads() > 0 {
            return Err(format!("threads are left of servers: {:?}", self.plan.book.open()));
        }
        for process in &self.processes {
            let left = self.life.world.open_descriptors_of(process.number);
            if left > 0 {
                return Err(format!("{left} descriptors are left of process {}", process.number));
            }
        }
        self.check()
    }
}
