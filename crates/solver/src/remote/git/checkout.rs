//! A tree and its submodules, each fetched and unpacked by itself.

use std::path::{Path, PathBuf};

use graph::git::{GitRemote, GitSource, Submodules};
use store::Store;

use super::access::{GitAccess, NamedBy};
use super::repository::Repository;
use super::{Commit, GitError, SubmoduleError};

/// How deep submodules may have submodules.
const MAX_SUBMODULE_DEPTH: usize = 16;

/// How many submodules a tree may have in all.
const MAX_SUBMODULES: usize = 1000;

/// A tree, and where it goes.
pub(super) struct Wanted {
    pub(super) source: GitSource,
    pub(super) commit: Commit,
    pub(super) place: PathBuf,
    pub(super) depth: usize,
    pub(super) named_by: NamedBy,
}

impl Wanted {
    /// Unpacks the tree below `root`; returns its submodules.
    pub(super) async fn checkout(
        &self,
        store: &Store,
        access: &GitAccess,
        root: &Path,
        count: usize,
    ) -> Result<Vec<Self>, GitError> {
        let remote = &self.source.remote;
        let id = &self.commit.id;
        let repository = Repository::of(store, access, remote, self.named_by, &self.commit).await?;
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
                named_by: self.named_by.of_submodule(remote, &address),
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
