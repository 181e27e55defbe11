//! Plain lines, in the shape that users of BuildKit know (`cli-and-outputs.md` §11.2).
//!
//! ```text
//! #5 [2/2] RUN echo hi      header: on first display, and on return from another step
//! #5 0.104 hi               a line of output, after the seconds since the step's start
//! #5 DONE 0.1s
//! ```
//!
//! Several steps run at once, but lines of one step belong together. So one step is *current*: its
//! lines appear as they come, those of the others are held back until it ends, or until they have
//! waited for [`PATIENCE`] and the current one has had its turn for as long. A step that fails is
//! shown at once.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::Duration;

use super::{Carried, FailedStep, Outcome, Report, StepId, StepTime, Stream, Summary};
use crate::ui::printable::{Lines, printable, without_os_numbers};
use crate::ui::units;

const PATIENCE: Duration = Duration::from_secs(1);

/// How long a step that has nothing to say yet waits for its turn: most end sooner, and are then
/// shown in one piece.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the state of a transfer is shown.
const TRANSFER_EVERY: Duration = Duration::from_secs(2);

/// How much of a step's output is kept for the case that it fails.
const LOG_BYTES: usize = 4 << 20;

/// The steps known so far, and what of them has been shown.
#[derive(Debug)]
pub(super) struct Plain {
    text: String,
    steps: BTreeMap<StepId, StepState>,
    shown_steps: u32,
    current: Option<Current>,
    failed: Vec<StepId>,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    step: StepId,
    since: Duration,
}

#[derive(Debug)]
struct StepState {
    name: String,
    started: Duration,
    number: Option<u32>,
    stdout: Lines,
    stderr: Lines,
    transfers: BTreeMap<String, Transfer>,
    /// Lines that are not shown yet; the end of the step, too, is such a line.
    held: Vec<String>,
    /// Since when there is something to show.
    waiting_since: Option<Duration>,
    log: Log,
    ended: Option<Ended>,
    shown_to_the_end: bool,
}

#[derive(Debug)]
struct Ended {
    at: Duration,
    cached: bool,
    failed: bool,
}

#[derive(Debug)]
struct Transfer {
    started: Duration,
    shown: Duration,
    complete: bool,
}

/// The latest lines of a step.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    bytes: usize,
    forgotten_lines: u64,
}

impl Log {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > LOG_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                return;
            };
            self.bytes -= oldest.len();
            self.forgotten_lines += 1;
        }
    }
}

impl StepState {
    fn new(name: &str, started: Duration) -> Self {
        Self {
            name: printable(name).into_owned(),
            started,
            number: None,
            stdout: Lines::default(),
            stderr: Lines::default(),
            transfers: BTreeMap::new(),
            held: Vec::new(),
            waiting_since: Some(started),
            log: Log::default(),
            ended: None,
            shown_to_the_end: false,
        }
    }

    fn output(&mut self, at: Duration, stream: Stream, bytes: &[u8]) {
        let mut whole = Vec::new();
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
        .feed(bytes, |line| whole.push(line));
        for line in whole {
            self.log_line(at, &line);
        }
    }

    fn log_line(&mut self, at: Duration, line: &str) {
        let seconds = at.saturating_sub(self.started).as_secs_f64();
        let line = format!("{seconds:.3} {line}");
        self.log.push(line.clone());
        self.hold(at, line);
    }

    fn transfer(&mut self, at: Duration, what: String, carried: Carried) {
        let transfer = self.transfers.entry(what.clone()).or_insert(Transfer {
            started: at,
            shown: at,
            complete: false,
        });
        let due = carried.complete || at.saturating_sub(transfer.shown) >= TRANSFER_EVERY;
        if transfer.complete || !due {
            return;
        }
        transfer.complete = carried.complete;
        transfer.shown = at;
        let took = at.saturating_sub(transfer.started);
        let line = transfer_line(&what, carried, took);
        self.hold(at, line);
    }

    fn end(&mut self, at: Duration, outcome: &Outcome) {
        for rest in [self.stdout.finish(), self.stderr.finish()]
            .into_iter()
            .flatten()
        {
            self.log_line(at, &rest);
        }
        let took = at.saturating_sub(self.started);
        let line = match outcome {
            Outcome::Done => format!("DONE {}", units::seconds(took)),
            Outcome::Cached => "CACHED".to_owned(),
            Outcome::Failed(message) => {
                format!("ERROR: {}", printable(&without_os_numbers(message)))
            }
            Outcome::Canceled => "CANCELED".to_owned(),
        };
        self.hold(at, line);
        self.ended = Some(Ended {
            at,
            cached: *outcome == Outcome::Cached,
            failed: matches!(outcome, Outcome::Failed(_)),
        });
        if !matches!(outcome, Outcome::Failed(_)) {
            self.log = Log::default();
        }
    }

    fn hold(&mut self, at: Duration, line: String) {
        self.held.push(line);
        self.waiting_since.get_or_insert(at);
    }
}

impl Plain {
    /// Returns the state before the first step; `heading` is shown with it, as step 0.
    pub(super) fn new(heading: &str) -> Self {
        Self {
            text: match heading {
                "" => String::new(),
                heading => format!("#0 {}\n", printable(heading)),
            },
            steps: BTreeMap::new(),
            shown_steps: 0,
            current: None,
            failed: Vec::new(),
        }
    }

