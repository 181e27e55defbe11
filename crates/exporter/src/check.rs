//! Whether outputs are possible at all, asked before the first step runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci::{Family, Platform, Reference};
use registry::{Client, PushError};
use rustix::fs::Access;

use crate::output::{AnnotationLevel, Dest, Encoding, FilesDest, ImageOutput, Output};
use crate::request::Request;

/// Why the outputs of a request are not possible.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// An archive would be written to a terminal.
    #[error("dest file is required for {kind} exporter. refusing to write to console")]
    Terminal {
        /// The output's type.
        kind: &'static str,
    },
    /// Two archives cannot share one stream.
    #[error("multiple outputs configured to write to stdout")]
    StdoutTwice,
    /// Two outputs would replace each other.
    #[error("multiple outputs configured to write to {path}")]
    DestTwice {
        /// The file or directory.
        path: PathBuf,
    },
    /// An archive would replace a directory.
    #[error("destination file {path} is a directory")]
    IsDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// A directory would replace a file.
    #[error("destination directory {path} is a file")]
    IsFile {
        /// The file.
        path: PathBuf,
    },
    /// The directory to write to cannot be written to, or is not there.
    #[error("cannot write to {}: {source}", path.display())]
    Access {
        /// The directory, or the device.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A Docker archive holds one platform.
    #[error(
        "docker exporter does not support exporting manifest lists, use the oci exporter instead"
    )]
    DockerSeveral,
    /// A push needs to know where to.
    #[error("tag is needed when pushing to registry")]
    PushWithoutName,
    /// What is pushed by its digest has no tag.
    #[error("can't push tagged ref {name} by digest")]
    TaggedByDigest {
        /// The name.
        name: Reference,
    },
    /// An engine takes one image of a build.
    #[error("multiple outputs configured to load into a container engine")]
    LoadTwice,
    /// There is no index to annotate.
    #[error("index annotations not supported for single platform export")]
    IndexAnnotation,
    /// Docker's documents have no place for them.
    #[error("cannot export annotations with \"oci-mediatypes=false\"")]
    AnnotationFamily,
    /// The platform is not built.
    #[error("invalid annotation: no platform {platform} found in source")]
    AnnotationPlatform {
        /// The platform.
        platform: Platform,
    },
    /// A name to be given has a digest, which only the result can say.
    #[error("invalid tag `{name}`: a name to be given must not have a digest")]
    NameWithDigest {
        /// The name.
        name: Reference,
    },
}

impl CheckError {
    fn access(path: &Path, error: rustix::io::Errno) -> Self {
        Self::Access {
            path: path.to_owned(),
            source: error.into(),
        }
    }

    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Terminal { kind } => Some(format!(
                "add dest=, as in -o type={kind},dest=result.tar, or redirect standard output"
            )),
            Self::Access { path, source } => (source.kind() == std::io::ErrorKind::NotFound)
                .then(|| format!("create it with mkdir -p {}", path.display())),
            Self::DockerSeveral => {
                Some("use type=oci, or one -o type=docker for each --platform".to_owned())
            }
            Self::PushWithoutName => Some("name the image with -t".to_owned()),
            Self::TaggedByDigest { .. } => {
                Some("name the repository without a tag, as in name=registry/image".to_owned())
            }
            Self::IndexAnnotation => {
                Some("annotate the manifest instead, or build for several platforms".to_owned())
            }
            Self::StdoutTwice
            | Self::LoadTwice
            | Self::AnnotationFamily
            | Self::AnnotationPlatform { .. }
            | Self::DestTwice { .. }
            | Self::IsDirectory { .. }
            | Self::IsFile { .. }
            | Self::NameWithDigest { .. } => None,
        }
    }
}

/// Checks that the outputs of `request` are possible for a result of these platforms.
///
/// The disk is looked at but not changed, so what was possible may still fail later.
///
/// # Errors
///
/// The first output that is not possible; see [`CheckError`].
pub fn check(request: &Request, platforms: &[Platform]) -> Result<(), CheckError> {
    let mut to_stdout = 0;
    let mut to_engine = 0;
    let mut paths: Vec<&Path> = Vec::new();
    if let Some(name) = request.names.iter().find(|name| name.digest().is_some()) {
        return Err(CheckError::NameWithDigest { name: name.clone() });
    }
    let has_index = platforms.len() > 1 || request.multi_platform;
    for output in &request.outputs {
        if let Some(encoding) = output.encoding() {
            let is_listed = has_index && !matches!(output, Output::Load(_));
            check_annotations(encoding, platforms, is_listed)?;
        }
        let (kind, place) = match output {
            Output::Oci(archive) => ("oci", Place::of(&archive.dest)),
            Output::Docker(_) if has_index => return Err(CheckError::DockerSeveral),
            Output::Docker(archive) => ("docker", Place::of(&archive.dest)),
            Output::Files(files) => match &files.dest {
                FilesDest::Stdout => ("tar", Place::Stdout),
                FilesDest::Tar(path) => ("tar", Place::File(path)),
                FilesDest::Directory { path, .. } => ("local", Place::NewDirectory(path)),
            },
            Output::Image(image) => {
                check_push_names(image, image.names.as_ref().unwrap_or(&request.names))?;
                continue;
            }
            Output::Load(_) => {
                to_engine += 1;
                continue;
            }
            Output::CacheOnly => continue,
        };
        if place == Place::Stdout && request.stdout_is_terminal {
            return Err(CheckError::Terminal { kind });
        }
        check_place(place)?;
        match place {
            Place::Stdout => to_stdout += 1,
            Place::File(path) | Place::Directory(path) | Place::NewDirectory(path) => {
                if paths.contains(&path) {
                    return Err(CheckError::DestTwice {
                        path: path.to_owned(),
                    });
                }
                paths.push(path);
            }
        }
    }
    if to_engine > 1 {
        return Err(CheckError::LoadTwice);
    }
    if to_stdout > 1 {
        return Err(CheckError::StdoutTwice);
    }
    Ok(())
}

