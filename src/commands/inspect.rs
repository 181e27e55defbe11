//! `rbuild inspect`: what is known of an image, as `docker image inspect` shows it.

use exporter::index::{self, IndexPlan, Member};
use oci::{Document, ImageConfig, Platform, Raw, Reference};
use serde_json::{Value, json};

use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::place::{First, Found, Place};
use crate::template::Template;
use crate::tools::Tools;
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild inspect`
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Fill in a template for each image, as '{{.Architecture}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,

    /// Show the image for this platform
    /// [default: this machine's, else the first that the image has]
    #[arg(long, value_name = "PLATFORM", value_parser = values::platform)]
    pub(crate) platform: Option<Platform>,

    /// Do not ask the registries for certificates
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Images of the local store, by name or id, else of their registries; archives and image layouts
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// Shows the images.
pub(crate) fn run(
    args: &InspectArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let template = Template::asked(args.format.as_deref())?;
    let places = args.images.iter().map(|text| Place::of(text));
    let places = places.collect::<Result<Vec<_>, _>>()?;
    let references: Vec<Reference> = args
        .images
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    let insecure = references.iter().filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let shown = interrupt::run(async {
        let mut shown = Vec::new();
        for place in &places {
            let found = place.find(&tools, First::Store).await?;
            shown.push(inspect(&tools, &found, args.platform.as_ref()).await?);
        }
        Ok(shown)
    })?;
    match &template {
        None => ui::print(&format!("{:#}\n", Value::Array(shown))),
        Some(template) => {
            let mut text = String::new();
            for image in &shown {
                let filled = template.fill(image);
                text += &filled.map_err(|error| Failure::of_usage(&error, None))?;
                text.push('\n');
            }
            ui::print(&text)
        }
    }
}

async fn inspect(
    tools: &Tools,
    found: &Found,
    wanted: Option<&Platform>,
) -> Result<Value, Failure> {
    let document = tools.client.fetch_document(&found.source).await;
    let document = document.map_err(|error| Failure::new(&error, error.help()))?;
    let members = index::members_of(&tools.client, &found.source, &document).await;
    let mut plan = IndexPlan::default();
    plan.add(members.map_err(|error| Failure::new(&error, error.help()))?);
    let member = choose(&plan, wanted)?;
    let manifest = match (&document, &member) {
        (Document::Manifest(manifest), _) => Some(manifest.clone()),
        (Document::Index(_), Some(member)) => {
            let entry = &member.descriptor;
            let document = tools.client.fetch_member(&member.source, entry).await;
            match document.map_err(|error| Failure::new(&error, error.help()))? {
                Document::Manifest(manifest) => Some(manifest),
                Document::Index(_) => None,
            }
        }
        (Document::Index(_), None) => None,
    };
    let mut config = Value::Null;
    let mut size_bytes = 0;
    if let Some(manifest) = &manifest {
        let manifest = manifest.value();
        size_bytes = manifest.layers.iter().map(|layer| layer.size).sum();
        let fetched = tools
            .client
            .fetch_config(&found.source, &manifest.config)
            .await;
        let fetched: Raw<ImageConfig> =
            fetched.map_err(|error| Failure::new(&error, error.help()))?;
        config =
            serde_json::from_slice(fetched.bytes()).map_err(|error| Failure::new(&error, None))?;
    }
    let digest = document.digest();
    let tags: Vec<String> = found.names.iter().map(Reference::familiar).collect();
    let digests: Vec<String> = found
        .names
        .iter()
        .map(|name| name.at_digest(digest).familiar())
        .collect();
    let platforms: Vec<String> = plan.platforms().iter().map(Platform::to_string).collect();
    Ok(json!({
        "Id": manifest.as_ref().map(|manifest| manifest.value().config.digest),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Descriptor": document.descriptor(),
        "Platforms": platforms,
        "Created": config["created"],
        "Author": config["author"],
        "Architecture": config["architecture"],
        "Variant": config["variant"],
        "Os": config["os"],
        "OsVersion": config["os.version"],
        "Size": size_bytes,
        "Config": config["config"],
        "RootFS": {
            "Type": config["rootfs"]["type"],
            "Layers": config["rootfs"]["diff_ids"],
        },
        "History": config["history"],
    }))
}

/// Chooses an image of an index: the one that is asked for, else the most useful one here.
fn choose(plan: &IndexPlan, wanted: Option<&Platform>) -> Result<Option<Member>, Failure> {
    let mut chosen = plan.clone();
    let kept = match wanted {
        Some(wanted) => chosen.keep_platforms(std::slice::from_ref(wanted)),
        None => chosen.keep_best(&Platform::native()),
    };
    match (kept, wanted) {
        (Err(error), Some(_)) => Err(Failure::new(&error, error.help())),
        (Err(_), None) => Ok(plan.images().next().cloned()),
        (Ok(()), _) => Ok(chosen.images().next().cloned()),
    }
}
