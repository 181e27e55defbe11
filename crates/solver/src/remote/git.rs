//! Trees of git repositories, by the `git` program (`dockerfile.md` §13.12).
//!
//! The program brings the protocols; it is trusted with nothing else. It runs without anybody's
//! configuration, hooks, templates or helpers, speaks one protocol, and never checks anything out:
//! it writes a tar, which is unpacked as every other hostile archive is, below a directory handle.
//! So modes do not depend on the caller's umask, and no link or odd name in a tree leads anywhere.
//! Submodules are repositories like any other: they are fetched one by one, by the same rules.
//!
//! ```text
//! find:  ls-remote ─► commit
//! tree:  fetch --depth=1 ─► <store>/git/<digest of the address> ─► archive ─► scratch directory
//! ```

mod program;

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use graph::git::{self, CheckoutTimes, GitRemote, GitSource, GitUrlError, Submodules};
use oci::Digest;
use store::layer::apply::{self, ExtractError, ExtractOptions, Limits};
use store::{DiskError, Kind, Lock, Scratch, Store};

use crate::execute::blocking;
use program::Git;
pub use program::{GitEnvironment, ProgramError};

/// Locks of the bare repositories, by remote.
const REPOSITORY: Kind = Kind::new("git");

/// How deep submodules may have submodules.
const MAX_SUBMODULE_DEPTH: usize = 16;

/// How many submodules a tree may have in all.
const MAX_SUBMODULES: usize = 1000;

/// A commit that a source was found to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its id, in hexadecimal digits.
    pub id: String,
    /// The id of the tag that led to it.
    tag: Option<String>,
    /// The reference of the remote that led to it; `None` if it was named by its id.
    reference: Option<String>,
}

/// Why the tree of a repository cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The git program failed, or could not be run.
    #[error("{remote}: {source}")]
    Program {
        /// The repository.
        remote: GitRemote,
        /// What it says.
        source: ProgramError,
    },
    /// The remote has no such branch, tag or commit.
    #[error("repository {remote} does not contain ref {reference}")]
    Reference {
        /// The repository.
        remote: GitRemote,
        /// What was looked for.
        reference: String,
    },
    /// The commit is another than was expected.
    #[error("expected checksum to match {expected}, got {found}")]
    Checksum {
        /// How the id should begin.
        expected: String,
        /// The id.
        found: String,
    },
    /// There is no such directory in the tree.
    #[error("{remote}: subdirectory `{path}` of commit {commit} is not a directory")]
    Subdirectory {
        /// The repository.
        remote: GitRemote,
        /// The commit.
        commit: String,
        /// The path.
        path: String,
    },
    /// A submodule cannot be found.
    #[error("{remote}: submodule `{path}`: {why}")]
    Submodule {
        /// The repository that has it.
        remote: GitRemote,
        /// Where it would be.
        path: String,
        /// What is wrong.
        why: SubmoduleError,
    },
    /// The tree holds what is refused.
    #[error("{remote}: {source}")]
    Extract {
        /// The repository.
        remote: GitRemote,
        /// What is refused.
        source: ExtractError,
    },
    /// The store cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A directory of the store cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What is wrong with a submodule.
#[derive(Debug, thiserror::Error)]
pub enum SubmoduleError {
    /// Nothing says where it is.
    #[error("no url found in .gitmodules")]
    NoAddress,
    /// Where it is, is nowhere to go.
    #[error(transparent)]
    Address(#[from] GitUrlError),
    /// Submodules within submodules, more than anybody means.
    #[error("submodules are nested too deep, or too many")]
    TooMany,
}

impl GitError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Program { source, .. } => source.help(),
            Self::Reference { .. } => {
                Some("name a branch, a tag or a complete commit id".to_owned())
            }
            Self::Submodule { .. } => {
                Some("leave submodules out with ?submodules=false behind the address".to_owned())
            }
            Self::Disk(error) => error.help(),
            Self::Checksum { .. }
            | Self::Subdirectory { .. }
            | Self::Extract { .. }
            | Self::Io { .. } => None,
        }
    }
}

