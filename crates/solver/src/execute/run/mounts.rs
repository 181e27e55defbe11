//! What a step sees besides its own root: `RUN --mount`, and the script of a heredoc.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use graph::op::{
    self, CacheSharing, CopyItem, CopyOp, FileAttributes, MountKind, Placement, RunOp, SecretMount,
    Tree, Unpack,
};
use oci::Digest;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use sandbox::identity::Owner;
use sandbox::{Bind, Isolation, MountSource};
use store::mounts::{self, CacheMount, CacheMountAttributes, CacheMountIdentity};
use store::{CacheMounts, CopiedTree, Scratch};

use crate::cache_key::{Contents, KeyHasher};
use crate::cdi::Edits;
use crate::error::{MountError, SolveErrorKind};
use crate::execute::copy::Request;
use crate::execute::{Execution, Inputs, blocking};
use crate::filesystem::FileSystem;
use crate::ssh::served::Served;
use crate::stack::View;

/// Where a script with an interpreter line is put.
const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// How the root of a cache is made if nothing is said.
const CACHE_ATTRIBUTES: FileAttributes = FileAttributes {
    mode: 0o755,
    uid: 0,
    gid: 0,
};

/// What a step gets, and what has to last as long as it runs.
#[derive(Default)]
pub(super) struct Mounts {
    pub(super) mounts: Vec<sandbox::Mount>,
    /// Variables that belong to devices.
    pub(super) device_env: Vec<(String, String)>,
    /// Variables with secrets; no others have them.
    pub(super) secret_env: Vec<(String, String)>,
    pub(super) held: Held,
}

/// What is locked, served or to be removed for a step.
#[derive(Default)]
pub(super) struct Held {
    scratch: Vec<Scratch>,
    views: Vec<View>,
    copies: Vec<CopiedTree>,
    caches: BTreeMap<Digest, CacheMount>,
    agents: Vec<Served>,
}

/// A cache that a step wants.
struct Wanted {
    identity: CacheMountIdentity,
    sharing: CacheSharing,
    tree: Tree,
    source: String,
}

impl Execution {
    /// What the bind and cache mounts show at first, in their order.
    pub(super) async fn contents_of_mounts(
        self: &Arc<Self>,
        op: &RunOp,
        inputs: &Inputs,
    ) -> Result<Vec<Contents>, SolveErrorKind> {
        let mut contents = Vec::new();
        for mount in &op.mounts {
            if let MountKind::Bind { tree, source, .. } | MountKind::Cache { tree, source, .. } =
                &mount.kind
            {
                contents.push(self.contents_of_mount(tree, source, inputs).await?);
            }
        }
        Ok(contents)
    }

    async fn contents_of_mount(
        self: &Arc<Self>,
        tree: &Tree,
        source: &str,
        inputs: &Inputs,
    ) -> Result<Contents, SolveErrorKind> {
        match tree {
            Tree::Empty => Ok(KeyHasher::new("empty").digest().into()),
            Tree::Vertex(_) | Tree::Context(_) => {
                let request = Request {
                    path: source.trim_start_matches('/').to_owned(),
                    ..Request::default()
                };
                self.contents_of_tree(tree, &request, inputs).await
            }
        }
    }

