//! `rbuild images`: what the local store has, by name.

use std::str::FromStr;

use oci::{Descriptor, Document, ImageConfig, Platform, Reference};
use serde::Serialize;
use serde_json::{Value, json};
use store::{ContentStore, Store};

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::setup;
use crate::template::{Template, TemplateError};
use crate::ui::report::Failure;
use crate::ui::{self, printable, units};

/// Longer than any manifest or config.
const DOCUMENT_LIMIT_BYTES: u64 = 8 << 20;

/// Options of `rbuild images`
#[derive(Debug, clap::Args)]
pub(crate) struct ImagesArgs {
    /// How the list is written: `table`, `json`, or a template with .Repository, .Tag, .Digest, .ID,
    /// .Platforms and .Size
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: Format,

    /// Print the ids alone
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Do not shorten digests
    #[arg(long)]
    pub(crate) no_trunc: bool,

    /// List only images without a name (dangling=true), or only those with one (dangling=false)
    #[arg(short, long, value_name = "dangling=BOOL")]
    pub(crate) filter: Option<Filter>,

    /// List only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
}

/// The values of `--format`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format {
    /// Columns, for people
    Table,
    /// A JSON array, for programs
    Json,
    /// A line for each image
    Template(Template),
}

impl FromStr for Format {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Ok(match text {
            "table" => Self::Table,
            "json" => Self::Json,
            template => Self::Template(template.parse()?),
        })
    }
}

/// The values of `--filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Images without a name.
    Unnamed,
    /// Images with a name.
    Named,
}

/// A filter that there is not.
#[derive(Debug, thiserror::Error)]
#[error("invalid filter `{text}`: expected dangling=true or dangling=false")]
pub(crate) struct FilterError {
    text: String,
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        match text.split_once('=') {
            Some(("dangling", "true" | "1")) => Ok(Self::Unnamed),
            Some(("dangling", "false" | "0")) => Ok(Self::Named),
            _ => Err(FilterError {
                text: text.to_owned(),
            }),
        }
    }
}

/// A line of the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    /// The name as people write it, without the tag; none where the image has no name.
    repository: Option<String>,
    tag: Option<String>,
    digest: String,
    platforms: Vec<String>,
    /// Of all blobs, each counted once.
    size_bytes: u64,
}

