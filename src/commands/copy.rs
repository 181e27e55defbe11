//! `rbuild copy`: an image from anywhere to a registry, an archive or a directory, byte for byte.

use std::path::Path;

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
        let (dest, path, name) = match form(text) {
            Form::Directory(path, name) => (Dest::Directory(path.into()), path, name),
            Form::File(path, name) => (Dest::File(path.into()), path, name),
            Form::Name(name) => {
                let reference: Reference = name.parse().map_err(broken)?;
                return match reference.digest() {
                    None => Ok(Self::Registry(reference)),
                    Some(_) => Err(DestinationError::Digest {
                        text: text.to_owned(),
                    }),
                };
            }
        };
        // A tag alone names nothing; the file's own name stands for the repository.
        let name = name.map(|name| match name.contains(['/', ':']) {
            true => name.parse(),
            false => {
                let stem = Path::new(path).file_stem().unwrap_or_default();
                format!("{}:{name}", stem.to_string_lossy().to_lowercase()).parse()
            }
        });
        Ok(Self::Files {
            dest,
            name: name.transpose().map_err(broken)?,
        })
    }
}

/// What a word looks like; paths may come with what the image is called there.
enum Form<'t> {
    Name(&'t str),
    File(&'t str, Option<&'t str>),
    Directory(&'t str, Option<&'t str>),
}

fn form(text: &str) -> Form<'_> {
    let archive = ["oci-archive://", "docker-archive://"];
    if let Some(name) = text.strip_prefix("docker-image://") {
        Form::Name(name)
    } else if let Some(rest) = text.strip_prefix("oci-layout://") {
        let (path, name) = split_name(rest);
        Form::Directory(path, name)
    } else if let Some(rest) = archive.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        let (path, name) = split_name(rest);
        Form::File(path, name)
    } else if text.ends_with('/') || Path::new(text).is_dir() {
        Form::Directory(text, None)
    } else if text.ends_with(".tar") {
        Form::File(text, None)
    } else if ["/", "./", "../"]
        .iter()
        .any(|start| text.starts_with(start))
    {
        Form::Directory(text, None)
    } else {
        Form::Name(text)
    }
}

/// What follows the first colon is a name, which may have more of them.
fn split_name(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((path, name)) => (path, Some(name)),
        None => (text, None),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_told_by_their_form() {
        let files = |dest, name: Option<&str>| Destination::Files {
            dest,
            name: name.map(|name| name.parse().unwrap()),
        };
        for (text, expected) in [
            ("app:1", Destination::Registry("app:1".parse().unwrap())),
            (
                "docker-image://h:5000/a.tar",
                Destination::Registry("h:5000/a.tar".parse().unwrap()),
            ),
            ("out/app.tar", files(Dest::File("out/app.tar".into()), None)),
            ("new/", files(Dest::Directory("new/".into()), None)),
            ("./new", files(Dest::Directory("./new".into()), None)),
            (
                "oci-layout://new:1",
                files(Dest::Directory("new".into()), Some("new:1")),
            ),
            (
                "oci-archive://x/app.tar:1",
                files(Dest::File("x/app.tar".into()), Some("app:1")),
            ),
            (
                "oci-archive://x.tar:h:5000/app:1",
                files(Dest::File("x.tar".into()), Some("h:5000/app:1")),
            ),
        ] {
            assert_eq!(Destination::parse(text).unwrap(), expected, "{text}");
        }
        assert!(Destination::parse("A B").is_err());
    }
}
