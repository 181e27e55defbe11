//! Why a Dockerfile cannot be lowered.

use dockerfile::expand::ExpandError;
use dockerfile::lint::Warning;
use dockerfile::mount::MountError;
use dockerfile::quote::quoted;
use dockerfile::{DockerfileError, DockerfileErrorKind, Span};
use oci::Platform;
use oci::platform::PlatformError;
use oci::reference::ReferenceError;

use crate::op::Entitlement;

use crate::git::GitUrlError;
pub use crate::port::PortError;

/// Why a Dockerfile that parses cannot be built, and the bytes of it that are to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct LowerError {
    /// The piece to point at; `None` where the fault is in an option, not in the file.
    pub span: Option<Span>,
    /// The lines the reference shows: the complete instruction.
    pub instruction: Option<Span>,
    /// What is wrong.
    pub kind: Box<LowerErrorKind>,
}

/// Everything that keeps a Dockerfile from being lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LowerErrors {
    /// In the order of the file; at least one.
    pub errors: Vec<LowerError>,
    /// What was found to be unwise besides.
    pub warnings: Vec<Warning>,
}

impl LowerErrors {
    /// Puts what was found for one platform after the other in order, and says everything once.
    pub(crate) fn new(found: Vec<LowerError>, warnings: Vec<Warning>) -> Self {
        let mut errors: Vec<LowerError> = Vec::new();
        for error in found {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        errors.sort_by_key(|error| error.span.map(|span| span.start));
        Self { errors, warnings }
    }
}

impl LowerError {
    /// An error at `span`, which is part of `instruction`.
    pub(crate) fn at(span: Span, instruction: Span, kind: impl Into<LowerErrorKind>) -> Self {
        Self {
            span: Some(span),
            instruction: Some(instruction),
            kind: Box::new(kind.into()),
        }
    }

    /// An error of an option.
    pub(crate) fn of_option(kind: LowerErrorKind) -> Self {
        Self {
            span: None,
            instruction: None,
            kind: Box::new(kind),
        }
    }

    /// Returns whether a name could not be looked up for want of files.
    pub(crate) fn is_of_no_files(&self) -> bool {
        matches!(
            *self.kind,
            LowerErrorKind::UserName {
                cause: NoUsers::EmptyStage,
                ..
            }
        )
    }

    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }
}

