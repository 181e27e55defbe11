//! COPY and ADD: files put into a file system.
//!
//! ```text
//! items ─► select: every entry ─► digest ─► key ─► hit: that layer
//!                     │                     └ miss: place onto the mounted root
//!                     └────────────────────────────►┘
//! ```
//!
//! What is copied out of another vertex is found without a look at its files when that vertex is
//! the same as before: the digest of a selection is remembered.

mod digest;
mod error;
mod find;
mod index;
mod mode;
mod mounted;
mod open;
mod parallel;
mod place;
mod placing;
mod plan;
mod select;
mod surface;
mod tree;
mod walk;
pub(super) mod xattr;

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use graph::op::{CopyOp, Placement};
use sandbox::identity::Owner;

use self::mounted::Mounted;
use self::placing::Placing;
use self::plan::{Plan, PlanError};
use super::programs::Programs;
use super::{Executed, Execution, Inputs, Made, Wanted, blocking};
use crate::cache_key::CacheKey;
use crate::error::SolveErrorKind;
use crate::filesystem::FileSystem;
use crate::solver::Packing;

pub use self::error::CopyError;
pub(super) use self::find::Request;
pub use self::mode::ModeError;
pub(crate) use self::open::OpenContext;
pub use self::place::PlaceError;
pub use self::select::SelectError;
pub(super) use self::tree::{PlainPath, Root};

impl Execution {
    /// Copies what `op` says, into a layer on disk or, where that is enough, a packed one.
    pub(super) async fn copy(
        self: &Arc<Self>,
        op: &CopyOp,
        inputs: &Inputs,
        packing: Option<Packing>,
    ) -> Result<Executed, SolveErrorKind> {
        let root = inputs.of(op.root);
        let mut found = Vec::new();
        let mut contents = Vec::new();
        for item in &op.items {
            let (item, content) = self.find(op, item, inputs).await?;
            found.push(item);
            contents.push(content);
        }
        let below = match op.placement {
            Placement::Into => root.clone(),
            Placement::Over => FileSystem::default(),
        };
        let key = CacheKey::of_copy(op, &below, &contents);
        let wanted = Wanted {
            vertex: inputs.vertex,
            key,
            caching: inputs.caching,
            packing,
        };
        self.reuse_or(wanted, &root, async || {
            let mut items = Vec::new();
            for item in found {
                items.push(self.select_late(op, item, inputs).await?);
            }
            let lowers = self.materialize(inputs.vertex, &below).await?;
            let placing = Placing {
                op: op.clone(),
                items,
                is_scratch: below.layers().is_empty(),
            };
            let execution = Arc::clone(self);
            blocking(move || {
                let packed = packing.map(|packing| execution.pack(&placing, &lowers, &packing));
                match packed.transpose()?.flatten() {
                    Some(made) => Ok(made),
                    None => execution.place(&placing, lowers),
                }
            })
            .await
        })
        .await
    }

    /// Makes the layer on disk. Blocks.
    fn place(&self, placing: &Placing, lowers: Vec<PathBuf>) -> Result<Made, SolveErrorKind> {
        let mut workplace = self.stacks.writable(lowers)?;
        let root = Root::new(sandbox::rootfs::mount(workplace.root())?);
        let mut mounted = Mounted::new(&root);
        placing.on(&root, &mut mounted)?;
        let programs = mounted.into_programs();
        drop(root);
        workplace.collect(&[])?;
        let layer = self.stacks.publish(workplace)?;
        Ok(Made { layer, programs })
    }

    /// Makes the layer as a blob; `None` if it has to be made on disk. Blocks.
    fn pack(
        &self,
        placing: &Placing,
        lowers: &[PathBuf],
        packing: &Packing,
    ) -> Result<Option<Made>, SolveErrorKind> {
        let view = self.stacks.readable(lowers.to_vec())?;
        let below = Root::new(view.open()?);
        let mut plan = Plan::new(&below, packing.now);
        placing.on(&below, &mut plan)?;
        let layers = self.solver.store.layers();
        let mut programs = Programs::default();
        match layers.pack_new(&packing.options, |tar| plan.write(tar, &mut programs)) {
            Ok(layer) => Ok(Some(Made { layer, programs })),
            Err(PlanError::Inexact) => Ok(None),
            Err(PlanError::Source { path, source }) => {
                Err(CopyError::Context { path, source }.into())
            }
            Err(PlanError::Tar(error)) => Err(error.into()),
            Err(PlanError::Record(error)) => Err(error.into()),
            Err(PlanError::Disk(error)) => Err(error.into()),
        }
    }
}

/// Reads an owner as `--chown` does (`dockerfile.md` §13.5); `None` for no text.
///
/// # Errors
///
/// A name on a file system that has no files to look it up in, or account files that are no files.
pub(super) fn owner(
    root: BorrowedFd<'_>,
    text: &str,
    is_scratch: bool,
) -> Result<Option<Owner>, SolveErrorKind> {
    if text.is_empty() {
        return Ok(None);
    }
    let needs_no_file = |part: &str| {
        part.is_empty() || part == "root" || part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if is_scratch && !text.split(':').all(needs_no_file) {
        return Err(CopyError::NoAccounts.into());
    }
    Ok(Some(sandbox::identity::resolve_owner(root, text)?))
}

#[cfg(test)]
mod tests;
