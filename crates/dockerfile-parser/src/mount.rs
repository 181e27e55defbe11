//! `RUN --mount`: one CSV record, typed once its variables are known.

pub mod csv;
mod options;

use std::fmt;

use crate::ast::{Kind, Stage, Word};
use crate::error::{DockerfileError, DockerfileErrorKind, did_you_mean};
use crate::expand::ExpandError;
use crate::mount::options::Options;
use crate::quote::quoted;
use crate::source::Span;

pub use csv::CsvError;
pub use options::size_bytes;

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
    /// Splits the value of a `--mount`.
    ///
    /// # Errors
    ///
    /// A value that is not one CSV record, and a variable in `from`.
    pub fn new(text: Word) -> Result<Self, MountError> {
        let mut fields = Vec::new();
        for field in csv::record(&text.text)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let field = MountField {
                key: key.to_lowercase(),
                value,
                text: field,
            };
            let is_variable = |value: &str| {
                value
                    .find('$')
                    .is_some_and(|dollar| dollar + 1 < value.len())
            };
            if field.key == "from" && field.value.as_deref().is_some_and(is_variable) {
                return Err(MountError::FromVariable);
            }
            fields.push(field);
        }
        Ok(Self { text, fields })
    }

    /// The mount, with every value but that of `from` passed through `expand`.
    ///
    /// # Errors
    ///
    /// What `expand` returns, and everything that is wrong with a mount by itself. That a target
    /// must not be the root directory depends on the working directory and is not checked here.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>,
    ) -> Result<Mount, MountError> {
        let mut options = Options::default();
        for field in &self.fields {
            let value = match &field.value {
                Some(value) if field.key != "from" => Some(expand(value)?),
                other => other.clone(),
            };
            options.set(field, value)?;
        }
        options.mount()
    }

    /// Finds what is wrong whatever the variables in it hold.
    ///
    /// # Errors
    ///
    /// As [`MountFlag::resolve`], as far as it can be told without variables.
    pub fn check(&self) -> Result<(), MountError> {
        let mut options = Options::default();
        let mut is_literal = true;
        let mut type_is_known = true;
        for field in &self.fields {
            Options::check_key(field)?;
            let value = field.value.as_deref().unwrap_or_default();
            if field.key != "from" && value.contains(['$', '\'', '"', '\\', '`']) {
                is_literal = false;
                type_is_known &= field.key != "type";
            } else if type_is_known {
                options.set(field, field.value.clone())?;
            }
        }
        if is_literal {
            options.mount()?;
        }
        Ok(())
    }

    /// The piece of the flag that `error` is about: a field where it can be told, else all.
    pub fn blamed(&self, error: &MountError) -> Span {
        let is_blamed = |found: &MountField| match error {
            MountError::Key { field, .. } | MountError::NoValue { field } => found.text == *field,
            MountError::KeyForType { key, .. }
            | MountError::Value { key, .. }
            | MountError::Number { key, .. } => found.key == *key,
            MountError::Owner { key, .. } => found.key == *key,
            MountError::Type { .. } => found.key == "type",
            MountError::Sharing { .. }
            | MountError::SharingFor { .. }
            | MountError::SecretSharing => found.key == "sharing",
            MountError::FromVariable | MountError::SecretFrom => found.key == "from",
            MountError::Record(_)
            | MountError::Expand(_)
            | MountError::SecretName
            | MountError::SecretNames => false,
        };
        let field = self.fields.iter().find(|field| is_blamed(field));
        field.map_or(self.text.span, |field| self.place(field))
    }

    /// Where a field stands, as far as it can be told; else where the mount does.
    pub fn place(&self, field: &MountField) -> Span {
        let whole = self.text.span;
        // Behind a continuation, places in the text are not those in the file.
        let is_contiguous = whole.end - whole.start == self.text.text.len();
        match self.text.text.find(&field.text) {
            Some(at) if is_contiguous => {
                let start = whole.start + at;
                Span::new(start, start + field.text.len())
            }
            Some(_) | None => whole,
        }
    }
}

/// What is wrong with the mounts of `stages` whatever their variables hold: errors of any build
/// that needs these steps, which can be told ahead of it.
pub fn faults(stages: &[Stage]) -> Vec<DockerfileError> {
    let mut faults = Vec::new();
    for instruction in stages.iter().flat_map(|stage| &stage.instructions) {
        let Kind::Run(run) = &instruction.kind else {
            continue;
        };
        let found = run.flags.mounts.iter().filter_map(|mount| {
            let error = mount.check().err()?;
            Some(DockerfileError {
                span: mount.blamed(&error),
                instruction: instruction.span,
                kind: DockerfileErrorKind::MountFault(error),
            })
        });
        faults.extend(found);
    }
    faults
}

