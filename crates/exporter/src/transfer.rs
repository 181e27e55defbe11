//! Images that exist already, from where they are to where they are wanted, byte for byte.
//!
//! A blob that goes to a registry is looked for there first, then mounted from its own repository if
//! that is of the same registry, and only then fetched and sent.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{Descriptor, Document, ImageSource, LayoutImage, Reference};
use registry::{Client, CopyError, FetchError, LayoutError, Passage, PushError};
use store::content::CommitError;
use store::images::ImagesError;
use store::{DiskError, Store};

use crate::archive::{StagedArchive, WriteError};
use crate::blocking::blocking;
use crate::contents::{Blob, Contents};
use crate::docker_archive;
use crate::event::{Event, Events, Task};
use crate::oci_layout::{Layout, Listed};
use crate::output::Dest;

/// Blobs that are on their way at once.
const TRANSFERS: usize = 4;

/// Carries images around.
#[derive(Clone, Copy)]
pub struct Transfer<'a> {
    /// Where images are kept, and where there is room for what is on its way.
    pub store: &'a Store,
    /// Who talks to registries and layouts.
    pub client: &'a Client,
    /// Who watches.
    pub events: &'a Events,
}

/// Why an image did not arrive. No name leads to what did.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A blob was not to be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A blob is not what its manifest says.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Something could not be put into a registry.
    #[error("pushing {0}")]
    Push(#[from] Box<PushError>),
    /// Something did not get from one registry to another.
    #[error(transparent)]
    Copy(#[from] Box<CopyError>),
    /// An archive or directory could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The list of images could not be changed.
    #[error(transparent)]
    Name(#[from] ImagesError),
    /// The store's disk refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl TransferError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Fetch(error) => error.help(),
            Self::Push(error) => error.help(),
            Self::Copy(error) => error.help(),
            Self::Write(error) => error.help(),
            Self::Commit(CommitError::Disk(error))
            | Self::Disk(error)
            | Self::Name(ImagesError::Disk(error)) => error.help(),
            Self::Commit(_) | Self::Name(_) => None,
        }
    }
}

/// An image that is to be written to an archive or directory.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What it consists of.
    pub contents: Contents,
    /// Its entry in the list of images, without a name.
    pub listed: Descriptor,
    /// Its names; none is an image that is known by its digest only.
    pub names: Vec<Reference>,
}