impl Commit {
    /// Checks that this is the commit that `source` wants.
    pub(super) fn check(&self, source: &GitSource) -> Result<(), GitError> {
        let Some(expected) = &source.checksum else {
            return Ok(());
        };
        let is_expected = |id: &String| id.starts_with(expected.as_str());
        if is_expected(&self.id) || self.tag.as_ref().is_some_and(is_expected) {
            return Ok(());
        }
        Err(GitError::Checksum {
            expected: expected.clone(),
            found: self.id.clone(),
        })
    }
}

/// Finds the commit that `source` means.
pub(super) async fn find(
    store: &Store,
    environment: &GitEnvironment,
    source: &GitSource,
) -> Result<Commit, GitError> {
    let remote = &source.remote;
    if let Some(id) = source.reference.as_deref().filter(|id| git::is_commit(id)) {
        return Ok(Commit {
            id: id.to_owned(),
            tag: None,
            reference: None,
        });
    }
    let candidates = match &source.reference {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            let below = |prefix: &str| format!("{prefix}{}", name.trim_start_matches(prefix));
            vec![below("refs/"), below("refs/heads/"), below("refs/tags/")]
        }
    };
    let program = Git::new(environment, remote);
    let address = remote.address();
    let mut words = vec!["ls-remote", "-q", "--", address.as_str()];
    let peeled: Vec<String> = candidates
        .iter()
        .map(|name| format!("{name}^{{}}"))
        .collect();
    words.extend(candidates.iter().chain(&peeled).map(String::as_str));
    let nowhere = store.scratch()?;
    let listed = program.run(nowhere.path(), &words).await?;
    let text = String::from_utf8_lossy(&listed);
    let ids: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(id, _)| git::is_commit(id))
        .map(|(id, name)| (name, id))
        .collect();
    for (name, peeled) in candidates.iter().zip(&peeled) {
        if let Some(id) = ids.get(name.as_str()) {
            let commit = ids.get(peeled.as_str());
            return Ok(Commit {
                id: (*commit.unwrap_or(id)).to_owned(),
                tag: commit.map(|_| (*id).to_owned()),
                reference: Some(name.clone()),
            });
        }
    }
    match &source.reference {
        Some(prefix) if git::is_commit_prefix(prefix) => {
            let repository = Repository::open(store, environment, remote, "sha1").await?;
            repository.commit_beginning_with(prefix).await
        }
        reference => Err(GitError::Reference {
            remote: remote.clone(),
            reference: reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        }),
    }
}

/// Fetches the tree of `commit` into a scratch directory.
pub(super) async fn tree(
    store: &Store,
    environment: &GitEnvironment,
    source: &GitSource,
    commit: &Commit,
) -> Result<Scratch, GitError> {
    let scratch = store.scratch()?;
    let mut wanted = vec![Wanted {
        source: source.clone(),
        commit: commit.clone(),
        place: PathBuf::new(),
        depth: 0,
    }];
    let mut count = 0;
    while let Some(next) = wanted.pop() {
        count += 1;
        wanted.extend(
            next.checkout(store, environment, scratch.path(), count)
                .await?,
        );
    }
    Ok(scratch)
}

/// A tree, and where it goes.
struct Wanted {
    source: GitSource,
    commit: Commit,
    place: PathBuf,
    depth: usize,
}

