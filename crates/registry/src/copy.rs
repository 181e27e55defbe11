//! Copying between repositories: byte for byte, children before parents, nothing twice.
//!
//! ```text
//! there already? ─► taken over from a repository of the same registry? ─► fetched, verified, sent
//! ```
//!
//! A blob that has to pass through this machine is first written to a file without a name, so that
//! a connection that breaks on either side costs only what was under way, and the target never sees
//! a byte of what does not have its digest.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{Descriptor, Document, ImageSource, MediaType, Reference};

use crate::client::Client;
use crate::connections::blocking;
use crate::pull::{FetchError, MAX_DEPTH, ResolveError, ResolveErrorKind, document};
use crate::push::{PushError, PushErrorKind, Pushed};

/// Blobs that are under way at once.
const COPIES: usize = 4;

/// Where blobs wait that pass through this machine, and who is told of each.
pub struct Passage<'a> {
    /// A directory with room for a few of the largest layers.
    pub directory: PathBuf,
    /// Is called for every blob, when it is there.
    pub arrived: &'a (dyn Fn(&Descriptor, Pushed) + Send + Sync),
}

/// Why something was not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It is not to be had.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A blob of it is not to be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It does not get to where it should.
    #[error("pushing {0}")]
    Push(#[from] PushError),
    /// There is no place for what is under way.
    #[error("cannot make a file in {}: {source}", directory.display())]
    Spool {
        /// Where.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl CopyError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Resolve(error) => error.help(),
            Self::Fetch(error) => error.help(),
            Self::Push(error) => error.help(),
            Self::Spool { .. } => None,
        }
    }
}

impl Client {
    /// Copies what `from` names, whole and byte for byte, to `to`; returns its document.
    ///
    /// The tag of `to` is set last, so that an error leaves it as it was.
    ///
    /// # Errors
    ///
    /// Something is not to be had, is not what its digest says, or is not accepted.
    pub async fn copy_image(
        &self,
        from: &ImageSource,
        to: &Reference,
        passage: &Passage<'_>,
    ) -> Result<Document, CopyError> {
        let document = self.fetch_document(from).await?;
        self.copy_content(from, &document, to, passage).await?;
        self.push_manifest(to, document.bytes().to_vec(), &document.media_type())
            .await?;
        Ok(document)
    }

    /// Copies everything that `document` refers to, but not itself, from the repository or layout of
    /// `from` to the repository of `to`. Foreign layers, which their owners serve, stay away.
    ///
    /// # Errors
    ///
    /// As [`Client::copy_image`].
    pub async fn copy_content(
        &self,
        from: &ImageSource,
        document: &Document,
        to: &Reference,
        passage: &Passage<'_>,
    ) -> Result<(), CopyError> {
        // Of each level the members; those that lie deeper are put first.
        let mut levels: Vec<Vec<Document>> = Vec::new();
        let mut blobs: Vec<Descriptor> = Vec::new();
        let mut level = vec![document.clone()];
        while !level.is_empty() {
            if levels.len() > MAX_DEPTH {
                return Err(ResolveErrorKind::TooDeep.of(from).into());
            }
            let mut members: Vec<Descriptor> = Vec::new();
            for document in &level {
                match document {
                    Document::Index(index) => members.extend(index.value().manifests.clone()),
                    Document::Manifest(manifest) => {
                        let manifest = manifest.value();
                        blobs.push(manifest.config.clone());
                        blobs.extend(manifest.layers.iter().cloned());
                    }
                }
            }
            once_each(&mut members);
            let next = stream::iter(&members)
                .map(|entry| document::described(self, from, entry))
                .buffered(COPIES)
                .try_collect::<Vec<_>>()
                .await
                .map_err(|kind| kind.of(from))?;
            levels.push(std::mem::replace(&mut level, next));
        }
        blobs.retain(|blob| !matches!(blob.media_type, MediaType::ForeignLayer(..)));
        once_each(&mut blobs);
        stream::iter(&blobs)
            .map(async |blob| {
                let pushed = self.copy_blob(from, blob, to, passage).await?;
                (passage.arrived)(blob, pushed);
                Ok::<(), CopyError>(())
            })
            .buffer_unordered(COPIES)
            .try_collect::<()>()
            .await?;
        for members in levels.iter().skip(1).rev() {
            stream::iter(members)
                .map(async |member| {
                    let at = to.at_digest(member.digest());
                    let bytes = member.bytes().to_vec();
                    self.push_manifest(&at, bytes, &member.media_type()).await
                })
                .buffer_unordered(COPIES)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }

    /// Puts a blob of the repository or layout of `from` into the repository of `to`.
    ///
    /// # Errors
    ///
    /// As [`Client::copy_image`].
    pub async fn copy_blob(
        &self,
        from: &ImageSource,
        blob: &Descriptor,
        to: &Reference,
        passage: &Passage<'_>,
    ) -> Result<Pushed, CopyError> {
        let mount_from = match from {
            ImageSource::Registry(from) if from.registry() == to.registry() => {
                Some(from.repository())
            }
            ImageSource::Registry(_) | ImageSource::Layout { .. } => None,
        };
        let absent = || Err(io::Error::from(io::ErrorKind::NotFound));
        match self.push_blob(to, blob, absent, mount_from).await {
            Ok(pushed) => return Ok(pushed),
            // It has to pass through here.
            Err(PushError {
                kind: PushErrorKind::Open { .. },
                ..
            }) => {}
            Err(error) => return Err(error.into()),
        }
        let directory = passage.directory.clone();
        let spool = blocking(move || tempfile::tempfile_in(directory)).await;
        let spool = spool.map_err(|source| CopyError::Spool {
            directory: passage.directory.clone(),
            source,
        })?;
        let spool = Arc::new(self.fetch_blob(from, blob, spool).await?);
        let open = move || spool.try_clone();
        Ok(self.push_blob(to, blob, open, None).await?)
    }
}

fn once_each(descriptors: &mut Vec<Descriptor>) {
    let mut seen = std::collections::BTreeSet::new();
    descriptors.retain(|descriptor| seen.insert(descriptor.digest));
}
