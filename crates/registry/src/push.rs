//! Pushing: blobs first, then what refers to them.
//!
//! ```text
//! blob      HEAD ─► there?  POST ?mount ─► taken over?  POST ─► session ─► upload ─► there
//! manifest  HEAD ─► same?   PUT
//! ```
//!
//! The session's address may be on another host, which is asked without our `Authorization`.

mod referrer;
mod upload;

use std::fs::File;
use std::io;
use std::sync::Arc;

use oci::{Descriptor, Digest, MediaType, Reference};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};

use crate::client::Client;
use crate::connections::{Response, blocking};
use crate::endpoint::{Endpoint, Scopes};
use crate::pull::{ACCEPTED, ResolveError};
use crate::request::{Body, OpenFile, Request, RequestError, Target};
use crate::retry::Backoff;
use upload::Upload;

const CONTENT_DIGEST: &str = "docker-content-digest";
const SUBJECT: &str = "oci-subject";

/// How a blob came to be in its repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted,
    /// It was sent.
    Uploaded,
}

/// Why something was not pushed.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {kind}")]
pub struct PushError {
    /// Where it should have gone.
    pub target: String,
    /// What is wrong.
    pub kind: PushErrorKind,
}

/// What is wrong with a push.
#[derive(Debug, thiserror::Error)]
pub enum PushErrorKind {
    /// We may not write there, or there is no such repository.
    #[error("push access denied, repository does not exist or may require authorization: {source}")]
    Denied {
        /// What the registry says.
        source: RequestError,
    },
    /// The registry did not do it.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The file to be sent cannot be opened.
    #[error("cannot open {blob} to send it: {source}")]
    Open {
        /// The blob.
        blob: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The file to be sent is not the blob.
    #[error("{blob} has {expected_bytes} bytes, but the file to be sent has {found_bytes}")]
    Size {
        /// The blob.
        blob: Digest,
        /// What its descriptor says.
        expected_bytes: u64,
        /// What the file has.
        found_bytes: u64,
    },
    /// The registry stored something else than was sent.
    #[error("{expected} was sent, but the registry says that it stored {found}")]
    Stored {
        /// What was sent.
        expected: Digest,
        /// What the registry says.
        found: String,
    },
    /// The list of what is about a manifest cannot be read.
    #[error("the list of what refers to its subject: {source}")]
    Referrers {
        /// Why not.
        source: ResolveError,
    },
    /// The registry deletes nothing, or no tags.
    #[error("the registry does not delete it: {source}")]
    DeleteUnsupported {
        /// What it says.
        source: RequestError,
    },
    /// The reference has a digest, and what is pushed there has another.
    #[error("the manifest has the digest {found}, not the one it is pushed under")]
    NotTheDigest {
        /// The digest of what is pushed.
        found: Digest,
    },
}

impl PushError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match &self.kind {
            PushErrorKind::Denied { source } => source.help().or_else(|| {
                Some(
                    "create the repository first: this registry does not make them by itself"
                        .to_owned(),
                )
            }),
            PushErrorKind::Request(source) => source.help(),
            PushErrorKind::Referrers { source } => source.help(),
            PushErrorKind::DeleteUnsupported { .. } => Some(
                "many registries delete manifests by digest only, and some nothing at all"
                    .to_owned(),
            ),
            PushErrorKind::Open { .. }
            | PushErrorKind::Size { .. }
            | PushErrorKind::Stored { .. }
            | PushErrorKind::NotTheDigest { .. } => None,
        }
    }
}

