//! Advisory locks, one for each thing that only one may make at a time.

use std::fs::File;
use std::sync::Arc;

use oci::Digest;

use crate::disk::{DiskError, Kind};
use crate::root::Shared;

/// A lock that is held until it is dropped, or its process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn exclusive(
        shared: &Arc<Shared>,
        kind: Kind,
        key: &Digest,
    ) -> Result<Self, DiskError> {
        todo!("{shared:?} {kind} {key}")
    }

    pub(crate) fn try_exclusive(
        shared: &Arc<Shared>,
        kind: Kind,
        key: &Digest,
    ) -> Result<Option<Self>, DiskError> {
        todo!("{shared:?} {kind} {key}")
    }
}
