//! Remote sources: files and repositories that an ADD or a build context names by address.
//!
//! ```text
//! URL ─► record? ─► ask whether it changed ─► blob in the store
//! git ─► branch ─► commit ─► bare repository in the store ─► tree in a scratch directory
//! ```
//!
//! An address is asked at most once in a build, so that all platforms see the same content.

mod download;
pub mod git;
mod stale;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use graph::git::GitSource;
use registry::Client;
use store::{DiskError, Store};
use tokio::sync::OnceCell;

pub use download::{Download, FetchUrlError};
pub use git::{Commit, GitAccess, GitEnvironment, GitError};
pub use stale::Stale;

use crate::solver::{Caching, Freshness};

type Memo<T> = Mutex<BTreeMap<String, Arc<OnceCell<Arc<T>>>>>;

/// Fetches remote sources, each once.
#[derive(Debug)]
pub struct Remotes {
    store: Store,
    client: Client,
    access: GitAccess,
    policy: Policy,
    stale: Mutex<Vec<Stale>>,
    downloads: Memo<Download>,
    commits: Memo<Commit>,
}

/// When addresses are asked, and what the time is.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Whether what earlier builds learnt may serve.
    pub freshness: Freshness,
    /// Seconds since 1970.
    pub now: i64,
}

/// Why a remote source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A file was not downloaded.
    #[error(transparent)]
    Url(#[from] FetchUrlError),
    /// A repository was not fetched.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The store cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl RemoteError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Url(error) => error.help(),
            Self::Git(error) => error.help(),
            Self::Disk(error) => error.help(),
        }
    }
}

impl Remotes {
    /// Returns one that has fetched nothing; `access` is what the git program may use.
    pub fn new(store: Store, client: Client, access: GitAccess, policy: Policy) -> Self {
        Self {
            store,
            client,
            access,
            policy,
            stale: Mutex::default(),
            downloads: Memo::default(),
            commits: Memo::default(),
        }
    }

    /// Downloads a file into the store. With a `checksum` that the file is known to have, nobody is
    /// asked; otherwise the server says whether the file of an earlier build is still right.
    ///
    /// # Errors
    ///
    /// The file cannot be had or has another checksum.
    pub async fn download(
        &self,
        url: &str,
        checksum: Option<&str>,
        caching: Caching,
    ) -> Result<Arc<Download>, RemoteError> {
        let key = format!("{} {url}", checksum.unwrap_or_default());
        let cell = entry(&self.downloads, key);
        let download = cell
            .get_or_try_init(async || {
                let download = self.fetch_or_recall(url, checksum, caching).await?;
                Ok::<_, FetchUrlError>(Arc::new(download))
            })
            .await?;
        Ok(Arc::clone(download))
    }

    /// Finds out which commit a source means now; its tree is not fetched.
    ///
    /// # Errors
    ///
    /// The remote cannot be reached or has no such thing; the commit has another checksum.
    pub async fn commit(&self, source: &GitSource) -> Result<Arc<Commit>, RemoteError> {
        let reference = source.reference.as_deref().unwrap_or_default();
        let key = format!("{} {reference}", source.remote);
        let cell = entry(&self.commits, key);
        let commit = cell
            .get_or_try_init(async || {
                let found = self.find_or_recall(source).await?;
                Ok::<_, GitError>(Arc::new(found))
            })
            .await?;
        commit.check(source)?;
        Ok(Arc::clone(commit))
    }

    /// Returns when a commit was made that [`Remotes::commit`] found for `source`, in seconds since
    /// 1970.
    ///
    /// # Errors
    ///
    /// It cannot be fetched.
    pub async fn time(&self, source: &GitSource, commit: &Commit) -> Result<i64, RemoteError> {
        Ok(git::time(&self.store, &self.access, source, commit).await?)
    }

    /// Fetches the tree of a commit that [`Remotes::commit`] found for `source`.
    ///
    /// # Errors
    ///
    /// It cannot be fetched, or holds what is refused.
    pub async fn tree(
        &self,
        source: &GitSource,
        commit: &Commit,
    ) -> Result<store::Scratch, RemoteError> {
        Ok(git::tree(&self.store, &self.access, source, commit).await?)
    }
}

fn entry<T>(memo: &Memo<T>, key: String) -> Arc<OnceCell<Arc<T>>> {
    let mut memo = memo.lock().unwrap_or_else(PoisonError::into_inner);
    memo.entry(key).or_default().clone()
}
