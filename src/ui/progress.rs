//! Progress: what is being done, as it is done.
//!
//! Everything that works reports to one writer thread over a bounded channel, and that thread alone
//! writes to standard error, so lines never mix and nobody who works holds a lock while a slow
//! terminal scrolls.
//!
//! ```text
//! solver events ─┐                            ┌─► Plain | Tty | RawJson ─► standard error
//! internal steps ┼─► channel ─► writer thread: Record
//! export events ─┘                            └─► Summary: logs of failed steps, times of all
//! ```

mod palette;
mod plain;
mod rawjson;
mod record;
mod tty;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oci::Digest;
use plain::Plain;
use rawjson::RawJson;
use record::{News, Record};
use tty::Tty;

pub(crate) use palette::Palette;
pub(crate) use rawjson::VertexWarning;
pub(crate) use tty::{Look, Size};

/// How many messages may wait for the writer before those who work have to wait for it.
const QUEUE: usize = 4096;

/// How often the writer looks whether a step that was held back is to be shown now.
const TICK: Duration = Duration::from_millis(50);

/// Identifies a step of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StepId(u64);

/// Which of a process's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was executed.
    Done,
    /// An earlier result served.
    Cached,
    /// It failed.
    Failed(String),
    /// Another one failed, or the user gave up.
    Canceled,
}

/// How far something has been carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    /// Bytes so far.
    pub(crate) current_bytes: u64,
    /// Bytes in all, where known.
    pub(crate) total_bytes: Option<u64>,
    /// Whether that is all of it.
    pub(crate) complete: bool,
}

/// What a step is called, and what it is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Title {
    /// As people read it.
    pub(crate) name: String,
    /// Identifies the work, for programs; that of rbuild's own steps is made from the name.
    pub(crate) digest: String,
    /// The digests of the steps whose results it reads.
    pub(crate) inputs: Vec<String>,
}

impl Title {
    /// Returns the title of a step of rbuild itself.
    pub(crate) fn of(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            digest: Digest::of(name.as_bytes()).to_string(),
            inputs: Vec::new(),
            name,
        }
    }
}

/// What a step reports.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Started { title: Title },
    Output { stream: Stream, bytes: Vec<u8> },
    Transfer { what: String, carried: Carried },
    Note(String),
    Emulated(Phase),
    Finished(Outcome),
}

/// The beginning or the end of a step's emulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its process starts.
    Begin,
    /// Its process has ended.
    End,
}

/// What the time that a step's process runs under emulation is called.
const UNDER_EMULATION: &str = "under emulation";

enum Message {
    Step {
        step: StepId,
        at: Duration,
        report: Report,
    },
    Warning(VertexWarning),
    End,
}

/// How progress is shown.
#[derive(Debug)]
pub(crate) enum Style {
    /// Plain lines.
    Plain,
    /// A display that is drawn anew as things happen, on the terminal that standard error is.
    Tty(Look),
    /// JSON, a line for each report.
    RawJson,
    /// Not at all; but what failed is remembered.
    Nothing,
}

enum Display {
    Plain(Plain),
    Tty(Box<Tty>),
    RawJson(RawJson),
    Nothing,
}

/// A step that failed, with what it had printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedStep {
    /// As progress showed it.
    pub(crate) name: String,
    /// Lines, each after the seconds since the step's start.
    pub(crate) log: Vec<String>,
    /// How many lines before those were let go.
    pub(crate) forgotten_lines: u64,
}

/// How long a step took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StepTime {
    /// As progress showed it.
    pub(crate) name: String,
    /// From its start to its end.
    pub(crate) duration: Duration,
    /// Whether an earlier result served.
    pub(crate) cached: bool,
    /// How much of it its process ran under emulation.
    pub(crate) emulated: Option<Duration>,
}

/// What is left to say when all is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// The steps that failed, in the order in which they did.
    pub(crate) failed: Vec<FailedStep>,
    /// The steps that ended, in the order of their start.
    pub(crate) times: Vec<StepTime>,
}

/// Takes reports of all steps; clones report to the same writer.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    next_step: Arc<AtomicU64>,
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<Summary>>>,
}

