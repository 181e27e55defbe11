//! Cache keys: what makes a result reusable.
//!
//! A key is a digest over everything that the result depends on: the op, and the *content* of what
//! it reads, never the way that content came about. So a base that was pulled again, a stage that
//! ran again to the same files or a context that was only touched do not run anything again.

use graph::op::{CopyOp, Gaining, MakeDirectoryOp, Mount, MountKind, Provisions, RunOp};
use oci::{Digest, Hasher};
use serde::Serialize;

use crate::explain::{KeyPart, Listing, StepKey};
use crate::filesystem::FileSystem;

/// Identifies a result by what it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CacheKey(Digest);

impl CacheKey {
    /// Returns the key as the store's records know it.
    pub(crate) fn digest(&self) -> &Digest {
        &self.0
    }

    /// Returns the key of a process that runs on `root`; `sources` are the contents that its bind
    /// and cache mounts start from, in the order of the mounts.
    pub(crate) fn of_run(op: &RunOp, root: &FileSystem, sources: &[Contents]) -> StepKey {
        // No `..`: whoever adds a field must decide here whether it changes the result.
        let RunOp {
            root: _,
            argv,
            env,
            proxy_env: _,
            cwd,
            user,
            network,
            security,
            hostname,
            mounts,
            devices,
            script,
            provisions,
            platform,
        } = op;
        let Provisions {
            hosts,
            shm_size_bytes,
            limits,
            capabilities,
            gaining,
        } = provisions;
        // An address may be another one on every machine and in every network; whoever adds a host
        // says with its name what it is for.
        let hosts: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let mut key = StepKeyHasher::new("run");
        key.feed("root", &root.identity());
        key.feed("argv", argv);
        key.feed_as("env", env, KeyPart::of_variables(env));
        key.feed("cwd", cwd);
        key.feed("user", user);
        key.feed("network", network);
        key.feed("security", security);
        key.feed("hostname", hostname);
        for mount in mounts {
            feed_mount(&mut key, mount);
        }
        key.feed_contents(sources);
        if !devices.is_empty() {
            key.feed("devices", devices);
        }
        key.feed("script", script);
        key.feed("hosts", &hosts);
        key.feed("shm size", shm_size_bytes);
        key.feed("limits", limits);
        // What steps usually have is in no key.
        if !capabilities.is_empty() {
            key.feed("capabilities", capabilities);
        }
        if *gaining == Gaining::Never {
            key.feed("gaining", gaining);
        }
        key.feed("platform", platform);
        key.finish()
    }

    /// Returns the key of a copy onto `root`; `sources` are the contents selected by the items.
    ///
    /// Where names of owners have to be looked up they are looked up in `root`, which is part of
    /// the key.
    pub(crate) fn of_copy(op: &CopyOp, root: &FileSystem, sources: &[Contents]) -> StepKey {
        let CopyOp {
            root: _,
            items: _,
            destination,
            chown,
            chmod,
            placement,
            parents,
            // What the patterns leave is what `sources` were computed from.
            exclude: _,
            unpack,
        } = op;
        let mut key = StepKeyHasher::new("copy");
        key.feed("root", &root.identity());
        key.feed_contents(sources);
        key.feed("destination", destination);
        key.feed("chown", chown);
        key.feed("chmod", chmod);
        key.feed("placement", placement);
        key.feed("parents", parents);
        key.feed("unpack", unpack);
        key.finish()
    }

    /// Returns the key of a directory made in `root`.
    pub(crate) fn of_make_directory(op: &MakeDirectoryOp, root: &FileSystem) -> StepKey {
        let MakeDirectoryOp {
            root: _,
            path,
            user,
        } = op;
        let mut key = StepKeyHasher::new("make directory");
        key.feed("root", &root.identity());
        key.feed("path", path);
        key.feed("user", user);
        key.finish()
    }