/// Reads a mount that holds no variables, such as `type=cache,target=/c`.
///
/// # Errors
///
/// See [`MountFlag::resolve`].
pub fn parse_mount(text: &str) -> Result<Mount, MountError> {
    let word = Word {
        text: text.to_owned(),
        span: Span::new(0, text.len()),
    };
    MountFlag::new(word)?.resolve(&mut |value| Ok(value.to_owned()))
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

/// The types of mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MountType {
    /// `bind`
    #[default]
    Bind,
    /// `cache`
    Cache,
    /// `tmpfs`
    Tmpfs,
    /// `secret`
    Secret,
    /// `ssh`
    Ssh,
}

impl MountType {
    /// All types.
    pub const ALL: [Self; 5] = [
        Self::Bind,
        Self::Cache,
        Self::Tmpfs,
        Self::Secret,
        Self::Ssh,
    ];

    /// The value of `type=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Cache => "cache",
            Self::Tmpfs => "tmpfs",
            Self::Secret => "secret",
            Self::Ssh => "ssh",
        }
    }
}

impl fmt::Display for MountType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Sharing {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Shared, Self::Private, Self::Locked];

    /// The value of `sharing=`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Private => "private",
            Self::Locked => "locked",
        }
    }
}

/// The keys a mount may have, for listings and suggestions.
pub const MOUNT_KEYS: &[&str] = &[
    "type",
    "from",
    "source",
    "target",
    "readonly",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "src",
    "dst",
    "destination",
    "ro",
    "rw",
    "readwrite",
    "env",
];

/// Why a mount was refused. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Not one CSV record.
    #[error("failed to parse csv mounts: {0}")]
    Record(#[from] CsvError),
    /// A variable could not be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),
    /// `from` holds a variable.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    FromVariable,
    /// A key that needs a value and has none.
    #[error("invalid field '{field}' must be a key=value pair")]
    NoValue {
        /// The field.
        field: String,
    },
    /// No such key.
    #[error("unexpected key '{key}' in '{field}'{}", did_you_mean(nearest))]
    Key {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// The key it resembles.
        nearest: Option<&'static str>,
    },
    /// A key that the type, as far as it is known at that point, does not have.
    #[error("unexpected key '{key}' for mount type '{mount_type}'")]
    KeyForType {
        /// The key.
        key: String,
        /// The type.
        mount_type: MountType,
    },
    /// No such type.
    #[error("unsupported mount type {}{}", quoted(value), did_you_mean(nearest))]
    Type {
        /// The value.
        value: String,
        /// The type it resembles.
        nearest: Option<&'static str>,
    },
    /// No such sharing mode.
    #[error("unsupported sharing value {}{}", quoted(value), did_you_mean(nearest))]
    Sharing {
        /// The value.
        value: String,
        /// The mode it resembles.
        nearest: Option<&'static str>,
    },
    /// A value that is no boolean, or no size.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A value that is no number.
    #[error("invalid value {value} for {key}")]
    Number {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Owner or mode of a mount that has none.
    #[error("{key} not allowed for {} type mounts", quoted(mount_type.name()))]
    Owner {
        /// The key.
        key: &'static str,
        /// The type.
        mount_type: MountType,
    },
    /// Sharing of something else than a cache.
    #[error("invalid cache sharing set for {mount_type} mount")]
    SharingFor {
        /// The type.
        mount_type: MountType,
    },
    /// A secret with `from`.
    #[error("secret mount should not have a from")]
    SecretFrom,
    /// A secret with `sharing`.
    #[error("secret mount should not define sharing")]
    SecretSharing,
    /// A secret without a name.
    #[error("invalid secret mount. one of source, target required")]
    SecretName,
    /// A secret with two names.
    #[error("both source and id can't be set")]
    SecretNames,
}

impl MountError {
    /// The user's next step, where the message alone does not imply it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::KeyForType { key, .. } => Some(format!(
                "`type=` has to stand before `{key}`, and to be one that has it"
            )),
            Self::Key {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean `{nearest}`?")),
            Self::SecretName => Some("name the secret: `type=secret,id=name`".to_owned()),
            Self::FromVariable => {
                Some("name a stage: `FROM $image AS alias`, then `from=alias`".to_owned())
            }
            Self::Type { .. } => {
                Some("the types are bind, cache, tmpfs, secret and ssh".to_owned())
            }
            Self::Sharing { .. } => Some("the modes are shared, private and locked".to_owned()),
            Self::Record(_)
            | Self::Expand(_)
            | Self::NoValue { .. }
            | Self::Key { nearest: None, .. }
            | Self::Value { .. }
            | Self::Number { .. }
            | Self::Owner { .. }
            | Self::SharingFor { .. }
            | Self::SecretFrom
            | Self::SecretSharing
            | Self::SecretNames => None,
        }
    }
}