/// What is wrong with a Dockerfile that parses. The texts are the reference's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerErrorKind {
    /// A word that cannot be expanded.
    #[error(transparent)]
    Expand(#[from] ExpandError),

    /// `--target` names no stage.
    #[error(
        "target stage {} could not be found{}",
        quoted(target),
        did_you_mean(nearest)
    )]
    Target {
        /// The target as typed.
        target: String,
        /// The stage it resembles.
        nearest: Option<String>,
    },
    /// The image word of a FROM expands to nothing.
    #[error("base name ({word}) should not be blank")]
    BlankBase {
        /// The word as written.
        word: String,
    },
    /// The name of an image is none.
    #[error(
        "failed to parse stage name {}: {}",
        quoted(name),
        reference_fault(source)
    )]
    ImageName {
        /// The name, expanded.
        name: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// `--platform` of a FROM expands to nothing.
    #[error("empty platform value from expression {word}")]
    EmptyPlatform {
        /// The value as written.
        word: String,
    },
    /// `--platform` of a FROM is no platform.
    #[error("failed to parse platform {word}: {source}")]
    Platform {
        /// The value as written.
        word: String,
        /// What is wrong with it.
        source: PlatformError,
    },
    /// A base image is not for the platform that was asked for.
    #[error("base image {image} is for {actual} only, wanted {wanted}")]
    BasePlatform {
        /// The image as written in the file, expanded.
        image: String,
        /// What it is for.
        actual: Platform,
        /// What was asked for.
        wanted: Platform,
        /// Where it was asked for.
        wish: PlatformWish,
    },
    /// The caller gave no answer for an image that an earlier round asked for.
    #[error("image {image} has not been resolved")]
    Unresolved {
        /// The image as written in the file, expanded.
        image: String,
    },
    /// `COPY --from=7` in a file with fewer stages.
    #[error("invalid stage index {index}")]
    StageIndex {
        /// The index.
        index: i64,
        /// How many stages there are.
        stages: usize,
    },
    /// Stages need each other.
    #[error("circular dependency detected on stage: {stage}")]
    Cycle {
        /// One of the stages, or one that leads to them.
        stage: String,
    },
    /// COPY from a stage that is defined further down.
    #[error(
        "cannot copy from stage {}, it needs to be defined before current stage {}",
        quoted(from),
        quoted(stage)
    )]
    CopyFromLaterStage {
        /// Value of `--from`.
        from: String,
        /// The stage that copies.
        stage: String,
    },
    /// A mount from a stage that is defined further down.
    #[error(
        "cannot mount from stage {} to {}, stage needs to be defined before current command",
        quoted(from),
        quoted(target)
    )]
    MountFromLaterStage {
        /// Value of `from`.
        from: String,
        /// Where it was to be mounted.
        target: String,
    },
    /// A trigger of the base image is no instruction.
    #[error("{}", trigger_fault(*line, source))]
    Trigger {
        /// The trigger.
        trigger: String,
        /// Line of the FROM, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: DockerfileError,
    },

    /// A mount that is wrong once its variables are known.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A mount on the root directory.
    #[error("invalid mount target {}", quoted(target))]
    MountTarget {
        /// The target, absolute.
        target: String,
    },
    /// A port that is none.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A path of VOLUME expands to nothing.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// STOPSIGNAL names no signal.
    #[error("invalid signal: {signal}")]
    Signal {
        /// The value, expanded.
        signal: String,
    },

    /// `--chmod` is neither octal nor symbolic.
    #[error("invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777")]
    Chmod {
        /// The value, expanded.
        mode: String,
    },
    /// A user or group is named where there is no file system to look the name up in.
    #[error("invalid user index: -1")]
    UserName {
        /// The name.
        name: String,
        /// Why there is none.
        cause: NoUsers,
    },
    /// `--checksum` with several sources.
    #[error("checksum can't be specified for multiple sources")]
    ChecksumSources,
    /// `--checksum` of a source that is not downloaded.
    #[error("checksum requires HTTP(S) or Git sources")]
    ChecksumSource,
    /// `--checksum` is none.
    #[error("invalid checksum digest format")]
    Checksum {
        /// The value, expanded.
        checksum: String,
    },
    /// A step asks for something that the user has not allowed.
    #[error("{wanted} is not allowed")]
    NotAllowed {
        /// What it asks for.
        wanted: Entitlement,
    },
    /// A URL as source of COPY.
    #[error("source can't be a URL for COPY")]
    UrlInCopy,
    /// A git repository as source of COPY.
    #[error("source can't be a git ref for COPY")]
    GitInCopy,
    /// The address of a repository that cannot be used.
    #[error("{}: {source}", quoted(address))]
    Git {
        /// The address, expanded, without its password.
        address: String,
        /// What is wrong with it.
        source: GitUrlError,
    },
    /// `--keep-git-dir` and the address of the repository disagree.
    #[error("inconsistent keep-git-dir configuration")]
    KeepGitDir,
    /// A value of `SOURCE_DATE_EPOCH` that means nothing.
    #[error("invalid SOURCE_DATE_EPOCH: {value}")]
    Epoch {
        /// The value.
        value: String,
    },
    /// The stage that `SOURCE_DATE_EPOCH` names does not start from nothing.
    #[error("SOURCE_DATE_EPOCH stage must use FROM scratch")]
    EpochBase {
        /// Its name.
        stage: String,
    },
    /// The stage that `SOURCE_DATE_EPOCH` names does more than download one thing.
    #[error("SOURCE_DATE_EPOCH stage must have exactly one remote ADD, and nothing else but ARG")]
    EpochStage {
        /// Its name.
        stage: String,
    },
}

/// Who asked for the platform that a base image is not for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformWish {
    /// `--platform` of the command line.
    Option,
    /// `--platform` of the FROM.
    From,
}

/// Why there is no user to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUsers {
    /// The stage is still empty.
    EmptyStage,
    /// `--link` makes a layer without a look at what is below.
    Link,
}

