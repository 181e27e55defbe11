//! Everything that an image consists of, wherever it lies: documents in memory, blobs by name.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{Descriptor, Digest, Document, ImageSource, MediaType};
use registry::{Client, ResolveError};

/// Documents that are fetched at once.
const FETCHES: usize = 8;

/// How deep indexes may lie in one another.
const MAX_DEPTH: usize = 4;

/// A manifest or an index with all that it refers to.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The manifest or index that stands for the whole.
    pub top: Document,
    /// The manifests and indexes below it, what is referred to before what refers to it.
    pub members: Vec<Document>,
    /// Configs and layers, and where each can be had.
    pub blobs: BTreeMap<Digest, Blob>,
}

/// A config or layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// As its manifest describes it.
    pub descriptor: Descriptor,
    /// Where it is.
    pub source: ImageSource,
}

/// Why the documents of an image could not all be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentsError {
    /// One was not to be had.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Indexes within indexes.
    #[error("{image}: indexes lie more than {MAX_DEPTH} deep in one another")]
    TooDeep {
        /// The image.
        image: String,
    },
}

impl ContentsError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Resolve(error) => error.help(),
            Self::TooDeep { .. } => None,
        }
    }
}

impl Contents {
    /// Reads the documents of what `source` names; no blob is fetched.
    ///
    /// # Errors
    ///
    /// A document is not to be had, or is not what its digest says.
    pub async fn read(client: &Client, source: &ImageSource) -> Result<Self, ContentsError> {
        let top = client.fetch_document(source).await?;
        let source = source.with_digest(top.digest());
        Self::of(client, top, |_| source.clone()).await
    }

    /// Reads the documents below `top`, whose entry `n` and all below it lie in `place(n)`.
    pub(crate) async fn of(
        client: &Client,
        top: Document,
        place: impl Fn(usize) -> ImageSource,
    ) -> Result<Self, ContentsError> {
        let mut blobs = BTreeMap::new();
        let mut members: Vec<Document> = Vec::new();
        let mut level = match &top {
            Document::Manifest(_) => {
                take_blobs(&top, &place(0), &mut blobs);
                Vec::new()
            }
            Document::Index(index) => {
                let entries = index.value().manifests.iter().cloned().enumerate();
                entries.map(|(n, entry)| (entry, place(n))).collect()
            }
        };
        for _ in 0..MAX_DEPTH {
            let fetched: Vec<(Document, ImageSource)> = stream::iter(level)
                .map(async |(entry, source)| {
                    let document = client.fetch_member(&source, &entry).await?;
                    Ok::<_, ContentsError>((document, source))
                })
                .buffered(FETCHES)
                .try_collect()
                .await?;
            level = Vec::new();
            let mut documents = Vec::new();
            for (document, source) in fetched {
                match &document {
                    Document::Manifest(_) => take_blobs(&document, &source, &mut blobs),
                    Document::Index(index) => {
                        let entries = index.value().manifests.iter().cloned();
                        level.extend(entries.map(|entry| (entry, source.clone())));
                    }
                }
                documents.push(document);
            }
            // What lies deeper is needed first.
            documents.append(&mut members);
            members = documents;
            if level.is_empty() {
                return Ok(Self {
                    top,
                    members,
                    blobs,
                });
            }
        }
        let image = place(0).to_string();
        Err(ContentsError::TooDeep { image })
    }

    /// Returns the manifests with what their entries in an index say, if there is one.
    pub fn manifests(&self) -> impl Iterator<Item = &oci::Raw<oci::Manifest>> {
        let all = self.members.iter().chain([&self.top]);
        all.filter_map(|document| match document {
            Document::Manifest(manifest) => Some(manifest),
            Document::Index(_) => None,
        })
    }

    /// Returns the size of everything, each blob counted once.
    pub fn size_bytes(&self) -> u64 {
        let documents = self.members.iter().chain([&self.top]);
        let documents: u64 = documents
            .map(|document| document.bytes().len() as u64)
            .sum();
        documents
            + self
                .blobs
                .values()
                .map(|blob| blob.descriptor.size)
                .sum::<u64>()
    }
}

/// Adds what a manifest refers to. Layers that registries must not hand on are left where they are.
fn take_blobs(document: &Document, source: &ImageSource, blobs: &mut BTreeMap<Digest, Blob>) {
    let Document::Manifest(manifest) = document else {
        return;
    };
    let manifest = manifest.value();
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        if !matches!(descriptor.media_type, MediaType::ForeignLayer(..)) {
            blobs.entry(descriptor.digest).or_insert_with(|| Blob {
                descriptor: descriptor.clone(),
                source: source.clone(),
            });
        }
    }
}
