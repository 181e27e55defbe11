//! `RUN --mount`: one CSV record, typed once its variables are known.

use crate::ast::Word;
use crate::expand::ExpandError;

/// One `--mount` as written: its fields are still unexpanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    /// The flag's value.
    pub text: Word,
    /// The fields in order; at least one.
    pub fields: Vec<MountField>,
}

/// `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountField {
    /// The field as written (CSV quotes removed).
    pub text: String,
    /// The key in lower case.
    pub key: String,
    /// What follows `=`.
    pub value: Option<String>,
}

impl MountFlag {
    /// The mount, with every value but that of `from` passed through `expand`.
    ///
    /// # Errors
    ///
    /// What `expand` returns, and anything that §12.3 of the specification refuses.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountError> {
        let _ = expand;
        Err(MountError::Record { reason: "EOF" })
    }
}

/// Reads a mount that holds no variables, such as `type=cache,target=/c`.
///
/// # Errors
///
/// See [`MountFlag::resolve`].
pub fn parse_mount(text: &str) -> Result<Mount, MountError> {
    let _ = text;
    Err(MountError::Record { reason: "EOF" })
}

/// A mount of a RUN. Absent values are `None`; their defaults depend on the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mount {
    /// `type=bind`
    Bind(BindMount),
    /// `type=cache`
    Cache(CacheMount),
    /// `type=tmpfs`
    Tmpfs(TmpfsMount),
    /// `type=secret`
    Secret(SecretMount),
    /// `type=ssh`
    Ssh(SshMount),
}

/// Whether a mount can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `ro`
    ReadOnly,
    /// `rw`
    ReadWrite,
}

/// A view of files of the context, a stage or an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindMount {
    /// Where it appears; the working directory when absent.
    pub target: Option<String>,
    /// Path below the root of `from`; the root when absent.
    pub source: Option<String>,
    /// Stage, named context or image; the build context when absent.
    pub from: Option<String>,
    /// Read-only unless told otherwise.
    pub access: Access,
}

/// A directory that persists between builds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// Where it appears; the working directory when absent.
    pub target: Option<String>,
    /// Name of the cache; the target as written when absent.
    pub id: Option<String>,
    /// Path below the root of `from` that is its first content.
    pub source: Option<String>,
    /// Stage, named context or image with its first content; empty when absent.
    pub from: Option<String>,
    /// Writable unless told otherwise.
    pub access: Access,
    /// Concurrent use.
    pub sharing: Sharing,
    /// Owner and mode of the first, empty directory.
    pub owner: Owner,
}

/// Concurrent use of a cache mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All at once.
    Shared,
    /// A second user gets another directory.
    Private,
    /// A second user waits.
    Locked,
}

/// Ids and permission bits as given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: Option<u32>,
}

/// A fresh in-memory directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TmpfsMount {
    /// Where it appears; the working directory when absent.
    pub target: Option<String>,
    /// Limit; unlimited when absent.
    pub size_bytes: Option<u64>,
    /// Writable unless told otherwise.
    pub access: Access,
}

/// A secret of the caller, as a file or an environment variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMount {
    /// The secret's name: `id`, else `source`, else the last component of the target.
    pub id: String,
    /// Path of the file. `None`: `/run/secrets/<last component of id>`, or no file if `env` is set.
    pub target: Option<String>,
    /// Environment variable that gets the value.
    pub env: Option<String>,
    /// Whether its absence fails the build.
    pub required: bool,
    /// Owner and mode of the file; 0:0 and 0400 when absent.
    pub owner: Owner,
}

/// The caller's ssh agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshMount {
    /// The id as written; `default` is meant when absent.
    pub id: Option<String>,
    /// Path of the socket; `/run/buildkit/ssh_agent.N` when absent.
    pub target: Option<String>,
    /// Whether its absence fails the build.
    pub required: bool,
    /// Owner and mode of the socket; 0:0 and 0600 when absent.
    pub owner: Owner,
}

/// Why a mount was refused. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not one CSV record.
    #[error("failed to parse csv mounts: {reason}")]
    Record {
        /// The CSV reader's words.
        reason: &'static str,
    },
    /// A variable could not be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}
