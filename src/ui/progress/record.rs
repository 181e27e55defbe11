//! What is known of every step, however it is shown: its lines, its end, and what is left to say of
//! it when all is done.
//!
//! Reports come as they please: output in pieces, ends twice. What comes out is [`News`], in order and
//! fit to be shown: after a step's start and before its end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{
    Carried, FailedStep, Outcome, Phase, Report, StepId, StepTime, Stream, Summary, Title,
    UNDER_EMULATION,
};
use crate::ui::printable::{Lines, printable};
use crate::ui::units;

/// How much of a step's output is kept for the case that it fails.
const LOG_BYTES: usize = 4 << 20;

/// Something new about a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It has started.
    Started {
        /// What it is called.
        title: Title,
    },
    /// Its process has written a line.
    Line {
        /// When, after the step's start.
        since_start: Duration,
        /// The line, without terminal orders.
        text: String,
    },
    /// It has carried something.
    Transfer { what: String, carried: Carried },
    /// It has something to say, in one line.
    Note(String),
    /// It has ended.
    Ended(Outcome),
}

/// All steps so far.
#[derive(Debug, Default)]
pub(super) struct Record {
    steps: BTreeMap<StepId, Known>,
    failed: Vec<StepId>,
}

#[derive(Debug)]
struct Known {
    name: String,
    started: Duration,
    stdout: Lines,
    stderr: Lines,
    log: Log,
    /// Since when its process runs under emulation, until that is over.
    emulated_since: Option<Duration>,
    /// How long it did.
    emulated: Option<Duration>,
    ended: Option<Ended>,
}

#[derive(Debug)]
struct Ended {
    at: Duration,
    cached: bool,
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

impl Known {
    fn line(&mut self, at: Duration, text: String) -> News {
        let since_start = at.saturating_sub(self.started);
        self.log
            .push(format!("{} {text}", seconds_text(since_start)));
        News::Line { since_start, text }
    }

    fn output(&mut self, at: Duration, stream: Stream, bytes: &[u8]) -> Vec<News> {
        let mut whole = Vec::new();
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
        .feed(bytes, |line| whole.push(line));
        whole.into_iter().map(|line| self.line(at, line)).collect()
    }

    /// Counts the time under emulation, and tells of it at the end.
    fn emulate(&mut self, at: Duration, phase: Phase) -> Option<News> {
        match phase {
            Phase::Begin => {
                self.emulated_since = Some(at);
                None
            }
            Phase::End => {
                let took = at.saturating_sub(self.emulated_since.take()?);
                *self.emulated.get_or_insert_default() += took;
                let took = units::seconds(took);
                Some(News::Note(format!("{UNDER_EMULATION} {took}")))
            }
        }
    }

    fn end(&mut self, at: Duration, outcome: Outcome) -> Vec<News> {
        let rests = [self.stdout.finish(), self.stderr.finish()];
        let rests = rests.into_iter().flatten();
        let mut news: Vec<News> = rests.map(|rest| self.line(at, rest)).collect();
        self.ended = Some(Ended {
            at,
            cached: outcome == Outcome::Cached,
        });
        if !matches!(outcome, Outcome::Failed(_)) {
            self.log = Log::default();
        }
        news.push(News::Ended(outcome));
        news
    }
}

impl Record {
    /// Notes what a step reports, and returns what is new by it. Reports after its end, and of steps
    /// unheard of, say nothing.
    pub(super) fn take(&mut self, step: StepId, at: Duration, report: Report) -> Vec<News> {
        if let Report::Started { title } = report {
            if self.steps.contains_key(&step) {
                return Vec::new();
            }
            let known = Known {
                name: printable(&title.name).into_owned(),
                started: at,
                stdout: Lines::default(),
                stderr: Lines::default(),
                log: Log::default(),
                emulated_since: None,
                emulated: None,
                ended: None,
            };
            self.steps.insert(step, known);
            return vec![News::Started { title }];
        }
        let Some(known) = self.steps.get_mut(&step).filter(|s| s.ended.is_none()) else {
            return Vec::new();
        };
        match report {
            Report::Started { .. } => Vec::new(),
            Report::Output { stream, bytes } => known.output(at, stream, &bytes),
            Report::Transfer { what, carried } => vec![News::Transfer { what, carried }],
            Report::Note(text) => vec![News::Note(printable(&text).into_owned())],
            Report::Emulated(phase) => known.emulate(at, phase).into_iter().collect(),
            Report::Finished(outcome) => {
                if let Outcome::Failed(_) = outcome {
                    self.failed.push(step);
                }
                known.end(at, outcome)
            }
        }
    }

    /// Ends the steps that have not ended: nobody is left who would.
    pub(super) fn cancel_rest(&mut self, now: Duration) -> Vec<(StepId, News)> {
        let running = self
            .steps
            .iter_mut()
            .filter(|(_, step)| step.ended.is_none());
        let cancel = |(id, step): (&StepId, &mut Known)| {
            let (id, news) = (*id, step.end(now, Outcome::Canceled));
            news.into_iter().map(move |news| (id, news))
        };
        running.flat_map(cancel).collect()
    }

    /// Returns what is left to say when all is done.
    pub(super) fn summary(mut self) -> Summary {
        let failed = self.failed.iter().filter_map(|id| {
            let step = self.steps.get_mut(id)?;
            Some(FailedStep {
                name: step.name.clone(),
                log: std::mem::take(&mut step.log.lines).into(),
                forgotten_lines: step.log.forgotten_lines,
            })
        });
        let failed = failed.collect();
        let times = self.steps.into_values().filter_map(|step| {
            let ended = step.ended?;
            Some(StepTime {
                name: step.name,
                duration: ended.at.saturating_sub(step.started),
                cached: ended.cached,
                emulated: step.emulated,
            })
        });
        Summary {
            failed,
            times: times.collect(),
        }
    }
}

/// The time of a line of output: seconds with three decimals.
pub(super) fn seconds_text(since_start: Duration) -> String {
    format!("{:.3}", since_start.as_secs_f64())
}

/// `1.5MB`, or `1.5MB / 3MB` where the total is known.
pub(super) fn carried_text(carried: Carried) -> String {
    let current = units::bytes(carried.current_bytes);
    match carried.total_bytes {
        Some(total) => format!("{current} / {}", units::bytes(total)),
        None => current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_end() {
        let mut log = Log::default();
        for n in 0..100_000 {
            log.push(format!("{n:0100}"));
        }
        assert!(log.bytes <= LOG_BYTES);
        assert_eq!(log.lines.back(), Some(&format!("{:0100}", 99_999)));
        assert_eq!(log.forgotten_lines, 100_000 - log.lines.len() as u64);
    }
}