impl LowerErrorKind {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::EpochBase { stage } | Self::EpochStage { stage } => {
                return Some(format!(
                    "SOURCE_DATE_EPOCH={stage} reads the time off what the stage downloads; a number \
                     of seconds, or `context`, are other values"
                ));
            }
            Self::Target { .. } => "a target is the name that a FROM … AS gives to its stage",
            Self::BlankBase { .. } | Self::EmptyPlatform { .. } => {
                "FROM sees only ARGs that stand above the first FROM; give the ARG a default there, or pass it with --build-arg"
            }
            Self::BasePlatform { wanted, wish, .. } => {
                let option = match wish {
                    PlatformWish::Option => "drop --platform from the command line",
                    PlatformWish::From => "drop --platform from the FROM",
                };
                return Some(format!(
                    "{option}, or take another base image that is made for {wanted}"
                ));
            }
            Self::StageIndex { stages, .. } => {
                let last = stages.saturating_sub(1);
                return Some(format!("stages are counted from 0; the last one is {last}"));
            }
            Self::CopyFromLaterStage { from, .. } | Self::MountFromLaterStage { from, .. } => {
                return Some(format!(
                    "move stage `{from}` up, before the one that reads it"
                ));
            }
            Self::Trigger { trigger, .. } => {
                return Some(format!(
                    "it is a trigger of the base image: ONBUILD {trigger}"
                ));
            }
            Self::Mount(error) => return DockerfileErrorKind::Mount(error.clone()).help(),
            Self::MountTarget { .. } => "give a target, or set another WORKDIR",
            Self::Signal { .. } => "write a number or a name, such as SIGTERM",
            Self::UserName { name, cause } => {
                let cause = match cause {
                    NoUsers::EmptyStage => "the stage has no files yet",
                    NoUsers::Link => "--link does not look at the stage's files",
                };
                return Some(format!(
                    "`{name}` cannot be looked up, as {cause}; write numbers, such as 1000:1000"
                ));
            }
            Self::ChecksumSource => "drop --checksum, or name a URL",
            Self::Checksum { .. } => {
                "write algorithm:hex with sha256, sha384 or sha512, such as sha256:e3b0…"
            }
            Self::NotAllowed { wanted } => {
                return Some(format!("allow it with --allow {wanted}"));
            }
            Self::KeepGitDir => "drop --keep-git-dir, or keep-git-dir from the address",
            Self::UrlInCopy | Self::GitInCopy => "use ADD",
            Self::Epoch { .. } => "write seconds since 1970",
            Self::ImageName {
                name,
                source: ReferenceError::UpperCase { .. },
            } => {
                let path = name.rfind('/').map_or(0, |slash| slash + 1);
                let tag = name[path..]
                    .find([':', '@'])
                    .map_or(name.len(), |at| path + at);
                let lower = name[..tag].to_lowercase();
                return Some(format!("did you mean `{lower}{}`?", &name[tag..]));
            }
            Self::ImageName { name, .. } if name.contains("://") => {
                let (_, name) = name.split_once("://")?;
                return Some(format!("images have names without `…://`: write `{name}`"));
            }
            Self::ImageName {
                source: ReferenceError::Part { part, .. },
                ..
            } => return Some(format!("`{part}` cannot be a part of an image name")),
            Self::Expand(_)
            | Self::ImageName { .. }
            | Self::Platform { .. }
            | Self::Unresolved { .. }
            | Self::Cycle { .. }
            | Self::Port(_)
            | Self::EmptyVolume
            | Self::Chmod { .. }
            | Self::ChecksumSources
            | Self::Git { .. } => return None,
        };
        Some(help.to_owned())
    }
}

/// Spans of a trigger are those of its own text; the line is that of the FROM that brought it.
fn trigger_fault(line: usize, source: &DockerfileError) -> String {
    if source.kind.names_line() {
        format!("dockerfile parse error on line {line}: {source}")
    } else {
        source.to_string()
    }
}

/// The reference does not say which part of a name is malformed; [`LowerErrorKind::help`] does.
fn reference_fault(source: &ReferenceError) -> String {
    match source {
        ReferenceError::Part { .. } => ReferenceError::Empty.to_string(),
        ReferenceError::Empty
        | ReferenceError::UpperCase { .. }
        | ReferenceError::LooksLikeId
        | ReferenceError::TooLong
        | ReferenceError::Digest { .. } => source.to_string(),
    }
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest
        .as_ref()
        .map(|nearest| format!(" (did you mean {nearest}?)"))
        .unwrap_or_default()
}
