//! `rbuild join`: builds of single platforms, made on separate machines, become one image.
//!
//! ```text
//! amd64.tar ─┐
//! arm64/    ─┼─► one index ─► NAME
//! …@sha256: ─┘
//! ```
//!
//! What a hand-written script gets wrong is refused here: two builds for one platform, a build that
//! does not say what it is for, and a tag that would lose platforms which it had before.

use std::path::PathBuf;

use exporter::contents::ContentsError;
use exporter::index::{self, IndexPlan};
use exporter::output::Dest;
use exporter::transfer::{Saved, stored_at};
use oci::{Digest, ImageSource, Platform, Reference};
use registry::ResolveErrorKind;

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::place::{self, First, Place};
use crate::tools::{Read, Talk, Tools, not_carried};
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild join`
#[derive(Debug, clap::Args)]
pub(crate) struct JoinArgs {
    /// Name of the whole; repeatable
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]", required = true,
          value_parser = values::tag)]
    pub(crate) tags: Vec<Reference>,

    /// Push it to the registries that its names say [default: keep it in the local store]
    #[arg(long, conflicts_with = "output")]
    pub(crate) push: bool,

    /// Write it to FILE, an OCI archive, or to a directory, an image layout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Keep the platforms that the name has already and no new build is for
    #[arg(long, conflicts_with = "replace")]
    pub(crate) append: bool,

    /// Let the name lose platforms that it has already
    #[arg(long)]
    pub(crate) replace: bool,

    /// Do not ask the registries for certificates
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Print the digest alone
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Builds: image layouts, archives, names, or digests within the repository of the name
    #[arg(value_name = "DIR|FILE|NAME|DIGEST", required = true)]
    pub(crate) builds: Vec<String>,
}

/// What keeps builds apart.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("{name} has {} already, which would be lost", list(lost))]
    Lost { name: String, lost: Vec<Platform> },
}

fn list(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    names.join(", ")
}

/// Joins the builds.
pub(crate) fn run(
    args: &JoinArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let insecure = args.tags.iter().filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let talk = match args.quiet {
        true => Talk::Quiet,
        false => Talk::Plain,
    };
    let digest = interrupt::run(async {
        let mut plan = gather(&tools, args).await?;
        check(&plan)?;
        for name in &args.tags {
            let before = before(&tools, name, args.push).await?;
            plan = merged(plan, before, name, args)?;
        }
        check(&plan)?;
        let contents = plan.contents(&tools.client).await;
        let contents = contents.map_err(|error| Failure::new(&error, error.help()))?;
        let Read { contents, listed } = Read::of_index(contents);
        let digest = listed.digest;
        let transfer = tools.transfer(talk);
        match (&args.output, args.push) {
            (Some(path), _) => {
                let is_directory =
                    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/");
                let dest = match is_directory {
                    true => Dest::Directory(path.clone()),
                    false => Dest::File(path.clone()),
                };
                let saved = Saved {
                    contents,
                    listed,
                    names: args.tags.clone(),
                };
                transfer.write(&[saved], dest).await
            }
            (None, true) => transfer.push(&contents, &args.tags).await,
            (None, false) => transfer.keep(&contents, listed, &args.tags).await,
        }
        .map_err(not_carried)?;
        Ok(digest)
    })?;
    ui::print(&format!("{digest}\n"))
}

async fn gather(tools: &Tools, args: &JoinArgs) -> Result<IndexPlan, Failure> {
    let mut plan = IndexPlan::default();
    for text in &args.builds {
        let source = match (text.parse::<Digest>(), args.tags.first()) {
            (Ok(digest), Some(name)) => ImageSource::Registry(name.at_digest(digest)),
            _ => Place::of(text)?.find(tools, First::Store).await?.source,
        };
        let members = index::members(&tools.client, &source).await;
        plan.add(members.map_err(|error| Failure::new(&error, error.help()))?);
    }
    Ok(plan)
}

fn check(plan: &IndexPlan) -> Result<(), Failure> {
    plan.check_platforms()
        .map_err(|error| Failure::new(&error, error.help()))
}

/// What the name stands for so far, where it is going to be given.
async fn before(tools: &Tools, name: &Reference, push: bool) -> Result<IndexPlan, Failure> {
    let failure = |error: ContentsError| Failure::new(&error, error.help());
    let members = if push {
        let source = ImageSource::Registry(name.clone());
        // A mirror may not have heard of the latest.
        match tools.client.current_document(name).await {
            Ok(None) => Vec::new(),
            Ok(Some(document)) => index::members_of(&tools.client, &source, &document)
                .await
                .map_err(failure)?,
            // Registries do not tell strangers what does not exist. Pushing will show.
            Err(error) if matches!(error.kind, ResolveErrorKind::Denied { .. }) => Vec::new(),
            Err(error) => return Err(Failure::new(&error, error.help())),
        }
    } else {
        match place::stored(tools, &name.clone().into()).await? {
            None => Vec::new(),
            Some(image) => index::members(&tools.client, &stored_at(&tools.store, &image))
                .await
                .map_err(failure)?,
        }
    };
    let mut plan = IndexPlan::default();
    plan.add(members);
    Ok(plan)
}

/// Decides what becomes of the platforms that a name has already.
fn merged(
    new: IndexPlan,
    mut before: IndexPlan,
    name: &Reference,
    args: &JoinArgs,
) -> Result<IndexPlan, Failure> {
    before.give_way_to(&new);
    let lost = before.platforms();
    if args.append {
        before.annotations = new.annotations.clone();
        before.add(new.members);
        return Ok(before);
    }
    // A file takes no name away from anybody.
    if lost.is_empty() || args.replace || args.output.is_some() {
        return Ok(new);
    }
    let error = JoinError::Lost {
        name: name.familiar(),
        lost,
    };
    let help = "keep them with --append, or let them go with --replace";
    Err(Failure::new(&error, Some(help.to_owned())))
}
