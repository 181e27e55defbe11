//! `rbuild imagetools inspect` (§12.2).

use std::io::Write as _;

use exporter::contents::Contents;
use exporter::index::{self, IndexPlan};
use oci::{Document, ImageSource, Platform, Reference};
use serde_json::{Map, Value, json};

use super::attestation;
use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::place::{First, Place};
use crate::template::Template;
use crate::tools::Tools;
use crate::ui::printable::printable;
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild imagetools inspect`
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Fill in a template with .Name, .Manifest, .Image, .Provenance and .SBOM, as
    /// '{{json .Manifest}}'; `json` shows all
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,

    /// Print the manifest or index as it is
    #[arg(long, conflicts_with = "format")]
    pub(crate) raw: bool,

    /// Do not ask the registry for a certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Accepted for scripts; rbuild needs no builder
    #[arg(long, value_name = "NAME", hide = true)]
    pub(crate) builder: Option<String>,

    /// Image of a registry or of the local store, an image layout or an archive
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

/// Shows the image.
pub(crate) fn run(
    args: &InspectArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let template = Template::asked(args.format.as_deref())?;
    let place = Place::of(&args.name)?;
    let reference = match &place {
        Place::Named(name) => name.reference(),
        Place::Registry(reference) => Some(reference),
        Place::Layout { .. } | Place::Archive { .. } => None,
    };
    let tools = Tools::open(global, environment, reference.filter(|_| args.insecure))?;
    let name = reference.map_or_else(|| args.name.clone(), Reference::to_string);
    interrupt::run(async {
        let source = place.find(&tools, First::Registry).await?.source;
        let document = tools.client.fetch_document(&source).await;
        let document = document.map_err(|error| Failure::new(&error, error.help()))?;
        let source = source.with_digest(document.digest());
        if args.raw {
            return raw(&document);
        }
        if args.format.is_none() {
            return ui::print(&text(&name, reference, &document));
        }
        let data = data(&tools, &name, &source, &document).await?;
        match &template {
            None => ui::print(&format!("{data:#}\n")),
            Some(template) => {
                let filled = template.fill(&data);
                let filled = filled.map_err(|error| Failure::of_usage(&error, None))?;
                ui::print(&(filled + "\n"))
            }
        }
    })
}

fn raw(document: &Document) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = out.write_all(document.bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::of_system("writing to standard output", error))
}

/// What a template can speak of.
async fn data(
    tools: &Tools,
    name: &str,
    source: &ImageSource,
    document: &Document,
) -> Result<Value, Failure> {
    let contents = Contents::read(&tools.client, source).await;
    let contents = contents.map_err(|error| Failure::new(&error, error.help()))?;
    let members = index::members(&tools.client, source).await;
    let mut plan = IndexPlan::default();
    plan.add(members.map_err(|error| Failure::new(&error, error.help()))?);
    let mut images = Map::new();
    for member in plan.images() {
        let image = contents
            .manifests()
            .find(|manifest| manifest.digest() == member.descriptor.digest);
        let Some(image) = image else { continue };
        let config = &image.value().config;
        let config = tools.client.fetch_config(&member.source, config).await;
        let config = config.map_err(|error| Failure::new(&error, error.help()))?;
        let platform = member
            .descriptor
            .platform
            .as_ref()
            .map(Platform::normalized);
        let platform = platform.unwrap_or_else(|| config.value().platform().normalized());
        let config: Value =
            serde_json::from_slice(config.bytes()).map_err(|error| Failure::new(&error, None))?;
        images.entry(platform.to_string()).or_insert(config);
    }
    let said = attestation::of(tools, &plan, &contents).await?;
    let alone = matches!(document, Document::Manifest(_));
    let image = match images.len() {
        1 if alone => images
            .into_iter()
            .next()
            .map(|(_, image)| image)
            .unwrap_or_default(),
        _ => Value::Object(images),
    };
    Ok(json!({
        "name": name,
        "manifest": manifest(document)?,
        "image": image,
        "provenance": said.provenance,
        "sbom": said.sbom,
    }))
}

/// The descriptor, and what an index has beside that.
fn manifest(document: &Document) -> Result<Value, Failure> {
    let own = json!({
        "mediaType": document.media_type(),
        "digest": document.digest(),
        "size": document.bytes().len(),
    });
    let Document::Index(index) = document else {
        return Ok(own);
    };
    let mut whole: Map<String, Value> = Map::new();
    whole.insert("schemaVersion".to_owned(), json!(2));
    whole.extend(own.as_object().cloned().unwrap_or_default());
    let index: Map<String, Value> =
        serde_json::from_slice(index.bytes()).map_err(|error| Failure::new(&error, None))?;
    for (key, value) in index {
        whole.entry(key).or_insert(value);
    }
    Ok(Value::Object(whole))
}

/// The text for people: labels of one block are as wide as the widest.
fn text(name: &str, reference: Option<&Reference>, document: &Document) -> String {
    let digest = document.digest().to_string();
    let media_type = document.media_type();
    let mut text = String::new();
    let head = [
        ("Name:", name),
        ("MediaType:", media_type.as_str()),
        ("Digest:", &digest),
    ];
    block(&mut text, "", &head);
    let Document::Index(index) = document else {
        return text;
    };
    const INDENT: &str = "  ";
    text += &format!("{}\nManifests: \n", " ".repeat("MediaType: ".len()));
    let entries = &index.value().manifests;
    let width = |annotated: bool| {
        if annotated {
            "Annotations: "
        } else {
            "MediaType: "
        }
        .len()
    };
    for (at, entry) in entries.iter().enumerate() {
        let annotated = !entry.annotations.is_empty();
        if at > 0 {
            let annotated_before = !entries[at - 1].annotations.is_empty();
            text += &format!("{INDENT}{}\n", " ".repeat(width(annotated_before)));
        }
        let name = match reference {
            Some(reference) => reference.at_digest(entry.digest).to_string(),
            None => format!("{name}@{}", entry.digest),
        };
        let platform = entry.platform.as_ref().map(Platform::to_string);
        let media_type = entry.media_type.to_string();
        let mut lines = vec![("Name:", name.as_str()), ("MediaType:", &media_type)];
        lines.extend(platform.as_deref().map(|platform| ("Platform:", platform)));
        lines.extend(annotated.then_some(("Annotations:", "")));
        block(&mut text, INDENT, &lines);
        for (key, value) in &entry.annotations {
            let line = format!("{INDENT}{INDENT}{key}: {value}");
            text += &printable(&line);
            text.push('\n');
        }
    }
    text
}

fn block(text: &mut String, indent: &str, lines: &[(&str, &str)]) {
    let width = lines
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();
    for (label, value) in lines {
        let value = printable(value);
        *text += &format!("{indent}{label:<width$} {value}\n");
    }
}
