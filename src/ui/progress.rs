//! Progress: what is being done, as it is done.
//!
//! Everything that works reports to one writer thread over a bounded channel, and that thread alone
//! writes to standard error, so lines never mix and nobody who works holds a lock while a slow
//! terminal scrolls.
//!
//! ```text
//! solver events ─┐
//! internal steps ┼─► channel ─► writer thread: Plain (state and text) ─► standard error
//! export events ─┘                    └─► Summary: logs of failed steps, times of all
//! ```

mod plain;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use plain::Plain;

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

/// What a step reports.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Report {
    Started { name: String },
    Output { stream: Stream, bytes: Vec<u8> },
    Transfer { what: String, carried: Carried },
    Note(String),
    Finished(Outcome),
}

enum Message {
    Step {
        step: StepId,
        at: Duration,
        report: Report,
    },
    End,
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
    next_step: AtomicU64,
    sender: SyncSender<Message>,
    writer: Mutex<Option<JoinHandle<Summary>>>,
}

impl Progress {
    /// Starts a writer that shows plain lines on `out`, below `heading`.
    pub(crate) fn plain(heading: &str, out: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(QUEUE);
        let started = Instant::now();
        let plain = Plain::new(heading);
        let writer = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || write(plain, &receiver, out, started))?;
        Ok(Self {
            shared: Arc::new(Shared {
                started,
                next_step: AtomicU64::new(0),
                sender,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// Starts a writer that shows nothing, but remembers what failed.
    pub(crate) fn quiet() -> std::io::Result<Self> {
        Self::plain("", std::io::sink())
    }

    /// Returns the identity of a step that is yet to start.
    pub(crate) fn new_step(&self) -> StepId {
        StepId(self.shared.next_step.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts a step. If it is dropped before it is finished it counts as cancelled.
    pub(crate) fn start(&self, name: impl Into<String>) -> Step {
        let id = self.new_step();
        self.started(id, name);
        Step {
            progress: self.clone(),
            id,
            ended: false,
        }
    }

    /// Says that a step has started.
    pub(crate) fn started(&self, step: StepId, name: impl Into<String>) {
        self.send(step, Report::Started { name: name.into() });
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
        if self
            .shared
            .sender
            .send(Message::Step { step, at, report })
            .is_err()
        {
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

/// Shows what arrives until the end is announced.
///
/// An output that cannot be written to (a closed pipe) must not stop the build: the rest is shown
/// to nobody.
fn write(
    mut plain: Plain,
    messages: &Receiver<Message>,
    mut out: impl Write,
    started: Instant,
) -> Summary {
    let mut broken = false;
    loop {
        let mut ended = false;
        let mut next = match plain.holds_back() {
            true => messages.recv_timeout(TICK),
            false => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        loop {
            match next {
                Ok(Message::Step { step, at, report }) => plain.take(step, at, report),
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => ended = true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            match messages.try_recv() {
                Ok(message) if !ended => next = Ok(message),
                Ok(_) | Err(_) => break,
            }
        }
        if ended {
            plain.cancel_rest(started.elapsed());
        }
        let text = plain.show(started.elapsed(), ended);
        if !text.is_empty() && !broken {
            broken = out
                .write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .is_err();
        }
        if ended {
            return plain.summary();
        }
    }
}
