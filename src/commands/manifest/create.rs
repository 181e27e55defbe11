//! `rbuild manifest create`

use exporter::contents::ContentsError;
use exporter::index;
use oci::{Document, ImageSource, Reference};
use store::drafts::{Draft, DraftMember, DraftPlace};

use super::{ManifestError, not_found};
use crate::args::{GlobalArgs, values};
use crate::environment::Environment;
use crate::place::{First, Place, PlaceError};
use crate::tools::Tools;
use crate::ui::report::Failure;
use crate::{interrupt, ui};

/// Options of `rbuild manifest create`
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Add to a list that was begun already
    #[arg(short, long)]
    pub(crate) amend: bool,

    /// Do not ask the registries for certificates
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Name of the list
    #[arg(value_name = "LIST", value_parser = values::tag)]
    pub(crate) list: Reference,

    /// Images of registries or of the local store, image layouts or archives
    #[arg(value_name = "IMAGE", required = true)]
    pub(crate) images: Vec<String>,
}

/// Begins a list or adds to it.
pub(crate) fn run(
    args: &CreateArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let places = args.images.iter().map(|text| Place::of(text));
    let places = places.collect::<Result<Vec<_>, PlaceError>>()?;
    let registries = places.iter().filter_map(|place| match place {
        Place::Named(name) => name.reference(),
        Place::Registry(reference) => Some(reference),
        Place::Layout { .. } | Place::Archive { .. } => None,
    });
    let insecure = registries.filter(|_| args.insecure);
    let tools = Tools::open(global, environment, insecure)?;
    let drafts = tools.store.drafts();
    if !args.amend && drafts.get(&args.list)?.is_some() {
        return Err(ManifestError::Exists.into());
    }
    let members = interrupt::run(async {
        let mut members = Vec::new();
        for (place, text) in places.iter().zip(&args.images) {
            members.push(member(&tools, place, text).await?);
        }
        Ok(members)
    })?;
    drafts.change(&args.list, |before| {
        if before.is_some() && !args.amend {
            return Err(ManifestError::Exists);
        }
        let mut draft = before.unwrap_or_else(|| Draft {
            name: args.list.clone(),
            members: Vec::new(),
        });
        for member in members {
            let before = draft.members.iter_mut().find(|m| m.name == member.name);
            match before {
                Some(before) => *before = member,
                None => draft.members.push(member),
            }
        }
        Ok(Some(draft))
    })?;
    ui::print(&format!("Created manifest list {}\n", args.list))
}

async fn member(tools: &Tools, place: &Place, text: &str) -> Result<DraftMember, Failure> {
    let found = place.find(tools, First::Registry).await?;
    let source = found.source;
    let document = tools.client.fetch_document(&source).await;
    let document = document.map_err(|error| not_found(error, text))?;
    if let Document::Index(_) = document {
        let name = text.to_owned();
        return Err(ManifestError::IsAList { name }.into());
    }
    let pinned = source.with_digest(document.digest());
    let failure = |error: ContentsError| Failure::new(&error, error.help());
    let members = index::members(&tools.client, &pinned)
        .await
        .map_err(failure)?;
    let Some(member) = members.into_iter().next() else {
        let name = text.to_owned();
        return Err(ManifestError::NoSuchImage { name }.into());
    };
    Ok(DraftMember {
        name: match place {
            Place::Named(name) => name
                .reference()
                .map_or(text.to_owned(), ToString::to_string),
            Place::Registry(reference) => reference.to_string(),
            Place::Layout { .. } | Place::Archive { .. } => text.to_owned(),
        },
        descriptor: member.descriptor,
        place: match source {
            ImageSource::Registry(reference) => DraftPlace::Registry(reference),
            ImageSource::Layout { directory, .. } => {
                let directory = std::path::absolute(&directory);
                let directory = directory.map_err(|error| {
                    Failure::of_system("looking for the working directory", error)
                })?;
                DraftPlace::Layout(directory)
            }
        },
    })
}
