//! Several threads at tasks that bring further ones.

use std::num::NonZeroUsize;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use crate::disk::DiskError;

/// More do not help: the file system's journal is one.
const WORKERS: usize = 4;

/// Does all tasks, and those that come of them, the latest first; stops at the first failure.
pub(super) fn work<T: Send>(
    tasks: Vec<T>,
    each: impl Fn(T) -> Result<Vec<T>, DiskError> + Sync,
) -> Result<(), DiskError> {
    let pool = Pool {
        queue: Mutex::new(Queue {
            tasks,
            busy: 0,
            failure: None,
        }),
        changed: Condvar::new(),
    };
    let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 1..workers.min(WORKERS) {
            scope.spawn(|| pool.work(&each));
        }
        pool.work(&each);
    });
    let queue = pool.queue.into_inner();
    let failure = queue.unwrap_or_else(PoisonError::into_inner).failure;
    failure.map_or(Ok(()), Err)
}

struct Pool<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    tasks: Vec<T>,
    busy: usize,
    failure: Option<DiskError>,
}

impl<T> Pool<T> {
    fn work(&self, each: &impl Fn(T) -> Result<Vec<T>, DiskError>) {
        let lock = || self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = lock();
        loop {
            if queue.failure.is_some() {
                break;
            }
            let Some(task) = queue.tasks.pop() else {
                if queue.busy == 0 {
                    break;
                }
                let waited = self.changed.wait(queue);
                queue = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            queue.busy += 1;
            drop(queue);
            let done = each(task);
            queue = lock();
            queue.busy -= 1;
            match done {
                Ok(tasks) => queue.tasks.extend(tasks),
                Err(error) => queue.failure = queue.failure.take().or(Some(error)),
            }
            self.changed.notify_all();
        }
    }
}
