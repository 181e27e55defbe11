//! `rbuild copy`: an image from anywhere to a registry, an archive or a directory, byte for byte.

use std::path::{Path, PathBuf};

use exporter::output::Dest;
use exporter::transfer::Saved;
use oci::reference::ReferenceError;
use oci::{Platform, Reference};

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::interrupt;
use crate::place::{First, Place};
use crate::tools::{Platforms, Talk, Tools, not_carried};
use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild copy`
#[derive(Debug, clap::Args)]
pub(crate) struct CopyArgs {
    /// Copy only the images for these platforms [default: all]
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Do not ask the registries for certificates
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Print the digest alone
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// A name, an archive, an image layout, oci-layout://DIR[:TAG], oci-archive://FILE[:TAG] or
    /// docker-image://NAME, which passes the local store over
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,

    /// A name, FILE.tar, DIR/, oci-layout://DIR[:TAG] or oci-archive://FILE[:TAG]
    #[arg(value_name = "DESTINATION", value_parser = Destination::parse)]
    pub(crate) destination: Destination,
}

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Into a registry.
    Registry(Reference),
    /// Into a file or a directory.
    Files {
        dest: Dest,
        /// What the image is called there; none keeps its names.
        name: Option<Reference>,
    },
}

/// Why a word is no destination.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    #[error("invalid destination \"{text}\": {source}")]
    Name {
        text: String,
        source: ReferenceError,
    },
    #[error("invalid destination \"{text}\": a name to be given must not have a digest")]
    Digest { text: String },
}

impl Destination {
    /// Reads a word.
    pub(crate) fn parse(text: &str) -> Result<Self, DestinationError> {
        let broken = |source| DestinationError::Name {
            text: text.to_owned(),
            source,
        };
        let path = |text: &str| PathBuf::from(text);
        let (dest, tag): (fn(PathBuf) -> Dest, _) =
            if let Some(rest) = text.strip_prefix("oci-layout://") {
                (Dest::Directory, split_tag(rest))
            } else if let Some(rest) = ["oci-archive://", "docker-archive://"]
                .iter()
                .find_map(|scheme| text.strip_prefix(scheme))
            {
                (Dest::File, split_tag(rest))
            } else if text.ends_with('/') || Path::new(text).is_dir() {
                (Dest::Directory, (text, None))
            } else if text.ends_with(".tar") {
                (Dest::File, (text, None))
            } else if ["/", "./", "../"]
                .iter()
                .any(|start| text.starts_with(start))
            {
                (Dest::Directory, (text, None))
            } else {
                let name = text.strip_prefix("docker-image://").unwrap_or(text);
                let reference: Reference = name.parse().map_err(broken)?;
                return match reference.digest() {
                    None => Ok(Self::Registry(reference)),
                    Some(_) => Err(DestinationError::Digest {
                        text: text.to_owned(),
                    }),
                };
            };
        let (file, tag) = tag;
        // A tag alone names nothing; the file's own name stands for the repository.
        let name = tag.map(|tag| match tag.contains(['/', ':']) {
            true => tag.parse(),
            false => {
                let stem = Path::new(file).file_stem().unwrap_or_default();
                format!("{}:{tag}", stem.to_string_lossy().to_lowercase()).parse()
            }
        });
        Ok(Self::Files {
            dest: dest(path(file)),
            name: name.transpose().map_err(broken)?,
        })
    }
}

/// What follows the first colon behind the last slash of the path is a tag.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag)),
        Some(_) | None => (text, None),
    }
}

/// Copies the image.
pub(crate) fn run(
    args: &CopyArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let source = Place::of(&args.source)?;
    let registries = [
        match &source {
            Place::Named(name) => name.reference(),
            Place::Registry(reference) => Some(reference),
            Place::Layout { .. } | Place::Archive { .. } => None,
        },
        match &args.destination {
            Destination::Registry(reference) => Some(reference),
            Destination::Files { .. } => None,
        },
    ];
    let insecure = registries.into_iter().flatten().filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let talk = match args.quiet {
        true => Talk::Quiet,
        false => Talk::Plain,
    };
    let digest = interrupt::run(async {
        let found = source.find(&tools, First::Store).await?;
        let platforms = Platforms::these_or_all(&args.platforms);
        let read = tools.read(&found.source, &platforms).await?;
        let digest = read.listed.digest;
        let transfer = tools.transfer(talk);
        match &args.destination {
            Destination::Registry(reference) => {
                transfer
                    .push(&read.contents, std::slice::from_ref(reference))
                    .await
            }
            Destination::Files { dest, name } => {
                let saved = Saved {
                    contents: read.contents,
                    listed: read.listed,
                    names: name.as_ref().map_or(found.names, |name| vec![name.clone()]),
                };
                transfer.write(&[saved], dest.clone()).await
            }
        }
        .map_err(not_carried)?;
        Ok(digest)
    })?;
    ui::print(&format!("{digest}\n"))
}
