//! `rbuild push`: an image of the local store to the registry that its name says.

use exporter::transfer::stored_at;
use oci::{Platform, Reference};
use store::images::name_of;

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::interrupt;
use crate::place::{self, PlaceError};
use crate::tools::{Platforms, Talk, Tools, not_carried};
use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild push`
#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// Push all tags of the repository that the local store has
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Push only the images for these platforms
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Do not ask the registry for a certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Print the digest alone
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Name of the image
    #[arg(value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub(crate) name: Reference,
}

/// Pushes the image, or all images of the repository.
pub(crate) fn run(
    args: &PushArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let tools = Tools::open(global, environment, args.insecure.then_some(&args.name))?;
    let names = match args.all_tags {
        false => vec![args.name.clone()],
        true => all_tags(&tools, &args.name)?,
    };
    let said = interrupt::run(async {
        let mut said = String::new();
        for name in &names {
            said += &push(&tools, args, name).await?;
        }
        Ok(said)
    })?;
    ui::print(&said)
}

async fn push(tools: &Tools, args: &PushArgs, name: &Reference) -> Result<String, Failure> {
    let image = place::stored(tools, &name.clone().into()).await?;
    let image = image.ok_or_else(|| PlaceError::Missing {
        name: name.familiar(),
    })?;
    let source = stored_at(&tools.store, &image);
    let platforms = Platforms::these_or_all(&args.platforms);
    let read = tools.read(&source, &platforms).await?;
    let talk = match args.quiet {
        true => Talk::Quiet,
        false => Talk::Plain,
    };
    let targets = std::slice::from_ref(name);
    let transfer = tools.transfer(talk);
    let pushed = transfer.push(&read.contents, targets);
    pushed.await.map_err(not_carried)?;
    let digest = read.listed.digest;
    Ok(match args.quiet {
        true => format!("{digest}\n"),
        false => format!(
            "{}: digest: {digest} size: {}\n",
            name.tag().unwrap_or_default(),
            read.listed.size
        ),
    })
}

fn all_tags(tools: &Tools, name: &Reference) -> Result<Vec<Reference>, Failure> {
    let images = tools.store.images().list();
    let images = images.map_err(|error| Failure::new(&error, None))?;
    let names = images.iter().filter_map(name_of);
    let names: Vec<Reference> = names.filter(|other| other.name() == name.name()).collect();
    match names.is_empty() {
        false => Ok(names),
        true => Err(PlaceError::Missing {
            name: name.familiar(),
        }
        .into()),
    }
}
