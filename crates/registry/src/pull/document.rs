//! Manifests, indexes and configs: small enough to be in memory, checked before they are read.

use oci::{Descriptor, Digest, Document, ImageSource, MediaType, Reference};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use super::{CONFIG_LIMIT_BYTES, MANIFEST_LIMIT_BYTES, ResolveErrorKind};
use crate::client::Client;
use crate::connections::{Response, blocking};
use crate::endpoint::Endpoint;
use crate::layout;
use crate::request::{Request, RequestError, Target, shown};
use crate::retry::Backoff;

/// What we know to read; without the rest some registries convert to what nobody asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

const CONTENT_DIGEST: &str = "docker-content-digest";

/// Fetches what `source` names.
pub(super) async fn named(
    client: &Client,
    source: &ImageSource,
) -> Result<Document, ResolveErrorKind> {
    match source {
        ImageSource::Registry(reference) => match reference.digest() {
            Some(digest) => by_digest(client, reference, digest, None).await,
            None => {
                let wanted = Wanted::Tag(reference.tag().unwrap_or("latest"));
                let (bytes, declared) = wanted.fetch(client, reference).await?;
                parse(bytes, declared.as_ref())
            }
        },
        ImageSource::Layout { directory, image } => {
            let (directory, image) = (directory.clone(), image.clone());
            let read = move || layout::read_document(&directory, &image, MANIFEST_LIMIT_BYTES);
            let (bytes, descriptor) = blocking(read).await?;
            parse(bytes, descriptor.map(|d| d.media_type).as_ref())
        }
    }
}

/// Asks what the tag of `reference` leads to, without fetching it; `None` where nobody says so plainly,
/// and fetching it is what tells more.
pub(super) async fn digest_of_tag(
    client: &Client,
    reference: &Reference,
) -> Result<Option<Digest>, ResolveErrorKind> {
    let tag = reference.tag().unwrap_or("latest");
    let told = first_answer(client, reference, async |endpoint| {
        let response = head(client, endpoint, tag).await?;
        match response.status() {
            StatusCode::OK => Ok(content_digest(&response)),
            _ => Err(response.into_error().await.into()),
        }
    });
    match told.await {
        Err(ResolveErrorKind::Request(error)) if error.is_unreachable() => Err(error.into()),
        // The answer to a HEAD has no text that says why, and some registries know no HEAD.
        told => Ok(told.ok().flatten()),
    }
}

/// Fetches what `reference` names now, without asking mirrors.
pub(crate) async fn at_origin(
    client: &Client,
    reference: &Reference,
) -> Result<Document, ResolveErrorKind> {
    let wanted = match reference.digest() {
        Some(digest) => Wanted::Manifest(digest),
        None => Wanted::Tag(reference.tag().unwrap_or("latest")),
    };
    let fetched = answer_of_origin(client, reference, async |endpoint| {
        wanted.from(client, endpoint).await
    });
    let (bytes, declared) = fetched.await?;
    parse(bytes, declared.as_ref())
}

/// Fetches the member `entry` of an index that `source` led to.
pub(crate) async fn described(
    client: &Client,
    source: &ImageSource,
    entry: &Descriptor,
) -> Result<Document, ResolveErrorKind> {
    check_announced(entry, MANIFEST_LIMIT_BYTES)?;
    match source {
        ImageSource::Registry(reference) => {
            by_digest(client, reference, entry.digest, Some(entry)).await
        }
        ImageSource::Layout { directory, .. } => {
            let (directory, blob) = (directory.clone(), entry.clone());
            let read = move || layout::read_blob(&directory, &blob, MANIFEST_LIMIT_BYTES);
            parse(blocking(read).await?, Some(&entry.media_type))
        }
    }
}