impl Progress {
    /// Starts a writer that shows on `out`, below `heading`, what is done.
    pub(crate) fn new(
        style: Style,
        heading: &str,
        out: impl Write + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let started = Instant::now();
        let next_step = Arc::new(AtomicU64::new(0));
        let display = match style {
            Style::Plain => Display::Plain(Plain::new(heading)),
            Style::Tty(look) => Display::Tty(Box::new(Tty::new(look, Arc::clone(&next_step)))),
            Style::RawJson => Display::RawJson(RawJson::new(jiff::Timestamp::now())),
            Style::Nothing => Display::Nothing,
        };
        let writer = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || write(display, &receiver, out, started))?;
        Ok(Self {
            shared: Arc::new(Shared {
                started,
                next_step,
                sender,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// Returns the identity of a step that is yet to start.
    pub(crate) fn new_step(&self) -> StepId {
        StepId(self.shared.next_step.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts a step. If it is dropped before it is finished it counts as cancelled.
    pub(crate) fn start(&self, name: impl Into<String>) -> Step {
        let id = self.new_step();
        self.started(id, Title::of(name));
        Step {
            progress: self.clone(),
            id,
            ended: false,
        }
    }

    /// Says that a step has started.
    pub(crate) fn started(&self, step: StepId, title: Title) {
        self.send(step, Report::Started { title });
    }

    /// Tells programs of something unwise in the Dockerfile; people are told below the progress.
    pub(crate) fn warning(&self, warning: VertexWarning) {
        self.pass(Message::Warning(warning));
    }

    /// Passes on what the process of a step has written.
    pub(crate) fn output(&self, step: StepId, stream: Stream, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        self.send(step, Report::Output { stream, bytes });
    }

    /// Says how much of `what` a step has carried.
    pub(crate) fn transfer(&self, step: StepId, what: impl Into<String>, carried: Carried) {
        let what = what.into();
        self.send(step, Report::Transfer { what, carried });
    }

    /// Says something about a step, in one line.
    pub(crate) fn note(&self, step: StepId, text: String) {
        self.send(step, Report::Note(text));
    }

    /// Says that the process of a step starts to run under emulation, or has ended.
    pub(crate) fn emulated(&self, step: StepId, phase: Phase) {
        self.send(step, Report::Emulated(phase));
    }

    /// Says how a step ended.
    pub(crate) fn finished(&self, step: StepId, outcome: Outcome) {
        self.send(step, Report::Finished(outcome));
    }

    /// Ends the writer when it has written everything; a second call finds nothing to tell.
    pub(crate) fn end(&self) -> Summary {
        let writer = self.shared.writer.lock();
        let writer = writer.unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else {
            return Summary::default();
        };
        // The writer leaves only at this message, or by a panic, which joining passes on.
        if self.shared.sender.send(Message::End).is_err() {
            tracing::debug!("the progress writer is gone");
        }
        match writer.join() {
            Ok(summary) => summary,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn send(&self, step: StepId, report: Report) {
        let at = self.shared.started.elapsed();
        self.pass(Message::Step { step, at, report });
    }

    fn pass(&self, message: Message) {
        if self.shared.sender.send(message).is_err() {
            tracing::debug!("a step reports after the end of progress");
        }
    }
}

/// A step of rbuild itself, such as reading the Dockerfile.
#[derive(Debug)]
pub(crate) struct Step {
    progress: Progress,
    id: StepId,
    ended: bool,
}

impl Step {
    /// Returns its identity.
    pub(crate) fn id(&self) -> StepId {
        self.id
    }

    /// Says that `what` has been carried, all of it.
    pub(crate) fn carried(&self, what: &str, bytes: u64) {
        let carried = Carried {
            current_bytes: bytes,
            total_bytes: None,
            complete: true,
        };
        self.progress.transfer(self.id, what, carried);
    }

    /// Ends the step.
    pub(crate) fn done(mut self) {
        self.ended = true;
        self.progress.finished(self.id, Outcome::Done);
    }

    /// Ends the step as `result` says, and returns it.
    pub(crate) fn end<T, E: std::fmt::Display>(mut self, result: Result<T, E>) -> Result<T, E> {
        self.ended = true;
        let outcome = match &result {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.progress.finished(self.id, outcome);
        result
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            self.progress.finished(self.id, Outcome::Canceled);
        }
    }
}

impl Display {
    fn take(&mut self, step: StepId, at: Duration, news: News) {
        match self {
            Self::Plain(plain) => plain.take(step, at, news),
            Self::Tty(tty) => tty.take(step, at, news),
            // It takes reports as they are.
            Self::RawJson(_) | Self::Nothing => {}
        }
    }

    /// How long it may take until [`Display::show`] is called again without any news.
    fn patience(&self) -> Option<Duration> {
        match self {
            Self::Plain(plain) => plain.holds_back().then_some(TICK),
            Self::Tty(tty) => Some(tty.pause()),
            Self::RawJson(_) | Self::Nothing => None,
        }
    }

    /// Returns what is to be written now; nothing comes after the last.
    fn show(&mut self, now: Duration, turn: Turn) -> String {
        match self {
            Self::Plain(plain) => plain.show(now, turn == Turn::Last),
            Self::Tty(tty) => tty.show(now, turn),
            Self::RawJson(json) => json.show(),
            Self::Nothing => String::new(),
        }
    }
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Next,
    Last,
}

/// Shows what arrives until the end is announced.
///
/// An output that cannot be written to (a closed pipe) must not stop the build: the rest is shown
/// to nobody.
fn write(
    mut display: Display,
    messages: &Receiver<Message>,
    mut out: impl Write,
    started: Instant,
) -> Summary {
    let mut record = Record::default();
    let mut broken = false;
    loop {
        let mut turn = Turn::Next;
        let mut next = match display.patience() {
            Some(pause) => messages.recv_timeout(pause),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        loop {
            match next {
                Ok(Message::Step { step, at, report }) => {
                    if let Display::RawJson(json) = &mut display {
                        json.take(step, at, &report);
                    }
                    for news in record.take(step, at, report) {
                        display.take(step, at, news);
                    }
                }
                Ok(Message::Warning(warning)) => {
                    if let Display::RawJson(json) = &mut display {
                        json.warning(warning);
                    }
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => turn = Turn::Last,
                Err(RecvTimeoutError::Timeout) => {}
            }
            match messages.try_recv() {
                Ok(message) if turn == Turn::Next => next = Ok(message),
                Ok(_) | Err(_) => break,
            }
        }
        let now = started.elapsed();
        if turn == Turn::Last {
            for (step, news) in record.cancel_rest(now) {
                if let (Display::RawJson(json), News::Ended(outcome)) = (&mut display, &news) {
                    json.take(step, now, &Report::Finished(outcome.clone()));
                }
                display.take(step, now, news);
            }
        }
        let text = display.show(now, turn);
        if !text.is_empty() && !broken {
            broken = out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_err();
        }
        if turn == Turn::Last {
            return record.summary();
        }
    }
}
