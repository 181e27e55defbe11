//! `rbuild manifest`: lists of images put together over several commands (`cli-and-outputs.md` §13).
//!
//! A list that is not pushed yet is kept in the store. Its members are in registries, as with Docker,
//! or in the local store, in image layouts and archives; then pushing the list pushes them, too.

mod annotate;
mod create;
mod inspect;
mod push;
mod remove;

use exporter::index::Member;
use oci::{ImageSource, LayoutImage, Reference};
use registry::{ResolveError, ResolveErrorKind};
use store::drafts::{Draft, DraftError, DraftMember, DraftPlace};

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::tools::Tools;
use crate::ui::report::Failure;

/// Options of `rbuild manifest`
#[derive(Debug, clap::Args)]
pub(crate) struct ManifestArgs {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Begin a list of images, or add to it
    #[command(args_override_self = true)]
    Create(create::CreateArgs),
    /// Say in a list what an image is for
    #[command(args_override_self = true)]
    Annotate(annotate::AnnotateArgs),
    /// Show a list, or an image of it
    #[command(args_override_self = true)]
    Inspect(inspect::InspectArgs),
    /// Push a list, and what of it is not there yet
    #[command(args_override_self = true)]
    Push(push::PushArgs),
    /// Forget lists that are not pushed
    Rm(remove::RmArgs),
}

/// Does it.
pub(crate) fn run(
    args: &ManifestArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    match &args.command {
        Command::Create(args) => create::run(args, global, environment),
        Command::Annotate(args) => annotate::run(args, global, environment),
        Command::Inspect(args) => inspect::run(args, global, environment),
        Command::Push(args) => push::run(args, global, environment),
        Command::Rm(args) => remove::run(args, global, environment),
    }
}

/// What does not go with a list.
#[derive(Debug, thiserror::Error)]
enum ManifestError {
    #[error("refusing to amend an existing manifest list with no --amend flag")]
    Exists,
    #[error("{name} is a manifest list")]
    IsAList { name: String },
    #[error("no such manifest: {name}")]
    NoSuchImage { name: String },
    #[error("No such manifest: {name}")]
    NoSuchDraft { name: String },
    #[error("manifest for image {member} does not exist in {list}")]
    NotAMember { member: String, list: String },
    #[error("manifest entry for image has unsupported os/arch combination: {os}/{architecture}")]
    Platform { os: String, architecture: String },
    #[error("manifest {member} must have an OS and Architecture to be pushed to a registry")]
    NoPlatform { member: String },
    #[error("{list} has no images")]
    Empty { list: String },
    #[error(transparent)]
    Draft(#[from] DraftError),
}

impl ManifestError {
    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Exists => "add to it with --amend, or begin anew after `rbuild manifest rm`",
            Self::IsAList { .. } => {
                "`rbuild imagetools create` and `rbuild join` take the images out of lists"
            }
            Self::NoSuchDraft { .. } => "begin one with `rbuild manifest create`",
            Self::NoPlatform { .. } => "say it with `rbuild manifest annotate --os … --arch …`",
            Self::NoSuchImage { .. }
            | Self::NotAMember { .. }
            | Self::Platform { .. }
            | Self::Empty { .. }
            | Self::Draft(_) => return None,
        };
        Some(text.to_owned())
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        Self::new(&error, error.help())
    }
}

impl From<DraftError> for Failure {
    fn from(error: DraftError) -> Self {
        ManifestError::from(error).into()
    }
}

/// Says in Docker's words that there is no such image, or what else is wrong.
fn not_found(error: ResolveError, name: &str) -> Failure {
    if matches!(error.kind, ResolveErrorKind::NotFound) {
        let name = name.to_owned();
        return ManifestError::NoSuchImage { name }.into();
    }
    Failure::new(&error, error.help())
}

/// Returns the draft of that name, which has to be there.
fn draft(tools: &Tools, name: &Reference) -> Result<Draft, ManifestError> {
    let draft = tools.store.drafts().get(name)?;
    draft.ok_or_else(|| ManifestError::NoSuchDraft {
        name: name.familiar(),
    })
}

/// Whether a member is the one that the user means.
fn is_called(member: &DraftMember, text: &str) -> bool {
    let reference = |text: &str| text.parse::<Reference>().ok();
    member.name == text
        || reference(text).is_some_and(|wanted| Some(wanted) == reference(&member.name))
        || member.descriptor.digest.to_string() == text
}

/// Returns a member as part of an index.
fn member_of(member: &DraftMember) -> Member {
    let digest = member.descriptor.digest;
    Member {
        descriptor: member.descriptor.clone(),
        source: match &member.place {
            DraftPlace::Registry(reference) => ImageSource::Registry(reference.with_digest(digest)),
            DraftPlace::Layout(directory) => ImageSource::Layout {
                directory: directory.clone(),
                image: LayoutImage::Digest(digest),
            },
        },
    }
}