    /// Makes what is mounted for the length of the step. `contents` are those of the mounts.
    pub(super) async fn mounts(
        self: &Arc<Self>,
        op: &RunOp,
        contents: &[Contents],
        inputs: &Inputs,
    ) -> Result<Mounts, SolveErrorKind> {
        let digests: Vec<Digest> = contents.iter().map(|content| content.digest).collect();
        let digests = digests.as_slice();
        let mut all = Mounts::default();
        all.held.caches = self.caches(op, digests, inputs).await?;
        let mut digests = digests.iter();
        for op::Mount { target, kind } in &op.mounts {
            let source = match kind {
                MountKind::Tmpfs { size_bytes } => Some(MountSource::Tmpfs {
                    size_bytes: *size_bytes,
                    mode: 0o1777,
                }),
                MountKind::Bind {
                    tree,
                    source,
                    access,
                } => {
                    digests.next();
                    let layers = self.layers_of_mount(tree, source, inputs).await?;
                    let (tree, access) = self.shown(layers, *access, &mut all.held).await?;
                    Some(MountSource::Bind(Bind {
                        tree,
                        path: PathBuf::from(source),
                        access,
                    }))
                }
                MountKind::Cache { access, source, .. } => {
                    let identity = identity(kind, digests.next());
                    let cache = identity.and_then(|it| all.held.caches.get(&it.key()));
                    cache.map(|cache| cache_source(cache, kind, source, *access))
                }
                MountKind::Secret(secret) => self.secret(secret, &mut all.secret_env)?,
                MountKind::Ssh {
                    id,
                    required,
                    attributes,
                } => match self.solver.agents.get(id) {
                    Some(agent) => {
                        let scratch = self.solver.store.scratch()?;
                        let served = Served::start(agent.clone(), scratch, *attributes);
                        let served = served.map_err(|source| SolveErrorKind::Io {
                            doing: "serving the SSH agent",
                            source,
                        })?;
                        let source = served.source();
                        all.held.agents.push(served);
                        Some(source)
                    }
                    None if *required => return Err(MountError::NoAgent { id: id.clone() }.into()),
                    None => None,
                },
            };
            all.mounts.extend(source.map(|source| sandbox::Mount {
                target: PathBuf::from(target),
                source,
            }));
        }
        all.mounts.extend(op.script.as_ref().map(script));
        self.devices(op, &mut all).await?;
        Ok(all)
    }

    /// Adds the devices that are there.
    async fn devices(self: &Arc<Self>, op: &RunOp, all: &mut Mounts) -> Result<(), SolveErrorKind> {
        for request in &op.devices {
            let (execution, request) = (Arc::clone(self), request.clone());
            let found =
                blocking(move || execution.solver.device_directories.find(&request)).await?;
            let Some(Edits { env, nodes, mounts }) = found else {
                continue;
            };
            all.device_env.extend(env);
            all.mounts
                .extend(nodes.into_iter().map(|node| sandbox::Mount {
                    target: node.path,
                    source: MountSource::Device {
                        path: node.host_path,
                    },
                }));
            all.mounts
                .extend(mounts.into_iter().map(|mount| sandbox::Mount {
                    target: mount.path,
                    source: MountSource::Bind(Bind {
                        tree: sandbox::Tree::Directory(PathBuf::from("/")),
                        path: mount.host_path,
                        access: match mount.is_read_only {
                            true => sandbox::Access::ReadOnly,
                            false => sandbox::Access::ReadWrite,
                        },
                    }),
                }));
        }
        Ok(())
    }

    /// What a mount of a stack shows: what a step writes to it is forgotten.
    async fn shown(
        self: &Arc<Self>,
        layers: Vec<PathBuf>,
        access: op::Access,
        held: &mut Held,
    ) -> Result<(sandbox::Tree, sandbox::Access), SolveErrorKind> {
        let stacks = Arc::clone(&self.stacks);
        // Without namespaces nothing can be made read-only.
        let access = match self.solver.isolation {
            Isolation::Full | Isolation::OneId => access,
            Isolation::Chroot => op::Access::ReadWrite,
        };
        match access {
            op::Access::ReadOnly => {
                let view = blocking(move || stacks.readable(layers)).await?;
                let tree = view.tree();
                held.views.push(view);
                Ok((tree, sandbox::Access::ReadOnly))
            }
            op::Access::ReadWrite => {
                let (copy, layers) =
                    blocking(move || stacks.own_copy(&layers).map(|copy| (copy, layers))).await?;
                if let Some(copy) = copy {
                    let tree = sandbox::Tree::Directory(copy.directory().to_owned());
                    held.copies.push(copy);
                    return Ok((tree, sandbox::Access::ReadWrite));
                }
                let directory = self.solver.store.scratch()?;
                let scratch = directory.path().to_owned();
                held.scratch.push(directory);
                let access = sandbox::Access::Discard { scratch };
                Ok((sandbox::Tree::Layers(layers), access))
            }
        }
    }

