//! The command line.

use std::path::PathBuf;

use myriapod_sim::cut::{Cut, Kinds};

/// What `--help` says.
pub(crate) const HELP: &str = "\
Runs the engine on a simulated kernel, a world for each seed, and checks it after every step.

    cargo sim                      1,000 seeds from 1
    cargo sim --seeds 10000        so many
    cargo sim --start 5000         from another one on
    cargo sim --seed 1234          one, exactly as it was
    cargo sim --seed 7 --pcap F    the same, and what was on its wire as a capture file
    cargo sim --seed 7 --peers 2 --without short-read,dribble
                                   with fewer peers, and without some kinds of faults
    cargo sim --jobs 1             one world at a time, not one for each processor
    cargo sim --first              no further than the first seed that fails
    cargo sim --planted            bugs put in on purpose: how many seeds until each is found
    cargo sim --planted NAME       one of them
    cargo sim --list               their names

The last line is a hash of everything that happened in all of them: the same seeds, the same hash,
however many run at once.
A failure says `seed=N step=M` and what was wrong, and then the same seed made smaller: with what
peers and without what faults it still fails. The status is then 1.
";

/// Seeds where nothing else is said, and the most that a planted bug may take.
const SEEDS: u64 = 1000;
const PLANTED_SEEDS: u64 = 500;

/// What is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) start: u64,
    pub(crate) seeds: u64,
    /// How many worlds are lived through at once; 0 is one for each processor.
    pub(crate) jobs: usize,
    /// Whether the first seed that fails is the last.
    pub(crate) first: bool,
    /// What is left out of each world.
    pub(crate) cut: Cut,
    /// Where the capture of the only seed goes.
    pub(crate) pcap: Option<PathBuf>,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Help,
    Run(Options),
    /// To find planted bugs, or the one of this name.
    Planted(Options, Option<String>),
    /// To name the planted bugs.
    List,
}

/// Reads the arguments.
pub(crate) fn read(arguments: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut arguments = arguments.peekable();
    let (mut start, mut seeds, mut jobs, mut first) = (None, None, None, false);
    let (mut planted, mut name) = (false, None);
    let (mut cut, mut pcap) = (Cut::default(), None);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} {value}: not a number"))
        };
        match argument.as_str() {
            "--help" | "-h" => return Ok(Wish::Help),
            "--list" => return Ok(Wish::List),
            "--first" => first = true,
            "--planted" => {
                planted = true;
                name = arguments.next_if(|next| !next.starts_with('-'));
            }
            "--seeds" => seeds = Some(number()?),
            "--start" => start = Some(number()?),
            "--jobs" => jobs = Some(number()?),
            "--seed" => (start, seeds) = (Some(number()?), Some(1)),
            "--peers" => cut.peers = Some(usize::try_from(number()?).unwrap_or(usize::MAX).max(1)),
            "--without" => {
                let kinds = arguments.next().ok_or("--without needs kinds of faults")?;
                cut.without = kinds.parse::<Kinds>()?.0;
            }
            "--pcap" => {
                pcap = Some(PathBuf::from(arguments.next().ok_or("--pcap needs a file")?));
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let (start, otherwise) = (start.unwrap_or(1), if planted { PLANTED_SEEDS } else { SEEDS });
    let seeds = seeds.unwrap_or(otherwise);
    if seeds == 0 {
        return Err("--seeds must be at least 1".to_owned());
    }
    if start.checked_add(seeds).is_none() {
        return Err("there are no seeds beyond 18446744073709551615".to_owned());
    }
    let jobs = match jobs {
        Some(0) => return Err("--jobs must be at least 1".to_owned()),
        Some(jobs) => usize::try_from(jobs).map_err(|_| format!("--jobs {jobs}: too many"))?,
        None => 0,
    };
    if pcap.is_some() && seeds != 1 {
        return Err("--pcap needs --seed: a capture is of one world".to_owned());
    }
    let options = Options { start, seeds, jobs, first, cut, pcap };
    Ok(if planted { Wish::Planted(options, name) } else { Wish::Run(options) })
}
