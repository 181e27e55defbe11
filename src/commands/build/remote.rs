//! Contexts that are fetched or unpacked: repositories, downloads, archives on standard input
//! (`cli-and-outputs.md` §3).
//!
//! They come from anybody, so they are unpacked below a directory handle, in a scratch directory of
//! the store that goes with the build.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dockerfile::Source;
use graph::git::GitSource;
use graph::ignore::Patterns;
use graph::op::ContextName;
use graph::{EpochSource, Graph, NamedContext};
use solver::remote::{Commit, Download, RemoteError};
use solver::{Caching, LocalContext, Owners, Remotes};
use store::layer::apply::{self, ExtractError, ExtractOptions, Limits};
use store::layer::compress;
use store::{Scratch, Store};

use super::contexts::{ContextTime, Contexts, Elsewhere};
use super::options::Options;
use crate::interrupt::blocking;
use crate::ui::progress::Progress;
use crate::ui::report::Failure;

/// The build argument that has `.git` kept in the main context.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// The only file of a named context that is downloaded.
const DOWNLOADED_FILE: &str = "context";

/// Brings contexts here.
pub(super) struct Fetcher<'a> {
    pub(super) options: &'a Options,
    pub(super) store: &'a Store,
    pub(super) remotes: &'a Remotes,
    pub(super) progress: &'a Progress,
}

/// A named context in a directory that goes when this is dropped.
pub(super) struct Fetched {
    pub(super) name: ContextName,
    pub(super) context: LocalContext,
    _scratch: Scratch,
}

/// What was downloaded for a context.
struct FetchedFile {
    file: File,
    /// Its files, where it is an archive.
    scratch: Option<Scratch>,
    /// When it was last changed, if the server says so.
    modified: Option<i64>,
}

