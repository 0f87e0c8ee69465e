//! One world: blocking clients on threads of their own, and a server with several event loops.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use myriapod::protocol::{ByteOrder, Head, Message};
use myriapod::sys::sim::{self, Faults, Rng, mix};
use myriapod::sys::{self, Backend, Errno, Events, Poller, Token, Waker};
use myriapod::{
    Client, ClientOptions, Deferred, DeferredError, Error, Handle, HandleError, Handler,
    HandlerResult, Limits, Outgoing, Reply, Server, SocketAddr,
};

use crate::request::answer_bytes;
use crate::run::Life;
use crate::serve::meddle::ask_to_stop;

/// Where the server listens: a name with addresses that refuse, say nothing, and answer.
const HOST: &str = "server.test";
const PORT: u16 = 65432;

/// A request is `client number`, and its answer has bytes that no other has.
fn read(content: &[u8]) -> Option<(u32, u32)> {
    let (client, number) = std::str::from_utf8(content).ok()?.split_once(' ')?;
    Some((client.parse().ok()?, number.parse().ok()?))
}

/// How long an answer is, which both sides know.
fn len_of(client: u32, number: u32) -> usize {
    let bits = mix(u64::from(client) << 32 | u64::from(number));
    usize::try_from(bits % 3000).unwrap_or_default()
}

/// Answers that another thread makes.
struct Worker {
    queue: Mutex<VecDeque<(Deferred, Outgoing)>>,
    waker: Waker,
    over: AtomicUsize,
}

impl Worker {
    fn take(&self) -> Option<(Deferred, Outgoing)> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn give(&self, promise: (Deferred, Outgoing)) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(promise);
        self.wake();
    }

    /// However often it takes.
    fn wake(&self) {
        while self.waker.wake().is_err() {}
    }

    fn work(&self, poller: &mut Poller, handle: &Handle) -> Result<(), sys::SystemError> {
        let mut events = Events::with_capacity(1);
        while self.over.load(Ordering::SeqCst) == 0 {
            events.clear();
            poller.wait(&mut events, None)?;
            self.waker.reset();
            while let Some((deferred, outgoing)) = self.take() {
                let sent = deferred.send(outgoing);
                // A loop that is gone has closed the connection.
                if let Err(DeferredError::Handle(HandleError::NotWoken)) = sent {
                    knock(handle);
                }
            }
        }
        Ok(())
    }

    fn end(&self) {
        self.over.store(1, Ordering::SeqCst);
        self.wake();
    }
}

/// Has the loops look at what they were asked for while they could not be woken.
fn knock(handle: &Handle) {
    let push = || Outgoing::binary("sim/push", Vec::new());
    while handle.broadcast("nobody", push()) == Err(HandleError::NotWoken) {}
}

struct Answering(Arc<Worker>);

impl Handler for Answering {
    type State = ();

