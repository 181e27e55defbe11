//! The two files of a context that rbuild itself reads: the Dockerfile and the ignore file.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Component, Path, PathBuf, absolute};

use dockerfile::{Source, ignore};
use graph::ignore::Patterns;
use rustix::fs::{OFlags, ResolveFlags};
use store::layer::compress;

use super::ContextError;
use crate::args::is_dash;
use crate::commands::build::options::Options;

/// More than any Dockerfile or ignore file holds; an upper bound for what is read into memory.
const LIMIT_BYTES: u64 = 1 << 20;

/// Where the Dockerfile is: a name below a directory that it must not lead out of.
pub(super) struct Place {
    directory: PathBuf,
    name: PathBuf,
}

impl Place {
    /// `file` is relative to the working directory. Within the context it may be a link to another
    /// place in the context; elsewhere, only to one in its own directory.
    pub(super) fn of(context: &Path, file: Option<&Path>) -> Self {
        let Some(file) = file else {
            return Self {
                directory: context.to_owned(),
                name: PathBuf::from("Dockerfile"),
            };
        };
        if let Some(name) = name_within(context, file) {
            return Self {
                directory: context.to_owned(),
                name,
            };
        }
        Self {
            directory: directory_of(file).to_owned(),
            name: file.file_name().map(PathBuf::from).unwrap_or_default(),
        }
    }

    /// `file` is in a context that was fetched; only with an absolute path it is a file here.
    pub(super) fn below(context: &Path, file: Option<&Path>) -> Self {
        match file {
            Some(file) if file.is_absolute() => Self::of(context, Some(file)),
            file => Self {
                directory: context.to_owned(),
                name: file.unwrap_or(Path::new("Dockerfile")).to_owned(),
            },
        }
    }

    /// Reads the Dockerfile, from standard input if the user wants that, unless it has been
    /// `downloaded`; returns its path if it has one.
    pub(super) fn source(
        &self,
        options: &Options,
        downloaded: Option<Source>,
    ) -> Result<(Source, Option<PathBuf>), ContextError> {
        if let Some(source) = downloaded {
            return Ok((source, None));
        }
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
    pub(super) fn read_ignore(
        &self,
        dockerfile: &Path,
    ) -> Result<Option<IgnoreFile>, ContextError> {
        let mut name = dockerfile.as_os_str().to_owned();
        name.push(".dockerignore");
        IgnoreFile::read(&self.directory, Path::new(&name))
    }
}

/// Returns the path of `file` below `context`, if it is there.
///
/// What is written below the context counts as such even if a link on the way leads out: then it is
/// refused, as the link may be somebody else's. Where `..` is written, or nothing in common, the
/// directories themselves are compared.
fn name_within(context: &Path, file: &Path) -> Option<PathBuf> {
    let (whole, above) = (absolute(file).ok()?, absolute(context).ok()?);
    let as_written = whole.strip_prefix(above).ok();
    let is_plain = |name: &&Path| !name.components().any(|part| part == Component::ParentDir);
    if let Some(name) = as_written.filter(is_plain) {
        return Some(name.to_owned());
    }
    let directory = directory_of(file).canonicalize().ok()?;
    let below = directory.strip_prefix(context.canonicalize().ok()?);
    Some(below.ok()?.join(file.file_name()?))
}

fn directory_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}

/// The name for messages: the last part of the path, as the reference sends it.
fn shown_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// What a file says that is to be kept out of a context.
#[derive(Debug)]
pub(super) struct IgnoreFile {
    /// Its patterns as text, for messages about them.
    pub(super) patterns: Vec<String>,
    pub(super) compiled: Patterns,
}

impl IgnoreFile {
    /// Reads the one of a directory; without one, nothing is kept out.
    pub(super) fn of(directory: &Path) -> Result<Self, ContextError> {
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

    pub(super) fn parse(name: &str, text: &[u8]) -> Result<Self, ContextError> {
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
    let file = sandbox::rootfs::open_below(
        &directory,
        name,
        // A pipe without a writer must not make us wait.
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
    )?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    read_limited(file)
}

pub(super) fn read_limited(file: impl Read) -> io::Result<Vec<u8>> {
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
pub(super) enum Input {
    Dockerfile(Vec<u8>),
    /// An archive, of which no more than this has been read.
    Archive {
        start: Vec<u8>,
    },
}

pub(super) fn standard_input() -> Result<Input, ContextError> {
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
