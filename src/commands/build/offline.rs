//! What an offline build lacks: found out before the first step, all of it at once.

use std::collections::BTreeSet;

use dockerfile::Span;
use exporter::Output;
use graph::op::{CopyItem, ImageOp, Op};
use graph::{Graph, VertexId};
use oci::ImageSource;
use solver::Remotes;
use store::{LayerId, Store};

/// Something that would have to come from elsewhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum Missing {
    #[error("the build is offline, and the store has {there} of the {wanted} layers of {image}")]
    Layers {
        image: String,
        there: usize,
        wanted: usize,
    },
    #[error("the build is offline, and the store does not have {url}")]
    Download { url: String },
    #[error("the build is offline, and the store does not know {repository}")]
    Commit { repository: String },
}

impl Missing {
    pub(super) const HELP: &str = "build once without --offline";
}

/// Who reads base layers at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shipped {
    /// An image, which has them as they came.
    Blobs,
    /// Nobody, or somebody to whom their files are enough.
    Files,
}

impl Shipped {
    pub(super) fn by(outputs: &[Output]) -> Self {
        let is_enough = |output: &Output| matches!(output, Output::Files(_) | Output::CacheOnly);
        match !outputs.is_empty() && outputs.iter().all(is_enough) {
            true => Self::Files,
            false => Self::Blobs,
        }
    }
}

/// Returns what the store lacks of what `graph` reads, and where it is asked for. Blocks.
pub(super) fn missing(
    graph: &Graph,
    shipped: Shipped,
    store: &Store,
    remotes: &Remotes,
) -> Vec<(Span, Missing)> {
    let shipped = match shipped {
        Shipped::Blobs => bases(graph),
        Shipped::Files => BTreeSet::new(),
    };
    let mut missing = Vec::new();
    for vertex in &graph.vertices {
        let found = match &vertex.op {
            Op::Image(image) => layers(image, shipped.contains(&vertex.id), store),
            Op::Copy(copy) => copy.items.iter().find_map(|item| source(item, remotes)),
            Op::Run(_) | Op::MakeDirectory(_) => None,
        };
        missing.extend(found.map(|missing| (vertex.span, missing)));
    }
    missing
}

/// The base images that the results start with.
fn bases(graph: &Graph) -> BTreeSet<VertexId> {
    let vertices = graph.by_id();
    let mut bases = BTreeSet::new();
    for image in &graph.images {
        let mut next = image.root;
        while let Some(id) = next {
            bases.insert(id);
            next = vertices.get(&id).and_then(|vertex| vertex.op.root());
        }
    }
    bases
}

fn layers(image: &ImageOp, as_blobs: bool, store: &Store) -> Option<Missing> {
    let is_there = |layer: &&oci::BaseLayer| {
        store.content().contains(&layer.descriptor.digest)
            || !as_blobs
                && store
                    .layers()
                    .contains(&LayerId::of_diff_id(&layer.diff_id))
    };
    // What lies in a directory can be had without a network.
    let remote = image
        .layers
        .iter()
        .filter(|layer| matches!(layer.source, ImageSource::Registry(_)));
    let first = remote.clone().next()?;
    let (there, wanted) = (remote.clone().filter(is_there).count(), remote.count());
    (there < wanted).then(|| Missing::Layers {
        image: first.source.to_string(),
        there,
        wanted,
    })
}

fn source(item: &CopyItem, remotes: &Remotes) -> Option<Missing> {
    match item {
        CopyItem::Url { url, checksum } => {
            let is_there = remotes.has_download(url, checksum.as_deref());
            (!is_there).then(|| Missing::Download {
                url: registry::download::shown(url),
            })
        }
        CopyItem::Git(source) => (!remotes.has_commit(source)).then(|| Missing::Commit {
            repository: source.to_string(),
        }),
        CopyItem::Inline { .. } | CopyItem::Path { .. } => None,
    }
}
