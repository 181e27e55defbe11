//! `rbuild imagetools create` (§12.1).

use std::path::PathBuf;

use exporter::contents::Contents;
use exporter::index::{IndexError, IndexPlan};
use oci::{Descriptor, Document, ImageSource, Platform, Reference};
use serde_json::json;

use super::annotation::{Annotation, Level};
use super::source::Source;
use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::place::Place;
use crate::tools::{Read, Talk, Tools, not_carried};
use crate::ui::report::Failure;
use crate::{files, interrupt, ui};

/// Options of `rbuild imagetools create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Name of the result; repeatable
    #[arg(short = 't', long = "tag", value_name = "NAME[:TAG]", value_parser = values::tag)]
    pub(crate) tags: Vec<Reference>,

    /// Add to what the name stands for already
    #[arg(long)]
    pub(crate) append: bool,

    /// Read sources from FILE, a descriptor or one source on each line; `-` is standard input
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Annotate the result: [index|index-descriptor|manifest-descriptor[PLATFORM]:]KEY=VALUE
    #[arg(long = "annotation", value_name = "[LEVEL:]KEY=VALUE")]
    pub(crate) annotations: Vec<Annotation>,

    /// Print what would be pushed, and push nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Make an index of a single source, too; `false` copies it as it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", default_value = "true", hide_default_value = true,
          value_parser = values::boolean)]
    pub(crate) prefer_index: bool,

    /// Keep only the images for these platforms
    #[arg(short, long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// Write digest, descriptor and names to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,

    /// Do not ask the registries for certificates
    #[arg(long)]
    pub(crate) insecure: bool,

    /// `quiet` and `none` say nothing of what is pushed
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        hide_default_value = true
    )]
    pub(crate) progress: ProgressMode,

    /// Accepted for scripts; rbuild needs no builder
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) builder: Option<String>,

    /// Names, names with digests, digests within the destination's repository, descriptors, image
    /// layouts or archives
    #[arg(value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
}

/// The values of `--progress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ProgressMode {
    /// As `plain`
    Auto,
    /// A line for each blob
    Plain,
    /// As `plain`
    Tty,
    /// Nothing
    Quiet,
    /// Nothing
    None,
    /// As `plain`
    Rawjson,
}

/// Makes the index and pushes it.
pub(crate) fn run(
    args: &CreateArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    if args.tags.is_empty() && !args.dry_run {
        return Err(Failure::usage(
            "can't push without a name: give one with --tag, or look at the result with --dry-run",
        ));
    }
    if args.append && args.tags.len() != 1 {
        return Err(Failure::usage("--append needs exactly one --tag to add to"));
    }
    let mut sources = Vec::new();
    if args.append {
        sources.extend(
            args.tags
                .iter()
                .cloned()
                .map(Place::Registry)
                .map(Source::Place),
        );
    }
    for file in &args.files {
        sources.extend(Source::of_file(file)?);
    }
    for text in &args.sources {
        sources.push(Source::of(text)?);
    }
    if sources.is_empty() {
        return Err(Failure::usage("no sources: name at least one image"));
    }
    let registries = sources.iter().filter_map(|source| match source {
        Source::Place(Place::Named(name)) => name.reference(),
        Source::Place(Place::Registry(reference)) => Some(reference),
        Source::Place(Place::Layout { .. } | Place::Archive { .. }) | Source::Digest(..) => None,
    });
    let insecure = registries.chain(&args.tags).filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let (contents, descriptor) = interrupt::run(async {
        let (contents, descriptor) = make(&tools, args, &sources).await?;
        if !args.dry_run {
            let talk = match args.progress {
                ProgressMode::Quiet | ProgressMode::None => Talk::Quiet,
                ProgressMode::Auto
                | ProgressMode::Plain
                | ProgressMode::Tty
                | ProgressMode::Rawjson => Talk::Plain,
            };
            let pushed = tools.transfer(talk).push(&contents, &args.tags).await;
            pushed.map_err(not_carried)?;
        }
        Ok((contents, descriptor))
    })?;
    if let Some(path) = &args.metadata_file {
        let names: Vec<String> = args.tags.iter().map(ToString::to_string).collect();
        let metadata = json!({
            "containerimage.descriptor": descriptor,
            "containerimage.digest": descriptor.digest,
            "image.name": names.join(","),
        });
        files::replace(path, format!("{metadata:#}\n").as_bytes())?;
    }
    match args.dry_run {
        true => ui::print(&format!(
            "{}\n",
            String::from_utf8_lossy(contents.top.bytes()).trim_end()
        )),
        false => Ok(()),
    }
}

/// Returns the result and its descriptor.
async fn make(
    tools: &Tools,
    args: &CreateArgs,
    sources: &[Source],
) -> Result<(Contents, Descriptor), Failure> {
    let failure = |error: IndexError| Failure::new(&error, error.help());
    let mut places: Vec<ImageSource> = Vec::new();
    for source in sources {
        places.push(source.find(tools, &args.tags).await?);
    }
    let is_changed = !args.platforms.is_empty() || !args.annotations.is_empty();
    if let ([place], false) = (places.as_slice(), is_changed) {
        let contents = Contents::read(&tools.client, place).await;
        let contents = contents.map_err(|error| Failure::new(&error, error.help()))?;
        if matches!(contents.top, Document::Index(_)) || !args.prefer_index {
            let Read { contents, listed } = Read::of_index(contents);
            return Ok((contents, listed));
        }
    }
    let mut plan = IndexPlan::default();
    for (source, place) in sources.iter().zip(&places) {
        plan.add(source.members(tools, place).await?);
    }
    if !args.platforms.is_empty() {
        plan.keep_platforms(&args.platforms).map_err(failure)?;
    }
    let of_descriptor = annotate(&mut plan, &args.annotations)?;
    let contents = plan.contents(&tools.client).await.map_err(failure)?;
    let mut descriptor = contents.top.descriptor();
    descriptor.annotations.extend(of_descriptor);
    Ok((contents, descriptor))
}

/// Puts annotations into the index; returns those of its descriptor.
fn annotate(
    plan: &mut IndexPlan,
    annotations: &[Annotation],
) -> Result<Vec<(String, String)>, Failure> {
    let mut of_descriptor = Vec::new();
    for Annotation { levels, key, value } in annotations {
        for level in levels {
            let entry = (key.clone(), value.clone());
            match level {
                Level::Index => plan.annotations.extend([entry]),
                Level::IndexDescriptor => of_descriptor.push(entry),
                Level::ManifestDescriptor(wanted) => {
                    let is_meant = |platform: Option<&Platform>| match (wanted, platform) {
                        (None, _) => true,
                        (Some(wanted), platform) => {
                            platform.is_some_and(|p| p.normalized() == wanted.normalized())
                        }
                    };
                    let mut found = false;
                    for member in &mut plan.members {
                        if !member.is_attestation() && is_meant(member.descriptor.platform.as_ref())
                        {
                            member.descriptor.annotations.extend([entry.clone()]);
                            found = true;
                        }
                    }
                    if let (false, Some(wanted)) = (found, wanted) {
                        return Err(Failure::usage(format!(
                            "invalid annotation: no platform {wanted} found in source"
                        )));
                    }
                }
            }
        }
    }
    Ok(of_descriptor)
}
