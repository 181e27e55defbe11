//! Delivery: everything is staged where nobody sees it, then published.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, Descriptor, Digest, Reference};
use registry::PushError;
use store::images::ImagesError;
use store::layer::compress::LevelError;
use store::layer::{ExportError, UnpackError};
use store::{ExportOptions, PackedLayer, Store};

use crate::archive::{StagedArchive, WriteError};
use crate::assemble::{AssembleError, Assembled, Listing};
use crate::blocking::blocking;
use crate::check::{CheckError, check};
use crate::event::{Event, Events, Task};
use crate::image::Image;
use crate::oci_layout::Layout;
use crate::output::{Archive, Encoding, Output};
use crate::pack::Pack;
use crate::push::Push;
use crate::{docker_archive, local_store};

/// Base layers that are fetched at once.
const FETCHES: usize = 4;

/// What the result is called and where it goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// The names of every output that has none of its own (`-t`).
    pub names: Vec<Reference>,
    /// Where it goes. None at all keeps it in the store.
    pub outputs: Vec<Output>,
    /// Seconds since 1970 that stand for all times of the build.
    pub source_date_epoch: Option<i64>,
    /// Whether there is an index for a single platform, too (`BUILDKIT_MULTI_PLATFORM`).
    pub multi_platform: bool,
    /// Whether standard output is a terminal; an archive is not written to one.
    pub stdout_is_terminal: bool,
    /// Threads that pack and compress.
    pub jobs: NonZeroUsize,
}

impl Request {
    /// Returns how every new layer is going to be packed; `None` where the outputs differ in that, or
    /// nothing is packed at all.
    pub fn packing(&self) -> Option<ExportOptions> {
        let mut encodings = BTreeSet::new();
        for output in self.outputs() {
            match output {
                Output::Oci(archive) | Output::Docker(archive) => {
                    encodings.insert(archive.encoding.of_layers().ok()?);
                }
                Output::Image(image) => {
                    encodings.insert(image.encoding.of_layers().ok()?);
                }
                Output::CacheOnly => {}
            }
        }
        let encoding = encodings.pop_first().filter(|_| encodings.is_empty())?;
        Some(ExportOptions {
            encoding,
            mtime_max: self.source_date_epoch,
            threads: self.jobs,
        })
    }

    /// Returns the outputs, those that nobody asked for included.
    fn outputs(&self) -> Vec<Output> {
        match self.outputs.as_slice() {
            [] => vec![Output::local_store()],
            outputs => outputs.to_vec(),
        }
    }
}

/// What was delivered: the image of the first output that makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Digest of the manifest or index.
    pub digest: Digest,
    /// Digest of the config, where there is a single platform and no index.
    pub config_digest: Option<Digest>,
    /// The manifest or index.
    pub descriptor: Descriptor,
    /// The names that it was given; none is an image that is known by its digest only.
    pub names: Vec<Reference>,
}