    /// Notes what a step reports. Reports after its end, and of steps unheard of, say nothing.
    pub(super) fn take(&mut self, step: StepId, at: Duration, report: Report) {
        if let Report::Started { name } = &report {
            self.steps
                .entry(step)
                .or_insert_with(|| StepState::new(name, at));
            return;
        }
        let Some(state) = self.steps.get_mut(&step).filter(|s| s.ended.is_none()) else {
            return;
        };
        match report {
            Report::Started { .. } => {}
            Report::Output { stream, bytes } => state.output(at, stream, &bytes),
            Report::Transfer { what, carried } => state.transfer(at, what, carried),
            Report::Note(text) => state.hold(at, printable(&text).into_owned()),
            Report::Finished(outcome) => {
                state.end(at, &outcome);
                if let Outcome::Failed(_) = outcome {
                    self.failed.push(step);
                }
            }
        }
    }

    /// Whether something waits for its turn, so that [`Plain::show`] has to be called again.
    pub(super) fn holds_back(&self) -> bool {
        self.steps.values().any(|step| step.waiting_since.is_some())
    }

    /// Ends the steps that have not ended: nobody is left who would.
    pub(super) fn cancel_rest(&mut self, now: Duration) {
        for step in self.steps.values_mut().filter(|step| step.ended.is_none()) {
            step.end(now, &Outcome::Canceled);
        }
    }

    /// Returns the text that is to be written now; `all` leaves nothing held back.
    pub(super) fn show(&mut self, now: Duration, all: bool) -> String {
        if let Some(current) = self.current {
            self.show_step(current.step, now);
        }
        while let Some(step) = self.next_turn(now, all) {
            self.show_step(step, now);
        }
        std::mem::take(&mut self.text)
    }

    pub(super) fn summary(self) -> Summary {
        let failed = self.failed.iter().filter_map(|id| self.steps.get(id));
        let failed = failed
            .map(|step| FailedStep {
                name: step.name.clone(),
                log: step.log.lines.iter().cloned().collect(),
                forgotten_lines: step.log.forgotten_lines,
            })
            .collect();
        let times = self.steps.into_values().filter_map(|step| {
            let ended = step.ended?;
            Some(StepTime {
                name: step.name,
                duration: ended.at.saturating_sub(step.started),
                cached: ended.cached,
            })
        });
        Summary {
            failed,
            times: times.collect(),
        }
    }

    /// The step to become current, if it is anybody's turn.
    ///
    /// Steps that have ended come first, in the order in which they did; then the one that has waited
    /// longest.
    fn next_turn(&self, now: Duration, all: bool) -> Option<StepId> {
        let current = self.current.filter(|current| {
            let step = self.steps.get(&current.step);
            step.is_some_and(|step| step.ended.is_none())
        });
        let may_interrupt = |step: &StepState, since: Duration| match current {
            None => {
                let has_news = step.ended.is_some() || !step.held.is_empty();
                has_news || now.saturating_sub(since) >= SETTLE
            }
            Some(current) => {
                step.ended.as_ref().is_some_and(|ended| ended.failed)
                    || (now.saturating_sub(since) >= PATIENCE
                        && now.saturating_sub(current.since) >= PATIENCE)
            }
        };
        self.steps
            .iter()
            .filter_map(|(&id, step)| Some((id, step, step.waiting_since?)))
            .filter(|(_, step, since)| all || may_interrupt(step, *since))
            .min_by_key(|(id, step, since)| {
                let ended = step.ended.as_ref();
                (ended.is_none(), ended.map_or(*since, |ended| ended.at), *id)
            })
            .map(|(id, ..)| id)
    }

    /// Writes what is held of a step, below its header if another step was shown before.
    fn show_step(&mut self, id: StepId, now: Duration) {
        let Some(step) = self.steps.get(&id) else {
            return;
        };
        if step.waiting_since.is_none() {
            return;
        }
        if self.current.is_none_or(|current| current.step != id) {
            self.move_to(id, now);
        }
        let Some(step) = self.steps.get_mut(&id) else {
            return;
        };
        let number = step.number.unwrap_or_default();
        for line in step.held.drain(..) {
            push_line(&mut self.text, number, &line);
        }
        step.waiting_since = None;
        step.shown_to_the_end = step.ended.is_some();
    }

    /// Leaves the current step and writes the header of another one.
    fn move_to(&mut self, id: StepId, now: Duration) {
        let left = self
            .current
            .and_then(|current| self.steps.get(&current.step));
        if let Some((left, number)) = left.and_then(|left| Some((left, left.number?)))
            && !left.shown_to_the_end
        {
            push_line(&mut self.text, number, "...");
        }
        self.current = Some(Current {
            step: id,
            since: now,
        });
        let next_number = self.shown_steps + 1;
        let Some(step) = self.steps.get_mut(&id) else {
            return;
        };
        let number = *step.number.get_or_insert(next_number);
        self.shown_steps = self.shown_steps.max(number);
        self.text.push('\n');
        push_line(&mut self.text, number, &step.name);
    }
}

fn push_line(text: &mut String, number: u32, line: &str) {
    // Writing to a string has no way to go wrong.
    let _infallible = writeln!(text, "#{number} {line}");
}

fn transfer_line(what: &str, carried: Carried, took: Duration) -> String {
    let mut line = format!(
        "{} {}",
        printable(what),
        units::bytes(carried.current_bytes)
    );
    if let Some(total) = carried.total_bytes {
        line.push_str(" / ");
        line.push_str(&units::bytes(total));
    }
    if took >= Duration::from_millis(50) {
        line.push(' ');
        line.push_str(&units::seconds(took));
    }
    if carried.complete {
        line.push_str(" done");
    }
    line
}

#[cfg(test)]
mod tests;
