//! Whether outputs are possible at all, asked before the first step runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci::{Platform, Reference};
use registry::{Client, PushError};
use rustix::fs::Access;

use crate::deliver::Request;
use crate::output::{Archive, Dest, Output};

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
    /// A name to be given has a digest, which only the result can say.
    #[error("invalid tag `{name}`: a name to be given must not have a digest")]
    NameWithDigest {
        /// The name.
        name: Reference,
    },
}

impl CheckError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Terminal { kind } => Some(format!(
                "add dest=, as in -o type={kind},dest=image.tar, or redirect standard output"
            )),
            Self::Access { path, source } => (source.kind() == std::io::ErrorKind::NotFound)
                .then(|| format!("create it with mkdir -p {}", path.display())),
            Self::DockerSeveral => {
                Some("use type=oci, or one -o type=docker for each --platform".to_owned())
            }
            Self::PushWithoutName => Some("name the image with -t".to_owned()),
            Self::StdoutTwice
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
    let mut paths: Vec<&Path> = Vec::new();
    if let Some(name) = request.names.iter().find(|name| name.digest().is_some()) {
        return Err(CheckError::NameWithDigest { name: name.clone() });
    }
    for output in &request.outputs {
        let (kind, archive) = match output {
            Output::Oci(archive) => ("oci", archive),
            Output::Docker(archive) => ("docker", archive),
            Output::Image(image) => {
                let names = image.names.as_ref().unwrap_or(&request.names);
                if image.push && names.is_empty() {
                    return Err(CheckError::PushWithoutName);
                }
                continue;
            }
            Output::CacheOnly => continue,
        };
        if kind == "docker" && (platforms.len() > 1 || request.multi_platform) {
            return Err(CheckError::DockerSeveral);
        }
        if archive.dest == Dest::Stdout && request.stdout_is_terminal {
            return Err(CheckError::Terminal { kind });
        }
        check_dest(archive)?;
        match &archive.dest {
            Dest::Stdout => to_stdout += 1,
            Dest::File(path) | Dest::Directory(path) => {
                if paths.contains(&path.as_path()) {
                    return Err(CheckError::DestTwice { path: path.clone() });
                }
                paths.push(path);
            }
        }
    }
    if to_stdout > 1 {
        return Err(CheckError::StdoutTwice);
    }
    Ok(())
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

fn check_dest(archive: &Archive) -> Result<(), CheckError> {
    match &archive.dest {
        Dest::Stdout => Ok(()),
        Dest::File(path) => match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(CheckError::IsDirectory { path: path.clone() }),
            // A pipe or device is written to as it is, nothing beside it is touched.
            Ok(found) if !found.is_file() => check_access(path, Access::WRITE_OK),
            Ok(_) | Err(_) => writable(parent(path)),
        },
        Dest::Directory(path) => match std::fs::metadata(path) {
            Ok(found) if !found.is_dir() => Err(CheckError::IsFile { path: path.clone() }),
            Ok(_) => writable(path),
            Err(_) => writable(parent(path)),
        },
    }
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
    let path = directory.join(".");
    check_access(&path, Access::WRITE_OK | Access::EXEC_OK)
}

fn check_access(path: &Path, access: Access) -> Result<(), CheckError> {
    rustix::fs::access(path, access).map_err(|error| CheckError::Access {
        path: path.to_owned(),
        source: error.into(),
    })
}

#[cfg(test)]
mod tests;