/// Lists the images, the latest first.
pub(crate) fn run(
    args: &ImagesArgs,
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<(), Failure> {
    let name = args
        .name
        .as_deref()
        .map(str::parse::<Reference>)
        .transpose();
    let name = name.map_err(|error| Failure::of_usage(&error, None))?;
    // Without a tag all of a repository are meant.
    let (name, tag) = match (&name, &args.name) {
        (Some(name), Some(text)) => {
            let has_tag = text
                .rsplit_once(':')
                .is_some_and(|(_, tag)| !tag.contains('/'));
            (Some(repository(name)), name.tag().filter(|_| has_tag))
        }
        _ => (None, None),
    };
    let store = setup::open_store(&setup::store_root(global, environment)?)?;
    let mut rows = rows(&store)?;
    rows.retain(|row| {
        (name.is_none() || row.repository == name)
            && (tag.is_none() || row.tag.as_deref() == tag)
            && args
                .filter
                .is_none_or(|filter| row.repository.is_none() == (filter == Filter::Unnamed))
    });
    if args.quiet {
        let ids = rows
            .iter()
            .map(|row| short(&row.digest, args.no_trunc) + "\n");
        return ui::print(&ids.collect::<String>());
    }
    ui::print(&match &args.format {
        Format::Table => table(&rows, args.no_trunc),
        Format::Json => {
            let json = serde_json::to_string_pretty(&rows);
            json.map_err(|error| Failure::new(&error, None))? + "\n"
        }
        Format::Template(template) => {
            let mut text = String::new();
            for row in &rows {
                let filled = template.fill(&data(row, args.no_trunc));
                text += &filled.map_err(|error| Failure::of_usage(&error, None))?;
                text.push('\n');
            }
            text
        }
    })
}

/// What a template can say of an image.
fn data(row: &Row, whole: bool) -> Value {
    json!({
        "Repository": row.repository.as_deref().unwrap_or(NONE),
        "Tag": row.tag.as_deref().unwrap_or(NONE),
        "Digest": row.digest,
        "ID": short(&row.digest, whole),
        "Platforms": row.platforms.join(", "),
        "Size": units::bytes(row.size_bytes),
    })
}

/// What stands for a name that an image does not have.
const NONE: &str = "<none>";

/// Shortens a digest to as much of it as people compare.
fn short(digest: &str, whole: bool) -> String {
    match whole {
        true => digest.to_owned(),
        false => digest.chars().take("sha256:".len() + 12).collect(),
    }
}

fn rows(store: &Store) -> Result<Vec<Row>, Failure> {
    let images = store.images().list();
    let images = images.map_err(|error| Failure::new(&error, None))?;
    Ok(images
        .iter()
        .rev()
        .map(|image| row(store.content(), image))
        .collect())
}

/// What can be said of an image. A blob that is gone must not hide the others, so it just lacks.
fn row(content: &ContentStore, image: &Descriptor) -> Row {
    let name = image.annotations.get("io.containerd.image.name");
    let name = name.and_then(|name| name.parse::<Reference>().ok());
    let mut blobs = vec![image.clone()];
    let mut platforms = Vec::new();
    match document(content, image) {
        Some(Document::Index(index)) => {
            for entry in &index.value().manifests {
                blobs.push(entry.clone());
                if let Some(platform) = entry.platform.as_ref().filter(|p| !p.is_unknown()) {
                    platforms.push(platform.normalized());
                }
                if let Some(Document::Manifest(manifest)) = document(content, entry) {
                    blobs.push(manifest.value().config.clone());
                    blobs.extend(manifest.value().layers.iter().cloned());
                }
            }
        }
        Some(Document::Manifest(manifest)) => {
            platforms.extend(platform(content, &manifest.value().config));
            blobs.push(manifest.value().config.clone());
            blobs.extend(manifest.value().layers.iter().cloned());
        }
        None => {}
    }
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    Row {
        tag: name.as_ref().and_then(|name| name.tag().map(str::to_owned)),
        repository: name.as_ref().map(repository),
        digest: image.digest.to_string(),
        platforms: platforms.iter().map(Platform::to_string).collect(),
        size_bytes: blobs.iter().map(|blob| blob.size).sum(),
    }
}

/// The name as people write it, without the tag.
fn repository(name: &Reference) -> String {
    let familiar = name.familiar();
    let suffix = name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
    familiar
        .strip_suffix(&suffix)
        .unwrap_or(&familiar)
        .to_owned()
}

fn document(content: &ContentStore, blob: &Descriptor) -> Option<Document> {
    let bytes = content.read(&blob.digest, DOCUMENT_LIMIT_BYTES).ok()?;
    Document::parse(bytes, Some(&blob.media_type)).ok()
}

fn platform(content: &ContentStore, config: &Descriptor) -> Option<Platform> {
    let bytes = content.read(&config.digest, DOCUMENT_LIMIT_BYTES).ok()?;
    let config: ImageConfig = serde_json::from_slice(&bytes).ok()?;
    Some(config.platform().normalized())
}

fn table(rows: &[Row], whole: bool) -> String {
    let heading = ["REPOSITORY", "TAG", "DIGEST", "PLATFORMS", "SIZE"].map(str::to_owned);
    let mut cells = vec![heading];
    for row in rows {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| NONE.to_owned());
        cells.push([
            or_none(&row.repository),
            or_none(&row.tag),
            short(&row.digest, whole),
            row.platforms.join(", "),
            units::bytes(row.size_bytes),
        ]);
    }
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            line += &format!(
                "{:<width$}   ",
                printable::printable(cell),
                width = width(column)
            );
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let row = |repository: Option<&str>, platforms: &[&str]| Row {
            repository: repository.map(str::to_owned),
            tag: repository.map(|_| "latest".to_owned()),
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            platforms: platforms
                .iter()
                .map(|&platform| platform.to_owned())
                .collect(),
            size_bytes: 1_058_537,
        };
        let rows = [
            row(
                Some("127.0.0.1:5000/team/hello"),
                &["linux/amd64", "linux/arm/v7"],
            ),
            row(Some("hello"), &["linux/arm64"]),
            row(None, &[]),
        ];
        insta::assert_snapshot!(table(&rows, false), @r"
    REPOSITORY                  TAG      DIGEST                PLATFORMS                   SIZE
    127.0.0.1:5000/team/hello   latest   sha256:0123456789ab   linux/amd64, linux/arm/v7   1.06MB
    hello                       latest   sha256:0123456789ab   linux/arm64                 1.06MB
    <none>                      <none>   sha256:0123456789ab                               1.06MB
    ");
        insta::assert_snapshot!(serde_json::to_string(&rows[2]).unwrap(), @r#"{"repository":null,"tag":null,"digest":"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","platforms":[],"sizeBytes":1058537}"#);
    }

    #[test]
    fn the_repository_is_the_name_without_its_tag() {
        for (name, expected) in [
            ("hello", "hello"),
            ("hello:1.0", "hello"),
            ("127.0.0.1:5000/team/hello:1.0", "127.0.0.1:5000/team/hello"),
        ] {
            assert_eq!(repository(&name.parse().unwrap()), expected);
        }
    }
}