    fn on_open(&mut self, _: &mut myriapod::View<'_>, _: &SocketAddr) {}

    fn on_message(
        &mut self,
        (): &mut (),
        message: Message<'_>,
        reply: &mut Reply<'_>,
    ) -> HandlerResult {
        let Some((client, number)) = read(message.content()) else { return Ok(()) };
        let answer = answer_bytes(client, number, len_of(client, number));
        if number % 3 == 0 {
            let deferred = reply.defer()?;
            self.0.give((deferred, Outgoing::binary("sim/answer", answer)));
        } else {
            reply.binary("sim/answer", &answer)?;
        }
        Ok(())
    }
}

/// One client's doings.
struct Script {
    client: u32,
    rng: Rng,
    options: ClientOptions,
    next: u32,
    answered: u64,
    /// After so many rounds it has the servers stop, in the middle of everything.
    stops_after: Option<u64>,
}

/// What all clients know.
#[derive(Debug, Default)]
struct Common {
    /// Clients for whom things may still go wrong.
    rough: AtomicUsize,
    /// Clients that are not done.
    there: AtomicUsize,
    /// Whether the servers were told to stop before all was over.
    stopped: AtomicBool,
    /// Whether one was gone that nobody had told to stop.
    gone: AtomicBool,
}

impl Common {
    fn stop(&self, handle: &Handle) -> Result<(), String> {
        match ask_to_stop(handle) {
            Err(HandleError::Gone) => {
                self.gone.store(true, Ordering::SeqCst);
                Ok(())
            }
            asked => asked.map_err(|error| error.to_string()),
        }
    }
}

/// Lives through one world.
pub(crate) fn run(life: &mut Life) -> Result<(), String> {
    let mut rng = life.rng.clone();
    let real = SocketAddr::from(([10, 0, 0, 1], PORT));
    let refusing = SocketAddr::from(([10, 0, 0, 9], PORT));
    let silent = SocketAddr::from(([192, 0, 2, 1], PORT));
    let addresses = match rng.below(4) {
        0 => vec![refusing, real],
        1 => vec![silent, refusing, real],
        _ => vec![real],
    };
    life.world.add_host(HOST, addresses);
    let threads = rng.len(1, 3);
    let clients = u32::try_from(rng.len(1, 5)).unwrap_or(1);

    let said = |error: &dyn std::error::Error| error.to_string();
    let mut poller = Poller::new(Backend::native()).map_err(|error| said(&error))?;
    let waker = Waker::new(&mut poller, Token(0)).map_err(|error| said(&error))?;
    let worker = Arc::new(Worker { queue: Mutex::default(), waker, over: AtomicUsize::new(0) });
    let limits = Limits {
        max_content_len: 5000,
        // Often fewer than there are clients: then a loop takes places of others, or waits for one.
        max_connections: Some(rng.len(threads, threads.max(clients as usize))),
        high_water: rng.len(100, 5000),
        low_water: 50,
        idle_timeout: Duration::from_secs(rng.between(1, 60)),
        ..Limits::default()
    };
    let built = Server::builder().listen("10.0.0.1", PORT).limits(limits).threads(threads);
    let for_handlers = Arc::clone(&worker);
    let built = built.build_each(move || Answering(Arc::clone(&for_handlers)));
    let mut servers = built.map_err(|error| said(&error))?;

    let working = Arc::clone(&worker);
    let handle = servers.handle();
    let worker_thread = sys::spawn("worker", move || working.work(&mut poller, &handle));
    let worker_thread = worker_thread.map_err(|error| said(&error))?;
    let common = Arc::new(Common::default());
    let stops_after = rng.chance(250).then(|| rng.between(0, 5));
    let mut handles = Vec::new();
    for client in 0..clients {
        let script = Script {
            client,
            rng: Rng::new(rng.bits()),
            options: ClientOptions {
                connect_timeout: Duration::from_millis(rng.between(10, 4000)),
                read_timeout: Duration::from_millis(rng.between(10, 4000)),
                write_timeout: Duration::from_millis(rng.between(10, 4000)),
                per_request: rng.chance(200),
                ..ClientOptions::default()
            },
            next: 0,
            answered: 0,
            stops_after: stops_after.filter(|_| client == 0),
        };
        common.rough.fetch_add(1, Ordering::SeqCst);
        common.there.fetch_add(1, Ordering::SeqCst);
        let common = Arc::clone(&common);
        let handle = servers.handle();
        let thread = sys::spawn(&format!("client-{client}"), move || script.play(&common, &handle));
        handles.push(thread.map_err(|error| said(&error))?);
    }
    let mut faults = Faults::random(&mut rng);
    // A loop that cannot watch its listener when it starts ends them all, as it should.
    faults.unwatched = 0;
    life.world.set_faults(faults);

    let ran = servers.run();
    let stats = servers.stats().sum();
    let (graceful, servers) = match ran {
        Ok(graceful) => (graceful, Some(servers)),
        // One thread could not be started: then none is there, and nobody listens any more.
        Err(Error::System(error)) if error.errno() == Some(Errno::EAGAIN) => {
            common.stopped.store(true, Ordering::SeqCst);
            drop(servers);
            (true, None)
        }
        Err(error) => return Err(said(&error)),
    };
    for handle in handles {
        let answered = handle.wait().unwrap_or_else(|| Err("a client panicked".to_owned()))?;
        life.messages += answered;
    }
    if common.gone.load(Ordering::SeqCst) && servers.is_some() {
        return Err("an event loop was gone, and nobody had stopped it".to_owned());
    }
    worker.end();
    let worked = worker_thread.wait().unwrap_or(Ok(()));
    worked.map_err(|error| said(&error))?;
    let closed: u64 = stats.closed.iter().sum();
    if stats.open != 0 || stats.accepted != closed {
        return Err(format!("not all is closed: {stats}"));
    }
    life.handed_over = stats.handed_over;
    if !graceful && !common.stopped.load(Ordering::SeqCst) {
        return Err(format!("a stop without anything in flight was not graceful: {stats}"));
    }
    if (stats.pool_bytes, stats.pool_buffers) != (0, 0) {
        return Err(format!("buffers are left: {stats}"));
    }
    drop((servers, worker));
    match life.world.open_descriptors() {
        0 => Ok(()),
        left => Err(format!("{left} descriptors are left")),
    }
}

impl Script {
    fn play(mut self, common: &Common, handle: &Handle) -> Result<u64, String> {
        let result = self.through_all(common, handle);
        let is_last = common.there.fetch_sub(1, Ordering::SeqCst) == 1;
        if is_last && !common.stopped.load(Ordering::SeqCst) {
            common.stop(handle)?;
        }
        result.map(|()| self.answered)
    }

