//! Ahead of the end: finished layers are packed, and go to registries, while later steps still run.
//!
//! One thread of lower priority packs, so that it takes what the steps leave. Whatever it has done by the
//! end of the build is found by the delivery: a blob in the store, a blob in the repository. Nothing that
//! it does is visible to anybody: names and tags come with the delivery, if there is one.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use oci::{Descriptor, Reference};
use registry::Client;
use store::{ExportOptions, LayerId, Store};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::debug;

use crate::output::Output;
use crate::request::Request;

/// Blobs that are sent at once.
const UPLOADS: usize = 2;

/// How much nicer to others the thread is than this process.
const NICENESS: i32 = 10;

/// Packs layers, and sends them to where the outputs of a request want them.
#[derive(Debug)]
pub struct Ahead {
    orders: Orders,
    control: Arc<Control>,
    thread: Option<JoinHandle<JoinSet<()>>>,
}

/// Takes the layers that are finished.
#[derive(Clone, Debug)]
pub struct Orders(Sender<Order>);

#[derive(Debug)]
enum Order {
    /// A layer, and those below it.
    Layer(LayerId, Vec<LayerId>),
    /// There will be no more.
    End,
}

#[derive(Debug, Default)]
struct Control {
    /// Nothing new is begun.
    is_ending: AtomicBool,
    /// What was begun is given up, too.
    is_stopped: AtomicBool,
}

/// A way in which layers are packed, and the repositories that want them so.
#[derive(Debug)]
struct Way {
    options: ExportOptions,
    targets: BTreeMap<String, Reference>,
}

impl Ahead {
    /// Begins to wait for layers; `None` where no output wants them packed. Called within a runtime.
    pub fn start(store: &Store, client: &Client, request: &Request) -> Option<Self> {
        let ways = ways(request);
        if ways.is_empty() {
            return None;
        }
        let (sender, orders) = channel();
        let control = Arc::new(Control::default());
        let worker = Worker {
            store: store.clone(),
            client: client.clone(),
            ways,
            control: Arc::clone(&control),
            runtime: Handle::current(),
            turns: Arc::new(Semaphore::new(UPLOADS)),
        };
        let thread = thread::Builder::new().name("ahead".to_owned());
        // Without it the same is done at the end.
        let thread = thread.spawn(move || worker.run(&orders)).ok()?;
        Some(Self {
            orders: Orders(sender),
            control,
            thread: Some(thread),
        })
    }

    /// Returns where finished layers are told.
    pub fn orders(&self) -> Orders {
        self.orders.clone()
    }

    /// Waits for what was begun; what was not is left to the delivery, which does many things at once.
    pub async fn finish(mut self) {
        self.control.is_ending.store(true, Ordering::Relaxed);
        self.orders.tell(Order::End);
        let Some(thread) = self.thread.take() else {
            return;
        };
        let uploads = crate::blocking::blocking(move || thread.join()).await;
        match uploads {
            Ok(uploads) => drop(uploads.join_all().await),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Ahead {
    /// Gives everything up: the thread ends at its next write, and unfinished files vanish with it.
    fn drop(&mut self) {
        self.control.is_ending.store(true, Ordering::Relaxed);
        self.control.is_stopped.store(true, Ordering::Relaxed);
        self.orders.tell(Order::End);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            debug!("packing ahead panicked");
        }
    }
}

impl Orders {
    /// Says that a layer of the result is finished, and which ones are below it. Returns at once.
    pub fn layer(&self, id: LayerId, below: Vec<LayerId>) {
        self.tell(Order::Layer(id, below));
    }

    fn tell(&self, order: Order) {
        // Nobody listens any more: the delivery does it.
        drop(self.0.send(order));
    }
}

/// How the outputs want layers packed, each way once.
fn ways(request: &Request) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for output in request.outputs() {
        let Some(options) = request.packing_of(&output) else {
            continue;
        };
        let at = ways.iter().position(|way| way.options == options);
        let at = at.unwrap_or_else(|| {
            ways.push(Way {
                options,
                targets: BTreeMap::new(),
            });
            ways.len() - 1
        });
        if let Output::Image(image) = &output
            && image.push
        {
            let names = output.names().unwrap_or(&request.names);
            let targets = names.iter().map(|name| (name.name(), name.clone()));
            ways[at].targets.extend(targets);
        }
    }
    ways
}

/// What the thread works with.
struct Worker {
    store: Store,
    client: Client,
    ways: Vec<Way>,
    control: Arc<Control>,
    runtime: Handle,
    turns: Arc<Semaphore>,
}

impl Worker {
    /// Returns the uploads that are not done yet.
    fn run(self, orders: &Receiver<Order>) -> JoinSet<()> {
        // For this thread and those that it starts; in Linux each has a priority of its own.
        if let Err(error) = rustix::process::nice(NICENESS) {
            debug!(%error, "packing ahead has the priority of everything else");
        }
        let mut uploads = JoinSet::new();
        while let Ok(Order::Layer(id, below)) = orders.recv() {
            for way in &self.ways {
                if self.control.is_ending.load(Ordering::Relaxed) {
                    return uploads;
                }
                self.pack(way, &id, &below, &mut uploads);
            }
        }
        uploads
    }

    fn pack(&self, way: &Way, id: &LayerId, below: &[LayerId], uploads: &mut JoinSet<()>) {
        let is_stopped = || self.control.is_stopped.load(Ordering::Relaxed);
        let layers = self.store.layers();
        match layers.export_ahead(id, below, &way.options, &is_stopped) {
            Ok(Some(packed)) => {
                for target in way.targets.values() {
                    let upload = self.upload(target.clone(), packed.descriptor.clone());
                    uploads.spawn_on(upload, &self.runtime);
                }
            }
            // Another build is at it, or nobody wants it any more.
            Ok(None) => {}
            // The delivery comes to the same, and says so.
            Err(error) => debug!(%error, layer = %id, "not packed ahead"),
        }
    }

    fn upload(&self, target: Reference, blob: Descriptor) -> impl Future<Output = ()> + use<> {
        let (client, turns) = (self.client.clone(), Arc::clone(&self.turns));
        let path = self.store.content().path(&blob.digest);
        async move {
            let _turn = turns.acquire().await;
            let open = move || File::open(&path);
            match client.push_blob(&target, &blob, open, None).await {
                Ok(pushed) => debug!(digest = %blob.digest, ?pushed, "uploaded ahead"),
                Err(error) => debug!(digest = %blob.digest, %error, "not uploaded ahead"),
            }
        }
    }
}
