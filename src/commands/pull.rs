//! `rbuild pull`: an image of a registry into the local store.

use oci::reference::ReferenceError;
use oci::{ImageSource, Platform, Reference};

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::interrupt;
use crate::tools::{Platforms, Talk, Tools, not_carried};
use crate::ui;
use crate::ui::report::Failure;

/// Options of `rbuild pull`
#[derive(Debug, clap::Args)]
pub(crate) struct PullArgs {
    /// Pull the images for these platforms [default: $DOCKER_DEFAULT_PLATFORM, else this machine's]
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Pull the images for all platforms, and the index as it is
    #[arg(long, conflicts_with = "platforms")]
    pub(crate) all_platforms: bool,

    /// Pull all tags of the repositories
    #[arg(short, long)]
    pub(crate) all_tags: bool,

    /// Do not ask the registry for a certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Print the name alone
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Images
    #[arg(value_name = "NAME[:TAG][@DIGEST]", required = true)]
    pub(crate) names: Vec<Reference>,
}

/// Pulls the images.
pub(crate) fn run(
    args: &PullArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let platforms = match (args.platforms.as_slice(), &environment.default_platform) {
        _ if args.all_platforms => Platforms::All,
        ([], None) => Platforms::Best(Platform::native()),
        ([], Some(default)) => {
            let platform = values::platform(default);
            Platforms::Best(platform.map_err(|error| Failure::of_usage(&error, None))?)
        }
        (these, _) => Platforms::These(these.to_vec()),
    };
    let insecure = args.names.iter().filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let talk = match args.quiet {
        true => Talk::Quiet,
        false => Talk::Plain,
    };
    interrupt::run(async {
        let mut names = Vec::new();
        for name in &args.names {
            match args.all_tags {
                false => names.push(name.clone()),
                true => names.extend(all_tags(&tools, name).await?),
            }
        }
        for name in &names {
            let source = ImageSource::Registry(name.clone());
            let read = tools.read(&source, &platforms).await?;
            if talk == Talk::Plain {
                ui::say(&format!("Digest: {}\n", read.listed.digest));
            }
            let transfer = tools.transfer(talk);
            let names = std::slice::from_ref(name);
            let kept = transfer.keep(&read.contents, read.listed, names);
            kept.await.map_err(not_carried)?;
            ui::print(&format!("{name}\n"))?;
        }
        Ok(())
    })
}

async fn all_tags(tools: &Tools, name: &Reference) -> Result<Vec<Reference>, Failure> {
    let tags = tools.client.tags(name).await;
    let tags = tags.map_err(|error| Failure::new(&error, error.help()))?;
    let names = tags
        .iter()
        .map(|tag| format!("{}:{tag}", name.name()).parse());
    let names: Result<Vec<Reference>, ReferenceError> = names.collect();
    names.map_err(|error| Failure::new(&error, None))
}
