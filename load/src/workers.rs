//! [`Workers`]: all threads and processes that are the load, behind one face.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use myriapod::sys::{self, Backend, JoinHandle, Poller, Time, Waker};

use crate::error::{Error, Result};
use crate::job::{Command, Job, Phase};
use crate::loader::Loader;
use crate::snapshot::Snapshot;

/// The hidden command that a process of bench's own is started with.
pub const WORKER: &str = "bench-worker";

/// Who makes the load.
#[derive(Debug)]
pub(crate) enum Workers {
    Threads(Vec<Thread>),
    Processes(Vec<Process>),
}

/// A thread of this process.
#[derive(Debug)]
pub(crate) struct Thread {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    told: Receiver<Snapshot>,
    handle: JoinHandle<sys::Result<()>>,
}

/// A process of our own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Workers {
    /// Starts so many processes with a share of the job each; 1 for none but this.
    ///
    /// # Errors
    ///
    /// What the system refuses.
    pub(crate) fn start(job: &Job, processes: u32) -> Result<Self> {
        if processes <= 1 {
            let threads = (0..job.threads).map(|nth| Thread::start(job, nth));
            return Ok(Self::Threads(threads.collect::<Result<_>>()?));
        }
        let processes = (0..processes).map(|nth| {
            let mut part = job.part(nth, processes);
            let (threads, nth) = (job.threads as usize, nth as usize);
            part.cpus = job.cpus.iter().copied().skip(nth * threads).take(threads).collect();
            Process::start(&part)
        });
        Ok(Self::Processes(processes.collect::<Result<_>>()?))
    }

    /// Tells everybody, who obeys all of it in one go.
    pub(crate) fn order(&mut self, commands: &[Command]) -> Result<()> {
        match self {
            Self::Threads(threads) => threads.iter().try_for_each(|thread| thread.order(commands)),
            Self::Processes(all) => all.iter_mut().try_for_each(|process| process.order(commands)),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase, began: Time) -> Result<()> {
        self.order(&[Command::Enter(phase, began.as_nanos())])
    }

    /// How things stand with all of them together.
    pub(crate) fn ask(&mut self, latencies: bool) -> Result<Snapshot> {
        // All are asked before the first is heard, so that they answer at one time.
        self.order(&[Command::Tell { latencies }])?;
        self.hear()
    }

    /// The answer to [`Command::Tell`].
    pub(crate) fn hear(&mut self) -> Result<Snapshot> {
        let mut sum = Snapshot { done: true, ..Snapshot::default() };
        match self {
            Self::Threads(threads) => {
                for thread in threads {
                    sum.add(thread.hear()?);
                }
            }
            Self::Processes(processes) => {
                for process in processes {
                    sum.add(process.hear()?);
                }
            }
        }
        Ok(sum)
    }

    /// Ends all of it.
    pub(crate) fn end(mut self) -> Result<()> {
        self.order(&[Command::End])?;
        match self {
            Self::Threads(threads) => {
                for thread in threads {
                    thread.handle.join()?;
                }
            }
            Self::Processes(processes) => {
                for mut process in processes {
                    process.to = None;
                    let ended = process.child.wait();
                    let status = ended.map_err(|error| Error::io("wait", WORKER, &error))?;
                    if !status.success() {
                        return Err(gone(&process.child, &status.to_string()));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Thread {
    fn start(job: &Job, nth: u32) -> Result<Self> {
        let (commands, ordered) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let poller = Poller::new(Backend::native())?;
        let mut loader = Loader::new(job.part(nth, job.threads), poller, ordered, tell)?;
        let waker = loader.waker();
        let cpu = job.cpus.get(nth as usize).copied();
        let handle = sys::spawn(&format!("bench-{nth}"), move || {
            if let Some(cpu) = cpu {
                sys::set_thread_cpus(&[cpu])?;
            }
            loader.run()
        })?;
        Ok(Self { commands, waker, told, handle })
    }

    fn order(&self, commands: &[Command]) -> Result<()> {
        for command in commands {
            if self.commands.send(command.clone()).is_err() {
                return Err(Error::new("a thread of bench has ended"));
            }
        }
        Ok(self.waker.wake()?)
    }

    fn hear(&self) -> Result<Snapshot> {
        self.told.recv().map_err(|_| Error::new("a thread of bench has ended"))
    }
}

impl Process {
    fn start(job: &Job) -> Result<Self> {
        let failed = |error: std::io::Error| Error::io("start", WORKER, &error);
        let mut child = Program::new(std::env::current_exe().map_err(failed)?)
            .arg(WORKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the first process, which ends the others in order.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new("a process of bench has no pipes"));
        };
        let mut process = Self { child, to: Some(to), from: BufReader::new(from) };
        process.write(job)?;
        Ok(process)
    }

    fn write(&mut self, what: &impl serde::Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(what).map_err(Error::new)?;
        line.push(b'\n');
        let Some(to) = &mut self.to else { return Ok(()) };
        to.write_all(&line).map_err(|error| gone(&self.child, &error.to_string()))
    }

    fn order(&mut self, commands: &[Command]) -> Result<()> {
        commands.iter().try_for_each(|command| self.write(command))
    }

    fn hear(&mut self) -> Result<Snapshot> {
        let mut line = String::new();
        let read = self.from.read_line(&mut line);
        read.map_err(|error| gone(&self.child, &error.to_string()))?;
        serde_json::from_str(&line).map_err(|_| gone(&self.child, "it has ended"))
    }
}

/// A process that a failure leaves behind: its standard input ends, and so does it.
impl Drop for Process {
    fn drop(&mut self) {
        self.to = None;
        let _ = self.child.wait();
    }
}

fn gone(child: &Child, why: &str) -> Error {
    Error::new(format_args!("process {} of bench: {why}", child.id()))
}

/// What a process of bench does: a job is on the first line of standard input, commands on the
/// others, and standard output gets what it tells.
///
/// # Errors
///
/// What the system refuses.
pub fn work() -> Result<()> {
    sys::raise_descriptor_limit()?;
    let mut lines = std::io::stdin().lines();
    let Some(Ok(first)) = lines.next() else {
        return Err(Error::usage(format_args!("{WORKER} is for `myriapod bench` alone")));
    };
    let job: Job = serde_json::from_str(&first).map_err(Error::usage)?;
    let mut workers = Workers::start(&job, 1)?;
    let mut stdout = std::io::stdout().lock();
    for line in lines {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line).map_err(Error::usage)? {
            Command::End => break,
            Command::Tell { latencies } => {
                let mut told = serde_json::to_vec(&workers.ask(latencies)?).map_err(Error::new)?;
                told.push(b'\n');
                let written = stdout.write_all(&told).and_then(|()| stdout.flush());
                written.map_err(|error| Error::io("write", "standard output", &error))?;
            }
            command => workers.order(&[command])?,
        }
    }
    workers.end()
}
