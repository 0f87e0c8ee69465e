//! The page of a load: `bench --live`.

use myriapod_load::Now;
use myriapod_machine::figures::grouped;

use super::{Chart, Live, LivePlace, Point, Unit};
use crate::failure::Failure;

const CHARTS: [Chart; 5] = [
    Chart { title: "Connections", unit: Unit::Count, lines: &["open", "being opened"] },
    Chart { title: "Answers a second", unit: Unit::Count, lines: &["right"] },
    Chart { title: "Response time", unit: Unit::Time, lines: &["p99", "p50"] },
    Chart { title: "Memory of the server", unit: Unit::Bytes, lines: &["resident"] },
    Chart { title: "Processors", unit: Unit::Processors, lines: &["server", "bench"] },
];

/// The page of a load, and what moves it.
pub(crate) struct Watched(Live);

impl Watched {
    /// # Errors
    ///
    /// A place where nobody can listen.
    pub(crate) fn start(place: &LivePlace, title: String) -> Result<Self, Failure> {
        Live::start(place, title, &CHARTS).map(Self)
    }

    /// A second is over.
    #[expect(clippy::cast_precision_loss, reason = "for a picture")]
    pub(crate) fn second(&self, now: &Now<'_>) {
        let (point, snapshot) = (now.point, now.snapshot);
        let some = |number: u64| Some(number as f64);
        let time = |ns: Option<u64>| ns.map(|ns| ns as f64);
        let rss = point.server_rss_bytes.map(|bytes| bytes as f64);
        let messages = &snapshot.messages;
        let counts = [
            ("replies lost", messages.lost),
            ("replies wrong", messages.wrong),
            ("replies late", messages.late),
            ("replies duplicate", messages.duplicate),
            ("slow connections closed by the server", snapshot.slow_closed),
        ];
        let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count));
        let errors = snapshot
            .errors()
            .map(|(phase, call, errno, count)| (format!("{call} {errno} ({phase})"), count));
        self.0.teller.point(Point {
            at_s: point.at_s,
            phase: point.phase.clone(),
            values: vec![
                vec![some(snapshot.open), some(snapshot.connecting)],
                vec![Some(point.rate)],
                vec![time(point.p99_ns), time(point.p50_ns)],
                vec![rss],
                vec![point.server_cpus, Some(point.bench_cpus)],
            ],
            counts: counts.chain(errors).filter(|(_, count)| *count > 0).collect(),
        });
    }

    /// The run is over.
    ///
    /// # Errors
    ///
    /// A thread that has failed.
    pub(crate) fn end(self, why: &str, answered: u64) -> Result<(), Failure> {
        self.0.end(&format!("{why}: {} answered rightly", grouped(answered)))
    }
}
