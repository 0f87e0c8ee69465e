//! The way up: one rung after another, each on a fresh server where there may be one.

use std::sync::Arc;
use std::time::Duration;

use myriapod::sys;

use super::args::Args;
use super::evidence;
use super::ground::{Ground, Settings, Stop, Verdict};
use super::lessons::{Grade, Lesson, number};
use super::load::unseen;
use super::report::{Outcome, Report};
use super::server::Server;
use super::trace::Trace;
use crate::failure::Failure;

/// A server that ends because of what was done to it does so within this time.
const END: Duration = Duration::from_millis(500);

pub(super) struct Ladder<'a> {
    pub(super) args: &'a Args,
    pub(super) settings: Settings,
    pub(super) server: Server,
    round_trip: Option<Duration>,
    same_machine: bool,
    next: u64,
    /// The rung that failed first; those behind it stand on it.
    broken: Option<&'static str>,
    /// Whether it serves more than one client, as far as that is known.
    serves_next: bool,
}

/// One try.
struct Tried {
    verdict: Verdict,
    trace: Arc<Trace>,
}

impl<'a> Ladder<'a> {
    pub(super) fn new(args: &'a Args, settings: Settings, server: Server) -> Self {
        Self {
            args,
            settings,
            server,
            round_trip: None,
            same_machine: false,
            next: 0,
            broken: None,
            serves_next: true,
        }
    }

    /// Tries all of them, and tells the report of each.
    ///
    /// # Errors
    ///
    /// A server that cannot be started or found, and output that cannot be written.
    pub(super) fn climb(
        mut self,
        rungs: &[&'static Lesson],
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        for &lesson in rungs {
            let begun = sys::now();
            let (outcome, trace) = match self.not_tried(lesson) {
                Some(outcome) => (outcome, Vec::new()),
                None => self.try_twice(lesson)?,
            };
            if matches!(outcome, Outcome::Failed(_)) {
                self.broken = self.broken.or(Some(lesson.name));
                self.serves_next &= !["answers", "next-client"].contains(&lesson.name);
            }
            report.tell(lesson, &outcome, &trace, sys::now().saturating_since(begun))?;
        }
        Ok(())
    }

    /// Why a rung is not even tried.
    fn not_tried(&self, lesson: &Lesson) -> Option<Outcome> {
        let skip = |text: &str| Some(Outcome::Skipped(text.to_owned()));
        if let Some(broken) = self.broken {
            let goes_on = self.args.keep_going || self.args.is_named(lesson);
            if !goes_on || broken == "answers" {
                return Some(Outcome::NotTried(broken));
            }
        }
        if !lesson.services.contains(&self.settings.service) {
            return Some(Outcome::DoesNotApply(unseen(self.settings.service)));
        }
        if self.settings.one_shot && !lesson.one_shot {
            return Some(Outcome::DoesNotApply("does not apply to --one-shot".to_owned()));
        }
        if lesson.slow && !self.args.slow && !self.args.is_named(lesson) {
            return skip("needs --slow");
        }
        if lesson.grade == Grade::Child && !self.server.is_child() {
            return skip("needs --run");
        }
        None
    }

    /// It fails only if it does so twice, each time on a fresh server where there may be one.
    fn try_twice(&mut self, lesson: &'static Lesson) -> Result<(Outcome, Vec<String>), Failure> {
        let first = self.try_once(lesson)?;
        let lines = first.trace.lines();
        let text = match first.verdict {
            Ok(figure) if lesson.name == "stop" => {
                return Ok((Outcome::Told(figure.unwrap_or_default()), lines));
            }
            Ok(figure) => return Ok((Outcome::Passed(figure), lines)),
            Err(Stop::Skip(text)) => return Ok((Outcome::Skipped(text), lines)),
            Err(Stop::Broken(failure)) => return Err(failure),
            Err(Stop::Fail(text)) => text,
        };
        if !self.server.is_child() && self.server.ended(Duration::ZERO, self.same_machine).is_some()
        {
            return Ok((Outcome::Failed(text), lines));
        }
        let second = self.try_once(lesson)?;
        match second.verdict {
            Err(Stop::Fail(text)) => Ok((Outcome::Failed(text), second.trace.lines())),
            Err(Stop::Broken(failure)) => Err(failure),
            _ => Ok((Outcome::Unsure(text), lines)),
        }
    }

    fn try_once(&mut self, lesson: &'static Lesson) -> Result<Tried, Failure> {
        self.server.start(None)?;
        let trace = Arc::new(Trace::start());
        if !self.server.is_child() && self.same_machine {
            let address = self.server.address();
            if !evidence::is_listening(address) {
                let text = "nobody listens any more: start your server again, or use --run";
                return Ok(Tried { verdict: Err(Stop::Skip(text.into())), trace });
            }
        }
        let patience = self.settings.patience.max(self.round_trip.unwrap_or_default() * 100);
        let mut ground = Ground {
            settings: &self.settings,
            server: &mut self.server,
            trace: Arc::clone(&trace),
            patience,
            round_trip: &mut self.round_trip,
            same_machine: &mut self.same_machine,
            next: &mut self.next,
        };
        let mut verdict = (lesson.run)(&mut ground);
        if verdict.is_ok() && lesson.serves_after && self.serves_next {
            verdict = served_after(&mut ground, lesson, verdict);
        }
        if let Err(Stop::Fail(text)) = &mut verdict {
            // The end of the server says more than what the clients saw of it. One that ends only now
            // may do so because our clients have left.
            let is_told = lesson.name == "stop" || text.contains("your server ended");
            if trace.saw_an_end()
                && !is_told
                && let Some(how) = ground.server.ended(END, *ground.same_machine)
            {
                trace.say("server", how.clone());
                *text = match ground.server.is_child() {
                    true => format!("{}, and your server ended ({how})", lesson.deed),
                    false => format!("{}, and {how}", lesson.deed),
                };
            }
        }
        self.server.end();
        Ok(Tried { verdict, trace })
    }
}

/// When a rung is over, a new client is answered, and the server is still there.
fn served_after(ground: &mut Ground<'_>, lesson: &Lesson, verdict: Verdict) -> Verdict {
    match ground.others_served("next") {
        Ok(()) => verdict,
        Err(what) => Err(Stop::Fail(format!("{}; to the next client: {what}", lesson.deed))),
    }
}

/// The command that shows one failure again.
pub(super) fn again(args: &Args, run: Option<&str>, lesson: &Lesson) -> String {
    use super::words::shell;
    let mut text = format!("myriapod check {} {}", shell(args.host()), args.port());
    if args.service != super::service::Service::Echo {
        text += &format!(" -s {}", args.service.name());
    }
    if args.one_shot {
        text += " --one-shot";
    }
    if let Some(run) = run {
        text += &format!(" --run {}", shell(run));
    }
    text + &format!(" --lesson {} --trace", lesson.name)
}

/// Rungs behind each other: `10 to 25`; `None` where some between them are left out.
pub(super) fn range(rungs: &[&Lesson]) -> Option<String> {
    let (first, last) = (number(rungs.first()?), number(rungs.last()?));
    (last - first + 1 == rungs.len()).then(|| format!("{first} to {last}"))
}
