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

mod access;
mod checkout;
mod program;
mod repository;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use graph::git::{self, GitRemote, GitSource, GitUrlError};
use serde::{Deserialize, Serialize};
use store::layer::apply::ExtractError;
use store::{DiskError, Scratch, Store};

use access::NamedBy;
pub use access::{AccessError, GitAccess, GitEnvironment};
use checkout::Wanted;
use program::Git;
pub use program::ProgramError;
use repository::Repository;

/// A commit that a source was found to mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// What would log in cannot be used.
    #[error("{remote}: {source}")]
    Access {
        /// The repository.
        remote: GitRemote,
        /// What is wrong.
        source: AccessError,
    },
    /// The build is offline, and no earlier one has found it.
    #[error("{remote}: the build is offline, and the store does not know {reference}")]
    Offline {
        /// The repository.
        remote: GitRemote,
        /// What was looked for.
        reference: String,
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
            Self::Program { remote, source } => source.help(remote),
            Self::Access { source, .. } => source.help(),
            Self::Offline { .. } => Some("build once without --offline".to_owned()),
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

/// What `source` asks for: a branch, a tag, or the start of a commit's id.
pub(super) fn wanted(source: &GitSource) -> &str {
    source.reference.as_deref().unwrap_or("HEAD")
}

/// Returns the commit that `source` names by its id, as no remote has to be asked for.
pub(super) fn pinned(source: &GitSource) -> Option<Commit> {
    let id = source
        .reference
        .as_deref()
        .filter(|id| git::is_commit(id))?;
    Some(Commit {
        id: id.to_owned(),
        tag: None,
        reference: None,
    })
}

/// Asks the remote for the commit that `source` means, which is not [`pinned`].
pub(super) async fn find(
    store: &Store,
    access: &GitAccess,
    source: &GitSource,
) -> Result<Commit, GitError> {
    let remote = &source.remote;
    let candidates = match &source.reference {
        None => vec!["HEAD".to_owned()],
        Some(name) => {
            let below = |prefix: &str| format!("{prefix}{}", name.trim_start_matches(prefix));
            vec![below("refs/"), below("refs/heads/"), below("refs/tags/")]
        }
    };
    let program = Git::new(store, access, remote, NamedBy::User)?;
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
            let repository = Repository::open(store, access, remote, NamedBy::User, "sha1");
            repository.await?.commit_beginning_with(prefix).await
        }
        reference => Err(GitError::Reference {
            remote: remote.clone(),
            reference: reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        }),
    }
}

/// Returns when `commit` was made.
pub(super) async fn time(
    store: &Store,
    access: &GitAccess,
    source: &GitSource,
    commit: &Commit,
) -> Result<i64, GitError> {
    let remote = &source.remote;
    let repository = Repository::of(store, access, remote, NamedBy::User, commit).await?;
    repository.time(&commit.id).await
}

/// Fetches the tree of `commit` into a scratch directory.
pub(super) async fn tree(
    store: &Store,
    access: &GitAccess,
    source: &GitSource,
    commit: &Commit,
) -> Result<Scratch, GitError> {
    let scratch = store.scratch()?;
    let mut wanted = vec![Wanted {
        source: source.clone(),
        commit: commit.clone(),
        place: PathBuf::new(),
        depth: 0,
        named_by: NamedBy::User,
    }];
    let mut count = 0;
    while let Some(next) = wanted.pop() {
        count += 1;
        let submodules = next.checkout(store, access, scratch.path(), count);
        wanted.extend(submodules.await?);
    }
    Ok(scratch)
}
