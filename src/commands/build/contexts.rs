//! Build contexts: the Dockerfile, the directories that COPY reads, and what their ignore files
//! keep out of them (`cli-and-outputs.md` §3, `dockerfile.md` §1.1 and §14.1).
//!
//! A context may come from anybody. So a Dockerfile or an ignore file that is a link out of its
//! directory is refused: an error message or an image would show what the link leads to.

mod files;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::{Source, ignore};
use graph::NamedContext;
use graph::git::{GitSource, GitUrlError};
use graph::op::ContextName;
use solver::remote::Commit;
use solver::{LocalContext, Owners};
use store::Scratch;

use self::files::{IgnoreFile, Input, Place, read_limited, standard_input};
use super::options::Options;
use crate::args::{is_dash, values};
use crate::ui::report::Failure;

/// The files of a build.
#[derive(Debug)]
pub(super) struct Contexts {
    /// The Dockerfile.
    pub(super) dockerfile: Arc<Source>,
    /// The directory of the main context; `None` offers no files.
    directory: Option<PathBuf>,
    /// What is kept out of it.
    ignore_file: IgnoreFile,
    /// Who owns copies of its files.
    owners: Owners,
    /// What can be said of its time.
    pub(super) time: ContextTime,
    /// Keeps the directory where it was fetched or unpacked.
    _scratch: Option<Scratch>,
    named: BTreeMap<ContextName, LocalContext>,
}

/// What the time of a context is to be read off.
#[derive(Debug)]
pub(super) enum ContextTime {
    /// It has none: it is a directory of this machine, or there are no files.
    None,
    /// That of a commit.
    Commit(GitSource, Arc<Commit>),
    /// What the server says, in seconds since 1970.
    Server(i64),
    /// That of the latest file.
    Latest,
}

/// Where the main context is.
#[derive(Debug)]
pub(super) enum Found<T> {
    /// In a directory here, with its Dockerfile; or there are no files but that.
    Here(T),
    /// It has to be fetched or unpacked first.
    Elsewhere(Elsewhere),
}

/// A main context that is no directory yet.
#[derive(Debug)]
pub(super) enum Elsewhere {
    /// The tree of a repository.
    Git(GitSource),
    /// An archive or a Dockerfile that is downloaded.
    Url(String),
    /// An archive on standard input, of which this has been read.
    Archive(Vec<u8>),
    /// A directory that is here; its Dockerfile is not.
    Directory(PathBuf),
}

/// Why the files of a build cannot be had.
#[derive(Debug, thiserror::Error)]
enum ContextError {
    #[error("unable to prepare context: path {path:?} not found")]
    NotFound { path: PathBuf },
    #[error("unable to prepare context: path {path:?}: {source}")]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("unable to prepare context: {path:?} is not a directory")]
    NotDirectory { path: PathBuf },
    #[error("unable to prepare context: {source}")]
    Git { source: GitUrlError },
    #[error("can't use stdin for both build context and dockerfile")]
    StdinTwice,
    #[error("ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles")]
    Ambiguous,
    #[error("standard input is a terminal, not a Dockerfile")]
    Terminal,
    #[error("failed to read dockerfile: open {name}: {source}")]
    Dockerfile { name: String, source: io::Error },
    #[error("failed to read dockerfile: {name} leads out of its directory")]
    DockerfileEscapes { name: String },
    #[error("failed to read ignore file {name}: {source}")]
    Ignore { name: String, source: io::Error },
    #[error("ignore file {name}: {source}")]
    Pattern {
        name: String,
        source: ignore::IgnoreError,
    },
}

