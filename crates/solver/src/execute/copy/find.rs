//! What the items of a copy mean: found by their digests, and by their files only if these are needed.

use std::fs::File;
use std::sync::Arc;

use graph::git::GitSource;
use graph::op::{CopyItem, CopyOp, Tree};
use oci::Digest;
use serde::Serialize;
use store::Kind;

use super::digest;
use super::error::CopyError;
use super::open::OpenTree;
use super::select::Selected;
use super::tree::Root;
use crate::cache_key::{CacheKey, Contents, KeyHasher};
use crate::error::SolveErrorKind;
use crate::execute::{Execution, Inputs, blocking};
use crate::explain::Listing;
use crate::remote::{Commit, Download, FetchUrlError, RemoteError};
use crate::solver::{Caching, Solver};

/// Records of the digests of selections.
const SELECTION: Kind = Kind::new("selection");

/// What is taken out of a tree.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::execute) struct Request {
    pub(in crate::execute) path: String,
    pub(in crate::execute) parents: bool,
    pub(in crate::execute) exclude: Vec<String>,
}

/// An item whose files are known.
pub(super) enum Found {
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
    /// Finds what an item means and what is in it.
    pub(super) async fn find(
        self: &Arc<Self>,
        op: &CopyOp,
        item: &CopyItem,
        inputs: &Inputs,
    ) -> Result<(Found, Contents), SolveErrorKind> {
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
                    key.digest().into(),
                ))
            }
            CopyItem::Url { url, checksum } => {
                let checksum = checksum.as_deref();
                self.find_download(url, checksum, inputs.caching).await
            }
            CopyItem::Git(source) => {
                let commit = self.solver.remotes.commit(source).await?;
                let digest = digest_of_repository(source, &commit, &op.exclude);
                let source = source.clone();
                Ok((Found::Commit { source, commit }, digest.into()))
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
                        digest.into(),
                    ));
                }
                let (tree, selected, contents) = self.select(tree, &request, inputs).await?;
                Ok((Found::Files { tree, selected }, contents))
            }
        }
    }

    async fn find_download(
        &self,
        url: &str,
        checksum: Option<&str>,
        caching: Caching,
    ) -> Result<(Found, Contents), SolveErrorKind> {
        let Solver { remotes, store, .. } = &*self.solver;
        let download = remotes.download(url, checksum, caching).await?;
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
        Ok((Found::Download { file, download }, key.digest().into()))
    }

    /// Returns what `request` takes out of `tree`.
    pub(in crate::execute) async fn contents_of_tree(
        self: &Arc<Self>,
        tree: &Tree,
        request: &Request,
        inputs: &Inputs,
    ) -> Result<Contents, SolveErrorKind> {
        match self.remembered_selection(tree, request, inputs) {
            Some(digest) => Ok(digest.into()),
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
    ) -> Result<(Arc<OpenTree>, Vec<Selected>, Contents), SolveErrorKind> {
        let open = Arc::new(self.open(tree, inputs).await?);
        let (shared, threads) = (Arc::clone(&open), self.solver.jobs);
        let asked = request.clone();
        let (selected, mut contents) = blocking(move || {
            let selected = shared.select(&asked, threads)?;
            let contents = match shared.root() {
                Some(root) => digest::digest(root, &selected, shared.index(), threads),
                None => Ok(KeyHasher::new("empty").digest().into()),
            };
            let contents = contents.map_err(|source| shared.select_error(source, &asked))?;
            Ok::<_, CopyError>((selected, contents))
        })
        .await?;
        if let Tree::Vertex(id) = tree {
            let key = CacheKey::of_selection(&inputs.of(Some(*id)), request);
            self.solver
                .store
                .records()
                .put(SELECTION, key.digest(), &contents.digest)?;
            // When it is remembered, only the digest is known.
            contents.files = Listing::default();
        }
        Ok((open, selected, contents))
    }

    /// Selects the files of an item of which only the digest is known so far.
    pub(super) async fn select_late(
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
        let (shared, threads) = (Arc::clone(&tree), self.solver.jobs);
        let selected = blocking(move || shared.select(&request, threads)).await?;
        Ok(Found::Files { tree, selected })
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
