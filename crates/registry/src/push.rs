//! Pushing: blobs first, then what refers to them.

use std::fs::File;
use std::io;

use oci::{Descriptor, MediaType, Reference};

use crate::client::Client;

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
pub enum PushError {}

impl PushError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        None
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
        let _ = target;
        todo!()
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
        let _ = (target, blob);
        todo!()
    }

    /// Puts `blob` into the repository of `target`, unless it is there.
    ///
    /// It is taken from the repository `mount_from` of the same registry if the registry can do
    /// that, else sent from the file that `open` opens, which is called again for every try.
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
        let _ = (target, blob, open, mount_from);
        todo!()
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
        let _ = (target, bytes, media_type);
        todo!()
    }
}
