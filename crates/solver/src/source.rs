//! Sources: base layers, from their registry or layout to the store.
//!
//! ```text
//! registry ─► digest ─► file ─┬─► blob, once size and digest are right
//!                             └─► read back ─► inflate ─► diff ID ─► tree ─► layer, once both digests are
//! ```

use oci::{BaseLayer, Digest};
use registry::{Client, FetchError, LayoutError};
use store::content::CommitError;
use store::layer::UnpackError;
use store::{BlobWriter, DiskError, LayerId, Store};

use crate::execute::blocking;

/// How many layers are worth being fetched and unpacked at once: what waits for the disk takes memory
/// for each.
pub const LAYERS_AT_ONCE: usize = 6;

/// Why the blob of a base layer is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchLayerError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not what the manifest says.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store cannot be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl FetchLayerError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.help(),
            Self::Commit(CommitError::Disk(error)) | Self::Disk(error) => error.help(),
            Self::Commit(CommitError::Size { .. } | CommitError::Digest { .. }) => None,
        }
    }
}

/// Why a base layer is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackLayerError {
    /// Its blob cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchLayerError),
    /// What is in it cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

impl UnpackLayerError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.help(),
            Self::Unpack(error) => error.help(),
        }
    }
}

/// Makes sure that `layer` is unpacked; what is not in the store is fetched, and unpacked meanwhile.
///
/// # Errors
///
/// Those of [`fetch`]; or the blob is not a layer, or not the one that the image's config names.
pub async fn unpack(
    store: &Store,
    client: &Client,
    layer: &BaseLayer,
    progress: impl Fn(Digest, u64) + Send + 'static,
) -> Result<LayerId, UnpackLayerError> {
    let id = LayerId::of_diff_id(&layer.diff_id);
    if store.layers().contains(&id) {
        return Ok(id);
    }
    if !store.content().contains(&layer.descriptor.digest) {
        let mut writer = store.content().writer().map_err(FetchLayerError::from)?;
        let arriving = writer.arriving().map_err(FetchLayerError::from)?;
        let (layers, unpacked) = (store.layers(), layer.clone());
        let unpacking = blocking(move || layers.unpack_arriving(&unpacked, arriving));
        let fetching = fetch_into(writer, store, client, layer, progress);
        // Both to their ends: a blob that is not what was announced is what went wrong, and not that it
        // could not be unpacked; and one that is stays in the store.
        let (fetched, unpacked) = tokio::join!(fetching, unpacking);
        fetched?;
        unpacked?;
    }
    // What was not unpacked meanwhile.
    let (layers, layer) = (store.layers(), layer.clone());
    Ok(blocking(move || layers.unpack(&layer)).await?)
}

/// Makes sure that the blob of `layer` is in the store; `progress` is told how much of it arrived.
///
/// # Errors
///
/// It cannot be had, is not what the manifest says, or the store cannot be written.
pub async fn fetch(
    store: &Store,
    client: &Client,
    layer: &BaseLayer,
    progress: impl Fn(Digest, u64) + Send + 'static,
) -> Result<(), FetchLayerError> {
    let blob = &layer.descriptor;
    if store.content().contains(&blob.digest) {
        return Ok(());
    }
    let writer = store.content().writer()?;
    fetch_into(writer, store, client, layer, progress).await
}

async fn fetch_into(
    writer: BlobWriter,
    store: &Store,
    client: &Client,
    layer: &BaseLayer,
    progress: impl Fn(Digest, u64) + Send + 'static,
) -> Result<(), FetchLayerError> {
    let blob = &layer.descriptor;
    let sink = Counted {
        writer,
        digest: blob.digest,
        progress,
    };
    let fetched = client.fetch_blob(&layer.source, blob, sink).await;
    let sink = fetched.map_err(|error| match error {
        FetchError::Sink { source, .. } | FetchError::Layout(LayoutError::Sink { source }) => {
            not_written(store, blob.digest, source)
        }
        error @ (FetchError::Request { .. }
        | FetchError::ForeignLayer { .. }
        | FetchError::Size { .. }
        | FetchError::Digest { .. }
        | FetchError::Layout(_)) => FetchLayerError::Fetch(error),
    })?;
    let blob = blob.clone();
    blocking(move || sink.writer.commit_expecting(&blob)).await?;
    Ok(())
}

/// What could not be written is a file of the store, whose own error says which, and what helps.
fn not_written(store: &Store, blob: Digest, error: std::io::Error) -> FetchLayerError {
    let error = error.downcast::<DiskError>();
    FetchLayerError::Disk(error.unwrap_or_else(|source| DiskError {
        doing: "writing",
        path: store.content().path(&blob),
        source,
    }))
}

/// A blob being written that tells how large it is.
struct Counted<F> {
    writer: BlobWriter,
    digest: Digest,
    progress: F,
}

impl<F: Fn(Digest, u64)> std::io::Write for Counted<F> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let length = self.writer.write(bytes)?;
        (self.progress)(self.digest, self.writer.size_bytes());
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.writer.flush()
    }
}
