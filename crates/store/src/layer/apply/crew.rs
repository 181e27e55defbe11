//! Workers that make small files while the archive is read on.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::ExtractError;
use super::applier::explain;
use super::directory::Directory;
use super::node::{self, Attributes, Given, LinkTarget};

/// More do not help: the file system's journal is one.
const WORKERS: usize = 4;
const QUEUE: usize = 64;

/// Something to be made in a directory; where it lies is for messages only.
pub(super) struct Task {
    pub(super) path: PathBuf,
    pub(super) directory: Arc<Directory>,
    pub(super) name: CString,
    pub(super) make: Make,
}

pub(super) enum Make {
    File {
        content: Vec<u8>,
        attributes: Attributes,
        given: Given,
    },
    HardLink(LinkTarget),
}

enum Message {
    Task(Task),
    Fence(Sender<()>),
}

/// The workers, as the reader of the archive sees them.
pub(super) struct Crew {
    queues: Vec<SyncSender<Message>>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    failed: AtomicBool,
    error: Mutex<Option<ExtractError>>,
    pending: AtomicUsize,
}

impl State {
    fn fail(&self, error: ExtractError) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    fn check(&self) -> Result<(), ExtractError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.take().map_or(Ok(()), Err)
    }
}

/// Runs `work` with a crew; returns after the last task, with the first error of either.
pub(super) fn with_crew<T>(
    work: impl FnOnce(&Crew) -> Result<T, ExtractError>,
) -> Result<T, ExtractError> {
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let state = Arc::new(State::default());
    let worked = thread::scope(|scope| {
        let mut queues = Vec::new();
        for _ in 0..workers.min(WORKERS) {
            let (queue, tasks) = sync_channel(QUEUE);
            queues.push(queue);
            let state = Arc::clone(&state);
            scope.spawn(move || run(&tasks, &state));
        }
        let crew = Crew {
            queues,
            state: Arc::clone(&state),
        };
        work(&crew)
    });
    let value = worked?;
    state.check()?;
    Ok(value)
}

impl Crew {
    /// Hands over a task. Those with the same `shard` are done in order.
    pub(super) fn send(&self, shard: u64, task: Task) -> Result<(), ExtractError> {
        self.state.check()?;
        let queue = (shard % self.queues.len() as u64) as usize;
        self.state.pending.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone has panicked, and that ends the whole scope.
        self.queues[queue].send(Message::Task(task)).ok();
        Ok(())
    }

    /// Waits until everything handed over is done.
    pub(super) fn fence(&self) -> Result<(), ExtractError> {
        if self.state.pending.swap(0, Ordering::Relaxed) > 0 {
            let (done, all_done) = channel();
            for queue in &self.queues {
                queue.send(Message::Fence(done.clone())).ok();
            }
            drop(done);
            all_done.iter().for_each(drop);
        }
        self.state.check()
    }
}

fn run(tasks: &Receiver<Message>, state: &State) {
    let mut buffer = vec![0; super::applier::SMALL_BYTES];
    for message in tasks {
        let task = match message {
            Message::Fence(done) => {
                done.send(()).ok();
                continue;
            }
            Message::Task(task) => task,
        };
        // After a failure the queue is only emptied.
        if !state.failed.load(Ordering::Acquire)
            && let Err(error) = perform(task, &mut buffer)
        {
            state.fail(error);
        }
    }
}

fn perform(task: Task, buffer: &mut [u8]) -> Result<(), ExtractError> {
    let Task {
        path,
        directory,
        name,
        make,
    } = task;
    let made = match make {
        Make::File {
            content,
            attributes,
            given,
        } => {
            let content = &mut content.as_slice();
            node::file(&directory, &name, &attributes, given, content, buffer).map(drop)
        }
        Make::HardLink(target) => node::hard_link(&target, &directory, &name)
            .and_then(|_| Directory::release(target.directory)),
    };
    made.and_then(|()| Directory::release(directory))
        .map_err(|error| explain(error, &path))
}
