//! What can go wrong with a copy.

use std::io;
use std::path::PathBuf;

use graph::op::ContextName;
use store::layer::apply::ExtractError;

use super::mode::ModeError;
use super::place::PlaceError;
use super::select::{SelectError, is_change};

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A source is missing or cannot be read.
    #[error("failed to compute cache key: failed to calculate checksum of {tree}: {source}")]
    Select {
        /// Which tree it was looked for in.
        tree: String,
        /// What is wrong.
        source: SelectError,
        /// Whether it is there, but kept out by an ignore file.
        ignored: bool,
    },
    /// A file cannot be put where it should be.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// `--chmod` is no mode.
    #[error(transparent)]
    Mode(#[from] ModeError),
    /// `--chown` names somebody, and there is no file system to look the name up in.
    #[error("invalid user index: -1")]
    NoAccounts,
    /// An archive cannot be unpacked.
    #[error("unpacking {}: {source}", path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        source: ExtractError,
    },
    /// A directory that the user offers cannot be opened.
    #[error("{}: {source}", path.display())]
    Context {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A directory is referred to that the user does not offer.
    #[error("the build has no context {name:?}")]
    NoContext {
        /// Its name.
        name: ContextName,
    },
}

impl CopyError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Select { ignored: true, .. } => Some(
                "the file is there, but .dockerignore, or the Dockerfile's own ignore file, keeps it \
                 out of the build context"
                    .to_owned(),
            ),
            Self::NoAccounts => {
                Some("use numeric ids: there is no /etc/passwd to look the name up in".to_owned())
            }
            Self::Select {
                source: SelectError::Io { source, .. },
                ..
            } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "make it readable, or keep it out of the context with .dockerignore".to_owned(),
            ),
            Self::Select {
                source: SelectError::Io { source, .. },
                ..
            }
            | Self::Place(PlaceError::Io { source, .. })
                if is_change(source) =>
            {
                Some("build again, or keep it out of the context with .dockerignore".to_owned())
            }
            Self::Place(PlaceError::Io { source, .. }) => store::disk::help_with(source),
            Self::Select { .. }
            | Self::Place(PlaceError::NotADirectory { .. } | PlaceError::IsADirectory { .. })
            | Self::Mode(_)
            | Self::Unpack { .. }
            | Self::Context { .. }
            | Self::NoContext { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_as_it_was_selected_has_a_way_out() {
        let help = |kind| {
            let source = SelectError::Io {
                path: "/x".into(),
                source: io::Error::from(kind),
            };
            let tree = "the build context".to_owned();
            let error = CopyError::Select {
                tree,
                source,
                ignored: false,
            };
            error.help().unwrap_or_default()
        };
        assert!(help(io::ErrorKind::PermissionDenied).starts_with("make it readable"));
        assert!(help(io::ErrorKind::ResourceBusy).starts_with("build again"));
        assert_eq!(help(io::ErrorKind::TooManyLinks), "");
    }
}
