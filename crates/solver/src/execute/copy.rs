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
mod mode;
mod mounted;
mod place;
mod plan;
mod select;
mod surface;
mod tree;
mod xattr;

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::git::GitSource;
use graph::ignore::Patterns;
use graph::op::{ContextName, CopyItem, CopyOp, Placement, Tree, Unpack};
use oci::Digest;
use rustix::fs::{FileType, OFlags};
use sandbox::identity::Owner;
use serde::Serialize;
use store::layer::apply::{ExtractError, ExtractOptions, Limits};
use store::layer::compress;
use store::{Kind, LayerId, Scratch};

use self::mode::ModeChange;
use self::mounted::Mounted;
use self::place::{Destination, NewFile};
use self::plan::{Plan, PlanError};
use self::select::{Selected, SelectedKind, Source, Time};
use self::surface::{Content, Surface};
use self::tree::Root;
use super::{Executed, Execution, Inputs, Wanted, blocking, root_fs};
use crate::cache_key::{CacheKey, KeyHasher};
use crate::error::SolveErrorKind;
use crate::filesystem::FileSystem;
use crate::remote::{Commit, Download, FetchUrlError, RemoteError};
use crate::solver::{Owners, Packing, Solver};

pub use self::mode::ModeError;
pub use self::place::PlaceError;
pub use self::select::SelectError;

/// Records of the digests of selections.
const SELECTION: Kind = Kind::new("selection");

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source is missing or cannot be read.
    #[error("failed to compute cache key: failed to calculate checksum of {tree}: {source}")]
    Select {
        /// Which tree it was looked for in.
        tree: String,
        /// What is wrong.
        source: SelectError,
        /// Whether it is there, but kept out by an ignore file.
        ignored: bool,
    },
    /// A file cannot be put where it should be.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// `--chmod` is no mode.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// `--chown` names somebody, and there is no file system to look the name up in.
    #[error("invalid user index: -1")]
    NoAccounts,
    /// An archive cannot be unpacked.
    #[error("unpacking {}: {source}", path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ExtractError,
    },
    /// A directory that the user offers cannot be opened.
    #[error("{}: {source}", path.display())]
    Context {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory is referred to that the user does not offer.
    #[error("the build has no context {name:?}")]
    NoContext {
        /// Its name.
        name: ContextName,
    },
}

impl CopyError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Select { ignored: true, .. } => Some(
                "the file is there, but .dockerignore keeps it out of the build context".to_owned(),
            ),
            Self::NoAccounts => {
                Some("use numeric ids: there is no /etc/passwd to look the name up in".to_owned())
            }
            Self::Place(PlaceError::Io { source, .. }) => store::disk::help_with(source),
            Self::Select { .. }
            | Self::Place(PlaceError::NotADirectory { .. } | PlaceError::IsADirectory { .. })
            | Self::Mode(_)
            | Self::Unpack { .. }
            | Self::Context { .. }
            | Self::NoContext { .. } => None,
        }
    }
}

/// What is taken out of a tree.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) parents: bool,
    pub(super) exclude: Vec<String>,
}

/// A directory of the user, opened once for the whole build.
pub(crate) struct OpenContext {
    root: Root,
    ignored: Patterns,
    owners: Owners,
}

/// A tree that files can be selected from.
enum OpenTree {
    Empty,
    Context(Arc<OpenContext>),
    FileSystem(Root),
    /// A checked-out repository, removed when it is no longer needed.
    Fetched {
        root: Root,
        _scratch: Scratch,
    },
}