/// Why a context cannot be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error("{what}: {source}")]
    Extract { what: String, source: ExtractError },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    Disk(#[from] store::DiskError),
    #[error(transparent)]
    Read(#[from] store::content::ReadError),
    #[error(transparent)]
    Patterns(#[from] graph::ignore::IgnoreError),
}

impl FetchError {
    fn help(&self) -> Option<String> {
        match self {
            Self::Remote(error) => error.help(),
            Self::Disk(error) => error.help(),
            Self::Extract { .. } | Self::Io { .. } | Self::Read(_) | Self::Patterns(_) => None,
        }
    }
}

impl Fetcher<'_> {
    /// Brings the main context here, and reads its Dockerfile.
    pub(super) async fn main(&self, elsewhere: Elsewhere) -> Result<Contexts, Failure> {
        let dockerfile = match self.options.dockerfile_url() {
            Some(url) => Some(self.dockerfile(url).await?),
            None => None,
        };
        match (elsewhere, dockerfile) {
            (Elsewhere::Git(mut source), dockerfile) => {
                let arguments = &self.options.definition.build_args;
                let keep = arguments
                    .get(KEEP_GIT_DIR)
                    .is_some_and(|value| value == "1");
                source.keep_git_dir = Some(source.keep_git_dir.unwrap_or(keep));
                let name = format!("[internal] load git source {source}");
                let (commit, scratch) = self.told(&name, self.repository(&source)).await?;
                let time = ContextTime::Commit(source, commit);
                Contexts::of_scratch(self.options, scratch, Owners::Root, time, dockerfile)
            }
            (Elsewhere::Url(url), dockerfile) => {
                let name = "[internal] load remote build context";
                let fetched = self.told(name, self.file_or_archive(&url)).await?;
                let of_server = fetched.modified.map(ContextTime::Server);
                match (fetched.scratch, dockerfile) {
                    (Some(scratch), dockerfile) => {
                        let time = of_server.unwrap_or(ContextTime::Latest);
                        Contexts::of_scratch(self.options, scratch, Owners::Kept, time, dockerfile)
                    }
                    (None, dockerfile) => {
                        let time = of_server.unwrap_or(ContextTime::None);
                        let of_url = || Contexts::read_download("Dockerfile", fetched.file);
                        let dockerfile = dockerfile.map_or_else(of_url, Ok)?;
                        Contexts::of_dockerfile(self.options, time, dockerfile)
                    }
                }
            }
            (Elsewhere::Directory(directory), dockerfile) => {
                Contexts::of_directory(self.options, &directory, dockerfile)
            }
            (Elsewhere::Archive(start), dockerfile) => {
                let archive = io::Cursor::new(start).chain(io::stdin());
                let unpacked = self.unpack("standard input", archive);
                let scratch = self.told("[internal] load build context", unpacked).await?;
                let time = ContextTime::Latest;
                Contexts::of_scratch(self.options, scratch, Owners::Kept, time, dockerfile)
            }
        }
    }

    /// Downloads the Dockerfile alone.
    async fn dockerfile(&self, url: &str) -> Result<Source, Failure> {
        let name = "[internal] load remote dockerfile";
        let (download, file) = self.told(name, self.download(url, None)).await?;
        Contexts::read_download(&download.name, file)
    }

    /// Brings those named contexts here that the graph reads.
    pub(super) async fn named(&self, graph: &Graph) -> Result<Vec<Fetched>, Failure> {
        let mut fetched = Vec::new();
        for (name, context) in &self.options.definition.contexts {
            let named = ContextName::Named(name.clone());
            let mut read = graph
                .vertices
                .iter()
                .flat_map(|vertex| vertex.op.contexts());
            if !read.any(|read| *read == named) {
                continue;
            }
            let step = format!("[context {name}] load");
            let scratch = match context {
                NamedContext::Git(source) => self.told(&step, self.repository(source)).await?.1,
                NamedContext::Download(url) => self.told(&step, self.single_file(url)).await?,
                NamedContext::Empty | NamedContext::Image(_) | NamedContext::Directory(_) => {
                    continue;
                }
            };
            let ignored = Patterns::new::<&str>([]).map_err(FetchError::from);
            let context = LocalContext {
                directory: scratch.path().to_owned(),
                ignored: ignored.map_err(failure)?,
                owners: Owners::Root,
            };
            fetched.push(Fetched {
                name: named,
                context,
                _scratch: scratch,
            });
        }
        Ok(fetched)
    }

    /// Returns the time that is read off `source`, in seconds since 1970 (`dockerfile.md` §19).
    pub(super) async fn time_of(
        &self,
        source: &EpochSource,
        contexts: &Contexts,
    ) -> Result<Option<i64>, Failure> {
        let read = async {
            match source {
                EpochSource::Timeless => Ok(None),
                EpochSource::Git(source) => {
                    let commit = self.remotes.commit(source).await?;
                    Ok(Some(self.remotes.time(source, &commit).await?))
                }
                EpochSource::Url { url, checksum } => {
                    let (download, file) = self.download(url, checksum.as_deref()).await?;
                    match download.modified {
                        Some(seconds) => Ok(Some(seconds)),
                        None => match self.unpack_download((download, file)).await?.scratch {
                            Some(scratch) => latest_file(scratch.path()).await,
                            None => Ok(None),
                        },
                    }
                }
                EpochSource::MainContext => match (&contexts.time, contexts.directory()) {
                    (ContextTime::Commit(source, commit), _) => {
                        Ok(Some(self.remotes.time(source, commit).await?))
                    }
                    (ContextTime::Server(seconds), _) => Ok(Some(*seconds)),
                    (ContextTime::Latest, Some(directory)) => latest_file(directory).await,
                    (ContextTime::Latest, None) | (ContextTime::None, _) => Ok(None),
                },
            }
        };
        self.told("[internal] read SOURCE_DATE_EPOCH", read).await
    }

    async fn told<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, Failure> {
        let step = self.progress.start(name);
        step.end(work.await).map_err(failure)
    }

    async fn repository(&self, source: &GitSource) -> Result<(Arc<Commit>, Scratch), FetchError> {
        let commit = self.remotes.commit(source).await?;
        let tree = self.remotes.tree(source, &commit).await?;
        Ok((commit, tree))
    }

    async fn download(
        &self,
        url: &str,
        checksum: Option<&str>,
    ) -> Result<(Download, File), FetchError> {
        let download = self.remotes.download(url, checksum, Caching::Reuse).await?;
        let file = self.store.content().open(&download.blob)?;
        Ok(((*download).clone(), file))
    }

    /// Returns the file, and its files where it is an archive.
    async fn file_or_archive(&self, url: &str) -> Result<FetchedFile, FetchError> {
        self.unpack_download(self.download(url, None).await?).await
    }

    async fn unpack_download(
        &self,
        (download, file): (Download, File),
    ) -> Result<FetchedFile, FetchError> {
        let content = self.store.content().open(&download.blob)?;
        let sniffed = blocking(move || compress::is_archive(content)).await;
        let is_archive = sniffed.map_err(|source| FetchError::Io {
            what: download.name.clone(),
            source,
        })?;
        let scratch = match is_archive {
            true => {
                let archive = self.store.content().open(&download.blob)?;
                Some(self.unpack(&download.name, archive).await?)
            }
            false => None,
        };
        Ok(FetchedFile {
            file,
            scratch,
            modified: download.modified,
        })
    }

    async fn single_file(&self, url: &str) -> Result<Scratch, FetchError> {
        let (download, mut file) = self.download(url, None).await?;
        let scratch = self.store.scratch()?;
        let path = scratch.path().join(DOWNLOADED_FILE);
        let seconds = u64::try_from(download.modified.unwrap_or(0)).unwrap_or(0);
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let written = blocking(move || {
            let mut to = File::create_new(&path)?;
            io::copy(&mut file, &mut to)?;
            to.set_permissions(Permissions::from_mode(0o600))?;
            to.set_modified(modified)
        });
        written.await.map_err(|source| FetchError::Io {
            what: download.name,
            source,
        })?;
        Ok(scratch)
    }

    async fn unpack(
        &self,
        what: &str,
        archive: impl Read + Send + 'static,
    ) -> Result<Scratch, FetchError> {
        let scratch = self.store.scratch()?;
        let root = scratch.path().to_owned();
        let unpacked = blocking(move || unpack(archive, &root)).await;
        unpacked.map_err(|source| FetchError::Extract {
            what: what.to_owned(),
            source,
        })?;
        Ok(scratch)
    }
}

fn unpack(archive: impl Read + Send, root: &Path) -> Result<(), ExtractError> {
    let root = File::open(root)?;
    let options = ExtractOptions {
        owner: None,
        limits: Limits::STANDARD,
    };
    apply::extract(archive, root.as_fd(), Path::new(""), &options)
}

/// Returns the latest time of a file below `directory`; those of directories may be those of the
/// unpacking.
async fn latest_file(directory: &Path) -> Result<Option<i64>, FetchError> {
    fn latest(directory: &Path, found: &mut Option<i64>) -> io::Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.path().symlink_metadata()?;
            match metadata.is_dir() {
                true => latest(&entry.path(), found)?,
                false => *found = (*found).max(Some(metadata.mtime())),
            }
        }
        Ok(())
    }
    let root = directory.to_owned();
    let read = blocking(move || {
        let mut found = None;
        latest(&root, &mut found).map(|()| found)
    });
    read.await.map_err(|source| FetchError::Io {
        what: "reading the times of the context".to_owned(),
        source,
    })
}

fn failure(error: FetchError) -> Failure {
    Failure::new(&error, error.help()).of_build()
}