impl Client {
    /// Finds out whether `target`'s repository can be pushed to, by starting an upload and
    /// cancelling it.
    ///
    /// # Errors
    ///
    /// The registry does not let us, or does not answer.
    pub async fn check_push(&self, target: &Reference) -> Result<(), PushError> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_check_push(target).await {
                Ok(()) => return Ok(()),
                Err(error) => self.wait(&mut backoff, target, error).await?,
            }
        }
    }

    /// Returns whether the repository of `target` has the blob.
    ///
    /// # Errors
    ///
    /// The registry does not say.
    pub async fn blob_exists(
        &self,
        target: &Reference,
        blob: &Descriptor,
    ) -> Result<bool, PushError> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_blob_exists(target, blob).await {
                Ok(exists) => return Ok(exists),
                Err(error) => self.wait(&mut backoff, target, error).await?,
            }
        }
    }

    /// Puts `blob` into the repository of `target`, unless it is there.
    ///
    /// It is taken from the repository `mount_from` of the same registry if the registry can do
    /// that, else sent from the file that `open` opens, which is called again for every try. An upload
    /// that broke off goes on where it broke, if the registry can do that.
    ///
    /// # Errors
    ///
    /// The registry does not let us or does not answer, or the file is not to be had or has
    /// another size.
    pub async fn push_blob(
        &self,
        target: &Reference,
        blob: &Descriptor,
        open: impl Fn() -> io::Result<File> + Send + Sync + 'static,
        mount_from: Option<&str>,
    ) -> Result<Pushed, PushError> {
        let upload = Upload::new(self, target, blob, Arc::new(open), mount_from);
        upload.run().await.map_err(|kind| kind.at(target))
    }

    /// Puts a manifest or an index at the tag of `target`, or at its digest where it has no tag.
    ///
    /// # Errors
    ///
    /// The registry does not let us, does not answer, or understood other bytes than we sent;
    /// `target` has a digest and `bytes` have another.
    pub async fn push_manifest(
        &self,
        target: &Reference,
        bytes: Vec<u8>,
        media_type: &MediaType,
    ) -> Result<(), PushError> {
        let manifest = Manifest::new(bytes, media_type);
        if target
            .digest()
            .is_some_and(|digest| digest != manifest.digest)
        {
            let found = manifest.digest;
            return Err(PushErrorKind::NotTheDigest { found }.at(target));
        }
        match self.put_manifest(target, &manifest).await? {
            Put::Complete => Ok(()),
            Put::Unlisted => referrer::list(self, target, &manifest).await,
        }
    }

    async fn put_manifest(
        &self,
        target: &Reference,
        manifest: &Manifest<'_>,
    ) -> Result<Put, PushError> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_push_manifest(target, manifest).await {
                Ok(put) => return Ok(put),
                Err(PushErrorKind::Request(error)) => {
                    self.wait(&mut backoff, target, error).await?;
                }
                Err(kind) => return Err(kind.at(target)),
            }
        }
    }

    async fn wait(
        &self,
        backoff: &mut Backoff,
        target: &Reference,
        error: RequestError,
    ) -> Result<(), PushError> {
        let waited = backoff.wait(error).await;
        waited.map_err(|source| PushErrorKind::of(source).at(target))
    }

    async fn try_check_push(&self, target: &Reference) -> Result<(), RequestError> {
        let endpoint = Endpoint::origin(self.connections(), target).await?;
        let scopes = endpoint.push_scope();
        let started = self.start_upload(&endpoint, &scopes).await?;
        let session = self.session(&started)?;
        let cancel = Request::new("cancel upload", Method::DELETE, session);
        // Some registries cannot cancel; they forget sessions by themselves.
        if let Err(error) = self.call(&endpoint, &scopes, &cancel).await {
            tracing::debug!(%error, "upload not cancelled");
        }
        Ok(())
    }

    async fn try_blob_exists(
        &self,
        target: &Reference,
        blob: &Descriptor,
    ) -> Result<bool, RequestError> {
        let endpoint = Endpoint::origin(self.connections(), target).await?;
        let url = Target::named(endpoint.blob(blob.digest));
        let request = Request::new("look for blob", Method::HEAD, url);
        let response = self
            .call(&endpoint, &endpoint.push_scope(), &request)
            .await?;
        match response.status() {
            // Of another size it is not this blob, whatever the registry believes.
            StatusCode::OK => Ok(response.length_bytes().is_none_or(|size| size == blob.size)),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(response.into_error().await),
        }
    }

    /// Asks the registry to take the blob from `from`; `None` if it wants nothing of that.
    async fn mount(
        &self,
        endpoint: &Endpoint,
        blob: &Descriptor,
        from: &str,
    ) -> Result<Option<Response>, RequestError> {
        let mut url = endpoint.uploads();
        url.query_pairs_mut()
            .append_pair("mount", &blob.digest.to_string())
            .append_pair("from", from);
        let request = Request::new("mount blob", Method::POST, Target::named(url));
        let scopes = endpoint.push_scope().and_pull(from);
        let response = match self.call(endpoint, &scopes, &request).await {
            Ok(response) => response,
            // We may not read there; that does not keep us from sending it.
            Err(error) if error.is_denied() => return Ok(None),
            Err(error) => return Err(error),
        };
        match response.status() {
            StatusCode::CREATED | StatusCode::ACCEPTED => Ok(Some(response)),
            status if status.is_client_error() => Ok(None),
            _ => Err(response.into_error().await),
        }
    }

    async fn start_upload(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
    ) -> Result<Response, RequestError> {
        let url = Target::named(endpoint.uploads());
        let request = Request::new("start upload", Method::POST, url);
        let response = self.call(endpoint, scopes, &request).await?;
        match response.status() {
            StatusCode::ACCEPTED => Ok(response),
            _ => Err(response.into_error().await),
        }
    }

    fn session(&self, started: &Response) -> Result<Target, RequestError> {
        let location = started
            .header(LOCATION.as_str())
            .ok_or_else(|| started.protocol_error("it does not say where to upload to"))?;
        self.connections().hop(started, location)
    }

    async fn try_push_manifest(
        &self,
        target: &Reference,
        manifest: &Manifest<'_>,
    ) -> Result<Put, PushErrorKind> {
        let endpoint = Endpoint::origin(self.connections(), target).await?;
        let scopes = endpoint.push_scope();
        let digest = manifest.digest.to_string();
        let url = Target::named(endpoint.manifest(target.tag().unwrap_or(&digest)));
        let mut head = Request::new("look for manifest", Method::HEAD, url.clone());
        head.headers
            .insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
        let found = self.call(&endpoint, &scopes, &head).await?;
        if found.status() == StatusCode::OK && found.header(CONTENT_DIGEST) == Some(&digest) {
            return Ok(Put::Complete);
        }
        let mut put = Request::new("push manifest", Method::PUT, url);
        let media_type = HeaderValue::from_str(manifest.media_type.as_str());
        put.headers
            .extend(media_type.ok().map(|media_type| (CONTENT_TYPE, media_type)));
        put.body = Body::Bytes(manifest.bytes.clone());
        let response = self.call(&endpoint, &scopes, &put).await?;
        let put = match response.header(SUBJECT) {
            Some(_) => Put::Complete,
            None => Put::Unlisted,
        };
        check_created(response, manifest.digest).await?;
        Ok(put)
    }
}

