//! `rbuild manifest inspect`

use exporter::index::{self, IndexPlan, Member};
use oci::{Document, Family, ImageSource, MediaType, Reference};
use serde::Serialize as _;
use serde_json::{Value, json};

use super::{ManifestError, draft, is_called, member_of, not_found};
use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::place::{First, Place};
use crate::tools::Tools;
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild manifest inspect`
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// Show names, descriptors and manifests
    #[arg(short, long)]
    pub(crate) verbose: bool,

    /// Do not ask the registry for a certificate
    #[arg(long)]
    pub(crate) insecure: bool,

    /// A list and an image of it, or one of the two
    #[arg(value_name = "[LIST] IMAGE", num_args = 1..=2, required = true)]
    pub(crate) names: Vec<String>,
}

/// Shows it.
pub(crate) fn run(
    args: &InspectArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let references: Vec<Reference> = args
        .names
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    let insecure = references.iter().filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let shown = interrupt::run(async {
        match args.names.as_slice() {
            [list, image] => {
                let list: Reference =
                    list.parse()
                        .map_err(|error: oci::reference::ReferenceError| {
                            Failure::of_usage(&error, None)
                        })?;
                let draft = draft(&tools, &list)?;
                let member = draft.members.iter().find(|member| is_called(member, image));
                let member = member.ok_or_else(|| ManifestError::NotAMember {
                    member: image.clone(),
                    list: list.familiar(),
                })?;
                match args.verbose {
                    true => verbose(&tools, &member.name, &member_of(member)).await,
                    false => document(&tools, &member_of(member).source)
                        .await
                        .map(|d| value(&d))?,
                }
            }
            [name, ..] => by_name(&tools, name, args.verbose).await,
            [] => Ok(Value::Null),
        }
    })?;
    ui::print(&indented(&shown)?)
}

async fn by_name(tools: &Tools, name: &str, is_verbose: bool) -> Result<Value, Failure> {
    let reference: Option<Reference> = name.parse().ok();
    let draft = match &reference {
        Some(reference) => tools.store.drafts().get(reference)?,
        None => None,
    };
    if let Some(draft) = draft {
        if is_verbose {
            let mut members = Vec::new();
            for member in &draft.members {
                members.push(verbose(tools, &member.name, &member_of(member)).await?);
            }
            return Ok(Value::Array(members));
        }
        let mut plan = IndexPlan::default();
        plan.add(draft.members.iter().map(member_of));
        let index = plan.document();
        return value(&index.map_err(|error| Failure::new(&error, error.help()))?);
    }
    let source = Place::of(name)?.find(tools, First::Registry).await?.source;
    let document = document(tools, &source).await?;
    if !is_verbose {
        return value(&document);
    }
    let members = index::members(&tools.client, &source).await;
    let members = members.map_err(|error| Failure::new(&error, error.help()))?;
    let name = reference.map_or_else(|| name.to_owned(), |reference| reference.to_string());
    let mut shown = Vec::new();
    for member in &members {
        let name = match document {
            Document::Manifest(_) => name.clone(),
            Document::Index(_) => format!("{name}@{}", member.descriptor.digest),
        };
        shown.push(verbose(tools, &name, member).await?);
    }
    Ok(match document {
        Document::Manifest(_) => shown.pop().unwrap_or_default(),
        Document::Index(_) => Value::Array(shown),
    })
}

async fn document(tools: &Tools, source: &ImageSource) -> Result<Document, Failure> {
    let document = tools.client.fetch_document(source).await;
    document.map_err(|error| {
        let name = error.image.clone();
        not_found(error, &name)
    })
}

/// A document with its name and descriptor, as Docker's `--verbose` has it.
async fn verbose(tools: &Tools, name: &str, member: &Member) -> Result<Value, Failure> {
    let source = member.source.with_digest(member.descriptor.digest);
    let document = document(tools, &source).await?;
    let key = match &document {
        Document::Index(_) => "Index",
        Document::Manifest(_) if document.media_type() == MediaType::Manifest(Family::Docker) => {
            "SchemaV2Manifest"
        }
        Document::Manifest(_) => "OCIManifest",
    };
    Ok(json!({
        "Ref": name,
        "Descriptor": member.descriptor,
        key: value(&document)?,
    }))
}

fn value(document: &Document) -> Result<Value, Failure> {
    serde_json::from_slice(document.bytes()).map_err(|error| Failure::new(&error, None))
}

/// Indents by three blanks, as Docker does.
fn indented(value: &Value) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"   ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let written = value.serialize(&mut serializer);
    written.map_err(|error| Failure::new(&error, None))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned() + "\n")
}