impl ContextError {
    fn help(&self) -> Option<String> {
        let help = match self {
            Self::Terminal => "redirect it: rbuild - < Dockerfile",
            Self::Ambiguous => "drop -f, or give a directory in place of `-`",
            Self::StdinTwice => "give a directory in place of one of the two `-`",
            Self::DockerfileEscapes { .. } => "name the file itself with -f",
            Self::Dockerfile { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name the file with -f; without it, it is PATH/Dockerfile"
            }
            Self::NotFound { .. }
            | Self::Unreachable { .. }
            | Self::NotDirectory { .. }
            | Self::Dockerfile { .. }
            | Self::Ignore { .. }
            | Self::Git { .. }
            | Self::Pattern { .. } => return None,
        };
        Some(help.to_owned())
    }
}

impl ContextError {
    /// Whether the reference finds it while it solves, not before.
    fn is_of_solve(&self) -> bool {
        match self {
            Self::Dockerfile { .. }
            | Self::DockerfileEscapes { .. }
            | Self::Ignore { .. }
            | Self::Pattern { .. } => true,
            Self::NotFound { .. }
            | Self::Unreachable { .. }
            | Self::NotDirectory { .. }
            | Self::Git { .. }
            | Self::StdinTwice
            | Self::Ambiguous
            | Self::Terminal => false,
        }
    }
}

impl ContextError {
    fn into_failure(self) -> Failure {
        let failure = Failure::new(&self, self.help());
        match self.is_of_solve() {
            true => failure.of_build(),
            false => failure,
        }
    }
}

impl Contexts {
    /// Finds the main context; reads the Dockerfile and the ignore files where they are here.
    pub(super) fn find(options: &Options) -> Result<Found<Self>, Failure> {
        Self::try_find(options).map_err(ContextError::into_failure)
    }

    /// Reads the Dockerfile of a context that has been fetched into `scratch`. What is fetched is
    /// not filtered: its ignore file is a file like any other (§14.1).
    pub(super) fn of_scratch(
        options: &Options,
        scratch: Scratch,
        owners: Owners,
        time: ContextTime,
        dockerfile: Option<Source>,
    ) -> Result<Self, Failure> {
        let read = || {
            let place = Place::below(scratch.path(), options.file.as_deref());
            let (dockerfile, _) = place.source(options, dockerfile)?;
            let ignore_file = IgnoreFile::parse("", b"")?;
            Ok::<_, ContextError>((dockerfile, ignore_file, named(options)?))
        };
        let (dockerfile, ignore_file, named) = read().map_err(ContextError::into_failure)?;
        Ok(Self {
            dockerfile: Arc::new(dockerfile),
            directory: Some(scratch.path().to_owned()),
            ignore_file,
            owners,
            time,
            _scratch: Some(scratch),
            named,
        })
    }

    /// Takes a directory that is here, with a Dockerfile that was downloaded.
    pub(super) fn of_directory(
        options: &Options,
        directory: &Path,
        dockerfile: Option<Source>,
    ) -> Result<Self, Failure> {
        let contexts = Self::here(options, directory, dockerfile);
        contexts.map_err(ContextError::into_failure)
    }

    /// Takes a Dockerfile that was downloaded for a build that has no other file.
    pub(super) fn of_dockerfile(
        options: &Options,
        time: ContextTime,
        dockerfile: Source,
    ) -> Result<Self, Failure> {
        let contexts = Self::without_files(options, dockerfile);
        let contexts = contexts.map_err(ContextError::into_failure)?;
        Ok(Self { time, ..contexts })
    }

    /// Reads a Dockerfile that was downloaded.
    pub(super) fn read_download(name: &str, file: impl Read) -> Result<Source, Failure> {
        let bytes = read_limited(file).map_err(|source| ContextError::Dockerfile {
            name: name.to_owned(),
            source,
        });
        let bytes = bytes.map_err(ContextError::into_failure)?;
        Ok(Source::new(name, &bytes))
    }

    fn without_files(options: &Options, dockerfile: Source) -> Result<Self, ContextError> {
        Ok(Self {
            dockerfile: Arc::new(dockerfile),
            directory: None,
            ignore_file: IgnoreFile::parse("", b"")?,
            owners: Owners::Root,
            time: ContextTime::None,
            _scratch: None,
            named: named(options)?,
        })
    }