impl Wanted {
    /// Unpacks the tree below `root`; returns its submodules.
    async fn checkout(
        &self,
        store: &Store,
        environment: &GitEnvironment,
        root: &Path,
        count: usize,
    ) -> Result<Vec<Self>, GitError> {
        let remote = &self.source.remote;
        let id = &self.commit.id;
        let format = match id.len() {
            64 => "sha256",
            _ => "sha1",
        };
        let repository = Repository::open(store, environment, remote, format).await?;
        repository.fetch(&self.commit).await?;
        repository.unpack(self, root).await?;
        if self.source.keep_git_dir == Some(true) && self.source.subdirectory.is_empty() {
            repository.keep_git_dir(&self.commit, root).await?;
        }
        if self.source.submodules == Submodules::Omitted {
            return Ok(Vec::new());
        }
        let mut submodules = Vec::new();
        for (path, commit) in repository.submodules(id).await? {
            let Some(below) = below(&path, &self.source.subdirectory) else {
                continue;
            };
            let place = self.place.join(below);
            if self.depth >= MAX_SUBMODULE_DEPTH || count + submodules.len() >= MAX_SUBMODULES {
                return Err(submodule_error(remote, &path, SubmoduleError::TooMany));
            }
            let address = repository.submodule_address(id, &path).await?;
            let address = address
                .ok_or(SubmoduleError::NoAddress)
                .and_then(|address| Ok(remote.relative(&address)?))
                .map_err(|why| submodule_error(remote, &path, why))?;
            submodules.push(Self {
                source: GitSource {
                    remote: address,
                    reference: Some(commit.clone()),
                    subdirectory: String::new(),
                    checksum: None,
                    keep_git_dir: None,
                    submodules: Submodules::Recursive,
                    times: self.source.times,
                },
                commit: Commit {
                    id: commit,
                    tag: None,
                    reference: None,
                },
                place,
                depth: self.depth + 1,
            });
        }
        Ok(submodules)
    }
}

fn submodule_error(remote: &GitRemote, path: &str, why: SubmoduleError) -> GitError {
    GitError::Submodule {
        remote: remote.clone(),
        path: path.to_owned(),
        why,
    }
}

/// Returns `path` as seen from `directory`, if it is below it.
fn below<'p>(path: &'p str, directory: &str) -> Option<&'p str> {
    match directory {
        "" => Some(path),
        directory => path.strip_prefix(directory)?.strip_prefix('/'),
    }
}

/// The bare repository in the store that holds what was fetched of a remote.
struct Repository<'a> {
    program: Git<'a>,
    remote: &'a GitRemote,
    directory: PathBuf,
    /// Nobody else fetches into it.
    _lock: Lock,
}

impl<'a> Repository<'a> {
    /// Opens it, made where it is missing.
    async fn open(
        store: &Store,
        environment: &'a GitEnvironment,
        remote: &'a GitRemote,
        format: &str,
    ) -> Result<Self, GitError> {
        let key = Digest::of(format!("{format} {}", remote.address()).as_bytes());
        let directory = store.root().join("git").join(key.hex());
        let lock = {
            let (store, directory) = (store.clone(), directory.clone());
            blocking(move || {
                let lock = store.lock(REPOSITORY, &key)?;
                prepare(&directory)?;
                Ok::<_, GitError>(lock)
            })
            .await?
        };
        let repository = Self {
            program: Git::new(environment, remote),
            remote,
            directory,
            _lock: lock,
        };
        if !repository.directory.join("HEAD").exists() {
            let format = format!("--object-format={format}");
            let words = ["init", "-q", "--bare", "--template=", &format, "."];
            repository.git(&words).await?;
        }
        Ok(repository)
    }

    async fn git(&self, words: &[&str]) -> Result<Vec<u8>, GitError> {
        self.program.run(&self.directory, words).await
    }

    async fn contains(&self, commit: &str) -> bool {
        let object = format!("{commit}^{{tree}}");
        self.git(&["cat-file", "-e", &object]).await.is_ok()
    }

    /// Fetches `commit` alone; where the server does not give single commits, more.
    async fn fetch(&self, commit: &Commit) -> Result<(), GitError> {
        if self.contains(&commit.id).await {
            return Ok(());
        }
        let address = self.remote.address();
        let first = self
            .fetch_with(&["--depth=1", "--", &address, &commit.id])
            .await;
        let Err(error) = first else { return Ok(()) };
        if error.is_of_access() {
            return Err(error);
        }
        if let Some(reference) = &commit.reference {
            let words = ["--depth=1", "--", &address, reference];
            if self.fetch_with(&words).await.is_ok() && self.contains(&commit.id).await {
                return Ok(());
            }
        }
        self.fetch_all().await?;
        match self.contains(&commit.id).await {
            true => Ok(()),
            false => Err(error),
        }
    }

