//! A blob that is read while it is written.
//!
//! Unpacking a layer takes longer than fetching it, so it begins with the first bytes that are on disk.
//! They are read back from the file: whoever reads may be slow, and neither the network nor memory has
//! to wait for it. The end is told only once size and digest were found to be what was announced. So
//! whoever has come to the end has read that content, and before it nothing that was read counts.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// How far a blob is.
#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes are in the file, and more may come.
    Growing(u64),
    /// It has so many, and they are what was announced.
    Verified(u64),
    /// It is not what was announced, or nobody writes it any more.
    GivenUp,
}

/// What the writer of a blob tells those who read it.
#[derive(Debug)]
pub(super) struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

impl Progress {
    pub(super) fn at(bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Growing(bytes)),
            changed: Condvar::new(),
        })
    }

    pub(super) fn grown(&self, bytes: u64) {
        self.set(State::Growing(bytes));
    }

    pub(super) fn verified(&self, bytes: u64) {
        self.set(State::Verified(bytes));
    }

    /// Ends it for all readers, unless it was verified.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Growing(_)) {
            *state = State::GivenUp;
            self.changed.notify_all();
        }
    }

    fn set(&self, state: State) {
        *self.lock() = state;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while `is_early` says so, and returns what came then.
    fn wait(&self, is_early: impl Fn(State) -> bool) -> State {
        let waited = self
            .changed
            .wait_while(self.lock(), |state| is_early(*state));
        *waited.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a blob while somebody writes it; reading waits for what has not come yet.
#[derive(Debug)]
pub struct Arriving {
    pub(super) file: File,
    pub(super) progress: Arc<Progress>,
    pub(super) at_byte: u64,
}

impl Arriving {
    /// Waits until the blob is known to be what was announced.
    ///
    /// # Errors
    ///
    /// It is not, or nobody writes it any more.
    pub(crate) fn verified(&self) -> io::Result<()> {
        match self
            .progress
            .wait(|state| matches!(state, State::Growing(_)))
        {
            State::Verified(_) => Ok(()),
            State::Growing(_) | State::GivenUp => Err(given_up()),
        }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let at_byte = self.at_byte;
        let is_early = |state| matches!(state, State::Growing(bytes) if bytes <= at_byte);
        let bytes = match self.progress.wait(is_early) {
            State::Growing(bytes) | State::Verified(bytes) => bytes - at_byte,
            State::GivenUp => return Err(given_up()),
        };
        let most = usize::try_from(bytes).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        let count = self.file.read(&mut buffer[..most])?;
        self.at_byte += count as u64;
        Ok(count)
    }
}

fn given_up() -> io::Error {
    io::Error::other("the blob did not arrive whole")
}
