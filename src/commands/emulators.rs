//! `rbuild emulators`: programs that run those of other platforms, taken out of images and kept.
//!
//! For machines that have none and on which nothing can be installed. An image is named by its digest:
//! what it holds runs in every step of its platform.

use std::os::fd::AsFd;

use exporter::local_store::ImageName;
use oci::{ImageSource, Reference};
use sandbox::{Architecture, Tree, emulation};
use store::{Emulator, Store};

use super::run::image;
use crate::args::GlobalArgs;
use crate::emulators;
use crate::environment::Environment;
use crate::ui::report::{self, Failure};
use crate::ui::{self, units};
use crate::{config, interrupt, setup};

/// Options of `rbuild emulators`
#[derive(Debug, clap::Args)]
pub(crate) struct EmulatorsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What is done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Take emulators out of an image
    #[command(args_override_self = true)]
    Install(InstallArgs),
    /// List the emulators that are kept [default]
    #[command(visible_alias = "list")]
    Ls,
    /// Remove emulators
    Rm(RmArgs),
}

/// Options of `rbuild emulators install`
#[derive(Debug, clap::Args)]
pub(crate) struct InstallArgs {
    /// Take those for these platforms only
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = emulators::architecture)]
    pub(crate) platforms: Vec<Architecture>,

    /// Image with programs called qemu-…, of a registry or the local store [default: that of the
    /// configuration]
    #[arg(value_name = "NAME[:TAG]@DIGEST")]
    pub(crate) image: Option<Reference>,
}

/// Options of `rbuild emulators rm`
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Platforms whose emulators are removed
    #[arg(value_name = "PLATFORM", required = true, value_parser = emulators::architecture)]
    pub(crate) platforms: Vec<Architecture>,
}

/// Why emulators could not be taken or removed.
#[derive(Debug, thiserror::Error)]
enum EmulatorsError {
    #[error("no image is named, nor does the configuration name one")]
    NoImage,
    #[error("{image} is not named by its digest, so it may be another tomorrow")]
    NotPinned { image: Reference, found: String },
    #[error("image {image} has no emulators: no statically linked programs called qemu-…")]
    Nothing { image: String },
    #[error("image {image} has no emulator for linux/{architecture}")]
    Lacks {
        image: String,
        architecture: Architecture,
    },
    #[error("reading the files of image {image}: {source}")]
    Read {
        image: String,
        source: std::io::Error,
    },
    #[error("no emulator for linux/{architecture} is kept")]
    NotKept { architecture: Architecture },
}

impl From<EmulatorsError> for Failure {
    fn from(error: EmulatorsError) -> Self {
        match &error {
            EmulatorsError::NoImage => Self::of_usage(
                &error,
                Some("rbuild emulators install NAME@sha256:…".to_owned()),
            ),
            EmulatorsError::NotPinned { found, .. } => Self::of_usage(
                &error,
                Some(format!("now it is {found}; name that, if you trust it")),
            ),
            EmulatorsError::Nothing { .. }
            | EmulatorsError::Lacks { .. }
            | EmulatorsError::Read { .. }
            | EmulatorsError::NotKept { .. } => Self::new(&error, None),
        }
    }
}

/// Does it.
pub(crate) fn run(
    args: &EmulatorsArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    match &args.command {
        Some(Command::Install(args)) => install(args, global, environment),
        Some(Command::Ls) | None => {
            let store = setup::open_store(&setup::store_root(global, environment)?)?;
            ui::print(&table(&kept(&store)?))
        }
        Some(Command::Rm(args)) => remove(args, global, environment),
    }
}

fn kept(store: &Store) -> Result<Vec<Emulator>, Failure> {
    let kept = store.emulators().list();
    kept.map_err(|error| Failure::new(&error, error.help()))
}