    fn try_find(options: &Options) -> Result<Found<Self>, ContextError> {
        if is_dash(&options.context) {
            if options.file.as_deref().is_some_and(is_dash) {
                return Err(ContextError::StdinTwice);
            }
            return match (standard_input()?, &options.file) {
                (Input::Archive { start }, _) => Ok(Found::Elsewhere(Elsewhere::Archive(start))),
                (Input::Dockerfile(_), Some(_)) => Err(ContextError::Ambiguous),
                (Input::Dockerfile(bytes), None) => {
                    let dockerfile = Source::new("Dockerfile", &bytes);
                    Ok(Found::Here(Self::without_files(options, dockerfile)?))
                }
            };
        }
        if let Some(context) = options.context.to_str() {
            match GitSource::parse_context(context) {
                Some(Ok(source)) => return Ok(Found::Elsewhere(Elsewhere::Git(source))),
                Some(Err(source)) => return Err(ContextError::Git { source }),
                None if values::is_url(context) => {
                    return Ok(Found::Elsewhere(Elsewhere::Url(context.to_owned())));
                }
                None => {}
            }
        }
        let directory = PathBuf::from(&options.context);
        match std::fs::metadata(&directory) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(ContextError::NotDirectory { path: directory }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                return Err(ContextError::NotFound { path: directory });
            }
            Err(source) => {
                return Err(ContextError::Unreachable {
                    path: directory,
                    source,
                });
            }
        }
        if options.dockerfile_url().is_some() {
            return Ok(Found::Elsewhere(Elsewhere::Directory(directory)));
        }
        Self::here(options, &directory, None).map(Found::Here)
    }

    fn here(
        options: &Options,
        directory: &Path,
        downloaded: Option<Source>,
    ) -> Result<Self, ContextError> {
        let place = Place::of(directory, options.file.as_deref());
        let (dockerfile, found) = place.source(options, downloaded)?;
        let own_ignore = found.and_then(|name| place.read_ignore(&name).transpose());
        let ignore_file = match own_ignore.transpose()? {
            Some(own) => own,
            None => IgnoreFile::of(directory)?,
        };
        Ok(Self {
            dockerfile: Arc::new(dockerfile),
            directory: Some(directory.to_owned()),
            ignore_file,
            owners: Owners::Root,
            time: ContextTime::None,
            _scratch: None,
            named: named(options)?,
        })
    }

    /// Returns the directory of the main context; `None` offers no files.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Returns the patterns of what is kept out of the main context.
    pub(super) fn ignored(&self) -> &[String] {
        &self.ignore_file.patterns
    }

    /// Returns the directories; `nothing` is an empty one, for a build without files.
    pub(super) fn directories(&self, nothing: &Path) -> BTreeMap<ContextName, LocalContext> {
        let main = LocalContext {
            directory: self.directory.clone().unwrap_or_else(|| nothing.to_owned()),
            ignored: self.ignore_file.compiled.clone(),
            owners: self.owners,
        };
        let mut directories = self.named.clone();
        directories.insert(ContextName::Main, main);
        directories
    }
}

fn named(options: &Options) -> Result<BTreeMap<ContextName, LocalContext>, ContextError> {
    let mut contexts = BTreeMap::new();
    for (name, context) in &options.definition.contexts {
        match context {
            NamedContext::Directory(directory) => {
                let context = LocalContext {
                    directory: directory.clone(),
                    ignored: IgnoreFile::of(directory)?.compiled,
                    owners: Owners::Root,
                };
                contexts.insert(ContextName::Named(name.clone()), context);
            }
            NamedContext::Empty
            | NamedContext::Image(_)
            | NamedContext::Git(_)
            | NamedContext::Download(_) => {}
        }
    }
    Ok(contexts)
}

#[cfg(test)]
mod tests;