/// An item whose files are known.
enum Found {
    Files {
        tree: Arc<OpenTree>,
        selected: Vec<Selected>,
    },
    /// Only the digest is known, from an earlier build.
    Remembered {
        tree: Tree,
        request: Request,
    },
    Inline {
        name: String,
        content: String,
    },
    Download {
        file: File,
        download: Arc<Download>,
    },
    /// A tree that is fetched if it is needed.
    Commit {
        source: GitSource,
        commit: Arc<Commit>,
    },
}

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
        let mut digests = Vec::new();
        for item in &op.items {
            let (item, digest) = self.find(op, item, inputs).await?;
            found.push(item);
            digests.push(digest);
        }
        let below = match op.placement {
            Placement::Into => root.clone(),
            Placement::Over => FileSystem::default(),
        };
        let key = CacheKey::of_copy(op, &below, &digests);
        let wanted = Wanted {
            key,
            caching: self.solver.caching,
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
                    Some(layer) => Ok(layer),
                    None => execution.place(&placing, lowers),
                }
            })
            .await
        })
        .await
    }

    /// Makes the layer on disk. Blocks.
    fn place(&self, placing: &Placing, lowers: Vec<PathBuf>) -> Result<LayerId, SolveErrorKind> {
        let draft = self.draft()?;
        let root = Root::new(sandbox::rootfs::mount(&root_fs(&draft, lowers))?);
        placing.on(&root, &mut Mounted::new(&root))?;
        drop(root);
        Ok(draft.publish()?)
    }

    /// Makes the layer as a blob; `None` if it has to be made on disk. Blocks.
    fn pack(
        &self,
        placing: &Placing,
        lowers: &[PathBuf],
        packing: &Packing,
    ) -> Result<Option<LayerId>, SolveErrorKind> {
        let below = sandbox::Tree::Layers(lowers.to_vec());
        let below = Root::new(sandbox::rootfs::mount_read_only(&below)?);
        let mut plan = Plan::new(&below, packing.now);
        placing.on(&below, &mut plan)?;
        let layers = self.solver.store.layers();
        match layers.pack_new(&packing.options, |tar| plan.write(tar)) {
            Ok(layer) => Ok(Some(layer)),
            Err(PlanError::Inexact) => Ok(None),
            Err(PlanError::Source { path, source }) => {
                Err(CopyError::Context { path, source }.into())
            }
            Err(PlanError::Tar(error)) => Err(error.into()),
            Err(PlanError::Record(error)) => Err(error.into()),
            Err(PlanError::Disk(error)) => Err(error.into()),
        }
    }

    /// Finds what an item means and the digest of it.
    async fn find(
        self: &Arc<Self>,
        op: &CopyOp,
        item: &CopyItem,
        inputs: &Inputs,
    ) -> Result<(Found, Digest), SolveErrorKind> {
        match item {
            CopyItem::Inline { name, content } => {
                let mut key = KeyHasher::new("inline");
                key.feed_bytes(name.as_bytes());
                key.feed_bytes(content.as_bytes());
                Ok((
                    Found::Inline {
                        name: name.clone(),
                        content: content.clone(),
                    },
                    key.digest(),
                ))
            }
            CopyItem::Url { url, checksum } => self.find_download(url, checksum.as_deref()).await,
            CopyItem::Git(source) => {
                let commit = self.solver.remotes.commit(source).await?;
                let digest = digest_of_repository(source, &commit, &op.exclude);
                let source = source.clone();
                Ok((Found::Commit { source, commit }, digest))
            }
            CopyItem::Path { tree, path } => {
                let request = Request {
                    path: path.clone(),
                    parents: op.parents,
                    exclude: op.exclude.clone(),
                };
                if let Some(digest) = self.remembered_selection(tree, &request, inputs) {
                    return Ok((
                        Found::Remembered {
                            tree: tree.clone(),
                            request,
                        },
                        digest,
                    ));
                }
                let (tree, selected, digest) = self.select(tree, &request, inputs).await?;
                Ok((Found::Files { tree, selected }, digest))
            }
        }
    }

    async fn find_download(
        &self,
        url: &str,
        checksum: Option<&str>,
    ) -> Result<(Found, Digest), SolveErrorKind> {
        let Solver {
            remotes,
            store,
            caching,
            ..
        } = &*self.solver;
        let download = remotes.download(url, checksum, *caching).await?;
        let (store, blob) = (store.clone(), download.blob);
        let file = blocking(move || store.content().open(&blob))
            .await
            .map_err(|error| RemoteError::from(FetchUrlError::from(error)))?;
        // No `..`: whoever adds a field must decide here whether it changes the result.
        let Download {
            blob,
            name,
            modified,
        } = &*download;
        let mut key = KeyHasher::new("download");
        key.feed("blob", blob);
        key.feed("name", name);
        key.feed("modified", modified);
        Ok((Found::Download { file, download }, key.digest()))
    }

    /// Returns the digest of what `request` takes out of `tree`.
    pub(super) async fn digest_of_tree(
        self: &Arc<Self>,
        tree: &Tree,
        request: &Request,
        inputs: &Inputs,
    ) -> Result<Digest, SolveErrorKind> {
        match self.remembered_selection(tree, request, inputs) {
            Some(digest) => Ok(digest),
            None => Ok(self.select(tree, request, inputs).await?.2),
        }
    }

    /// The digest of a selection from an immutable tree that was made before.
    fn remembered_selection(
        &self,
        tree: &Tree,
        request: &Request,
        inputs: &Inputs,
    ) -> Option<Digest> {
        let Tree::Vertex(id) = tree else { return None };
        let key = CacheKey::of_selection(&inputs.of(Some(*id)), request);
        self.solver.store.records().get(SELECTION, key.digest())
    }

    /// Selects files and computes their digest.
    async fn select(
        self: &Arc<Self>,
        tree: &Tree,
        request: &Request,
        inputs: &Inputs,
    ) -> Result<(Arc<OpenTree>, Vec<Selected>, Digest), SolveErrorKind> {
        let open = Arc::new(self.open(tree, inputs).await?);
        let (shared, threads) = (Arc::clone(&open), self.solver.jobs);
        let asked = request.clone();
        let (selected, digest) = blocking(move || {
            let selected = shared.select(&asked)?;
            let digest = match shared.root() {
                Some(root) => digest::digest(root, &selected, threads),
                None => Ok(KeyHasher::new("empty").digest()),
            };
            let digest = digest.map_err(|source| shared.select_error(source, &asked))?;
            Ok::<_, CopyError>((selected, digest))
        })
        .await?;
        if let Tree::Vertex(id) = tree {
            let key = CacheKey::of_selection(&inputs.of(Some(*id)), request);
            self.solver
                .store
                .records()
                .put(SELECTION, key.digest(), &digest)?;
        }
        Ok((open, selected, digest))
    }

    /// Selects the files of an item of which only the digest is known so far.
    async fn select_late(
        self: &Arc<Self>,
        op: &CopyOp,
        found: Found,
        inputs: &Inputs,
    ) -> Result<Found, SolveErrorKind> {
        let (tree, request) = match found {
            Found::Remembered { tree, request } => (self.open(&tree, inputs).await?, request),
            Found::Commit { source, commit } => {
                let scratch = self.solver.remotes.tree(&source, &commit).await?;
                let root =
                    Root::open_host(scratch.path()).map_err(|source| CopyError::Context {
                        path: scratch.path().to_owned(),
                        source,
                    })?;
                let request = Request {
                    exclude: op.exclude.clone(),
                    ..Request::default()
                };
                let _scratch = scratch;
                (OpenTree::Fetched { root, _scratch }, request)
            }
            found @ (Found::Files { .. } | Found::Inline { .. } | Found::Download { .. }) => {
                return Ok(found);
            }
        };
        let tree = Arc::new(tree);
        let shared = Arc::clone(&tree);
        let selected = blocking(move || shared.select(&request)).await?;
        Ok(Found::Files { tree, selected })
    }

    async fn open(
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
                let handle = blocking(move || {
                    sandbox::rootfs::mount_read_only(&sandbox::Tree::Layers(layers))
                })
                .await?;
                Ok(OpenTree::FileSystem(Root::new(handle)))
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
                    root,
                    ignored: context.ignored.clone(),
                    owners: context.owners,
                }))
            })
            .await?;
        Ok(Arc::clone(open))
    }
}

