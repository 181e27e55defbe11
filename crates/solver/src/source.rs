//! Sources: base layers, from their registry or layout to the store.

use oci::{BaseLayer, Digest};
use registry::{Client, FetchError, LayoutError};
use store::content::CommitError;
use store::{BlobWriter, DiskError, Store};

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
    crate::execute::blocking(move || sink.writer.commit_expecting(&blob)).await?;
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