/// Checks that a file which tells of the result can be written.
///
/// # Errors
///
/// It is a directory, or may not be written; see [`CheckError`].
pub fn check_file(path: &Path) -> Result<(), CheckError> {
    check_place(Place::File(path))
}

/// Finds out whether the registries of `request` let us push, one repository after the other.
///
/// It costs a few requests, and saves a build whose result could not be delivered.
///
/// # Errors
///
/// A registry does not answer, or does not let us; see [`PushError`].
pub async fn check_push(client: &Client, request: &Request) -> Result<(), Box<PushError>> {
    let mut repositories: BTreeMap<String, &Reference> = BTreeMap::new();
    for output in &request.outputs {
        if let Output::Image(image) = output
            && image.push
        {
            let names = image.names.as_ref().unwrap_or(&request.names);
            repositories.extend(names.iter().map(|name| (name.name(), name)));
        }
    }
    for target in repositories.into_values() {
        client.check_push(target).await?;
    }
    Ok(())
}

/// Where something is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Stdout,
    File(&'a Path),
    /// A directory in one that is there.
    Directory(&'a Path),
    /// A directory that is made with those above it.
    NewDirectory(&'a Path),
}

impl<'a> Place<'a> {
    fn of(dest: &'a Dest) -> Self {
        match dest {
            Dest::Stdout => Self::Stdout,
            Dest::File(path) => Self::File(path),
            Dest::Directory(path) => Self::Directory(path),
        }
    }
}

fn check_place(place: Place<'_>) -> Result<(), CheckError> {
    match place {
        Place::Stdout => Ok(()),
        Place::File(path) => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(CheckError::IsDirectory {
                path: path.to_owned(),
            }),
            // A pipe or device is written to as it is, nothing beside it is touched.
            Ok(found) if !found.is_file() => check_access(path, Access::WRITE_OK),
            // What a link leads to is replaced, not the link.
            Ok(_) => match path.canonicalize() {
                Ok(path) => writable(parent(&path)),
                Err(_) => writable(parent(path)),
            },
            Err(_) => writable(parent(path)),
        },
        Place::Directory(path) | Place::NewDirectory(path) => match std::fs::metadata(path) {
            Ok(found) if !found.is_dir() => Err(CheckError::IsFile {
                path: path.to_owned(),
            }),
            Ok(_) => writable(path),
            Err(_) if matches!(place, Place::NewDirectory(_)) => {
                let above = path.ancestors().skip(1).find(|above| above.exists());
                writable(above.unwrap_or(Path::new(".")))
            }
            Err(_) => writable(parent(path)),
        },
    }
}

fn check_push_names(image: &ImageOutput, names: &[Reference]) -> Result<(), CheckError> {
    if !image.push {
        return Ok(());
    }
    // A name that was given without a tag has this one.
    let tagged = |name: &&Reference| name.tag().is_some_and(|tag| tag != "latest");
    match names.iter().find(tagged) {
        _ if names.is_empty() => Err(CheckError::PushWithoutName),
        Some(name) if image.by_digest => Err(CheckError::TaggedByDigest { name: name.clone() }),
        Some(_) | None => Ok(()),
    }
}

fn check_annotations(
    encoding: &Encoding,
    platforms: &[Platform],
    has_index: bool,
) -> Result<(), CheckError> {
    for annotation in &encoding.annotations {
        let is_of_index = match annotation.level {
            AnnotationLevel::Index | AnnotationLevel::IndexDescriptor => true,
            AnnotationLevel::Manifest | AnnotationLevel::ManifestDescriptor => false,
        };
        if annotation.level != AnnotationLevel::Manifest && encoding.family == Family::Docker {
            return Err(CheckError::AnnotationFamily);
        }
        if is_of_index && !has_index {
            return Err(CheckError::IndexAnnotation);
        }
        if let Some(platform) = &annotation.platform
            && !platforms.iter().any(|built| annotation.is_for(built))
        {
            return Err(CheckError::AnnotationPlatform {
                platform: platform.clone(),
            });
        }
    }
    Ok(())
}

/// Returns the directory that holds `path`.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn writable(directory: &Path) -> Result<(), CheckError> {
    // The dot makes the kernel say so where it is no directory.
    let inside = rustix::fs::access(directory.join("."), Access::WRITE_OK | Access::EXEC_OK);
    inside.map_err(|error| CheckError::access(directory, error))
}

fn check_access(path: &Path, access: Access) -> Result<(), CheckError> {
    rustix::fs::access(path, access).map_err(|error| CheckError::access(path, error))
}

#[cfg(test)]
mod tests;
