//! Pulling: from a name to a verified image, and its blobs.

use std::io::Write;

use oci::{BaseImage, Descriptor, Document, ImageSource, Platform};

use crate::client::Client;

/// One platform's image as a name led to it.
#[derive(Clone, Debug)]
pub struct ResolvedImage {
    /// Its config and layers, and where they are fetched from.
    pub image: BaseImage,
    /// What it runs on, normalised: as the index says, or the config where no index does.
    pub platform: Platform,
}

/// Why a name does not lead to an image.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {}

impl ResolveError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        None
    }
}

/// Why a blob was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {}

impl FetchError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        None
    }
}

impl Client {
    /// Finds the image for `wanted` that `source` names, and fetches and verifies its manifest and
    /// config, but no layer.
    ///
    /// Of an index the first fitting entry is taken (`dockerfile.md` §15.3). A name that leads to a
    /// single manifest gives that one whatever its platform: the caller judges. A name leads to the
    /// same manifest or index as long as the client lives, so that all platforms of one build are
    /// of one image.
    ///
    /// # Errors
    ///
    /// The image does not exist, is not for `wanted`, is not an image, is not what its digest says,
    /// or the registry does not answer.
    pub async fn resolve(
        &self,
        source: &ImageSource,
        wanted: &Platform,
    ) -> Result<ResolvedImage, ResolveError> {
        let _ = (source, wanted);
        todo!()
    }

    /// Fetches the manifest or index that `source` names, as it is now.
    ///
    /// # Errors
    ///
    /// Those of [`Client::resolve`] that concern the document itself.
    pub async fn fetch_document(&self, source: &ImageSource) -> Result<Document, ResolveError> {
        let _ = source;
        todo!()
    }

    /// Writes `blob` to `sink` and returns the sink once all of it is there and verified.
    ///
    /// A connection that breaks is taken up again where it broke. The sink is written to on a
    /// thread of its own, in pieces; on an error, or when the future is dropped, so is the sink.
    ///
    /// # Errors
    ///
    /// No mirror nor the registry has the blob, its size or digest is wrong, or the sink fails.
    pub async fn fetch_blob<W: Write + Send + 'static>(
        &self,
        source: &ImageSource,
        blob: &Descriptor,
        sink: W,
    ) -> Result<W, FetchError> {
        let _ = (source, blob, sink);
        todo!()
    }
}