    async fn fetch_all(&self) -> Result<(), GitError> {
        let address = self.remote.address();
        let mut words = vec!["--force"];
        if self.directory.join("shallow").exists() {
            words.push("--unshallow");
        }
        let heads = "+refs/heads/*:refs/heads/*";
        words.extend(["--", &address, heads, "+refs/tags/*:refs/tags/*"]);
        self.fetch_with(&words).await
    }

    async fn fetch_with(&self, words: &[&str]) -> Result<(), GitError> {
        let fetch = [
            "fetch",
            "-q",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
        ];
        self.git(&[&fetch, words].concat()).await.map(drop)
    }

    async fn commit_beginning_with(&self, prefix: &str) -> Result<Commit, GitError> {
        self.fetch_all().await?;
        let object = format!("{prefix}^{{commit}}");
        let found = self.git(&["rev-parse", "--verify", "-q", &object]).await;
        let id = found.map(|id| String::from_utf8_lossy(&id).trim().to_owned());
        match id {
            Ok(id) if git::is_commit(&id) => Ok(Commit {
                id,
                tag: None,
                reference: None,
            }),
            Ok(_) | Err(_) => Err(GitError::Reference {
                remote: self.remote.clone(),
                reference: prefix.to_owned(),
            }),
        }
    }

    /// Unpacks the tree below `root`.
    async fn unpack(&self, wanted: &Wanted, root: &Path) -> Result<(), GitError> {
        let GitSource {
            subdirectory,
            times,
            ..
        } = &wanted.source;
        let id = &wanted.commit.id;
        let tree = format!("{id}:{subdirectory}");
        // A symlink is no tree, wherever it leads (`threats.md` P10).
        let listed = self.git(&["ls-tree", "--name-only", "-z", &tree]).await;
        let listed = listed.map_err(|error| match subdirectory.as_str() {
            "" => error,
            path => GitError::Subdirectory {
                remote: self.remote.clone(),
                commit: id.clone(),
                path: path.to_owned(),
            },
        })?;
        if listed.is_empty() {
            return Ok(());
        }
        // The times in the archive of a commit are the commit's, of a tree those of the call.
        let archived = match (times, subdirectory.as_str()) {
            (CheckoutTimes::Commit, "") => id.clone(),
            (CheckoutTimes::Commit | CheckoutTimes::Checkout, _) => tree,
        };
        let time = match times {
            CheckoutTimes::Checkout => None,
            CheckoutTimes::Commit => {
                let shown = self.git(&["show", "-s", "--format=%ct", id]).await?;
                Some(format!(
                    "--mtime=@{}",
                    String::from_utf8_lossy(&shown).trim()
                ))
            }
        };
        let mut words = vec!["archive", "--format=tar"];
        words.extend(time.as_deref().filter(|_| !subdirectory.is_empty()));
        words.push(&archived);
        let (root, place) = (root.to_owned(), wanted.place.clone());
        let unpack = move |archive: File| {
            let directory = File::open(&root)?;
            let options = ExtractOptions {
                owner: Some((0, 0)),
                limits: Limits::STANDARD,
            };
            apply::extract(archive, directory.as_fd(), &place, &options)
        };
        self.program
            .pipe(&self.directory, &words, unpack)
            .await?
            .map_err(|source| GitError::Extract {
                remote: self.remote.clone(),
                source,
            })
    }