fn table(kept: &[Emulator]) -> String {
    let rows: Vec<[String; 4]> = kept
        .iter()
        .map(|emulator| {
            [
                format!("linux/{}", emulator.architecture),
                emulator.version.clone().unwrap_or_else(|| "-".to_owned()),
                units::bytes(emulator.size_bytes),
                emulator.image.clone(),
            ]
        })
        .collect();
    let head = ["PLATFORM", "VERSION", "SIZE", "IMAGE"];
    let rows: Vec<[&str; 4]> = std::iter::once(head)
        .chain(rows.iter().map(|row| row.each_ref().map(String::as_str)))
        .collect();
    report::columns(&rows, 3)
}

fn install(
    args: &InstallArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let own = environment.config_file();
    let configured = || {
        let image = config::load_emulators(own.as_ref());
        image.map_err(|error| Failure::new(&error, None))
    };
    let image = match &args.image {
        Some(image) => image.clone(),
        None => configured()?.image.ok_or(EmulatorsError::NoImage)?,
    };
    let root = setup::store_root(global, environment)?;
    let client = setup::client(environment)?;
    // Layers are unpacked, with the owners of their files.
    setup::enter(global)?;
    let store = setup::open_layers(&root)?;
    let lowers = interrupt::run(async {
        if image.digest().is_none() {
            let source = ImageSource::Registry(image.clone());
            let document = client.fetch_document(&source).await;
            let document = document.map_err(|error| Failure::new(&error, error.help()))?;
            let found = format!("{}@{}", image.name(), document.digest());
            return Err(EmulatorsError::NotPinned {
                image: image.clone(),
                found,
            }
            .into());
        }
        let name: ImageName = ImageName::from(image.clone());
        let found = image::find(&store, &client, &name, None).await?;
        image::unpack(&store, &client, &found).await
    })?;
    let image = image.to_string();
    let tree = sandbox::rootfs::mount_read_only(&Tree::Layers(lowers));
    let tree = tree.map_err(|error| Failure::new(&error, None))?;
    let found = emulation::emulators_in(tree.as_fd()).map_err(|source| {
        let image = image.clone();
        EmulatorsError::Read { image, source }
    })?;
    if found.is_empty() {
        return Err(EmulatorsError::Nothing { image }.into());
    }
    for &architecture in &args.platforms {
        if !found.contains_key(&architecture) {
            return Err(EmulatorsError::Lacks {
                image,
                architecture,
            }
            .into());
        }
    }
    let wanted = found
        .into_iter()
        .filter(|(of, _)| args.platforms.is_empty() || args.platforms.contains(of));
    let mut kept = Vec::new();
    for (architecture, program) in wanted {
        let disk_failure = |error: store::DiskError| Failure::new(&error, error.help());
        let emulators = store.emulators();
        let candidate = emulators.candidate(program).map_err(disk_failure)?;
        // Tried before it is kept: one that does not work here replaces none that does.
        let chosen = [(architecture, candidate.path().to_owned())].into();
        let tried = sandbox::Emulators {
            chosen,
            ..sandbox::Emulators::default()
        };
        let tried = sandbox::Emulation::prepare(&[architecture], &tried);
        tried.map_err(|error| Failure::new(&error, error.help()))?;
        let version = emulation::version(candidate.path());
        let emulator = emulators.keep(candidate, architecture.name(), version, image.clone());
        kept.push(emulator.map_err(disk_failure)?);
    }
    ui::print(&table(&kept))
}

fn remove(args: &RmArgs, global: &GlobalArgs, environment: &Environment) -> Result<(), Failure> {
    let store = setup::open_store(&setup::store_root(global, environment)?)?;
    for &architecture in &args.platforms {
        let removed = store.emulators().remove(architecture.name());
        let removed = removed.map_err(|error| Failure::new(&error, error.help()))?;
        if !removed {
            return Err(EmulatorsError::NotKept { architecture }.into());
        }
        ui::print(&format!("linux/{architecture}\n"))?;
    }
    Ok(())
}
