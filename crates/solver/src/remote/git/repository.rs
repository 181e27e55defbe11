//! The bare repositories of the store: what was fetched, and what is read from it.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use graph::git::{self, CheckoutTimes, GitRemote, GitSource};
use oci::Digest;
use registry::Network;
use store::layer::apply::{self, ExtractOptions, Limits};
use store::{Lock, Store};

use super::access::{GitAccess, NamedBy};
use super::checkout::Wanted;
use super::program::Git;
use super::{Commit, GitError};
use crate::execute::blocking;

/// The bare repository in the store that holds what was fetched of a remote.
pub(super) struct Repository<'a> {
    program: Git<'a>,
    remote: &'a GitRemote,
    directory: PathBuf,
    /// Nobody else fetches into it.
    _lock: Lock,
}

impl<'a> Repository<'a> {
    /// Opens it, made where it is missing.
    pub(super) async fn open(
        store: &Store,
        access: &'a GitAccess,
        remote: &'a GitRemote,
        named_by: NamedBy,
        format: &str,
    ) -> Result<Self, GitError> {
        let key = Digest::of(format!("{format} {}", remote.address()).as_bytes());
        let (directory, lock) = {
            let store = store.clone();
            blocking(move || {
                let (directory, lock) = store.repository(&key)?;
                prepare(&directory)?;
                Ok::<_, GitError>((directory, lock))
            })
            .await?
        };
        let repository = Self {
            program: Git::new(store, access, remote, named_by)?,
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

    /// Opens it, with `commit` in it.
    pub(super) async fn of(
        store: &Store,
        access: &'a GitAccess,
        remote: &'a GitRemote,
        named_by: NamedBy,
        commit: &Commit,
    ) -> Result<Self, GitError> {
        let format = match commit.id.len() {
            64 => "sha256",
            _ => "sha1",
        };
        let repository = Self::open(store, access, remote, named_by, format).await?;
        repository.fetch(commit).await?;
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
        if self.program.access().network == Network::Closed {
            return Err(GitError::Offline {
                remote: self.remote.clone(),
                reference: commit.id.clone(),
            });
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

    pub(super) async fn commit_beginning_with(&self, prefix: &str) -> Result<Commit, GitError> {
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
    pub(super) async fn unpack(&self, wanted: &Wanted, root: &Path) -> Result<(), GitError> {
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
            CheckoutTimes::Commit => Some(format!("--mtime=@{}", self.time(id).await?)),
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

    /// Returns when a commit was made; one that does not say was made in 1970.
    pub(super) async fn time(&self, commit: &str) -> Result<i64, GitError> {
        let shown = self.git(&["show", "-s", "--format=%ct", commit]).await?;
        let seconds = String::from_utf8_lossy(&shown).trim().parse();
        Ok(seconds.unwrap_or(0))
    }

    /// Makes `.git` in the tree at `root`: that of a shallow clone.
    pub(super) async fn keep_git_dir(&self, commit: &Commit, root: &Path) -> Result<(), GitError> {
        let inner = Git::local(self.program.access(), self.remote);
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
    pub(super) async fn submodules(&self, commit: &str) -> Result<Vec<(String, String)>, GitError> {
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
    pub(super) async fn submodule_address(
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
