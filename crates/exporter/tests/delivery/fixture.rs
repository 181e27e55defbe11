//! A store of its own for each test, and images made by hand.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exporter::{DeliverError, Delivered, Event, Image, NewLayer, Output, Request};
use oci::{BaseLayer, Digest, History, ImageConfig, ImageSource, LayoutImage, Platform};
use registry::{Client, Credentials, Patience, RegistryConfig};
use store::Store;

pub(crate) const TIME: &str = "2024-05-06T07:08:09.123456789Z";

pub(crate) const THREE: [&str; 3] = ["linux/amd64", "linux/arm64", "linux/arm/v7"];

/// Tests do not wait as long as people do.
const PATIENCE: Patience = Patience {
    connect_timeout: Duration::from_secs(5),
    idle_timeout: Duration::from_secs(10),
    upload_timeout: Duration::from_secs(10),
    first_delay: Duration::from_millis(5),
    attempts: 3,
    longest_retry_after: Duration::from_secs(2),
};

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) client: Client,
    /// Base layers that were asked for.
    pub(crate) fetches: AtomicUsize,
    /// What happened, a line each.
    pub(crate) events: Arc<Mutex<Vec<String>>>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let config = RegistryConfig {
            hosts: BTreeMap::new(),
            routes: Vec::new(),
            patience: PATIENCE,
            ..RegistryConfig::default()
        };
        Self {
            store,
            client: Client::new(config, Credentials::anonymous()),
            directory,
            fetches: AtomicUsize::new(0),
            events: Arc::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a layer of files and links (`name -> target`), with a directory for each test of order.
    pub(crate) fn layer(&self, files: &[(&str, &str)]) -> NewLayer {
        let draft = self.store.layers().draft().unwrap();
        for (name, content) in files {
            let path = draft.fs().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, &path).unwrap(),
                None => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                }
            }
        }
        same_times(draft.fs());
        NewLayer {
            id: draft.publish().unwrap(),
            created: TIME.to_owned(),
        }
    }

    /// Makes an image of two layers whose content names the platform; the first is given.
    pub(crate) fn image(&self, platform: &str, shared: &NewLayer) -> Image {
        let own = self.layer(&[("etc/platform", platform), ("bin/link", "-> hello")]);
        Image {
            platform: platform.parse().unwrap(),
            config: config(),
            base: None,
            layers: vec![shared.clone(), own],
            history: vec![
                line("COPY hello /bin/ # buildkit", false),
                line("RUN /bin/sh -c true # buildkit", false),
                line("CMD [\"/bin/hello\"]", true),
            ],
        }
    }

    /// Makes an image for each platform; all have the first layer in common.
    pub(crate) fn images(&self, platforms: &[&str]) -> Vec<Image> {
        let shared = self.layer(&[
            ("bin/hello", "#!/bin/sh\necho hello\n"),
            ("etc/big", &big()),
        ]);
        let image = |platform: &&str| self.image(platform, &shared);
        platforms.iter().map(image).collect()
    }

    pub(crate) async fn deliver(
        &self,
        images: &[Image],
        request: &Request,
    ) -> Result<Option<Delivered>, DeliverError> {
        let fetch = async |layer: &BaseLayer| -> io::Result<()> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            let sink = self.store.content().writer().map_err(io::Error::other)?;
            let (source, blob) = (&layer.source, &layer.descriptor);
            let sink = self.client.fetch_blob(source, blob, sink).await;
            let sink = sink.map_err(io::Error::other)?;
            sink.commit_expecting(blob).map_err(io::Error::other)
        };
        let log = Arc::clone(&self.events);
        let events = move |event: Event<'_>| log.lock().unwrap().push(format!("{event:?}"));
        exporter::deliver(&self.store, &self.client, images, request, &fetch, &events).await
    }

    /// Delivers to these outputs under these names, and returns what must have been delivered.
    pub(crate) async fn delivered(
        &self,
        images: &[Image],
        outputs: &[&str],
        names: &[&str],
    ) -> Delivered {
        let request = request(outputs, names);
        self.deliver(images, &request).await.unwrap().unwrap()
    }

    /// Returns the base image for `platform` that the layout at `directory` holds under `base`.
    pub(crate) async fn base(&self, source: &ImageSource, platform: &str) -> oci::BaseImage {
        let wanted: Platform = platform.parse().unwrap();
        self.client.resolve(source, &wanted).await.unwrap().image
    }

    pub(crate) fn events_with(&self, part: &str) -> usize {
        let events = self.events.lock().unwrap();
        events.iter().filter(|event| event.contains(part)).count()
    }
}

/// Makes a layout with a base image of two platforms in `directory`, by way of another store.
pub(crate) async fn base_layout(directory: &Path) -> ImageSource {
    let maker = Fixture::new();
    let images = maker.images(&["linux/amd64", "linux/arm64"]);
    let output = format!("type=oci,tar=false,dest={}", directory.display());
    maker.delivered(&images, &[&output], &["base:1"]).await;
    ImageSource::Layout {
        directory: directory.to_owned(),
        image: LayoutImage::Tag("1".to_owned()),
    }
}

pub(crate) fn request(outputs: &[&str], names: &[&str]) -> Request {
    let output = |text: &&str| Output::parse(text).unwrap();
    Request {
        names: names.iter().map(|name| name.parse().unwrap()).collect(),
        outputs: outputs.iter().map(output).collect(),
        source_date_epoch: None,
        multi_platform: false,
        stdout_is_terminal: false,
        engine: None,
        jobs: NonZeroUsize::new(4).unwrap(),
    }
}

pub(crate) fn config() -> ImageConfig {
    let mut config = ImageConfig::default();
    config.config.env = vec!["PATH=/usr/bin:/bin".to_owned()];
    config.config.cmd = vec!["/bin/hello".to_owned()];
    config.config.working_dir = "/".to_owned();
    config.config.on_build = vec!["RUN true".to_owned()];
    config
}

pub(crate) fn line(created_by: &str, empty_layer: bool) -> History {
    History {
        created_by: Some(created_by.to_owned()),
        comment: Some("buildkit.dockerfile.v0".to_owned()),
        empty_layer,
        ..History::default()
    }
}

/// Runs a command that must succeed; returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {printed}{complained}"
    );
    printed
}

/// Unpacks an archive that we wrote.
pub(crate) fn unpack(archive: &Path, directory: &Path) {
    fs::create_dir(directory).unwrap();
    run(Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(directory));
}

/// Content that is larger than a block of any compressor.
fn big() -> String {
    (0..60_000_u64)
        .map(|n| format!("{}\n", n * n % 9973))
        .collect()
}

/// Layers that are to be equal must have equal times.
fn same_times(directory: &Path) {
    run(Command::new("find").arg(directory).args([
        "-exec",
        "touch",
        "-hd",
        "@1700000000",
        "{}",
        "+",
    ]));
}

pub(crate) fn sha256(path: &Path) -> Digest {
    Digest::of(&fs::read(path).unwrap())
}