/// Why the result was not delivered. No name, tag or file was changed unless several had to be and
/// publishing an earlier one succeeded.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// An output is not possible.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// A layer could not be packed.
    #[error(transparent)]
    Pack(#[from] ExportError),
    /// The documents could not be made.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The compression has no such level.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// A base layer was not to be had.
    #[error("fetching layer {digest} of {origin}: {source}")]
    Fetch {
        /// The layer's blob.
        digest: Digest,
        /// The image that it belongs to.
        origin: oci::ImageSource,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An archive or directory could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A base layer that a new layer lies on could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// Something could not be put into a registry.
    #[error("pushing {0}")]
    Push(#[from] Box<PushError>),
    /// The list of named images could not be changed.
    #[error(transparent)]
    Name(#[from] ImagesError),
    /// The store's disk refused.
    #[error(transparent)]
    Disk(#[from] store::DiskError),
}

impl DeliverError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Push(error) => error.help(),
            Self::Disk(error) => error.help(),
            Self::Write(error) => error.help(),
            Self::Check(error) => error.help(),
            Self::Unpack(error) => error.help(),
            Self::Pack(ExportError::Disk(error)) | Self::Name(ImagesError::Disk(error)) => {
                error.help()
            }
            Self::Pack(_)
            | Self::Assemble(_)
            | Self::Level(_)
            | Self::Fetch { .. }
            | Self::Name(_) => None,
        }
    }
}

/// Delivers `images`, the platforms of one result in the order of the request.
///
/// `fetch` makes sure that the blob of a base layer is in the content store; it is called for the
/// layers that an output must contain, and for those that a registry does not have and cannot mount.
/// Returns `None` where no output makes an image.
///
/// Nothing is visible to others before all outputs are staged; then files come first, names in the
/// store second and tags last. Dropping the future leaves only what nothing refers to.
///
/// # Errors
///
/// An output is not possible, something could not be packed, fetched, written or pushed.
pub async fn deliver<F, E>(
    store: &Store,
    client: &registry::Client,
    images: &[Image],
    request: &Request,
    fetch: &F,
    events: &Events,
) -> Result<Option<Delivered>, DeliverError>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let platforms: Vec<oci::Platform> = images.iter().map(|i| i.platform.clone()).collect();
    check(request, &platforms)?;
    let outputs = request.outputs();
    let fetch = Fetch {
        store,
        fetch,
        events,
        turns: Mutex::default(),
    };
    let pack = Pack {
        store,
        images,
        fetch: &fetch,
        events,
        jobs: request.jobs,
        mtime_max: request.source_date_epoch,
    };
    let mut assembled: BTreeMap<Encoding, Assembled> = BTreeMap::new();
    for encoding in outputs.iter().filter_map(Output::encoding) {
        if let Entry::Vacant(entry) = assembled.entry(encoding) {
            let packed = pack.run(encoding.of_layers()?).await?;
            entry.insert(assemble(images, &packed, request, encoding, events)?);
        }
    }
    let of_output = |output: &'_ Output| output.encoding().and_then(|e| assembled.get(&e));
    let mut staged = try_join_all(outputs.iter().filter_map(|output| {
        let assembled = of_output(output)?;
        let delivery = Delivery {
            store,
            client,
            assembled,
            names: output.names().unwrap_or(&request.names),
            fetch: &fetch,
        };
        Some(delivery.stage(output))
    }))
    .await?;
    staged.sort_by_key(Staged::turn);
    for staged in staged {
        staged.publish(store, events).await?;
    }
    Ok(outputs.iter().find_map(|output| {
        let names = output.names().unwrap_or(&request.names);
        of_output(output).map(|assembled| delivered(assembled, names))
    }))
}

fn assemble(
    images: &[Image],
    packed: &[Vec<PackedLayer>],
    request: &Request,
    encoding: Encoding,
    events: &Events,
) -> Result<Assembled, AssembleError> {
    let listing = if request.multi_platform {
        Listing::Always
    } else {
        Listing::WhereSeveral
    };
    let epoch = request.source_date_epoch;
    let assembled = Assembled::new(images, packed, encoding.family, listing, epoch)?;
    for document in assembled.documents() {
        events(Event::Assembled {
            media_type: &document.descriptor.media_type,
            digest: document.descriptor.digest,
        });
    }
    Ok(assembled)
}

fn delivered(assembled: &Assembled, names: &[Reference]) -> Delivered {
    let config_digest = match (&assembled.index, assembled.images.as_slice()) {
        (None, [single]) => Some(single.config.descriptor.digest),
        _ => None,
    };
    Delivered {
        digest: assembled.top().descriptor.digest,
        config_digest,
        descriptor: assembled.listed(),
        names: names.to_vec(),
    }
}

/// Brings base layers into the store that are not there.
pub(crate) struct Fetch<'a, F> {
    store: &'a Store,
    fetch: &'a F,
    events: &'a Events,
    /// Platforms and outputs share layers; who comes second waits for the first.
    turns: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl<F, E> Fetch<'_, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Fetches one layer, unless it is there.
    pub(crate) async fn layer(&self, layer: &BaseLayer) -> Result<(), DeliverError> {
        let digest = layer.descriptor.digest;
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(digest).or_default())
        };
        let _turn = turn.lock().await;
        if self.store.content().contains(&digest) {
            return Ok(());
        }
        (self.events)(Event::Started(Task::Fetch { digest }));
        (self.fetch)(layer)
            .await
            .map_err(|source| DeliverError::Fetch {
                digest,
                origin: layer.source.clone(),
                source: source.into(),
            })?;
        (self.events)(Event::Finished(Task::Fetch { digest }));
        Ok(())
    }

    async fn all(&self, assembled: &Assembled) -> Result<(), DeliverError> {
        let layers = assembled.layers();
        stream::iter(layers.iter().filter_map(|layer| layer.base.as_ref()))
            .map(|layer| self.layer(layer))
            .buffer_unordered(FETCHES)
            .try_for_each(async |()| Ok(()))
            .await
    }
}

