//! Stacks of layers as file systems: to run and copy in, and to read from.
//!
//! The kernel's overlayfs shows a stack at no cost. Where it cannot be used — a store that lies on an
//! overlayfs itself, or on a network's file system — a stack is copied into one tree, and what a step
//! changed in it is found by comparing. Both ways leave the same layers. Which one it is is found by
//! trying, once, when the first stack is wanted: a build that finds everything in its cache needs none.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sandbox::{RootError, RootFs};
use store::{CopiedTree, DiskError, LayerDraft, LayerId, Store};

/// How many copied trees wait for a step that goes on in them. More would keep disk space from others.
const MAX_KEPT: usize = 4;

/// Shows stacks of layers in the way that this machine lets it.
pub struct Stacks {
    store: Store,
    way: OnceLock<Way>,
    tell: Box<Tell>,
    /// Trees that nobody uses, oldest first, with the stacks that they are equal to.
    kept: Mutex<VecDeque<(Vec<PathBuf>, CopiedTree)>>,
}

/// Is told, once, why stacks are copied.
pub type Tell = dyn Fn(&str) + Send + Sync;

#[derive(Clone, Copy, Debug)]
enum Way {
    Overlay,
    Copies,
}

/// Why a stack could not be shown, or what changed on it not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// A layer is missing, or the kernel refused a mount.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The store's disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StackError {
    /// Returns the user's next step, where there is one.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Root(_) => None,
            Self::Disk(error) => error.help(),
        }
    }
}

impl Stacks {
    /// Returns stacks of a store's layers; `tell` hears if they have to be copied.
    pub fn new(store: Store, tell: Box<Tell>) -> Self {
        Self {
            store,
            way: OnceLock::new(),
            tell,
            kept: Mutex::default(),
        }
    }

    fn way(&self) -> Result<Way, StackError> {
        if let Some(way) = self.way.get() {
            return Ok(*way);
        }
        let scratch = self.store.scratch()?;
        let tried = sandbox::rootfs::try_overlay(scratch.path());
        // Said by the thread whose answer counts.
        let mut reason = None;
        let way = *self.way.get_or_init(|| match tried {
            Ok(()) => Way::Overlay,
            Err(error) => {
                reason = Some(error.in_one_line());
                Way::Copies
            }
        });
        if let Some(reason) = reason {
            (self.tell)(&reason);
        }
        Ok(way)
    }

    /// Returns a stack, topmost layer first, as a root that can be changed. Blocks.
    ///
    /// # Errors
    ///
    /// A layer is missing, or the kernel refused.
    pub fn writable(&self, lowers: Vec<PathBuf>) -> Result<Workplace, StackError> {
        let draft = self.store.layers().draft()?;
        match self.way()? {
            Way::Overlay => Ok(Workplace {
                root: RootFs::Layered {
                    lowers,
                    upper: draft.fs().to_owned(),
                    work: draft.work().to_owned(),
                },
                draft,
                copied: None,
            }),
            Way::Copies => {
                let tree = self.copy(&lowers)?;
                Ok(Workplace {
                    root: RootFs::Tree {
                        directory: tree.directory().to_owned(),
                        work: tree.work().to_owned(),
                    },
                    draft,
                    copied: Some((tree, lowers)),
                })
            }
        }
    }

    /// Makes what was collected a layer. Blocks.
    ///
    /// # Errors
    ///
    /// The kernel refused; nothing of it stays.
    pub fn publish(&self, workplace: Workplace) -> Result<LayerId, StackError> {
        let Workplace { draft, copied, .. } = workplace;
        let Some((tree, lowers)) = copied else {
            return Ok(draft.publish()?);
        };
        let layer = draft.publish()?;
        // What comes next may go on where this ended.
        let mut stack = vec![self.store.layers().path(&layer)];
        stack.extend(lowers);
        self.keep(stack, tree);
        Ok(layer)
    }

