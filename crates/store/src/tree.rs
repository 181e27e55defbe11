//! Copied trees: a stack of layers as one plain directory, for where overlayfs cannot show it.
//!
//! ```text
//! layers ──copy──► tree ──scan──► record ──┐
//!                   │ a step changes it    ├─compare──► layer in overlayfs's form
//!                   ▼                      │
//!                  tree ──scan──► record ──┘
//! ```
//!
//! The layer that comes out is the one that overlayfs would have left for the same step: what was
//! written, linked, or given other attributes, even equal ones; the directories on the way; a sign for
//! everything that is gone. The kernel's own time of change (`ctime`), which no program can set, tells
//! what was touched; so a file whose content changed while its time was put back is found.
//!
//! A tree that has become a layer's is as good as a copy of that stack: the next step goes on in it.
//!
//! One thing is better than with overlayfs, and may show in a layer: names of one file stay names of
//! one file when it is written to through one of them.
//!
//! Copying and scanning look at every file, so several threads share them. Comparing looks at records, and
//! at the files that have changed.
//!
//! Every name is used below a directory handle, and no link is followed.

mod compare;
mod copy;
mod node;
mod pool;
mod record;
mod scan;

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ownership::Owner;

use crate::disk::{self, DiskError, Doing};
use crate::layer::{LayerDraft, Layers};
use crate::scratch::Scratch;
use compare::Change;
use record::Record;
use scan::NullDevices;

/// Deepest directory; every level holds descriptors. Nothing deeper can be packed.
const MAX_DEPTH: usize = 512;

/// A stack of layers, copied into one directory that may be changed; removed on drop.
#[derive(Debug)]
pub struct CopiedTree {
    scratch: Scratch,
    directory: PathBuf,
    work: PathBuf,
    recorded: Record,
}

impl Layers {
    /// Copies a stack of layers, topmost first, into one tree: with owners, modes, times, attributes
    /// and the hard links inside each layer. No file is shared with a layer.
    ///
    /// # Errors
    ///
    /// A layer is missing, the directories are too deep, or the kernel refused.
    pub fn copy_tree(&self, lowers: &[PathBuf]) -> Result<CopiedTree, DiskError> {
        let scratch = self.store().scratch()?;
        let (directory, work) = (scratch.path().join("tree"), scratch.path().join("work"));
        for made in [&directory, &work] {
            std::fs::create_dir(made).doing("creating", made)?;
        }
        copy::stack(lowers, &directory)?;
        let mut tree = CopiedTree {
            scratch,
            directory,
            work,
            recorded: Record::default(),
        };
        tree.renew_root()?;
        tree.recorded = scan::scan(&tree.directory, NullDevices::Skip)?;
        tree.settle()?;
        Ok(tree)
    }
}

impl CopiedTree {
    /// Returns where the tree is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns an empty directory beside it, on the same file system.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Makes what has changed since the tree was copied, or became a layer, the content of `draft`;
    /// `lowers` is the stack that the tree was equal to, topmost first. `put_back` are directories
    /// whose entries were changed and changed back.
    ///
    /// # Errors
    ///
    /// The directories are too deep, or the kernel refused.
    pub fn save(
        &mut self,
        draft: &LayerDraft,
        lowers: &[PathBuf],
        put_back: &[PathBuf],
    ) -> Result<(), DiskError> {
        let put_back: BTreeSet<&Path> = put_back.iter().flat_map(|path| path.ancestors()).collect();
        let now = scan::scan(&self.directory, NullDevices::Remove)?;
        let change = Change {
            before: &self.recorded,
            now: &now,
            lowers,
            put_back: &put_back,
        };
        compare::save(&self.directory, &change, draft.fs())?;
        self.recorded = now;
        self.renew_root()?;
        self.settle()
    }

    /// Gives the root the attributes it has at the start of every step, whatever the layers say.
    fn renew_root(&self) -> Result<(), DiskError> {
        let root = disk::open_directory(&self.directory)?;
        node::clear_attributes(&root).doing("cleaning", &self.directory)?;
        ownership::set(&root, Owner::ROOT).doing("changing the owner of", &self.directory)?;
        std::fs::set_permissions(&self.directory, Permissions::from_mode(0o755))
            .doing("protecting", &self.directory)
    }

    /// Waits until the kernel's clock has left the moment of the last recorded change: one that came
    /// in the same moment would not be seen.
    fn settle(&self) -> Result<(), DiskError> {
        let probe = self.scratch.path().join("clock");
        record::wait_for_clock(&probe, self.recorded.newest)
            .doing("reading the clock of", &self.directory)
    }
}

#[cfg(test)]
mod tests;