/// What is put at a tag or digest.
struct Manifest<'a> {
    digest: Digest,
    bytes: bytes::Bytes,
    media_type: &'a MediaType,
}

impl<'a> Manifest<'a> {
    fn new(bytes: Vec<u8>, media_type: &'a MediaType) -> Self {
        Self {
            digest: Digest::of(&bytes),
            bytes: bytes.into(),
            media_type,
        }
    }
}

/// What became of a manifest that was put.
enum Put {
    /// There is nothing left to do.
    Complete,
    /// If it is about another manifest, the registry does not know that.
    Unlisted,
}

/// Finds out before anything is sent that the file is not the blob.
async fn check_file(blob: &Descriptor, open: &OpenFile) -> Result<(), PushErrorKind> {
    let open = open.clone();
    let size = blocking(move || open()?.metadata().map(|metadata| metadata.len())).await;
    match size {
        Ok(size) if size == blob.size => Ok(()),
        Ok(found_bytes) => Err(PushErrorKind::Size {
            blob: blob.digest,
            expected_bytes: blob.size,
            found_bytes,
        }),
        Err(source) => Err(PushErrorKind::Open {
            blob: blob.digest,
            source,
        }),
    }
}

async fn check_created(response: Response, expected: Digest) -> Result<(), PushErrorKind> {
    // 201 is the answer of the specification; some registries say 200 or 204.
    if !response.status().is_success() || response.status() == StatusCode::ACCEPTED {
        return Err(response.into_error().await.into());
    }
    match response.header(CONTENT_DIGEST) {
        Some(found) if found != expected.to_string() => Err(PushErrorKind::Stored {
            expected,
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl PushErrorKind {
    pub(crate) fn of(source: RequestError) -> Self {
        match source.is_denied() || source.is_name_unknown() {
            true => Self::Denied { source },
            false => Self::Request(source),
        }
    }

    pub(crate) fn at(self, target: &Reference) -> PushError {
        PushError {
            target: target.to_string(),
            kind: self,
        }
    }
}