impl OpenTree {
    fn root(&self) -> Option<&Root> {
        match self {
            Self::Empty => None,
            Self::Context(context) => Some(&context.root),
            Self::FileSystem(root) | Self::Fetched { root, .. } => Some(root),
        }
    }

    fn owners(&self) -> Owners {
        match self {
            Self::Empty | Self::Fetched { .. } => Owners::Root,
            Self::Context(context) => context.owners,
            Self::FileSystem(_) => Owners::Kept,
        }
    }

    fn ignored(&self) -> Option<&Patterns> {
        match self {
            Self::Context(context) if !context.ignored.is_empty() => Some(&context.ignored),
            Self::Context(_) | Self::Empty | Self::FileSystem(_) | Self::Fetched { .. } => None,
        }
    }

    fn select(&self, request: &Request) -> Result<Vec<Selected>, CopyError> {
        self.try_select(request, self.ignored())
            .map_err(|source| self.select_error(source, request))
    }

    fn try_select(
        &self,
        request: &Request,
        ignored: Option<&Patterns>,
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
        };
        source.select(&select::Request {
            path: &request.path,
            parents: request.parents,
            exclude: exclude.as_ref(),
        })
    }

    fn select_error(&self, source: SelectError, request: &Request) -> CopyError {
        let tree = match self {
            Self::Empty => "an empty file system",
            Self::Context(_) => "the build context",
            Self::FileSystem(_) => "the stage",
            Self::Fetched { .. } => "the repository",
        };
        let ignored = matches!(source, SelectError::NotFound { .. })
            && self.ignored().is_some()
            && self.try_select(request, None).is_ok();
        CopyError::Select {
            tree: tree.to_owned(),
            source,
            ignored,
        }
    }
}

/// What is put where.
struct Placing {
    op: CopyOp,
    items: Vec<Found>,
    is_scratch: bool,
}