    /// Returns the key of what `selection` takes out of the immutable file system `tree`: it leads
    /// to the content's digest without a look at the files.
    pub(crate) fn of_selection(tree: &FileSystem, selection: &impl Serialize) -> Self {
        let mut key = KeyHasher::new("selection");
        key.feed("tree", &tree.identity());
        key.feed("selection", selection);
        Self(key.digest())
    }
}

/// Feeds everything of a mount but what it contains: that is among the sources.
fn feed_mount(key: &mut StepKeyHasher, mount: &Mount) {
    let Mount { target, kind } = mount;
    let name = format!("mount {target}");
    key.hasher.feed("mount", target);
    match kind {
        MountKind::Bind {
            tree: _,
            source: _,
            access,
        } => key.feed_named("bind", &name, access),
        MountKind::Cache {
            id: _,
            sharing: _,
            tree: _,
            source: _,
            access,
            attributes,
        } => {
            key.feed_named("cache", &name, &(access, attributes));
        }
        MountKind::Tmpfs { .. } | MountKind::Secret(_) | MountKind::Ssh { .. } => {
            key.feed_named("kind", &name, kind);
        }
    }
}

/// What a step reads of one place: files, or what leads to them.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    pub(crate) digest: Digest,
    /// The files, where they are those of a context.
    pub(crate) files: Listing,
}

impl From<Digest> for Contents {
    fn from(digest: Digest) -> Self {
        let files = Listing::default();
        Self { digest, files }
    }
}

/// Computes a step's key, and notes what goes into it.
struct StepKeyHasher {
    hasher: KeyHasher,
    parts: Vec<KeyPart>,
}

impl StepKeyHasher {
    fn new(kind: &str) -> Self {
        Self {
            hasher: KeyHasher::new(kind),
            parts: Vec::new(),
        }
    }

    /// Adds a value under a label that people understand.
    fn feed(&mut self, label: &str, value: &(impl Serialize + ?Sized)) {
        self.feed_named(label, label, value);
    }

    /// Adds a value under a label, and notes it under a name.
    fn feed_named(&mut self, label: &str, name: &str, value: &(impl Serialize + ?Sized)) {
        let json = serde_json::to_vec(value).unwrap_or_default();
        let part = KeyPart::new(name, &json);
        self.feed_as(label, value, std::iter::once(part));
    }

    /// Adds a value under a label, and notes `parts` of it.
    fn feed_as(
        &mut self,
        label: &str,
        value: &(impl Serialize + ?Sized),
        parts: impl IntoIterator<Item = KeyPart>,
    ) {
        self.hasher.feed(label, value);
        self.parts.extend(parts);
    }

    /// Adds the digests of what is read, and notes its files.
    fn feed_contents(&mut self, sources: &[Contents]) {
        let digests: Vec<&Digest> = sources.iter().map(|source| &source.digest).collect();
        let files = sources.iter().flat_map(|source| source.files.parts());
        self.parts.extend(files);
        self.feed("sources", &digests);
    }

    fn finish(self) -> StepKey {
        StepKey {
            key: CacheKey(self.hasher.digest()),
            parts: self.parts,
        }
    }
}

/// Computes a digest over labelled values, so that no two different sequences look alike.
pub(crate) struct KeyHasher(Hasher);

impl KeyHasher {
    /// Version of the keys' meaning: raised when what an op does changes, so that results of
    /// older programs are not taken for results of this one.
    const VERSION: u32 = 1;

    /// Returns a hasher for keys of one kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut hasher = Self(Hasher::new());
        hasher.feed(kind, &Self::VERSION);
        hasher
    }

    /// Adds a value under a label.
    pub(crate) fn feed(&mut self, label: &str, value: &(impl Serialize + ?Sized)) {
        // Plain data with string keys: serialising it has no way to go wrong.
        let json = serde_json::to_vec(value).unwrap_or_default();
        self.feed_bytes(label.as_bytes());
        self.feed_bytes(&json);
    }

    /// Adds bytes, with their length before them.
    pub(crate) fn feed_bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Returns the digest of everything added.
    pub(crate) fn digest(self) -> Digest {
        self.0.finish()
    }
}
