//! Delivery: everything is staged where nobody sees it, then published.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::{BaseLayer, Descriptor, Digest, Platform, Reference};
use registry::PushError;
use store::images::ImagesError;
use store::layer::compress::LevelError;
use store::layer::{ExportError, UnpackError};
use store::{ExportOptions, LayerId, Snapshot, Store};

use crate::archive::{StagedArchive, WriteError};
use crate::assemble::{AssembleError, Assembled, Listing, Recipe};
use crate::blocking::blocking;
use crate::check::{CheckError, check};
use crate::engine::{Engine, EngineError};
use crate::event::{Event, Events, Task};
use crate::files::{FilesError, StagedFiles, Tree, Trees};
use crate::image::Image;
use crate::oci_layout::Layout;
use crate::output::{Archive, Encoding, Files, ImageOutput, Output, Times};
use crate::pack::Pack;
use crate::push::{Push, Tags};
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
    /// The engine that images are loaded into, where an output asks for that.
    pub engine: Option<Engine>,
    /// Threads that pack and compress.
    pub jobs: NonZeroUsize,
}

impl Request {
    /// Returns how every new layer is going to be packed; `None` where the outputs differ in that, or
    /// nothing is packed at all.
    pub fn packing(&self) -> Option<ExportOptions> {
        let mut ways = Vec::new();
        for output in self.outputs() {
            match &output {
                Output::Oci(_) | Output::Docker(_) | Output::Load(_) | Output::Image(_) => {
                    ways.push(self.packing_of(&output)?);
                }
                // It reads the files of every layer.
                Output::Files(_) => return None,
                Output::CacheOnly => {}
            }
        }
        let first = ways.pop()?;
        ways.iter().all(|other| *other == first).then_some(first)
    }

    /// Returns how one output wants new layers packed, if it does.
    pub(crate) fn packing_of(&self, output: &Output) -> Option<ExportOptions> {
        let encoding = output.encoding()?;
        Some(ExportOptions {
            encoding: encoding.of_layers().ok()?,
            mtime_max: encoding.mtime_max(self),
            threads: self.jobs,
        })
    }

    /// Returns the outputs, those that nobody asked for included.
    pub(crate) fn outputs(&self) -> Vec<Output> {
        match self.outputs.as_slice() {
            [] => vec![Output::local_store()],
            outputs => outputs.to_vec(),
        }
    }
}

