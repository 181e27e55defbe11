//! Delivery: everything is staged where nobody sees it, then published.

mod staged;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;

use futures_util::future::try_join_all;
use oci::{BaseLayer, Descriptor, Digest, Platform, Reference};
use registry::PushError;
use store::Store;
use store::images::ImagesError;
use store::layer::compress::LevelError;
use store::layer::{ExportError, UnpackError};

use crate::archive::WriteError;
use crate::assemble::{AssembleError, Assembled, Listing, Recipe};
use crate::check::{CheckError, check};
use crate::engine::EngineError;
use crate::event::{Event, Events};
use crate::fetch::Fetch;
use crate::files::FilesError;
use crate::image::Image;
use crate::output::{Encoding, Output};
use crate::pack::Pack;
use crate::request::Request;
use staged::{Delivery, Staged};

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
    let platforms: Vec<Platform> = images.iter().map(|i| i.platform.clone()).collect();
    check(request, &platforms)?;
    let outputs = request.outputs();
    let fetch = Fetch::new(store, fetch, events);
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
            events,
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