    /// The layers with the files that a mount shows, topmost first.
    ///
    /// Those of a context are copied first: the step must not see what the ignore file keeps out,
    /// nor who owns the files on this machine.
    async fn layers_of_mount(
        self: &Arc<Self>,
        tree: &Tree,
        source: &str,
        inputs: &Inputs,
    ) -> Result<Vec<PathBuf>, SolveErrorKind> {
        let file_system = match tree {
            Tree::Empty => FileSystem::default(),
            Tree::Vertex(id) => inputs.of(Some(*id)),
            Tree::Context(_) => {
                let path = source.trim_start_matches('/').to_owned();
                let copy = CopyOp {
                    root: None,
                    items: vec![CopyItem::Path {
                        tree: tree.clone(),
                        path,
                    }],
                    destination: source.to_owned(),
                    chown: None,
                    chmod: None,
                    placement: Placement::Over,
                    parents: false,
                    exclude: Vec::new(),
                    unpack: Unpack::Never,
                };
                // Boxed, because a copy could in turn want what a step makes.
                Box::pin(self.copy(&copy, inputs, None)).await?.result
            }
        };
        self.materialize(inputs.vertex, &file_system).await
    }

    /// Takes the caches of a step, by their keys: every one once, and all in one order, so that no
    /// two steps wait for each other.
    async fn caches(
        self: &Arc<Self>,
        op: &RunOp,
        digests: &[Digest],
        inputs: &Inputs,
    ) -> Result<BTreeMap<Digest, CacheMount>, SolveErrorKind> {
        let mut taken = BTreeMap::new();
        for (key, wanted) in wanted_caches(op, digests) {
            let content = match &wanted.tree {
                Tree::Empty => None,
                tree @ (Tree::Context(_) | Tree::Vertex(_)) => {
                    Some(self.layers_of_mount(tree, &wanted.source, inputs).await?)
                }
            };
            let mounts = self.solver.store.cache_mounts();
            let stacks = Arc::clone(&self.stacks);
            let cache = blocking(move || {
                let content = content.map(|layers| stacks.readable(layers)).transpose()?;
                take_cache(&mounts, &wanted, content.as_ref())
            })
            .await?;
            taken.insert(key, cache);
        }
        Ok(taken)
    }

    /// Returns the file with a secret, if there is to be one, and adds the variable.
    fn secret(
        &self,
        secret: &SecretMount,
        env: &mut Vec<(String, String)>,
    ) -> Result<Option<MountSource>, SolveErrorKind> {
        let SecretMount {
            id,
            as_file,
            env: variable,
            required,
            attributes,
        } = secret;
        let value = match self.solver.secrets.get(id) {
            Some(value) => value.reveal(),
            None if *required => return Err(MountError::NoSecret { id: id.clone() }.into()),
            None => return Ok(None),
        };
        if let Some(name) = variable {
            let text = std::str::from_utf8(value)
                .ok()
                .filter(|text| !text.contains('\0'))
                .ok_or_else(|| MountError::SecretNotText {
                    id: id.clone(),
                    variable: name.clone(),
                })?;
            env.push((name.clone(), text.to_owned()));
        }
        let FileAttributes { mode, uid, gid } = *attributes;
        Ok(as_file.then(|| MountSource::File {
            contents: value.to_vec(),
            mode,
            uid,
            gid,
        }))
    }
}