impl Encoding {
    /// Returns the latest time that a file of a new layer may have, if there is a limit.
    pub(crate) fn mtime_max(&self, request: &Request) -> Option<i64> {
        match self.times {
            Times::Clamp => self.epoch.or(request.source_date_epoch),
            Times::Keep => None,
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
    /// Plain files could not be written.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// An engine did not take the image.
    #[error(transparent)]
    Engine(#[from] EngineError),
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
            Self::Files(error) => error.help(),
            Self::Engine(error) => error.help(),
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
        request,
    };
    let mut assembled: BTreeMap<Wanted, Assembled> = BTreeMap::new();
    for wanted in outputs
        .iter()
        .filter_map(|output| wanted(output, images, request))
    {
        if let Entry::Vacant(entry) = assembled.entry(wanted) {
            let documents = assemble(&pack, request, entry.key()).await?;
            entry.insert(documents);
        }
    }
    let of_output = |output: &'_ Output| assembled.get(&wanted(output, images, request)?);
    let mut staged = try_join_all(outputs.iter().map(async |output| {
        let delivery = Delivery {
            store,
            client,
            images,
            request,
            names: output.names().unwrap_or(&request.names),
            fetch: &fetch,
        };
        delivery.stage(output, of_output(output)).await
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

/// What is assembled: outputs that want the same share it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    encoding: Encoding,
    /// The one image that it is of; `None` is all of them.
    only: Option<usize>,
}

fn wanted(output: &Output, images: &[Image], request: &Request) -> Option<Wanted> {
    let is_listed = images.len() > 1 || request.multi_platform;
    let only = match output {
        // An engine has one platform under a name.
        Output::Load(_) => is_listed.then(|| loaded(images)),
        Output::Oci(_)
        | Output::Docker(_)
        | Output::Image(_)
        | Output::Files(_)
        | Output::CacheOnly => None,
    };
    output
        .encoding()
        .cloned()
        .map(|encoding| Wanted { encoding, only })
}

/// Returns which image an engine on this machine is given: the one it can run best, else the first.
fn loaded(images: &[Image]) -> usize {
    let native = Platform::native();
    let rank = |image: &Image| image.platform.rank_for(&native);
    let fitting = images
        .iter()
        .enumerate()
        .filter(|(_, image)| rank(image).is_some());
    fitting
        .min_by_key(|(_, image)| rank(image))
        .map_or(0, |(n, _)| n)
}

async fn assemble<F, E>(
    pack: &Pack<'_, F>,
    request: &Request,
    wanted: &Wanted,
) -> Result<Assembled, DeliverError>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let encoding = &wanted.encoding;
    let images = match wanted.only {
        Some(n) => pack.images.get(n..=n).unwrap_or_default(),
        None => pack.images,
    };
    let pack = Pack { images, ..*pack };
    let packed = pack.run(encoding).await?;
    let converted = pack.convert(encoding).await?;
    let recipe = Recipe {
        encoding,
        converted: &converted,
        listing: match (request.multi_platform, wanted.only) {
            (true, None) => Listing::Always,
            (_, _) => Listing::WhereSeveral,
        },
        epoch: encoding.epoch.or(request.source_date_epoch),
    };
    let assembled = Assembled::new(images, &packed, recipe)?;
    for document in assembled.documents() {
        (pack.events)(Event::Assembled {
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

    /// Makes sure that one layer is unpacked.
    pub(crate) async fn unpacked(&self, layer: &BaseLayer) -> Result<(), DeliverError> {
        if !self
            .store
            .layers()
            .contains(&LayerId::of_diff_id(&layer.diff_id))
        {
            self.layer(layer).await?;
            let (layers, layer) = (self.store.layers(), layer.clone());
            blocking(move || layers.unpack(&layer)).await?;
        }
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
    images: &'a [Image],
    request: &'a Request,
    names: &'a [Reference],
    fetch: &'a Fetch<'a, F>,
}

/// An output of which everything is done but to make it visible.
enum Staged<'a, F> {
    Nothing,
    Files(StagedFiles),
    Archive(StagedArchive),
    Load {
        engine: Engine,
        platform: Platform,
        of_several: bool,
        layout: Layout,
    },
    Image {
        /// What the store calls it.
        keep: Option<(&'a Assembled, Vec<Reference>)>,
        push: Option<Push<'a, F>>,
    },
}

impl<'a, F, E> Delivery<'a, F>
where
    F: AsyncFn(&BaseLayer) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    async fn stage(
        self,
        output: &Output,
        assembled: Option<&'a Assembled>,
    ) -> Result<Staged<'a, F>, DeliverError> {
        let Some(assembled) = assembled else {
            return match output {
                Output::Files(files) => self.files(files).await.map(Staged::Files),
                Output::Oci(_)
                | Output::Docker(_)
                | Output::Load(_)
                | Output::Image(_)
                | Output::CacheOnly => Ok(Staged::Nothing),
            };
        };
        match output {
            Output::Oci(archive) => {
                let layout = Layout::new(assembled, self.names)?;
                let staged = self.archive(assembled, layout, archive).await;
                staged.map(Staged::Archive)
            }
            Output::Docker(archive) => {
                let layout = docker_archive::layout(assembled, self.names)?;
                let staged = self.archive(assembled, layout, archive).await;
                staged.map(Staged::Archive)
            }
            Output::Load(_) => {
                self.fetch.all(assembled).await?;
                let no_engine = || EngineError::None {
                    answers: Vec::new(),
                };
                Ok(Staged::Load {
                    engine: self.request.engine.clone().ok_or_else(no_engine)?,
                    platform: assembled.images[0].platform.clone(),
                    of_several: self.images.len() > 1,
                    layout: docker_archive::layout(assembled, self.names)?,
                })
            }
            Output::Image(image) => self.image(assembled, image).await,
            Output::Files(_) | Output::CacheOnly => Ok(Staged::Nothing),
        }
    }

    async fn files(&self, files: &Files) -> Result<StagedFiles, DeliverError> {
        for image in self.images {
            for layer in image.base.iter().flat_map(|base| &base.layers) {
                self.fetch.unpacked(layer).await?;
            }
        }
        let tree = |image: &Image| Tree {
            platform: image.platform.normalized(),
            snapshot: Snapshot {
                layers: image.below(image.layers.len()),
            },
        };
        let is_several = self.images.len() > 1 || self.request.multi_platform;
        let trees = Trees {
            layers: self.store.layers(),
            trees: self.images.iter().map(tree).collect(),
            split: files.split.unwrap_or(is_several),
            epoch: files.epoch.or(self.request.source_date_epoch),
        };
        let events = self.fetch.events;
        let dest = files.dest.clone();
        let path = dest.path().to_owned();
        events(Event::Started(Task::Write { dest: &path }));
        let (staged, left_out) = blocking(move || StagedFiles::write(trees, dest)).await?;
        for path in &left_out {
            events(Event::LeftOut { path });
        }
        events(Event::Finished(Task::Write { dest: &path }));
        Ok(staged)
    }

    async fn image(
        &self,
        assembled: &'a Assembled,
        image: &ImageOutput,
    ) -> Result<Staged<'a, F>, DeliverError> {
        let keep = image
            .keeps()
            .then(|| (assembled, local_store::names(image, self.names, assembled)));
        if keep.is_some() {
            self.fetch.all(assembled).await?;
            let (store, assembled) = (self.store.clone(), assembled.clone());
            blocking(move || local_store::stage(&store, &assembled)).await?;
        }
        let push = image.push.then_some(Push {
            store: self.store,
            client: self.client,
            assembled,
            names: self.names,
            tags: match image.by_digest {
                true => Tags::None,
                false => Tags::All,
            },
            fetch: self.fetch,
            events: self.fetch.events,
        });
        if let Some(push) = &push {
            push.stage().await?;
        }
        Ok(Staged::Image { keep, push })
    }

    async fn archive(
        &self,
        assembled: &Assembled,
        layout: Layout,
        archive: &Archive,
    ) -> Result<StagedArchive, DeliverError> {
        self.fetch.all(assembled).await?;
        let dest = archive.dest.clone();
        let path = dest.path().to_owned();
        let events = self.fetch.events;
        events(Event::Started(Task::Write { dest: &path }));
        let content = self.store.content().clone();
        let staged = blocking(move || StagedArchive::write(layout, dest, content)).await?;
        events(Event::Finished(Task::Write { dest: &path }));
        Ok(staged)
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
            Self::Nothing | Self::Archive(_) | Self::Files(_) => 0,
            Self::Image { push: None, .. } => 1,
            Self::Load { .. } => 2,
            Self::Image { push: Some(_), .. } => 3,
        }
    }

    async fn publish(self, store: &Store, events: &Events) -> Result<(), DeliverError> {
        match self {
            Self::Nothing => {}
            Self::Files(files) => blocking(move || files.publish()).await?,
            Self::Archive(archive) => blocking(move || archive.publish()).await?,
            Self::Load {
                engine,
                platform,
                of_several,
                layout,
            } => {
                let name = engine.name();
                let task = Task::Load { engine: name };
                events(Event::Started(task.clone()));
                let content = store.content().clone();
                let write = move |mut input: &mut dyn Write, name: &Path| {
                    layout.write_tar(&content, &mut input, name)
                };
                let said = blocking(move || engine.load(write)).await??;
                events(Event::Loaded {
                    engine: name,
                    platform: &platform,
                    of_several,
                    said: &said,
                });
                events(Event::Finished(task));
            }
            Self::Image { keep, push } => {
                if let Some((assembled, names)) = keep {
                    if names.is_empty() {
                        let listed = local_store::listed(assembled);
                        let images = store.images();
                        blocking(move || images.add_unnamed(listed)).await?;
                    }
                    for name in &names {
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
