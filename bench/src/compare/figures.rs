//! What the servers came to, and the tables of it.

use super::counted::Counts;
use super::peers::{Job, Peer, YARDSTICK};
use super::table::{Cell, Table};
use super::timed::Ran;
use super::{MANY, SETTINGS, setting_name, setting_of};
use crate::median;

/// A server that had work for less of the time than this was waiting for its clients.
const BUSY: f64 = 0.9;

/// What one server came to, by setting; the last setting is short connections, which are only timed.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Ratios against the yardstick in the same round.
    cpu: Counts,
    rate: Counts,
    busy: Counts,
    /// Bytes, instructions and calls, as they were counted.
    bytes: Counts,
    pub(crate) instructions: Counts,
    pub(crate) calls: Counts,
    /// The calls by their names at the first setting.
    pub(crate) named: String,
}

impl Figures {
    /// Takes what a run came to, beside the yardstick's in the same round.
    pub(crate) fn keep(&mut self, setting: usize, ran: Ran, base: Ran) {
        let (measured, base) = (ran.measured, base.measured);
        let cpu = measured.cpu_time.as_secs_f64() / base.cpu_time.as_secs_f64();
        self.cpu.entry(setting).or_default().push(cpu);
        let rate = measured.requests_per_second / base.requests_per_second;
        self.rate.entry(setting).or_default().push(rate);
        // A ratio says nothing of the servers where either of them waited.
        self.busy.entry(setting).or_default().push(measured.busy.min(base.busy));
        if let Some(bytes) = ran.bytes {
            self.bytes.entry(setting).or_default().push(bytes);
        }
    }
}

/// The tables of one job.
pub(crate) fn tables(
    job: Job,
    peers: &[Peer],
    figures: &[Figures],
    yardstick: usize,
) -> Vec<Table> {
    let what = match job {
        Job::Raw => "raw echo",
        Job::Echo => "echo of JSON-header messages",
        Job::Search => "searches in JSON-header messages",
    };
    let rows: Vec<(&str, &Figures)> = peers
        .iter()
        .zip(figures)
        .filter(|(peer, _)| peer.name == YARDSTICK || peer.job == job)
        .map(|(peer, figures)| (peer.name, figures))
        .collect();
    let table = |title: &str, settings: &[usize], figure: &dyn Fn(&Figures, usize) -> _| Table {
        title: format!("{title}, {what}"),
        columns: settings.iter().copied().map(setting_name).collect(),
        rows: rows
            .iter()
            .map(|(name, figures)| {
                let cells = settings.iter().map(|setting| figure(figures, *setting)).collect();
                ((*name).to_owned(), cells)
            })
            .collect(),
        drawn: true,
    };
    let base = &figures[yardstick];
    let per_message: Vec<usize> = (0..SETTINGS.len()).collect();
    let timed: Vec<usize> = (0..=SETTINGS.len()).collect();
    let many: Vec<usize> =
        per_message.iter().copied().filter(|at| setting_of(*at).0 >= MANY).collect();
    vec![
        table(
            "Processor time per message / yardstick (less is better)",
            &timed,
            &|figures, setting| Cell::of(figures.cpu.get(&setting)?, false),
        ),
        table("Messages per second / yardstick (more is better)", &timed, &|figures, setting| {
            let waited = median(figures.busy.get(&setting)?) < BUSY;
            Cell::of(figures.rate.get(&setting)?, waited)
        }),
        table(
            "User instructions per message / yardstick (less is better)",
            &per_message,
            &|figures, setting| ratio(&figures.instructions, &base.instructions, setting),
        ),
        table(
            "System calls per message / yardstick (less is better)",
            &per_message,
            &|figures, setting| ratio(&figures.calls, &base.calls, setting),
        ),
        table(
            "Resident memory per idle connection / yardstick (less is better)",
            &many,
            &|figures, setting| ratio(&figures.bytes, &base.bytes, setting),
        ),
        counts(what, &rows, &per_message, &many),
    ]
}

/// What the ratios of what is counted were made from.
fn counts(what: &str, rows: &[(&str, &Figures)], per_message: &[usize], many: &[usize]) -> Table {
    let columns = |what: &'static str, settings: &[usize]| -> Vec<String> {
        settings.iter().map(|setting| format!("{what}, {}", setting_name(*setting))).collect()
    };
    let cells = |figures: &Figures| {
        let mut cells = Vec::new();
        for (counts, settings, places) in [
            (&figures.instructions, per_message, 0),
            (&figures.calls, per_message, 2),
            (&figures.bytes, many, 0),
        ] {
            let each = settings.iter().map(|setting| counts.get(setting));
            cells.extend(
                each.map(|all| all.map(|all| Cell::Text(format!("{:.places$}", median(all))))),
            );
        }
        cells.push((!figures.named.is_empty()).then(|| Cell::Text(figures.named.clone())));
        cells
    };
    Table {
        title: format!("Counted, {what}"),
        columns: [
            columns("instructions", per_message),
            columns("system calls", per_message),
            columns("bytes", many),
            columns("which calls", &per_message[..1]),
        ]
        .concat(),
        rows: rows.iter().map(|(name, figures)| ((*name).to_owned(), cells(figures))).collect(),
        drawn: false,
    }
}

/// Counts against the median of the yardstick's, unless that is nothing.
fn ratio(counts: &Counts, base: &Counts, setting: usize) -> Option<Cell> {
    let base = median(base.get(&setting)?);
    let ratios: Vec<f64> = counts.get(&setting)?.iter().map(|count| count / base).collect();
    (base > 0.0).then(|| Cell::of(&ratios, false))?
}
