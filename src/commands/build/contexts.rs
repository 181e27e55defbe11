//! Build contexts: the Dockerfile, the directories that COPY reads, and what their ignore files
//! keep out of them (`cli-and-outputs.md` §3, `dockerfile.md` §1.1 and §14.1).
//!
//! A context may come from anybody. So a Dockerfile or an ignore file that is a link out of its
//! directory is refused: an error message or an image would show what the link leads to.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dockerfile::{Source, ignore};
use graph::NamedContext;
use graph::git::{GitSource, GitUrlError};
use graph::ignore::Patterns;
use graph::op::ContextName;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use solver::{LocalContext, Owners};
use store::Scratch;
use store::layer::compress;

use super::options::Options;
use crate::args::{self, is_dash, values};
use crate::ui::report::Failure;

/// More than any Dockerfile or ignore file holds; an upper bound for what is read into memory.
const LIMIT_BYTES: u64 = 8 << 20;

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
    /// Keeps the directory where it was fetched or unpacked.
    _scratch: Option<Scratch>,
    named: BTreeMap<ContextName, LocalContext>,
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
}

/// Why the files of a build cannot be had.
#[derive(Debug, thiserror::Error)]
enum ContextError {
    #[error("unable to prepare context: path {path:?} not found")]
    NotFound { path: PathBuf },
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
            Self::NotFound { path } => {
                let command = args::command_like(path.to_str()?)?;
                return Some(format!("did you mean the command `{command}`?"));
            }
            Self::Terminal => "redirect it: rbuild - < Dockerfile",
            Self::Ambiguous => "drop -f, or give a directory in place of `-`",
            Self::StdinTwice => "give a directory in place of one of the two `-`",
            Self::DockerfileEscapes { .. } => "name the file itself with -f",
            Self::Dockerfile { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "name the file with -f; without it, it is PATH/Dockerfile"
            }
            Self::NotDirectory { .. }
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
    ) -> Result<Self, Failure> {
        let read = || {
            let place = Place::below(scratch.path(), options.file.as_deref());
            let (dockerfile, _) = place.source(options)?;
            let ignore_file = IgnoreFile::parse("", b"")?;
            Ok::<_, ContextError>((dockerfile, ignore_file, named(options)?))
        };
        let (dockerfile, ignore_file, named) = read().map_err(ContextError::into_failure)?;
        Ok(Self {
            dockerfile: Arc::new(dockerfile),
            directory: Some(scratch.path().to_owned()),
            ignore_file,
            owners,
            _scratch: Some(scratch),
            named,
        })
    }

    /// Reads the Dockerfile of a build that has no other file.
    pub(super) fn of_dockerfile(options: &Options, dockerfile: impl Read) -> Result<Self, Failure> {
        let bytes = read_limited(dockerfile).map_err(|source| ContextError::Dockerfile {
            name: "Dockerfile".to_owned(),
            source,
        });
        let contexts = bytes.and_then(|bytes| Self::without_files(options, &bytes));
        contexts.map_err(ContextError::into_failure)
    }

    fn without_files(options: &Options, dockerfile: &[u8]) -> Result<Self, ContextError> {
        Ok(Self {
            dockerfile: Arc::new(Source::new("Dockerfile", dockerfile)),
            directory: None,
            ignore_file: IgnoreFile::parse("", b"")?,
            owners: Owners::Root,
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
                    Ok(Found::Here(Self::without_files(options, &bytes)?))
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
            Err(_) => return Err(ContextError::NotFound { path: directory }),
        }
        let place = Place::of(&directory, options.file.as_deref());
        let (dockerfile, found) = place.source(options)?;
        let own_ignore = found.and_then(|name| place.read_ignore(&name).transpose());
        let ignore_file = match own_ignore.transpose()? {
            Some(own) => own,
            None => IgnoreFile::of(&directory)?,
        };
        Ok(Found::Here(Self {
            dockerfile: Arc::new(dockerfile),
            directory: Some(directory),
            ignore_file,
            owners: Owners::Root,
            _scratch: None,
            named: named(options)?,
        }))
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

/// Where the Dockerfile is: a name below a directory that it must not lead out of.
struct Place {
    directory: PathBuf,
    name: PathBuf,
}

impl Place {
    /// `file` is relative to the working directory. Within the context it may be a link to another
    /// place in the context; elsewhere, only to one in its own directory.
    fn of(context: &Path, file: Option<&Path>) -> Self {
        let Some(file) = file else {
            return Self {
                directory: context.to_owned(),
                name: PathBuf::from("Dockerfile"),
            };
        };
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if let Ok(name) = absolute(file).strip_prefix(absolute(context)) {
            return Self {
                directory: context.to_owned(),
                name: name.to_owned(),
            };
        }
        let directory = match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        Self {
            directory,
            name: file.file_name().map(PathBuf::from).unwrap_or_default(),
        }
    }

    /// `file` is relative to a context that was fetched, and has to be in there.
    fn below(context: &Path, file: Option<&Path>) -> Self {
        let name = file.unwrap_or(Path::new("Dockerfile"));
        Self {
            directory: context.to_owned(),
            name: name.strip_prefix("/").unwrap_or(name).to_owned(),
        }
    }

    /// Reads the Dockerfile, from standard input if the user wants that; returns its path unless it
    /// has none.
    fn source(&self, options: &Options) -> Result<(Source, Option<PathBuf>), ContextError> {
        if options.file.as_deref().is_some_and(is_dash) {
            return match standard_input()? {
                Input::Dockerfile(bytes) => Ok((Source::new("Dockerfile", &bytes), None)),
                Input::Archive { .. } => Err(ContextError::Dockerfile {
                    name: "standard input".to_owned(),
                    source: io::Error::other("it is an archive"),
                }),
            };
        }
        let (name, bytes) = self.read_dockerfile()?;
        Ok((Source::new(shown_name(&name), &bytes), Some(name)))
    }

    /// Reads the Dockerfile; `dockerfile` serves where there is no `Dockerfile`.
    fn read_dockerfile(&self) -> Result<(PathBuf, Vec<u8>), ContextError> {
        let first = read_beneath(&self.directory, &self.name);
        let lower_case = self.name.with_file_name("dockerfile");
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let (name, read) = match first {
            Err(error) if missing(&error) && self.name.ends_with("Dockerfile") => {
                match read_beneath(&self.directory, &lower_case) {
                    Err(second) if missing(&second) => (self.name.clone(), Err(error)),
                    second => (lower_case, second),
                }
            }
            first => (self.name.clone(), first),
        };
        let shown = shown_name(&name);
        match read {
            Ok(bytes) => Ok((name, bytes)),
            Err(error) if escapes(&error) => Err(ContextError::DockerfileEscapes { name: shown }),
            Err(source) => Err(ContextError::Dockerfile {
                name: shown,
                source: plain(source),
            }),
        }
    }

    /// Reads the ignore file that belongs to the Dockerfile alone, if there is one.
    fn read_ignore(&self, dockerfile: &Path) -> Result<Option<IgnoreFile>, ContextError> {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(".dockerignore");
        IgnoreFile::read(&self.directory, Path::new(&name))
    }
}

/// The name for messages: the last part of the path, as the reference sends it.
fn shown_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What a file says that is to be kept out of a context.
#[derive(Debug)]
struct IgnoreFile {
    /// Its patterns as text, for messages about them.
    patterns: Vec<String>,
    compiled: Patterns,
}

impl IgnoreFile {
    /// Reads the one of a directory; without one, nothing is kept out.
    fn of(directory: &Path) -> Result<Self, ContextError> {
        match Self::read(directory, Path::new(".dockerignore"))? {
            Some(found) => Ok(found),
            None => Self::parse("", b""),
        }
    }

    fn read(directory: &Path, name: &Path) -> Result<Option<Self>, ContextError> {
        match read_beneath(directory, name) {
            Ok(text) => Self::parse(&shown_name(name), &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ContextError::Ignore {
                name: shown_name(name),
                source: plain(source),
            }),
        }
    }

    fn parse(name: &str, text: &[u8]) -> Result<Self, ContextError> {
        let patterns = ignore::read(text);
        match Patterns::new(&patterns) {
            Ok(compiled) => Ok(Self { patterns, compiled }),
            Err(source) => Err(ContextError::Pattern {
                name: name.to_owned(),
                source,
            }),
        }
    }
}

/// Reads a regular file whose path does not lead out of `directory`.
fn read_beneath(directory: &Path, name: &Path) -> io::Result<Vec<u8>> {
    let directory = File::open(directory)?;
    let file = rustix::fs::openat2(
        &directory,
        name,
        // A pipe without a writer must not make us wait.
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    read_limited(file)
}

fn read_limited(file: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(io::Error::other(format!("larger than {LIMIT_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Whether a path was refused because it leads out of its directory.
fn escapes(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::XDEV.raw_os_error())
}

/// The same error in the reference's words where it has some.
fn plain(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::NotFound {
        io::Error::new(io::ErrorKind::NotFound, "no such file or directory")
    } else if escapes(&error) {
        io::Error::other("leads out of its directory")
    } else {
        error
    }
}

/// What standard input turned out to be.
enum Input {
    Dockerfile(Vec<u8>),
    /// An archive, of which no more than this has been read.
    Archive {
        start: Vec<u8>,
    },
}

fn standard_input() -> Result<Input, ContextError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(ContextError::Terminal);
    }
    let mut stdin = stdin.lock();
    let mut start = Vec::new();
    let read = (&mut stdin)
        .take(compress::SNIFF_BYTES as u64)
        .read_to_end(&mut start);
    let input = read.and_then(|_| {
        if compress::sniff(&start).is_some() {
            return Ok(Input::Archive { start });
        }
        read_limited(io::Cursor::new(&start).chain(stdin)).map(Input::Dockerfile)
    });
    input.map_err(|source| ContextError::Dockerfile {
        name: "standard input".to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
