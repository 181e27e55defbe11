//! Why a graph could not be solved.

use std::path::PathBuf;

use graph::{Span, VertexId};
use sandbox::{Architecture, EmulationError, StepError, StepStatus};
use store::DiskError;
use store::layer::UnpackError;

use crate::execute::Symptom;
use crate::source::UnpackLayerError;

pub use crate::execute::copy::{CopyError, ModeError, PlaceError, SelectError};

/// A vertex that failed, and with it the build.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct SolveError {
    /// The vertex.
    pub vertex: VertexId,
    /// How progress showed it.
    pub name: String,
    /// The instruction it came from.
    pub span: Span,
    /// What went wrong.
    pub kind: SolveErrorKind,
}

/// What went wrong with a vertex.
#[derive(Debug, thiserror::Error)]
pub enum SolveErrorKind {
    /// The process of a RUN failed by its own account.
    #[error("process {command} did not complete successfully: exit code: {}", status.code())]
    Process {
        /// The command line, quoted.
        command: String,
        /// How it ended.
        status: StepStatus,
        /// Whether it could write.
        room: Room,
        /// What is known of the reason.
        symptom: Option<Symptom>,
    },
    /// The process of a RUN could not be run.
    #[error("process {command} did not complete successfully: {source}")]
    Step {
        /// The command line, quoted.
        command: String,
        /// Why not.
        source: StepError,
    },
    /// There are private networks, but none for this step.
    #[error(transparent)]
    Network(#[from] sandbox::network::PrivateNetworkError),
    /// A step wants what it cannot have on this rung of isolation.
    #[error(transparent)]
    Isolation(StepError),
    /// Nothing here runs programs of the step's platform.
    #[error(transparent)]
    Emulation(#[from] EmulationError),
    /// The platform of a step is none that this program knows how to run.
    #[error("steps for {platform} cannot run on Linux")]
    Platform {
        /// The platform.
        platform: oci::Platform,
    },
    /// The programs of a base image are for another architecture than the step.
    #[error(
        "the base image is for linux/{architecture}, but its {} is a program for linux/{found}",
        path.display()
    )]
    ForeignBase {
        /// One of its programs.
        path: PathBuf,
        /// What that is for.
        found: Architecture,
        /// What the image is for.
        architecture: Architecture,
    },
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A file or repository that an ADD names could not be fetched.
    #[error(transparent)]
    Remote(#[from] crate::remote::RemoteError),
    /// A base layer could not be fetched.
    #[error(transparent)]
    Fetch(#[from] crate::source::FetchLayerError),
    /// A base layer could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// A layer could not be mounted or a directory not be made in it.
    #[error(transparent)]
    Root(#[from] sandbox::rootfs::RootError),
    /// A stack of layers could not be shown, or what changed on it not become a layer.
    #[error(transparent)]
    Stack(#[from] crate::stack::StackError),
    /// A user or group could not be looked up.
    #[error(transparent)]
    Identity(#[from] sandbox::identity::IdentityError),
    /// What a step wants mounted is not to be had.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// A device cannot be given to a step.
    #[error(transparent)]
    Device(#[from] crate::cdi::DeviceError),
    /// A resource that is to be limited is none.
    #[error(transparent)]
    Resource(#[from] sandbox::UnknownResource),
    /// A capability is none, or not for steps.
    #[error(transparent)]
    Capability(#[from] sandbox::CapabilityError),
    /// A host name of the step is none.
    #[error(transparent)]
    HostName(#[from] sandbox::network::BadHostName),
    /// A layer could not be written as a tar.
    #[error(transparent)]
    Tar(#[from] store::layer::tar::TarError),
    /// The store cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A record cannot be written.
    #[error(transparent)]
    Record(#[from] store::cache::PutError),
    /// A system call failed that has no better name.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The step asks for something that rbuild cannot do yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: &'static str,
    },
}

/// Whether the disk of the store had room when a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Some.
    Left,
    /// None to speak of: what the step complains of may be that.
    Full,
}

/// What a step wants mounted is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A secret that the step cannot do without was not given.
    #[error("secret {id}: not found")]
    NoSecret {
        /// The secret.
        id: String,
    },
    /// The value of a secret cannot be that of a variable.
    #[error("secret {id} cannot be put into variable {variable}: it is not text")]
    SecretNotText {
        /// The secret.
        id: String,
        /// The variable.
        variable: String,
    },
    /// An agent that the step cannot do without was not given.
    #[error("no SSH key {:?} forwarded from the client", written(id))]
    NoAgent {
        /// The agent.
        id: String,
    },
    /// What a cache is to start with is no directory.
    #[error("the first content of a cache mount, {source_path}: {source}")]
    CacheContent {
        /// Its path.
        source_path: String,
        /// What the system says.
        source: std::io::Error,
    },
}

/// The id as people write it: not at all, where it is the usual one.
fn written(id: &str) -> &str {
    if id == "default" { "" } else { id }
}

impl MountError {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoSecret { id } => Some(format!("give it with --secret id={id},src=FILE")),
            Self::SecretNotText { .. } => {
                Some("mount it as a file: leave out `env`, or add `target`".to_owned())
            }
            Self::NoAgent { id } => Some(format!("forward an agent with --ssh {id}")),
            Self::CacheContent { .. } => None,
        }
    }
}

impl From<UnpackLayerError> for SolveErrorKind {
    fn from(error: UnpackLayerError) -> Self {
        match error {
            UnpackLayerError::Fetch(error) => Self::Fetch(error),
            UnpackLayerError::Unpack(error) => Self::Unpack(error),
        }
    }
}

impl SolveErrorKind {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Step { source, .. } | Self::Isolation(source) => source.help(),
            Self::Network(error) => error.help(),
            Self::Emulation(error) => error.help(),
            Self::Fetch(error) => error.help(),
            Self::Remote(error) => error.help(),
            Self::Unpack(error) => error.help(),
            Self::Copy(error) => error.help(),
            Self::Disk(error) => error.help(),
            Self::Stack(error) => error.help(),
            Self::Mount(error) => error.help(),
            Self::Device(error) => error.help(),
            Self::Process {
                room: Room::Full, ..
            } => Some(
                "the disk of the store is full: make room there (`rbuild prune`), or set RBUILD_ROOT \
                 to a directory on a larger one"
                    .to_owned(),
            ),
            Self::ForeignBase { found, .. } => Some(format!(
                "use an image that was made for the platform; or say what it is, FROM \
                 --platform=linux/{found}; or let it be with --allow platform.mismatch"
            )),
            Self::Process { symptom, .. } => symptom.as_ref().map(ToString::to_string),
            Self::Platform { .. }
            | Self::Root(_)
            | Self::Identity(_)
            | Self::Resource(_)
            | Self::Capability(_)
            | Self::HostName(_)
            | Self::Tar(_)
            | Self::Record(_)
            | Self::Io { .. }
            | Self::Unsupported { .. } => None,
        }
    }
}
