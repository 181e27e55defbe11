//! What earlier builds learnt, where nobody can be asked now.

use graph::git::GitSource;
use oci::Digest;
use serde::{Deserialize, Serialize};
use store::Kind;

use super::Remotes;
use super::download::{self, Download, FetchUrlError};
use super::git::{self, Commit, GitError};
use crate::execute::blocking;
use crate::solver::{Caching, Freshness};

/// Records of what branches and tags led to.
const COMMIT: Kind = Kind::new("commit");

/// An address that could not be asked, so that what an earlier build learnt of it served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale {
    /// Who could not be asked, and why.
    pub why: String,
    /// When it was asked last; seconds since 1970.
    pub since: i64,
}

/// What a branch or tag led to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct CommitRecord {
    commit: Commit,
    at: i64,
}

impl Remotes {
    /// Returns the addresses that could not be asked, each once.
    pub fn stale(&self) -> Vec<Stale> {
        let stale = self.stale.lock();
        stale
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// Returns whether an offline build can have the file.
    pub fn has_download(&self, url: &str, checksum: Option<&str>) -> bool {
        download::recall(&self.store, url, checksum).is_some()
    }

    /// Returns whether an offline build knows what the source means.
    pub fn has_commit(&self, source: &GitSource) -> bool {
        git::pinned(source).is_some() || self.recalled_commit(source).is_some()
    }

    fn note(&self, why: &impl std::fmt::Display, since: i64) {
        let why = why.to_string();
        let stale = self.stale.lock();
        let mut stale = stale.unwrap_or_else(std::sync::PoisonError::into_inner);
        stale.push(Stale { why, since });
    }

    pub(super) async fn fetch_or_recall(
        &self,
        url: &str,
        checksum: Option<&str>,
        caching: Caching,
    ) -> Result<Download, FetchUrlError> {
        let recall = || download::recall(&self.store, url, checksum);
        let freshness = self.policy.freshness;
        if freshness == Freshness::Waived
            && let Some((known, _)) = recall()
        {
            return Ok(known);
        }
        let now = self.policy.now;
        let fetched = download::fetch(&self.store, &self.client, url, checksum, caching, now);
        match (fetched.await, freshness) {
            (Err(FetchUrlError::Download(error)), Freshness::Preferred)
                if error.is_unreachable() =>
            {
                let Some((known, since)) = recall() else {
                    return Err(error.into());
                };
                self.note(&error, since);
                Ok(known)
            }
            (fetched, _) => fetched,
        }
    }

    pub(super) async fn find_or_recall(&self, source: &GitSource) -> Result<Commit, GitError> {
        if let Some(commit) = git::pinned(source) {
            return Ok(commit);
        }
        if self.policy.freshness == Freshness::Waived {
            let known = self.recalled_commit(source).map(|record| record.commit);
            return known.ok_or_else(|| GitError::Offline {
                remote: source.remote.clone(),
                reference: git::wanted(source).to_owned(),
            });
        }
        let found = git::find(&self.store, &self.access, source).await;
        match (found, self.policy.freshness) {
            (Ok(commit), _) => {
                let record = CommitRecord {
                    commit: commit.clone(),
                    at: self.policy.now,
                };
                let (store, key) = (self.store.clone(), key(source));
                let kept = blocking(move || store.records().put(COMMIT, &key, &record)).await;
                if let Err(error) = kept {
                    tracing::debug!(%error, "a commit is not remembered");
                }
                Ok(commit)
            }
            (Err(error), Freshness::Preferred) if error.is_unreachable() => {
                let Some(CommitRecord { commit, at }) = self.recalled_commit(source) else {
                    return Err(error);
                };
                self.note(&error, at);
                Ok(commit)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn recalled_commit(&self, source: &GitSource) -> Option<CommitRecord> {
        self.store.records().get(COMMIT, &key(source))
    }
}

fn key(source: &GitSource) -> Digest {
    let text = format!("{} {}", source.remote.address(), git::wanted(source));
    Digest::of(text.as_bytes())
}
