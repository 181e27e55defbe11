//! `rbuild diff`: what is different between two images, platform by platform.

use std::process::ExitCode;

use exporter::diff::{Change, ImageDiff, Side, Times};
use exporter::index::{self, IndexPlan};
use oci::{ImageSource, MediaType, Platform};
use serde::Serialize;
use serde_json::Value;

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::interrupt::blocking;
use crate::place::{First, Place};
use crate::tools::{Platforms, Read, Talk, Tools, not_carried};
use crate::ui::printable::printable;
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild diff`
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// Compare only the images for these platforms
    #[arg(long = "platform", value_name = "PLATFORM,…", value_delimiter = ',',
          value_parser = values::platform)]
    pub(crate) platforms: Vec<Platform>,

    /// How the differences are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: Format,

    /// Leave modification times out
    #[arg(long)]
    pub(crate) ignore_times: bool,

    /// Exit with 1 if there are differences
    #[arg(long)]
    pub(crate) exit_code: bool,

    /// Images: names, ids, archives or image layouts
    #[arg(value_name = "IMAGE")]
    pub(crate) before: String,

    /// What it is compared with
    #[arg(value_name = "IMAGE")]
    pub(crate) after: String,
}

/// The values of `--format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// A JSON array, for programs
    Json,
}

/// The differences for one platform.
#[derive(Debug, Serialize)]
struct PlatformDiff {
    platform: String,
    #[serde(flatten)]
    found: Compared,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
enum Compared {
    /// The other image has it not.
    OnlyIn(String),
    /// Both have it.
    Differences(Box<ImageDiff>),
}

/// Compares the images.
pub(crate) fn run(
    args: &DiffArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<ExitCode, Failure> {
    let places = [Place::of(&args.before)?, Place::of(&args.after)?];
    let tools = Tools::open(global, environment, [])?;
    let times = match args.ignore_times {
        true => Times::Ignored,
        false => Times::Compared,
    };
    let diffs = interrupt::run(async {
        let [before, after] = &places;
        let before = sides(&tools, before, &args.platforms).await?;
        let after = sides(&tools, after, &args.platforms).await?;
        compare(&tools, args, before, after, times).await
    })?;
    let is_different = diffs.iter().any(|diff| match &diff.found {
        Compared::OnlyIn(_) => true,
        Compared::Differences(diff) => !diff.is_empty(),
    });
    ui::print(&match args.format {
        Format::Text => diffs.iter().map(text).collect(),
        Format::Json => {
            let json = serde_json::to_string_pretty(&diffs);
            json.map_err(|error| Failure::new(&error, None))? + "\n"
        }
    })?;
    Ok(ExitCode::from(u8::from(args.exit_code && is_different)))
}

/// Reads the images of a place, and fetches their layers.
async fn sides(
    tools: &Tools,
    place: &Place,
    wanted: &[Platform],
) -> Result<Vec<(Platform, Side)>, Failure> {
    let source = place.find(tools, First::Store).await?.source;
    let members = index::members(&tools.client, &source).await;
    let mut plan = IndexPlan::default();
    plan.add(members.map_err(|error| Failure::new(&error, error.help()))?);
    if !wanted.is_empty() {
        let kept = plan.keep_platforms(wanted);
        kept.map_err(|error| Failure::new(&error, error.help()))?;
    }
    let mut sides = Vec::new();
    for member in plan.images() {
        let at = member.source.with_digest(member.descriptor.digest);
        let Read { contents, .. } = tools.read(&at, &Platforms::All).await?;
        let Some(manifest) = contents.manifests().next().cloned() else {
            continue;
        };
        if !matches!(manifest.value().config.media_type, MediaType::Config(_)) {
            continue;
        }
        let fetched = tools.transfer(Talk::Quiet).fetch_all(&contents).await;
        fetched.map_err(not_carried)?;
        let side = side(tools, &at, manifest).await?;
        let platform = member
            .descriptor
            .platform
            .as_ref()
            .map(Platform::normalized);
        let own = side.config.value().platform().normalized();
        sides.push((platform.unwrap_or(own), side));
    }
    Ok(sides)
}

async fn side(
    tools: &Tools,
    at: &ImageSource,
    manifest: oci::Raw<oci::Manifest>,
) -> Result<Side, Failure> {
    let config = &manifest.value().config;
    let config = tools.client.fetch_config(at, config).await;
    Ok(Side {
        config: config.map_err(|error| Failure::new(&error, error.help()))?,
        manifest,
    })
}

async fn compare(
    tools: &Tools,
    args: &DiffArgs,
    before: Vec<(Platform, Side)>,
    mut after: Vec<(Platform, Side)>,
    times: Times,
) -> Result<Vec<PlatformDiff>, Failure> {
    // Two images of a single platform are compared even if it is not the same one.
    let alone = before.len() == 1 && after.len() == 1;
    let mut diffs = Vec::new();
    for (platform, old) in before {
        let at = after
            .iter()
            .position(|(other, _)| alone || *other == platform);
        let Some(at) = at else {
            diffs.push(PlatformDiff {
                platform: platform.to_string(),
                found: Compared::OnlyIn(args.before.clone()),
            });
            continue;
        };
        let (other, new) = after.remove(at);
        let compared = match other == platform {
            true => platform.to_string(),
            false => format!("{platform} → {other}"),
        };
        let store = tools.store.clone();
        let diff = blocking(move || ImageDiff::of(&store, &old, &new, times)).await;
        let diff = diff.map_err(|error| Failure::new(&error, error.help()))?;
        diffs.push(PlatformDiff {
            platform: compared,
            found: Compared::Differences(Box::new(diff)),
        });
    }
    diffs.extend(after.into_iter().map(|(platform, _)| PlatformDiff {
        platform: platform.to_string(),
        found: Compared::OnlyIn(args.after.clone()),
    }));
    Ok(diffs)
}

fn text(diff: &PlatformDiff) -> String {
    let platform = &diff.platform;
    let diff = match &diff.found {
        Compared::OnlyIn(name) => return format!("{platform}: only in {}\n", printable(name)),
        Compared::Differences(diff) => diff,
    };
    if diff.is_empty() {
        return format!("{platform}: no differences\n");
    }
    let mut text = format!("{platform}:\n");
    let mut line = |words: String| {
        text += "  ";
        text += &printable(&words);
        text.push('\n');
    };
    for (field, Change { before, after }) in &diff.config {
        if !before.is_null() {
            line(format!("- {field}: {}", shown(before)));
        }
        if !after.is_null() {
            line(format!("+ {field}: {}", shown(after)));
        }
    }
    let files = diff.removed.iter().map(|path| (path, format!("D {path}")));
    let files = files.chain(diff.added.iter().map(|path| (path, format!("A {path}"))));
    let files = files.chain(diff.changed.iter().map(|file| {
        let aspects: Vec<String> = file.aspects.iter().map(|(a, c)| aspect(a, c)).collect();
        (
            &file.path,
            format!("C {}  {}", file.path, aspects.join(", ")),
        )
    }));
    let mut files: Vec<(&String, String)> = files.collect();
    files.sort();
    for (_, words) in files {
        line(words);
    }
    text
}

fn aspect(name: &str, Change { before, after }: &Change) -> String {
    match name {
        // Nobody reads digests.
        "content" | "attributes" => name.to_owned(),
        _ => format!("{name} {} → {}", shown(before), shown(after)),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}