impl Transfer<'_> {
    /// Puts all of an image into the store and gives it its names, or lists it without one.
    ///
    /// # Errors
    ///
    /// Something of it is not to be had or not what its digest says, or the disk refused.
    pub async fn keep(
        &self,
        contents: &Contents,
        listed: Descriptor,
        names: &[Reference],
    ) -> Result<(), TransferError> {
        self.fetch_all(contents).await?;
        let content = self.store.content().clone();
        let documents: Vec<Vec<u8>> = documents(contents).map(|d| d.bytes().to_vec()).collect();
        blocking(move || {
            documents
                .iter()
                .try_for_each(|bytes| content.put(bytes).map(drop))
        })
        .await?;
        let (images, names) = (self.store.images(), names.to_vec());
        blocking(move || match names.as_slice() {
            [] => images.add_unnamed(listed),
            names => names
                .iter()
                .try_for_each(|name| images.set(name, listed.clone())),
        })
        .await?;
        Ok(())
    }

    /// Puts all of an image into registries: blobs first, the tags or digests of `targets` last.
    ///
    /// # Errors
    ///
    /// Something of it is not to be had, or a registry does not take it.
    pub async fn push(
        &self,
        contents: &Contents,
        targets: &[Reference],
    ) -> Result<(), TransferError> {
        // One name stands for each repository.
        let repositories: BTreeMap<String, &Reference> = targets
            .iter()
            .map(|target| (target.name(), target))
            .collect();
        let uploads = repositories.values().flat_map(|target| {
            let blobs = contents.blobs.values();
            blobs.map(move |blob| (*target, blob))
        });
        stream::iter(uploads)
            .map(|(target, blob)| self.upload(target, blob))
            .buffer_unordered(TRANSFERS)
            .try_for_each(async |()| Ok(()))
            .await?;
        for target in repositories.values() {
            for document in &contents.members {
                self.put(&target.at_digest(document.digest()), document)
                    .await?;
            }
        }
        // With several names, the first tag is not to be set before all registries accept the top.
        if targets.len() > 1 {
            for target in repositories.values() {
                let target = target.at_digest(contents.top.digest());
                self.put(&target, &contents.top).await?;
            }
        }
        for target in targets {
            self.put(target, &contents.top).await?;
        }
        Ok(())
    }

    /// Writes images into an OCI layout, or an archive that Docker reads as well where every image
    /// is of one platform.
    ///
    /// # Errors
    ///
    /// Something of them is not to be had, or the disk refused; then nothing is at `dest`.
    pub async fn write(&self, images: &[Saved], dest: Dest) -> Result<(), TransferError> {
        for image in images {
            self.fetch_all(&image.contents).await?;
        }
        let listed: Vec<Listed<'_>> = images
            .iter()
            .map(|image| Listed {
                contents: &image.contents,
                descriptor: &image.listed,
                names: &image.names,
            })
            .collect();
        let layout = Layout::holding(&listed).and_then(|mut layout| {
            if !matches!(dest, Dest::Directory(_)) {
                docker_archive::complete(&mut layout, &listed)?;
            }
            Ok(layout)
        });
        let layout = layout.map_err(|source| WriteError::Json {
            path: dest.path().to_owned(),
            source,
        })?;
        let content = self.store.content().clone();
        blocking(move || StagedArchive::write(layout, dest, content)?.publish()).await?;
        Ok(())
    }

    /// Brings the blobs into the store that are not there.
    pub async fn fetch_all(&self, contents: &Contents) -> Result<(), TransferError> {
        stream::iter(contents.blobs.values())
            .map(|blob| self.fetch(blob))
            .buffer_unordered(TRANSFERS)
            .try_for_each(async |()| Ok(()))
            .await
    }

    async fn fetch(&self, blob: &Blob) -> Result<(), TransferError> {
        let descriptor = blob.descriptor.clone();
        let digest = descriptor.digest;
        if self.store.content().contains(&digest) {
            return Ok(());
        }
        (self.events)(Event::Started(Task::Fetch { digest }));
        let content = self.store.content().clone();
        let writer = blocking(move || content.writer()).await?;
        let fetched = self.client.fetch_blob(&blob.source, &descriptor, writer);
        let writer = fetched.await.map_err(not_written)?;
        blocking(move || writer.commit_expecting(&descriptor)).await?;
        (self.events)(Event::Finished(Task::Fetch { digest }));
        Ok(())
    }

    async fn upload(&self, target: &Reference, blob: &Blob) -> Result<(), TransferError> {
        let repository = target.name();
        let Descriptor { digest, size, .. } = blob.descriptor;
        let task = Task::Upload {
            repository: &repository,
            digest,
            size_bytes: size,
        };
        (self.events)(Event::Started(task.clone()));
        let pushed = match self.path_of(blob) {
            Some(path) => {
                let open = move || File::open(&path);
                let mount_from = mountable(&blob.source, target);
                let pushed = self
                    .client
                    .push_blob(target, &blob.descriptor, open, mount_from);
                pushed.await.map_err(Box::new)?
            }
            None => {
                let passage = Passage {
                    directory: self.store.root().join("tmp"),
                    arrived: &|_, _| {},
                };
                let copied =
                    self.client
                        .copy_blob(&blob.source, &blob.descriptor, target, &passage);
                copied.await.map_err(Box::new)?
            }
        };
        (self.events)(Event::Blob {
            repository: &repository,
            digest,
            size_bytes: size,
            pushed,
        });
        (self.events)(Event::Finished(task));
        Ok(())
    }

    /// Where a blob is, if it is on this machine.
    fn path_of(&self, blob: &Blob) -> Option<PathBuf> {
        let digest = &blob.descriptor.digest;
        let content = self.store.content();
        match &blob.source {
            _ if content.contains(digest) => Some(content.path(digest)),
            ImageSource::Layout { directory, .. } => {
                Some(directory.join("blobs/sha256").join(digest.hex()))
            }
            ImageSource::Registry(_) => None,
        }
    }

    async fn put(&self, target: &Reference, document: &Document) -> Result<(), TransferError> {
        let task = Task::PushManifest {
            reference: target,
            digest: document.digest(),
        };
        (self.events)(Event::Started(task.clone()));
        let (bytes, media_type) = (document.bytes().to_vec(), document.media_type());
        let put = self.client.push_manifest(target, bytes, &media_type);
        put.await.map_err(Box::new)?;
        (self.events)(Event::Finished(task));
        Ok(())
    }
}

/// Returns where an image of the store is.
pub fn stored_at(store: &Store, image: &Descriptor) -> ImageSource {
    ImageSource::Layout {
        directory: store.root().to_owned(),
        image: LayoutImage::Digest(image.digest),
    }
}

/// The documents, what is referred to before what refers to it.
fn documents(contents: &Contents) -> impl Iterator<Item = &Document> {
    contents.members.iter().chain([&contents.top])
}

/// Returns the repository of the same registry that has the blob, if it is another one.
fn mountable<'a>(source: &'a ImageSource, target: &Reference) -> Option<&'a str> {
    match source {
        ImageSource::Registry(source)
            if source.registry() == target.registry()
                && source.repository() != target.repository() =>
        {
            Some(source.repository())
        }
        ImageSource::Registry(_) | ImageSource::Layout { .. } => None,
    }
}

/// What could not be written is a file of the store, whose own error says which, and what helps.
fn not_written(error: FetchError) -> TransferError {
    let (FetchError::Sink { source, .. } | FetchError::Layout(LayoutError::Sink { source })) =
        &error
    else {
        return error.into();
    };
    let kind = source.kind();
    match source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<DiskError>())
    {
        Some(disk) => DiskError {
            doing: disk.doing,
            path: disk.path.clone(),
            source: disk
                .source
                .raw_os_error()
                .map_or_else(|| kind.into(), std::io::Error::from_raw_os_error),
        }
        .into(),
        None => error.into(),
    }
}
