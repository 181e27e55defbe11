//! One output, first staged and then published.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use oci::{BaseLayer, Platform, Reference};
use store::{Snapshot, Store};

use super::DeliverError;
use crate::archive::StagedArchive;
use crate::assemble::Assembled;
use crate::blocking::blocking;
use crate::docker_archive;
use crate::engine::{Engine, EngineError};
use crate::event::{Event, Events, Task};
use crate::fetch::Fetch;
use crate::files::{StagedFiles, Tree, Trees};
use crate::image::Image;
use crate::local_store;
use crate::oci_layout::Layout;
use crate::output::{Archive, Files, ImageOutput, Output};
use crate::push::{Push, Tags};
use crate::request::Request;

/// One output of a request.
pub(super) struct Delivery<'a, F> {
    pub(super) store: &'a Store,
    pub(super) client: &'a registry::Client,
    pub(super) images: &'a [Image],
    pub(super) request: &'a Request,
    pub(super) names: &'a [Reference],
    pub(super) fetch: &'a Fetch<'a, F>,
    pub(super) events: &'a Events,
}

/// An output of which everything is done but to make it visible.
pub(super) enum Staged<'a, F> {
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
    /// Does everything but make it visible.
    pub(super) async fn stage(
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
        let events = self.events;
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
            events: self.events,
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
        let events = self.events;
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
    pub(super) fn turn(&self) -> u8 {
        match self {
            Self::Nothing | Self::Archive(_) | Self::Files(_) => 0,
            Self::Image { push: None, .. } => 1,
            Self::Load { .. } => 2,
            Self::Image { push: Some(_), .. } => 3,
        }
    }

    /// Makes it visible.
    pub(super) async fn publish(self, store: &Store, events: &Events) -> Result<(), DeliverError> {
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