/// One output of a request.
struct Delivery<'a, F> {
    store: &'a Store,
    client: &'a registry::Client,
    assembled: &'a Assembled,
    names: &'a [Reference],
    fetch: &'a Fetch<'a, F>,
}

/// An output of which everything is done but to make it visible.
enum Staged<'a, F> {
    Nothing,
    Archive(StagedArchive),
    Image {
        keep: Option<(&'a Assembled, &'a [Reference])>,
        push: Option<Push<'a, F>>,
    },
}

impl<'a, F, E> Delivery<'a, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    async fn stage(self, output: &Output) -> Result<Staged<'a, F>, DeliverError> {
        match output {
            Output::Oci(archive) => {
                let layout = Layout::new(self.assembled, self.names)?;
                self.archive(layout, archive).await.map(Staged::Archive)
            }
            Output::Docker(archive) => {
                let layout = docker_archive::layout(self.assembled, self.names)?;
                self.archive(layout, archive).await.map(Staged::Archive)
            }
            Output::Image(image) => {
                let keep = image.keeps().then_some((self.assembled, self.names));
                if keep.is_some() {
                    self.fetch.all(self.assembled).await?;
                    let (store, assembled) = (self.store.clone(), self.assembled.clone());
                    blocking(move || local_store::stage(&store, &assembled)).await?;
                }
                let push = image.push.then(|| self.push());
                if let Some(push) = &push {
                    push.stage().await?;
                }
                Ok(Staged::Image { keep, push })
            }
            Output::CacheOnly => Ok(Staged::Nothing),
        }
    }

    async fn archive(
        &self,
        layout: Layout,
        archive: &Archive,
    ) -> Result<StagedArchive, DeliverError> {
        self.fetch.all(self.assembled).await?;
        let dest = archive.dest.clone();
        let path = dest.path().to_owned();
        let events = self.fetch.events;
        events(Event::Started(Task::Write { dest: &path }));
        let content = self.store.content().clone();
        let staged = blocking(move || StagedArchive::write(layout, dest, content)).await?;
        events(Event::Finished(Task::Write { dest: &path }));
        Ok(staged)
    }

    fn push(&self) -> Push<'a, F> {
        Push {
            store: self.store,
            client: self.client,
            assembled: self.assembled,
            names: self.names,
            fetch: self.fetch,
            events: self.fetch.events,
        }
    }
}

impl<F, E> Staged<'_, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    /// Returns when this is published: what can be taken back most easily comes first.
    fn turn(&self) -> u8 {
        match self {
            Self::Nothing | Self::Archive(_) => 0,
            Self::Image { push: None, .. } => 1,
            Self::Image { push: Some(_), .. } => 2,
        }
    }

    async fn publish(self, store: &Store, events: &Events) -> Result<(), DeliverError> {
        match self {
            Self::Nothing => {}
            Self::Archive(archive) => blocking(move || archive.publish()).await?,
            Self::Image { keep, push } => {
                if let Some((assembled, names)) = keep {
                    if names.is_empty() {
                        let listed = local_store::listed(assembled);
                        let images = store.images();
                        blocking(move || images.add_unnamed(listed)).await?;
                    }
                    for name in names {
                        let task = Task::Name {
                            reference: name,
                            digest: assembled.top().descriptor.digest,
                        };
                        events(Event::Started(task.clone()));
                        let listed = local_store::listed(assembled);
                        let (images, name) = (store.images(), name.clone());
                        blocking(move || images.set(&name, listed)).await?;
                        events(Event::Finished(task));
                    }
                }
                if let Some(push) = push {
                    push.publish().await?;
                }
            }
        }
        Ok(())
    }
}
