//! Unfinished work: directories that vanish with the process that made them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::DiskError;
use crate::root::Shared;

/// This process's own directory below `tmp/`, held by a lock.
#[derive(Debug)]
pub(crate) struct Workshop {}

/// A directory for unfinished work on the store's file system; removed with its content on drop.
#[derive(Debug)]
pub struct Scratch {
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn make(shared: &Arc<Shared>) -> Result<Self, DiskError> {
        todo!("{shared:?}")
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