    /// Makes `.git` in the tree at `root`: that of a shallow clone.
    async fn keep_git_dir(&self, commit: &Commit, root: &Path) -> Result<(), GitError> {
        let inner = Git::local(self.program.environment(), self.remote);
        let directory = root.join(".git");
        std::fs::create_dir(&directory).map_err(|source| GitError::Io {
            path: directory.clone(),
            source,
        })?;
        let format = match commit.id.len() {
            64 => "--object-format=sha256",
            _ => "--object-format=sha1",
        };
        let from = self.directory.to_string_lossy();
        let from = format!("file://{from}");
        let address = self.remote.address();
        let steps: [&[&str]; 6] = [
            &["init", "-q", "--bare", "--template=", format, "."],
            &[
                "fetch",
                "-q",
                "--depth=1",
                "--no-tags",
                "--no-write-fetch-head",
                "--",
                &from,
                &commit.id,
            ],
            &["update-ref", "--no-deref", "HEAD", &commit.id],
            &["config", "core.bare", "false"],
            &["config", "remote.origin.url", &address],
            &["read-tree", &commit.id],
        ];
        for words in steps {
            inner.run(&directory, words).await?;
        }
        let path = directory.clone();
        blocking(move || open_modes(&path))
            .await
            .map_err(|source| GitError::Io {
                path: directory,
                source,
            })
    }

    /// Returns the submodules of a commit: where they are, and their commits.
    async fn submodules(&self, commit: &str) -> Result<Vec<(String, String)>, GitError> {
        let listed = self
            .git(&["ls-tree", "-r", "-z", "--full-tree", commit])
            .await?;
        let text = String::from_utf8_lossy(&listed);
        let entries = text.split('\0').filter_map(|entry| {
            let (description, path) = entry.split_once('\t')?;
            let id = description.strip_prefix("160000 commit ")?;
            git::is_commit(id).then(|| (path.to_owned(), id.to_owned()))
        });
        Ok(entries.collect())
    }

    /// Returns what `.gitmodules` says of the submodule at `path`.
    async fn submodule_address(
        &self,
        commit: &str,
        path: &str,
    ) -> Result<Option<String>, GitError> {
        let blob = format!("--blob={commit}:.gitmodules");
        let pattern = r"^submodule\..*\.(path|url)$";
        let found = self
            .git(&["config", &blob, "-z", "--get-regexp", pattern])
            .await;
        // Fails where there is no such file, or nothing of the kind in it.
        let found = found.unwrap_or_default();
        let text = String::from_utf8_lossy(&found);
        let settings: BTreeMap<&str, &str> = text
            .split('\0')
            .filter_map(|setting| setting.split_once('\n'))
            .collect();
        let name = settings.iter().find_map(|(key, value)| {
            let name = key.strip_suffix(".path")?;
            (*value == path).then_some(name)
        });
        let address = name.and_then(|name| settings.get(format!("{name}.url").as_str()));
        Ok(address.map(|address| (*address).to_owned()))
    }
}

/// Gives everything in a directory the modes that it has with the umask 022 (`threats.md` G4).
fn open_modes(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_modes(&entry.path())?;
        } else {
            std::fs::set_permissions(entry.path(), Permissions::from_mode(0o644))?;
        }
    }
    std::fs::set_permissions(directory, Permissions::from_mode(0o755))
}

/// Makes the directory of a bare repository, and undoes what a killed git leaves behind.
fn prepare(directory: &Path) -> Result<(), GitError> {
    use std::os::unix::fs::DirBuilderExt;
    let io_error = |path: &Path| {
        let path = path.to_owned();
        move |source| GitError::Io { path, source }
    };
    let mut builder = std::fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(io_error(directory))?;
    for name in [
        "shallow.lock",
        "HEAD.lock",
        "config.lock",
        "packed-refs.lock",
    ] {
        let path = directory.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    // Attributes decide what an archive leaves out or changes; a checkout knows nothing of them.
    let info = directory.join("info");
    std::fs::create_dir_all(&info).map_err(io_error(&info))?;
    let attributes = info.join("attributes");
    std::fs::write(&attributes, "* -export-ignore -export-subst\n").map_err(io_error(&attributes))
}