/// Fetches the bytes of a config.
pub(super) async fn config(
    client: &Client,
    source: &ImageSource,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, ResolveErrorKind> {
    check_announced(descriptor, CONFIG_LIMIT_BYTES)?;
    match source {
        ImageSource::Registry(reference) => {
            let wanted = Wanted::Config(descriptor.digest);
            let (bytes, _) = wanted.fetch(client, reference).await?;
            check_size(descriptor, &bytes)?;
            Ok(bytes)
        }
        ImageSource::Layout { directory, .. } => {
            let (directory, blob) = (directory.clone(), descriptor.clone());
            let read = move || layout::read_blob(&directory, &blob, CONFIG_LIMIT_BYTES);
            Ok(blocking(read).await?)
        }
    }
}

async fn by_digest(
    client: &Client,
    reference: &Reference,
    digest: Digest,
    entry: Option<&Descriptor>,
) -> Result<Document, ResolveErrorKind> {
    let (bytes, declared) = Wanted::Manifest(digest).fetch(client, reference).await?;
    if let Some(entry) = entry {
        check_size(entry, &bytes)?;
        // Both the header and the index have to agree with the content.
        parse(bytes.clone(), declared.as_ref())?;
        return parse(bytes, Some(&entry.media_type));
    }
    parse(bytes, declared.as_ref())
}

fn check_announced(descriptor: &Descriptor, limit_bytes: u64) -> Result<(), ResolveErrorKind> {
    if descriptor.size <= limit_bytes {
        return Ok(());
    }
    Err(ResolveErrorKind::TooLarge {
        digest: descriptor.digest,
        size_bytes: descriptor.size,
        limit_bytes,
    })
}

fn check_size(descriptor: &Descriptor, bytes: &[u8]) -> Result<(), ResolveErrorKind> {
    if descriptor.size == bytes.len() as u64 {
        return Ok(());
    }
    Err(ResolveErrorKind::Size {
        digest: descriptor.digest,
        expected_bytes: descriptor.size,
        found_bytes: bytes.len() as u64,
    })
}

fn parse(bytes: Vec<u8>, declared: Option<&MediaType>) -> Result<Document, ResolveErrorKind> {
    let digest = Digest::of(&bytes);
    Document::parse(bytes, declared).map_err(|source| ResolveErrorKind::Document { digest, source })
}

/// A document that is fetched from a registry.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Whatever a tag leads to.
    Tag(&'a str),
    /// A manifest or index.
    Manifest(Digest),
    /// A config, which is kept as a blob.
    Config(Digest),
}

type Fetched = (Vec<u8>, Option<MediaType>);

impl Wanted<'_> {
    async fn fetch(
        self,
        client: &Client,
        reference: &Reference,
    ) -> Result<Fetched, ResolveErrorKind> {
        let ask = async |endpoint: &Endpoint| self.from(client, endpoint).await;
        first_answer(client, reference, ask).await
    }

    async fn from(self, client: &Client, endpoint: &Endpoint) -> Result<Fetched, ResolveErrorKind> {
        let (url, limit_bytes, expected) = match self {
            Self::Tag(tag) => (endpoint.manifest(tag), MANIFEST_LIMIT_BYTES, None),
            Self::Manifest(digest) => {
                let url = endpoint.manifest(&digest.to_string());
                (url, MANIFEST_LIMIT_BYTES, Some(digest))
            }
            Self::Config(digest) => (endpoint.blob(digest), CONFIG_LIMIT_BYTES, Some(digest)),
        };
        let mut request = Request::new("fetch manifest", Method::GET, Target::named(url));
        match self {
            Self::Tag(_) | Self::Manifest(_) => {
                request
                    .headers
                    .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
            }
            Self::Config(_) => request.operation = "fetch config",
        }
        let response = client
            .call(endpoint, &endpoint.pull_scope(), &request)
            .await?;
        if response.status() != StatusCode::OK {
            return Err(response.into_error().await.into());
        }
        let url = shown(response.url());
        let declared = media_type(&response);
        // What the registry believes it sent counts where nobody else said what it should be.
        let claimed = content_digest(&response);
        let bytes = response.body(limit_bytes).await?;
        let found = Digest::of(&bytes);
        match expected.or(claimed) {
            Some(expected) if expected != found => Err(ResolveErrorKind::Digest {
                url,
                expected,
                found,
                found_bytes: bytes.len() as u64,
            }),
            _ => Ok((bytes, declared)),
        }
    }
}

/// Asks for what there is to say of a tag or digest.
pub(crate) async fn head(
    client: &Client,
    endpoint: &Endpoint,
    name: &str,
) -> Result<Response, RequestError> {
    let url = Target::named(endpoint.manifest(name));
    let mut request = Request::new("look for manifest", Method::HEAD, url);
    request
        .headers
        .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    client
        .call(endpoint, &endpoint.pull_scope(), &request)
        .await
}

/// Asks the mirrors, once each, and then the registry.
async fn first_answer<T>(
    client: &Client,
    reference: &Reference,
    ask: impl AsyncFn(&Endpoint) -> Result<T, ResolveErrorKind>,
) -> Result<T, ResolveErrorKind> {
    let connections = client.connections();
    for mirror in connections.mirrors(reference) {
        let tried = match Endpoint::mirror(connections, reference, mirror).await {
            Ok(endpoint) => ask(&endpoint).await,
            Err(error) => Err(error.into()),
        };
        match tried {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                tracing::debug!(mirror = mirror.mirror.host(), %error, "mirror passed over")
            }
        }
    }
    answer_of_origin(client, reference, ask).await
}

async fn answer_of_origin<T>(
    client: &Client,
    reference: &Reference,
    ask: impl AsyncFn(&Endpoint) -> Result<T, ResolveErrorKind>,
) -> Result<T, ResolveErrorKind> {
    let connections = client.connections();
    let mut backoff = Backoff::new(connections.patience);
    loop {
        let tried = match Endpoint::origin(connections, reference).await {
            Ok(endpoint) => ask(&endpoint).await,
            Err(error) => Err(error.into()),
        };
        match tried {
            Err(ResolveErrorKind::Request(error)) => backoff.wait(error).await.map_err(kind_of)?,
            other => return other,
        }
    }
}

pub(crate) fn content_digest(response: &Response) -> Option<Digest> {
    response.header(CONTENT_DIGEST)?.parse().ok()
}

pub(crate) fn media_type(response: &Response) -> Option<MediaType> {
    let text = response.header(CONTENT_TYPE.as_str())?;
    let text = text.split_once(';').map_or(text, |(text, _)| text).trim();
    let Ok(media_type) = text.parse();
    Some(media_type)
}

pub(crate) fn kind_of(error: RequestError) -> ResolveErrorKind {
    if error.is_not_found() {
        ResolveErrorKind::NotFound
    } else if error.is_denied() {
        ResolveErrorKind::Denied { source: error }
    } else {
        ResolveErrorKind::Request(error)
    }
}