    fn through_all(&mut self, common: &Common, handle: &Handle) -> Result<(), String> {
        let mut client = None;
        let rounds = self.rng.between(1, 10);
        let mut wrong = None;
        for round in 0..rounds {
            if self.stops_after == Some(round) {
                common.stopped.store(true, Ordering::SeqCst);
                common.stop(handle)?;
            }
            if let Err(failure) = self.round(&mut client) {
                wrong = Some(failure);
                break;
            }
        }
        if common.rough.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The last one out of the rough part: nothing goes wrong any more.
            sim::set_faults(Faults::none());
        }
        while common.rough.load(Ordering::SeqCst) > 0 {
            pause(Duration::from_millis(20));
        }
        // A description of what went wrong comes before anything that follows from it.
        wrong.map_or(Ok(()), Err)?;
        if common.stopped.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.options.connect_timeout = Duration::from_secs(200);
        self.options.read_timeout = Duration::from_secs(60);
        self.options.write_timeout = Duration::from_secs(60);
        client = None;
        for _ in 0..3 {
            let asked = self.surely(&mut client);
            if asked.is_err() && !common.stopped.load(Ordering::SeqCst) {
                return asked;
            }
        }
        Ok(())
    }

    /// One or several requests, of which each may fail, but none be answered wrongly.
    fn round(&mut self, client: &mut Option<Client>) -> Result<(), String> {
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => match Client::connect_with(HOST, PORT, self.options) {
                Ok(connected) => connected,
                Err(error) => return self.excuse(&error),
            },
        };
        let count = if self.options.per_request { 1 } else { self.rng.between(1, 6) };
        let mut asked = VecDeque::new();
        for _ in 0..count {
            let (number, content) = self.question();
            match connected.send(&head(), content.as_bytes()) {
                Ok(()) => asked.push_back(number),
                Err(error) => {
                    self.excuse(&error)?;
                    // All that was asked is lost with the connection.
                    asked.clear();
                    break;
                }
            }
        }
        while let Some(number) = asked.pop_front() {
            match connected.receive() {
                Ok(message) => check(&message, self.client, number)?,
                Err(error) => {
                    self.excuse(&error)?;
                    break;
                }
            }
            self.answered += 1;
        }
        // One that owes answers is as good as closed.
        if connected.awaited() == 0 && self.rng.chance(800) {
            *client = Some(connected);
        }
        Ok(())
    }

    /// A request that has to be answered: a connection that is kept may have been idle for too long,
    /// a new one has no excuse.
    fn surely(&mut self, client: &mut Option<Client>) -> Result<(), String> {
        if let Some(connected) = client.take()
            && self.ask(connected, client)?.is_ok()
        {
            return Ok(());
        }
        let surprised = |error: &Error| format!("no answer although nothing goes wrong: {error}");
        let connected = Client::connect_with(HOST, PORT, self.options);
        let connected = connected.map_err(|error| surprised(&error))?;
        let asked = self.ask(connected, client)?;
        asked.map_err(|error| format!("client {}: {}", self.client, surprised(&error)))
    }

    /// Asks once, and keeps the connection where it was answered.
    fn ask(
        &mut self,
        mut connected: Client,
        client: &mut Option<Client>,
    ) -> Result<Result<(), Error>, String> {
        let (number, content) = self.question();
        match connected.request(&head(), content.as_bytes()) {
            Ok(message) => check(&message, self.client, number)?,
            Err(error) => return Ok(Err(error)),
        }
        self.answered += 1;
        *client = Some(connected);
        Ok(Ok(()))
    }

    fn question(&mut self) -> (u32, String) {
        let number = self.next;
        self.next += 1;
        (number, format!("{} {number}", self.client))
    }

    /// What may happen to a client; anything else is wrong.
    fn excuse(&self, error: &Error) -> Result<(), String> {
        match error {
            Error::System(_) | Error::Timeout { .. } | Error::Closed { .. } => Ok(()),
            other => Err(format!("client {}: {other}", self.client)),
        }
    }
}

fn head() -> Head<'static> {
    Head { byteorder: ByteOrder::Little, ..Head::binary("sim/ask") }
}

fn check(message: &Message<'_>, client: u32, number: u32) -> Result<(), String> {
    if message.content() == answer_bytes(client, number, len_of(client, number)) {
        return Ok(());
    }
    let start = message.content().get(..40).unwrap_or(message.content());
    let start = String::from_utf8_lossy(start);
    Err(format!("client {client}: {start:?} in place of the answer to {number}"))
}

/// Lets time pass.
fn pause(time: Duration) {
    // Where there is no descriptor for it, asking took some time.
    if let Ok(mut poller) = Poller::new(Backend::native()) {
        let _ = poller.wait(&mut Events::with_capacity(1), Some(time));
    }
}