/// The caches that a step wants, each once; where it wants one in several ways, in the strictest.
fn wanted_caches(op: &RunOp, digests: &[Digest]) -> BTreeMap<Digest, Wanted> {
    let mut all: BTreeMap<Digest, Wanted> = BTreeMap::new();
    let with_content = op.mounts.iter().filter(|mount| match mount.kind {
        MountKind::Bind { .. } | MountKind::Cache { .. } => true,
        MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh { .. } => false,
    });
    for (mount, digest) in with_content.zip(digests) {
        let MountKind::Cache {
            sharing,
            tree,
            source,
            ..
        } = &mount.kind
        else {
            continue;
        };
        let Some(identity) = identity(&mount.kind, Some(digest)) else {
            continue;
        };
        let wanted = all.entry(identity.key()).or_insert_with(|| Wanted {
            identity,
            sharing: *sharing,
            tree: tree.clone(),
            source: source.clone(),
        });
        wanted.sharing = match (wanted.sharing, *sharing) {
            (CacheSharing::Locked, _) | (_, CacheSharing::Locked) => CacheSharing::Locked,
            (CacheSharing::Private, _) | (_, CacheSharing::Private) => CacheSharing::Private,
            (CacheSharing::Shared, CacheSharing::Shared) => CacheSharing::Shared,
        };
    }
    all
}

/// What tells a cache apart: `None` for other mounts.
///
/// A cache that starts empty is the same whatever part of it is mounted; of one that starts with
/// files only the part is copied that is mounted.
fn identity(kind: &MountKind, digest: Option<&Digest>) -> Option<CacheMountIdentity> {
    let MountKind::Cache {
        id,
        tree,
        attributes,
        ..
    } = kind
    else {
        return None;
    };
    let FileAttributes { mode, uid, gid } = *attributes;
    Some(CacheMountIdentity {
        id: id.clone(),
        content: match tree {
            Tree::Empty => None,
            Tree::Context(_) | Tree::Vertex(_) => digest.copied(),
        },
        attributes: (*attributes != CACHE_ATTRIBUTES).then_some(CacheMountAttributes {
            mode,
            uid,
            gid,
        }),
    })
}

/// Waits for a cache, and makes it if it is not there. Blocks.
fn take_cache(
    mounts: &CacheMounts,
    wanted: &Wanted,
    content: Option<&View>,
) -> Result<CacheMount, SolveErrorKind> {
    let sharing = match wanted.sharing {
        CacheSharing::Shared => mounts::CacheSharing::Shared,
        CacheSharing::Private => mounts::CacheSharing::Private,
        CacheSharing::Locked => mounts::CacheSharing::Locked,
    };
    let cache = mounts.acquire(&wanted.identity, sharing, || {
        content
            .map(|view| open_content(view, &wanted.source))
            .transpose()
    })?;
    if content.is_none() && wanted.source != "/" {
        let io_error = |error: rustix::io::Errno| SolveErrorKind::Io {
            doing: "opening a cache mount",
            source: error.into(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(cache.path(), flags, Mode::empty()).map_err(io_error)?;
        let owner = Owner { uid: 0, gid: 0 };
        let source = Path::new(&wanted.source);
        sandbox::rootfs::create_dirs(std::os::fd::AsFd::as_fd(&root), source, owner)?;
    }
    Ok(cache)
}

/// Opens the directory that a new cache starts as.
fn open_content(view: &View, source: &str) -> Result<OwnedFd, SolveErrorKind> {
    let root = view.open()?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = sandbox::rootfs::open_below(&root, source, flags, inside);
    directory.map_err(|error| {
        MountError::CacheContent {
            source_path: source.to_owned(),
            source: error.into(),
        }
        .into()
    })
}

fn cache_source(
    cache: &CacheMount,
    kind: &MountKind,
    source: &str,
    access: op::Access,
) -> MountSource {
    let starts_empty = matches!(
        kind,
        MountKind::Cache {
            tree: Tree::Empty,
            ..
        }
    );
    MountSource::Bind(Bind {
        tree: sandbox::Tree::Directory(cache.path().to_owned()),
        path: PathBuf::from(if starts_empty { source } else { "/" }),
        access: match access {
            op::Access::ReadOnly => sandbox::Access::ReadOnly,
            op::Access::ReadWrite => sandbox::Access::ReadWrite,
        },
    })
}

fn script(script: &op::Script) -> sandbox::Mount {
    sandbox::Mount {
        target: PathBuf::from(SCRIPT_DIRECTORY).join(&script.name),
        source: MountSource::Script {
            contents: script.content.clone().into_bytes(),
        },
    }
}
