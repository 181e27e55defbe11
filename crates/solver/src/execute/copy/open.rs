//! Trees that are open, so that files can be selected from them.

use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use graph::ignore::Patterns;
use graph::op::{ContextName, Tree};
use oci::Digest;
use store::{Kind, Scratch};
use tokio::sync::OnceCell;
use tracing::debug;

use super::error::CopyError;
use super::find::Request;
use super::index::FileIndex;
use super::select::{self, SelectError, Selected, Source};
use super::tree::Root;
use crate::error::SolveErrorKind;
use crate::execute::{Execution, Inputs, blocking};
use crate::solver::{LocalContext, Owners};
use crate::stack::View;

/// Records of the digests of files.
const FILES: Kind = Kind::new("files");

/// A directory of the user, opened once for the whole build.
pub(crate) struct OpenContext {
    root: Root,
    ignored: Patterns,
    owners: Owners,
    index: Option<Remembered>,
}

/// What the store remembers of the files of a directory.
struct Remembered {
    key: Digest,
    index: FileIndex,
}

/// A tree that files can be selected from.
pub(super) enum OpenTree {
    Empty,
    Context(Arc<OpenContext>),
    /// What a vertex yields; its root is closed before the view ends.
    FileSystem {
        root: Root,
        _view: View,
    },
    /// A checked-out repository, removed when it is no longer needed.
    Fetched {
        root: Root,
        _scratch: Scratch,
    },
}

impl Execution {
    pub(super) async fn open(
        self: &Arc<Self>,
        tree: &Tree,
        inputs: &Inputs,
    ) -> Result<OpenTree, SolveErrorKind> {
        match tree {
            Tree::Empty => Ok(OpenTree::Empty),
            Tree::Context(name) => Ok(OpenTree::Context(self.open_context(name).await?)),
            Tree::Vertex(id) => {
                let file_system = inputs.of(Some(*id));
                if file_system.layers().is_empty() {
                    return Ok(OpenTree::Empty);
                }
                let layers = self.materialize(inputs.vertex, &file_system).await?;
                let stacks = Arc::clone(&self.stacks);
                blocking(move || {
                    let view = stacks.readable(layers)?;
                    let root = Root::new(view.open()?);
                    Ok(OpenTree::FileSystem { root, _view: view })
                })
                .await
            }
        }
    }

    async fn open_context(&self, name: &ContextName) -> Result<Arc<OpenContext>, CopyError> {
        let (Some(cell), Some(context)) = (self.contexts.get(name), self.solver.contexts.get(name))
        else {
            return Err(CopyError::NoContext { name: name.clone() });
        };
        let open = cell
            .get_or_try_init(async || {
                let root =
                    Root::open_host(&context.directory).map_err(|source| CopyError::Context {
                        path: context.directory.clone(),
                        source,
                    })?;
                Ok::<_, CopyError>(Arc::new(OpenContext {
                    index: self.recall_files(&root, context),
                    root,
                    ignored: context.ignored.clone(),
                    owners: context.owners,
                }))
            })
            .await?;
        Ok(Arc::clone(open))
    }

    /// Returns what is remembered of the files of a directory; nothing of one that was made for this
    /// build, as its files will not be there again.
    fn recall_files(&self, root: &Root, context: &LocalContext) -> Option<Remembered> {
        match context.owners {
            Owners::Root => {}
            Owners::Kept => return None,
        }
        let directory = context.directory.canonicalize().ok()?;
        let key = Digest::of(directory.as_os_str().as_bytes());
        let records = self.solver.store.records();
        let index = FileIndex::new(root, self.solver.started, || records.get(FILES, &key))?;
        Some(Remembered { key, index })
    }

    /// Remembers what was found out of the files of directories. That only saves time, so a refusal is
    /// no error.
    pub(crate) async fn remember_files(self: &Arc<Self>) {
        let execution = Arc::clone(self);
        let remember = move || {
            let open = execution.contexts.values().filter_map(OnceCell::get);
            for Remembered { key, index } in open.filter_map(|context| context.index.as_ref()) {
                let Some(record) = index.record() else {
                    continue;
                };
                if let Err(error) = execution.solver.store.records().put(FILES, key, &record) {
                    debug!(%error, "digests of files are not remembered");
                }
            }
        };
        blocking(remember).await;
    }
}

impl OpenTree {
    pub(super) fn root(&self) -> Option<&Root> {
        match self {
            Self::Empty => None,
            Self::Context(context) => Some(&context.root),
            Self::FileSystem { root, .. } | Self::Fetched { root, .. } => Some(root),
        }
    }

    pub(super) fn index(&self) -> Option<&FileIndex> {
        match self {
            Self::Context(context) => Some(&context.index.as_ref()?.index),
            Self::Empty | Self::FileSystem { .. } | Self::Fetched { .. } => None,
        }
    }

    pub(super) fn owners(&self) -> Owners {
        match self {
            Self::Empty | Self::Fetched { .. } => Owners::Root,
            Self::Context(context) => context.owners,
            Self::FileSystem { .. } => Owners::Kept,
        }
    }

    fn ignored(&self) -> Option<&Patterns> {
        match self {
            Self::Context(context) if !context.ignored.is_empty() => Some(&context.ignored),
            Self::Context(_) | Self::Empty | Self::FileSystem { .. } | Self::Fetched { .. } => None,
        }
    }

    /// Selects files, reading directories with up to `threads` threads.
    pub(super) fn select(
        &self,
        request: &Request,
        threads: NonZeroUsize,
    ) -> Result<Vec<Selected>, CopyError> {
        self.try_select(request, self.ignored(), threads)
            .map_err(|source| self.select_error(source, request))
    }

    fn try_select(
        &self,
        request: &Request,
        ignored: Option<&Patterns>,
        threads: NonZeroUsize,
    ) -> Result<Vec<Selected>, SelectError> {
        let Some(root) = self.root() else {
            let path = Path::new("/").join(&request.path);
            return Err(SelectError::NotFound { path });
        };
        let exclude = match request.exclude.as_slice() {
            [] => None,
            patterns => Some(Patterns::new(patterns)?),
        };
        let source = Source {
            root,
            ignored,
            owners: self.owners(),
            threads,
        };
        source.select(&select::Request {
            path: &request.path,
            parents: request.parents,
            exclude: exclude.as_ref(),
        })
    }

    pub(super) fn select_error(&self, source: SelectError, request: &Request) -> CopyError {
        let tree = match self {
            Self::Empty => "an empty file system",
            Self::Context(_) => "the build context",
            Self::FileSystem { .. } => "the stage",
            Self::Fetched { .. } => "the repository",
        };
        let ignored = matches!(source, SelectError::NotFound { .. })
            && self.ignored().is_some()
            && self.try_select(request, None, NonZeroUsize::MIN).is_ok();
        CopyError::Select {
            tree: tree.to_owned(),
            source,
            ignored,
        }
    }
}
