//! What the commands that work on finished images share: a store, a client, and someone who watches.
//!
//! None of them enters a namespace: they handle blobs and documents, never the files of a layer.

use std::collections::BTreeSet;

use exporter::contents::{Contents, ContentsError};
use exporter::event::{Event, Task};
use exporter::index::{self, IndexError, IndexPlan};
use exporter::transfer::{Transfer, TransferError};
use oci::{Descriptor, Document, ImageSource, MediaType, Platform, Reference};
use registry::{Client, Network, Pushed};
use store::Store;

use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::setup;
use crate::ui;
use crate::ui::report::Failure;
use crate::ui::units;

/// The store and the client.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) store: Store,
    pub(crate) client: Client,
}

/// Which images of an index are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Platforms {
    /// All of them, and what is said of them.
    All,
    /// Those for exactly these platforms.
    These(Vec<Platform>),
    /// The one that fits this platform best.
    Best(Platform),
}

/// An image with the entry that a list of images has of it.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) contents: Contents,
    pub(crate) listed: Descriptor,
}

impl Read {
    pub(crate) fn of_index(contents: Contents) -> Self {
        let listed = contents.top.descriptor();
        Self { contents, listed }
    }
}

impl Platforms {
    /// These, or all where none is named.
    pub(crate) fn these_or_all(platforms: &[Platform]) -> Self {
        match platforms {
            [] => Self::All,
            these => Self::These(these.to_vec()),
        }
    }
}

/// What is said of what is carried around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// A line for each blob that moved and each name that was given.
    Plain,
    /// Nothing.
    Quiet,
}

impl Tools {
    /// Opens the store; of the registries of `insecure` no certificates are asked for.
    pub(crate) fn open<'r>(
        global: &GlobalArgs,
        environment: &Environment,
        insecure: impl IntoIterator<Item = &'r Reference>,
    ) -> Result<Self, Failure> {
        let insecure: BTreeSet<&str> = insecure.into_iter().map(Reference::registry).collect();
        Ok(Self {
            client: setup::client_without_certificates(environment, &insecure, Network::Open)?,
            store: setup::open_store(&setup::store_root(global, environment)?)?,
        })
    }

    /// Reads an image, or of it the images of these platforms. A single one of an index is no index
    /// any more, as with Docker.
    pub(crate) async fn read(
        &self,
        source: &ImageSource,
        platforms: &Platforms,
    ) -> Result<Read, Failure> {
        let index_failure = |error: IndexError| Failure::new(&error, error.help());
        let contents_failure = |error: ContentsError| Failure::new(&error, error.help());
        let contents = match platforms {
            Platforms::All => Contents::read(&self.client, source).await,
            Platforms::These(_) | Platforms::Best(_) => {
                let mut plan = IndexPlan::default();
                let members = index::members(&self.client, source).await;
                plan.add(members.map_err(contents_failure)?);
                let all = plan.members.len();
                match platforms {
                    Platforms::Best(wanted) => plan.keep_best(wanted),
                    Platforms::These(wanted) => plan.keep_platforms(wanted),
                    Platforms::All => Ok(()),
                }
                .map_err(index_failure)?;
                let mut images = plan.images();
                match (images.next(), images.next()) {
                    _ if plan.members.len() == all && all > 1 => {
                        Contents::read(&self.client, source).await
                    }
                    (Some(only), None) => {
                        let only = only.source.with_digest(only.descriptor.digest);
                        Contents::read(&self.client, &only).await
                    }
                    _ => {
                        return Ok(Read::of_index(
                            plan.contents(&self.client).await.map_err(index_failure)?,
                        ));
                    }
                }
            }
        }
        .map_err(contents_failure)?;
        let mut listed = contents.top.descriptor();
        if let Document::Manifest(manifest) = &contents.top {
            let config = &manifest.value().config;
            if matches!(config.media_type, MediaType::Config(_)) {
                let config = self.client.fetch_config(source, config).await;
                let config = config.map_err(|error| Failure::new(&error, error.help()))?;
                listed.platform = Some(config.value().platform().normalized());
            }
        }
        Ok(Read { contents, listed })
    }

    /// Returns who carries images around.
    pub(crate) fn transfer(&self, talk: Talk) -> Transfer<'_> {
        Transfer {
            store: &self.store,
            client: &self.client,
            events: match talk {
                Talk::Plain => &tell,
                Talk::Quiet => &|_| {},
            },
        }
    }
}

/// Turns what a transfer says into a failure.
pub(crate) fn not_carried(error: TransferError) -> Failure {
    Failure::new(&error, error.help())
}

fn tell(event: Event<'_>) {
    match event {
        Event::Blob {
            repository,
            digest,
            size_bytes,
            pushed,
        } => {
            let how = match pushed {
                Pushed::Existed => "exists",
                Pushed::Mounted => "mounted",
                Pushed::Uploaded => "pushed",
            };
            let size = units::bytes(size_bytes);
            ui::say(&format!("{how} {digest} ({size}) {repository}\n"));
        }
        Event::Finished(Task::Fetch { digest }) => ui::say(&format!("fetched {digest}\n")),
        Event::Finished(Task::PushManifest { reference, digest }) => {
            if reference.digest().is_none() {
                ui::say(&format!("pushed {digest} as {}\n", reference.familiar()));
            }
        }
        Event::Started(_)
        | Event::Finished(_)
        | Event::Assembled { .. }
        | Event::LeftOut { .. }
        | Event::Loaded { .. } => {}
    }
}