impl Placing {
    /// Puts all items onto `surface`; `root` has the files that names of owners are looked up in. Blocks.
    fn on<'s>(&'s self, root: &Root, surface: &mut impl Surface<'s>) -> Result<(), SolveErrorKind> {
        let op = &self.op;
        let owner = match &op.chown {
            Some(text) => owner(root.as_fd(), text, self.is_scratch)?,
            None => None,
        };
        let mode: Option<ModeChange> = op
            .chmod
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(CopyError::from)?;
        for item in &self.items {
            // Resolved for each item: an earlier one may have made the directory.
            let destination = Destination::new(surface, &op.destination, owner, mode.as_ref())
                .map_err(CopyError::from)?;
            let target = Target {
                destination: &destination,
                owner,
            };
            match item {
                Found::Files { tree, selected } => {
                    let Some(source) = tree.root() else { continue };
                    for selected in selected {
                        let archive = match op.unpack {
                            Unpack::LocalArchives | Unpack::AllArchives => {
                                local_archive(source, selected)?
                            }
                            Unpack::Never => None,
                        };
                        match archive {
                            Some((archive, path)) => target.unpack(surface, archive, path)?,
                            None => destination
                                .place(surface, source, tree.owners(), selected)
                                .map_err(CopyError::from)?,
                        }
                    }
                }
                Found::Inline { name, content } => {
                    let new = NewFile {
                        name,
                        content: Content::Text(content.clone()),
                        mode: 0o644,
                        modified: None,
                    };
                    destination
                        .place_new(surface, new)
                        .map_err(CopyError::from)?;
                }
                Found::Download { file, download } => {
                    target.download(op.unpack, surface, file, download)?;
                }
                Found::Remembered { .. } | Found::Commit { .. } => {}
            }
        }
        Ok(())
    }
}

/// Returns the archive that a selected file is, if it is one, and its path.
fn local_archive(source: &Root, selected: &Selected) -> Result<Option<(File, PathBuf)>, CopyError> {
    let SelectedKind::File { .. } = &selected.kind else {
        return Ok(None);
    };
    for entry in &selected.entries {
        if entry.meta.kind != FileType::RegularFile {
            continue;
        }
        let path = Path::new("/").join(entry.path.as_path());
        let context_error = |source| CopyError::Context {
            path: path.clone(),
            source,
        };
        let open = || {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            source
                .open(&entry.path, flags)
                .map(File::from)
                .map_err(context_error)
        };
        if compress::is_archive(open()?).map_err(context_error)? {
            return Ok(Some((open()?, path)));
        }
    }
    Ok(None)
}

/// Where an item goes, and whose its files become.
struct Target<'d> {
    destination: &'d Destination<'d>,
    owner: Option<Owner>,
}

impl Target<'_> {
    /// Puts a downloaded file, or what is in it, where it should be.
    fn download<'s>(
        &self,
        unpack: Unpack,
        surface: &mut impl Surface<'s>,
        file: &File,
        download: &Download,
    ) -> Result<(), CopyError> {
        let path = PathBuf::from(&download.name);
        let failed = |source| CopyError::Context {
            path: path.clone(),
            source,
        };
        // A handle of its own would share its offset: it is read once, from the start.
        let mut file = file.try_clone().map_err(failed)?;
        if unpack == Unpack::AllArchives {
            let is_archive = file
                .try_clone()
                .and_then(compress::is_archive)
                .map_err(failed)?;
            file.rewind().map_err(failed)?;
            if is_archive {
                return self.unpack(surface, file, path);
            }
        }
        file.rewind().map_err(failed)?;
        let new = NewFile {
            name: &download.name,
            content: Content::File(file),
            mode: 0o600,
            modified: Some(Time {
                seconds: download.modified.unwrap_or(0),
                nanoseconds: 0,
            }),
        };
        Ok(self.destination.place_new(surface, new)?)
    }

    fn unpack<'s>(
        &self,
        surface: &mut impl Surface<'s>,
        archive: File,
        path: PathBuf,
    ) -> Result<(), CopyError> {
        self.destination.make_directory(surface)?;
        let options = ExtractOptions {
            owner: self.owner.map(|owner| (owner.uid, owner.gid)),
            limits: Limits::STANDARD,
        };
        surface
            .unpack(archive, self.destination.path(), &options)
            .map_err(|source| CopyError::Unpack { path, source })
    }
}

/// What of a repository decides about its files: not where it is, nor what the commit is called.
fn digest_of_repository(source: &GitSource, commit: &Commit, exclude: &[String]) -> Digest {
    let mut key = KeyHasher::new("repository");
    key.feed("commit", &commit.id);
    key.feed("subdirectory", &source.subdirectory);
    key.feed("keep git directory", &source.keep_git_dir);
    key.feed("submodules", &source.submodules);
    key.feed("exclude", exclude);
    if source.keep_git_dir == Some(true) {
        // It stands in the configuration.
        key.feed("remote", &source.remote.address());
    }
    key.digest()
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
