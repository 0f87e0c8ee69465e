//! `--live`: a page to watch while a server or a load runs.
//!
//! The page is one file that loads nothing from elsewhere; a stream of events moves its charts. It
//! reads and never changes anything. A later viewer gets what was before.

mod load;
mod loops;

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::json;

pub(crate) use self::load::Watched;
pub(crate) use self::loops::watch;
use crate::failure::Failure;
use crate::http::{Answer, Site, Speaker, event};
use crate::metrics::not_found;
use crate::terminal::tell;
use crate::units::Place;

/// Seconds that are kept.
const MOST_POINTS: usize = 600;

/// Kinds of ends and errors that are told.
const MOST_COUNTS: usize = 64;

/// Where the page is served: `HOST:PORT`, or a port of 127.0.0.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LivePlace(Place);

impl FromStr for LivePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let on_loopback = text.bytes().all(|byte| byte.is_ascii_digit());
        let place = if on_loopback { &format!("127.0.0.1:{text}") } else { text };
        match place.parse::<Place>() {
            Ok(place) if !place.host.is_empty() => Ok(Self(place)),
            _ => Err("expected HOST:PORT or a port of 127.0.0.1, such as 8080; for all \
                      interfaces, say 0.0.0.0:8080"
                .to_owned()),
        }
    }
}

impl fmt::Display for LivePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.host, self.0.port)
    }
}

/// How values are written.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Count,
    /// Nanoseconds.
    Time,
    Bytes,
    /// 1 is a whole processor.
    Processors,
}

/// A chart of the page.
#[derive(Debug, Serialize)]
struct Chart {
    title: &'static str,
    unit: Unit,
    lines: &'static [&'static str],
}

/// What happened in one second.
#[derive(Debug, Serialize)]
struct Point {
    at_s: f64,
    phase: String,
    /// A value for each line of each chart.
    values: Vec<Vec<Option<f64>>>,
    /// How often each end and error has come so far.
    counts: Vec<(String, u64)>,
}

/// What is on the page.
#[derive(Debug)]
struct Board {
    title: String,
    charts: &'static [Chart],
    /// Each as JSON.
    points: VecDeque<String>,
    /// Why nothing more comes.
    ended: Option<String>,
}

impl Board {
    /// All of it, as JSON.
    fn json(&self) -> String {
        let points: Vec<&str> = self.points.iter().map(String::as_str).collect();
        let head = json!({ "title": self.title, "charts": self.charts });
        format!("{{\"head\":{head},\"points\":[{}]}}", points.join(","))
    }

    /// What a viewer is told first.
    fn begin(&self) -> String {
        let mut said = event("board", &self.json());
        if let Some(ended) = &self.ended {
            said.push_str(&event("ended", &json!(ended).to_string()));
        }
        said
    }
}

/// The page, and who moves it.
pub(crate) struct Live {
    site: Site,
    teller: Teller,
}

/// Moves the page.
#[derive(Clone, Debug)]
struct Teller {
    board: Arc<Mutex<Board>>,
    speaker: Speaker,
}

impl Live {
    /// # Errors
    ///
    /// A place where nobody can listen.
    fn start(place: &LivePlace, title: String, charts: &'static [Chart]) -> Result<Self, Failure> {
        let board = Board { title, charts, points: VecDeque::new(), ended: None };
        let board = Arc::new(Mutex::new(board));
        let shown = Arc::clone(&board);
        let pages = move |path: &str| match path {
            "/" => Answer::Whole("200 OK", "text/html", page(&lock(&shown).json())),
            "/events" => Answer::Stream(lock(&shown).begin()),
            _ => not_found("see /\n"),
        };
        let site = Site::start("live", Some(place.0.clone()), None, Box::new(pages))?;
        for address in &site.addresses {
            tell(format_args!("live at http://{address}/"));
        }
        let teller = Teller { board, speaker: site.speaker() };
        Ok(Self { site, teller })
    }

    /// Nothing more comes, for this reason; viewers are told, and the page is gone.
    ///
    /// # Errors
    ///
    /// A thread that has failed.
    pub(crate) fn end(self, why: &str) -> Result<(), Failure> {
        lock(&self.teller.board).ended = Some(why.to_owned());
        let _ = self.teller.speaker.say(&event("ended", &json!(why).to_string()));
        self.site.stop()
    }
}

impl Teller {
    /// A second is over; says whether the page is still there.
    fn point(&self, mut point: Point) -> bool {
        point.counts.truncate(MOST_COUNTS);
        let Ok(point) = serde_json::to_string(&point) else { return true };
        let said = event("point", &point);
        let mut board = lock(&self.board);
        if board.points.len() == MOST_POINTS {
            board.points.pop_front();
        }
        // First, so that nobody misses it: who begins in between has it twice, and sees that.
        board.points.push_back(point);
        drop(board);
        self.speaker.say(&said).is_ok()
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The page, with what is known so far: it is drawn before the stream begins.
fn page(board: &str) -> String {
    // Within a script, nothing else could end it.
    let board = board.replace('<', "\\u003c");
    include_str!("page.html")
        .replace("{{style}}", myriapod_load::page::STYLE)
        .replace("{{more}}", include_str!("page.css"))
        .replace("{{script}}", include_str!("page.js"))
        // Last, since what it holds comes from elsewhere.
        .replacen("{{board}}", &board, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_page_on_loopback_unless_it_is_asked_otherwise() {
        let place = |text: &str| text.parse::<LivePlace>().map(|place| place.to_string());
        assert_eq!(place("8080"), Ok("127.0.0.1:8080".to_owned()));
        assert_eq!(place("0.0.0.0:8080"), Ok("0.0.0.0:8080".to_owned()));
        assert_eq!(place("[::1]:0"), Ok("::1:0".to_owned()));
        for text in ["", ":8080", "host", "70000", "8080x"] {
            assert!(place(text).is_err(), "{text}");
        }
    }

    #[test]
    fn is_text_of_others_only_text() {
        let evil = "</script><script>alert(1)</script>{{board}}".to_owned();
        let points = VecDeque::from([format!("{{\"phase\":\"{evil}\"}}")]);
        let board = Board { title: evil, charts: &[], points, ended: None };
        let page = page(&board.json());
        assert!(!page.contains("<script>alert"), "it is escaped");
        assert_eq!(page.matches("</script>").count(), 2);
    }

    #[test]
    fn needs_the_page_nothing_from_elsewhere() {
        let page = page("{}");
        for elsewhere in ["http:", "https:", "url(", "@import", " src=", "{{"] {
            assert!(!page.contains(elsewhere), "{elsewhere}");
        }
    }
}
