//! [`Args`]: the command line of `check`.

use std::time::Duration;

use super::lessons::{LADDER, Lesson};
use super::service::Service;
use crate::failure::Failure;
use crate::units::{Size, Timeout};

const EXAMPLES: &str = "\
Examples:
  myriapod check 127.0.0.1 65432               a server that runs: does it echo?
  myriapod check 127.0.0.1 5050 -s padded      the tutorial's first protocol
  myriapod check 127.0.0.1 0 --run 'python3 server.py 127.0.0.1 {port}'
                                               started anew for each rung
  myriapod check ... --lesson rude --trace     one rung, with its time line
  myriapod check ... --keep-going              all rungs, also behind a failed one
  myriapod check ... --one-shot -s search      closes after one reply, as app-server.py
  myriapod check --list                        what each rung does, and what is right
  myriapod check ... --json | jq -r 'select(.result == \"fail\").saw'

Each rung plays a few clients and says what a good server does. The first that fails ends the way \
up: the others may fail for the same cause. It must fail twice (with --run on a fresh server), else \
it is \"unsure\". What cannot be seen is \"skip\", never \"ok\": the wire shows any server, this \
machine's /proc its queues and processor time, and --run how it ends, starts and runs out of \
descriptors.

The server is yours: some rungs flood it, reset connections or, with --run, end it.

Exit status: 0 no rung failed, 1 a rung failed or the check could not be made, 2 wrong usage.";

const SERVER: &str = "The server";
const RUNGS: &str = "Rungs";
const RESULTS: &str = "Results";

/// Check a socket server of your own, rung by rung, and say what there is to learn
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The server: a name, an IPv4 or IPv6 address
    #[arg(required_unless_present = "list")]
    host: Option<String>,
    /// Its port; with --run any, because each process gets a port of its own
    #[arg(required_unless_present = "list")]
    port: Option<u16>,

    /// What it does: echo (sends all bytes back), padded (texts behind a length of
    /// 64 bytes) or search (messages with a JSON header)
    #[arg(short, long, value_name = "NAME", default_value = "echo", hide_possible_values = true,
        help_heading = SERVER)]
    pub(super) service: Service,
    /// It closes after one reply, as it is meant to
    #[arg(long, help_heading = SERVER)]
    pub(super) one_shot: bool,
    /// Start it with this command, with its port for {port}
    #[arg(long, value_name = "CMD", help_heading = SERVER)]
    run: Option<String>,

    /// Only these, behind answers and next-client; --list names all
    #[arg(short, long = "lesson", value_name = "NAME", help_heading = RUNGS)]
    lessons: Vec<String>,
    /// Try the rungs behind a failed one too
    #[arg(short, long, help_heading = RUNGS)]
    pub(super) keep_going: bool,
    /// Slow ones too: slowloris
    #[arg(long, help_heading = RUNGS)]
    pub(super) slow: bool,
    /// How long a server may do nothing; at least 100 round trips
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(2)),
        help_heading = RUNGS)]
    patience: Timeout,
    /// What it may hold for a client that does not read
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20), help_heading = RUNGS)]
    pub(super) buffer: Size,
    /// How soon slowloris must be closed
    #[arg(long, value_name = "TIME", default_value_t = Timeout(Duration::from_secs(10)),
        help_heading = RUNGS)]
    pub(super) limit: Timeout,

    /// Say what each rung does, and check nothing
    #[arg(long, help_heading = RESULTS)]
    pub(super) list: bool,
    /// Draw what the clients did and saw as a time line
    #[arg(short, long, help_heading = RESULTS)]
    pub(super) trace: bool,
    /// Print one line of JSON for each rung
    #[arg(long, help_heading = RESULTS)]
    pub(super) json: bool,
}

impl Args {
    pub(super) fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("127.0.0.1")
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or(0)
    }

    /// The command that starts the server.
    ///
    /// # Errors
    ///
    /// One without a place for the port.
    pub(super) fn run(&self) -> Result<Option<&str>, Failure> {
        match self.run.as_deref() {
            Some(run) if !run.contains("{port}") => {
                Err(Failure::usage(format_args!("--run {run}: no {{port}} in it")).with_next_step(
                    "each process gets a port of its own: write {port} where the command has it",
                ))
            }
            run => Ok(run),
        }
    }

    /// # Errors
    ///
    /// No patience at all.
    pub(super) fn patience(&self) -> Result<Duration, Failure> {
        if self.patience.0.is_zero() {
            return Err(Failure::usage("--patience 0: no server is that fast"));
        }
        Ok(self.patience.0)
    }

    /// The rungs that are asked for, in the order of the ladder.
    ///
    /// # Errors
    ///
    /// A name that none of them has.
    pub(super) fn rungs(&self) -> Result<Vec<&'static Lesson>, Failure> {
        for name in &self.lessons {
            if LADDER.iter().all(|lesson| lesson.name != name) {
                return Err(Failure::usage(format_args!("--lesson {name}: there is no such rung"))
                    .with_next_step("`myriapod check --list` names them"));
            }
        }
        let is_base = |lesson: &Lesson| ["answers", "next-client"].contains(&lesson.name);
        let wanted = |lesson: &&Lesson| {
            self.lessons.is_empty()
                || is_base(lesson)
                || self.lessons.iter().any(|name| name == lesson.name)
        };
        Ok(LADDER.iter().filter(wanted).collect())
    }

    /// Whether somebody asked for this one by its name.
    pub(super) fn is_named(&self, lesson: &Lesson) -> bool {
        self.lessons.iter().any(|name| name == lesson.name)
    }

    pub(super) const fn runs_a_child(&self) -> bool {
        self.run.is_some()
    }
}
