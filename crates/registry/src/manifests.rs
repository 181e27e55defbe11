//! What a tag or digest leads to at the registry itself, now; and taking it away.
//!
//! A build asks mirrors first and keeps to its first answer. Whoever is about to change a tag has to
//! know what it is at this moment, so nothing here asks a mirror or remembers an answer.

use oci::{Descriptor, Document, MediaType, Reference};
use reqwest::{Method, StatusCode};

use crate::client::Client;
use crate::connections::Response;
use crate::endpoint::Endpoint;
use crate::pull::{ResolveError, document};
use crate::push::{PushError, PushErrorKind};
use crate::request::{Request, RequestError, Target};
use crate::retry::Backoff;

impl Client {
    /// Returns the descriptor of what `reference` leads to at its registry; `None` if to nothing.
    ///
    /// Of a reference with a tag and a digest, the digest counts.
    ///
    /// # Errors
    ///
    /// The registry does not let us or does not answer, or what it has is neither manifest nor index.
    pub async fn head_manifest(
        &self,
        reference: &Reference,
    ) -> Result<Option<Descriptor>, ResolveError> {
        let mut backoff = Backoff::new(self.connections().patience);
        let found = loop {
            match self.try_head(reference).await {
                Ok(found) => break found,
                Err(error) => backoff
                    .wait(error)
                    .await
                    .map_err(|error| document::kind_of(error).of_reference(reference))?,
            }
        };
        match found {
            Head::Nothing => Ok(None),
            Head::Found(descriptor) => Ok(Some(descriptor)),
            // Some registries know no HEAD, or do not say all that a descriptor needs.
            Head::Unclear => {
                let document = self.current_document(reference).await?;
                Ok(document.map(|document| document.descriptor()))
            }
        }
    }

    /// Fetches the manifest or index that `reference` leads to at its registry; `None` if to nothing.
    ///
    /// # Errors
    ///
    /// As [`Client::fetch_document`], which differs in that it asks mirrors first.
    pub async fn current_document(
        &self,
        reference: &Reference,
    ) -> Result<Option<Document>, ResolveError> {
        match document::at_origin(self, reference).await {
            Ok(document) => Ok(Some(document)),
            Err(crate::ResolveErrorKind::NotFound) => Ok(None),
            Err(kind) => Err(kind.of_reference(reference)),
        }
    }

    /// Deletes the manifest or index with `reference`'s digest or, where it has none, its tag.
    /// Returns whether there was one.
    ///
    /// Registries differ: some delete tags, most only digests, and many nothing at all.
    ///
    /// # Errors
    ///
    /// The registry does not let us, does not do such things, or does not answer.
    pub async fn delete_manifest(&self, reference: &Reference) -> Result<bool, PushError> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_delete(reference).await {
                Ok(was_there) => return Ok(was_there),
                Err(error) => match backoff.wait(error).await {
                    Ok(()) => {}
                    Err(source) if does_not_delete(reference, &source) => {
                        return Err(PushErrorKind::DeleteUnsupported { source }.at(reference));
                    }
                    Err(source) => return Err(PushErrorKind::of(source).at(reference)),
                },
            }
        }
    }

    async fn try_head(&self, reference: &Reference) -> Result<Head, RequestError> {
        let endpoint = Endpoint::origin(self.connections(), reference).await?;
        let response = document::head(self, &endpoint, &name(reference)).await?;
        match response.status() {
            StatusCode::OK => Ok(described(&response).map_or(Head::Unclear, Head::Found)),
            StatusCode::NOT_FOUND => Ok(Head::Nothing),
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(Head::Unclear),
            _ => Err(response.into_error().await),
        }
    }

    async fn try_delete(&self, reference: &Reference) -> Result<bool, RequestError> {
        let endpoint = Endpoint::origin(self.connections(), reference).await?;
        let url = Target::named(endpoint.manifest(&name(reference)));
        let request = Request::new("delete manifest", Method::DELETE, url);
        let response = self
            .call(&endpoint, &endpoint.delete_scope(), &request)
            .await?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(response.into_error().await),
        }
    }
}

/// Returns whether the registry says that it does not do such things: many know only digests there,
/// and take a tag for a malformed one.
fn does_not_delete(reference: &Reference, error: &RequestError) -> bool {
    match error.status() {
        Some(StatusCode::METHOD_NOT_ALLOWED) => true,
        Some(StatusCode::BAD_REQUEST) => reference.digest().is_none(),
        _ => false,
    }
}

/// What the answer to a HEAD says.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment")]
enum Head {
    Nothing,
    Found(Descriptor),
    Unclear,
}

fn name(reference: &Reference) -> String {
    match reference.digest() {
        Some(digest) => digest.to_string(),
        None => reference.tag().unwrap_or("latest").to_owned(),
    }
}

fn described(response: &Response) -> Option<Descriptor> {
    let digest = document::content_digest(response)?;
    let media_type: MediaType = document::media_type(response)?;
    let is_known = media_type.is_manifest() || media_type.is_index();
    is_known.then(|| {
        response
            .length_bytes()
            .map(|size| Descriptor::new(media_type, digest, size))
    })?
}
