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

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::record::{News, carried_text, seconds_text};
use super::{Carried, Outcome, StepId};
use crate::ui::printable::{printable, without_os_numbers};
use crate::ui::units;

const PATIENCE: Duration = Duration::from_secs(1);

/// How long a step that has nothing to say yet waits for its turn: most end sooner, and are then
/// shown in one piece.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the state of a transfer is shown.
const TRANSFER_EVERY: Duration = Duration::from_secs(2);

/// The steps known so far, and what of them has been shown.
#[derive(Debug)]
pub(super) struct Plain {
    text: String,
    steps: BTreeMap<StepId, StepState>,
    shown_steps: u32,
    current: Option<Current>,
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
    transfers: BTreeMap<String, Transfer>,
    /// Lines that are not shown yet; the end of the step, too, is such a line.
    held: Vec<String>,
    /// Since when there is something to show.
    waiting_since: Option<Duration>,
    ended: Option<Ended>,
    shown_to_the_end: bool,
}

#[derive(Debug)]
struct Ended {
    at: Duration,
    failed: bool,
}

#[derive(Debug)]
struct Transfer {
    started: Duration,
    shown: Duration,
    complete: bool,
}

impl StepState {
    fn new(name: &str, started: Duration) -> Self {
        Self {
            name: printable(name).into_owned(),
            started,
            number: None,
            transfers: BTreeMap::new(),
            held: Vec::new(),
            waiting_since: Some(started),
            ended: None,
            shown_to_the_end: false,
        }
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
            failed: matches!(outcome, Outcome::Failed(_)),
        });
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
        }
    }

    /// Notes what is new of a step.
    pub(super) fn take(&mut self, step: StepId, at: Duration, news: News) {
        if let News::Started { title } = &news {
            self.steps.insert(step, StepState::new(&title.name, at));
            return;
        }
        let Some(state) = self.steps.get_mut(&step) else {
            return;
        };
        match news {
            News::Started { .. } => {}
            News::Line { since_start, text } => {
                state.hold(at, format!("{} {text}", seconds_text(since_start)));
            }
            News::Transfer { what, carried } => state.transfer(at, what, carried),
            News::Note(text) => state.hold(at, text),
            News::Ended(outcome) => state.end(at, &outcome),
        }
    }

    /// Whether something waits for its turn, so that [`Plain::show`] has to be called again.
    pub(super) fn holds_back(&self) -> bool {
        self.steps.values().any(|step| step.waiting_since.is_some())
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
    let mut line = format!("{} {}", printable(what), carried_text(carried));
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