    /// Returns a stack, topmost layer first, to be read. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Stacks::writable`].
    pub(crate) fn readable(self: &Arc<Self>, lowers: Vec<PathBuf>) -> Result<View, StackError> {
        // One directory shows itself.
        if let ([_], _) | (_, Way::Overlay) = (lowers.as_slice(), self.way()?) {
            return Ok(View::Layers(sandbox::Tree::Layers(lowers)));
        }
        let tree = Some(self.copy(&lowers)?);
        Ok(View::Copy(Lent {
            stacks: Arc::clone(self),
            lowers,
            tree,
        }))
    }

    /// Returns what a bind mount shows of a stack that the step may change, with what has to last as
    /// long as the step; `None` where overlayfs does it. Blocks.
    pub(crate) fn own_copy(&self, lowers: &[PathBuf]) -> Result<Option<CopiedTree>, StackError> {
        match self.way()? {
            Way::Overlay => Ok(None),
            Way::Copies => Ok(Some(self.copy(lowers)?)),
        }
    }

    fn copy(&self, lowers: &[PathBuf]) -> Result<CopiedTree, StackError> {
        let kept = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let at = kept.iter().position(|(stack, _)| stack == lowers);
            at.and_then(|at| kept.remove(at))
        };
        match kept {
            Some((_, tree)) => Ok(tree),
            None => Ok(self.store.layers().copy_tree(lowers)?),
        }
    }

    fn keep(&self, stack: Vec<PathBuf>, tree: CopiedTree) {
        let surplus = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.push_back((stack, tree));
            if kept.len() > MAX_KEPT {
                kept.pop_front()
            } else {
                None
            }
        };
        // Removed without the lock: it takes as long as there are files.
        drop(surplus);
    }
}

impl fmt::Debug for Stacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stacks")
            .field("way", &self.way.get())
            .finish_non_exhaustive()
    }
}

/// A file system that is changed, and the layer that this makes; removed on drop unless published.
#[derive(Debug)]
pub struct Workplace {
    root: RootFs,
    draft: LayerDraft,
    /// The tree that is changed, and the stack that it was equal to.
    copied: Option<(CopiedTree, Vec<PathBuf>)>,
}

impl Workplace {
    /// Returns the root file system.
    pub fn root(&self) -> &RootFs {
        &self.root
    }

    /// Finds out what has changed, once nothing changes it any more. `put_back` are the directories of
    /// a tree whose entries were changed and changed back. Blocks.
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn collect(&mut self, put_back: &[PathBuf]) -> Result<(), StackError> {
        if let Some((tree, lowers)) = &mut self.copied {
            tree.save(&self.draft, lowers, put_back)?;
        }
        Ok(())
    }

    /// Returns the directory with what was collected, in overlayfs's form.
    pub fn changes(&self) -> &Path {
        self.draft.fs()
    }
}

/// A stack that is read.
#[derive(Debug)]
pub(crate) enum View {
    Layers(sandbox::Tree),
    Copy(Lent),
}

/// A copied tree that is given back unchanged.
#[derive(Debug)]
pub(crate) struct Lent {
    stacks: Arc<Stacks>,
    lowers: Vec<PathBuf>,
    tree: Option<CopiedTree>,
}

impl View {
    /// Returns what there is to mount; a copy lasts as long as the view.
    pub(crate) fn tree(&self) -> sandbox::Tree {
        match self {
            Self::Layers(tree) => tree.clone(),
            Self::Copy(Lent { tree, .. }) => {
                let directory = tree.as_ref().map(CopiedTree::directory);
                sandbox::Tree::Directory(directory.map(PathBuf::from).unwrap_or_default())
            }
        }
    }

    /// Returns a handle on the root. Blocks.
    pub(crate) fn open(&self) -> Result<OwnedFd, RootError> {
        sandbox::rootfs::mount_read_only(&self.tree())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(tree) = self.tree.take() {
            self.stacks.keep(std::mem::take(&mut self.lowers), tree);
        }
    }
}
