#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::path::Path;

use oci::{Descriptor, MediaType, Reference};

use super::*;
use crate::drafts::{Draft, DraftError, DraftMember, DraftPlace};
use crate::fixture::TestStore;
use crate::mounts::{CacheMountIdentity, CacheSharing};
use crate::{LayerId, Sizes};

const RESULT: Kind = Kind::new("result");

/// A step's result: a layer with a file of that size, and the record that leads to it.
fn result(store: &Store, name: &str, bytes: usize) -> LayerId {
    let draft = store.layers().draft().unwrap();
    fs::write(draft.fs().join("f"), vec![1; bytes]).unwrap();
    let id = draft.publish().unwrap();
    let record = serde_json::json!({"layer": id, "created": "now"});
    store
        .records()
        .put(RESULT, &Digest::of(name.as_bytes()), &record)
        .unwrap();
    id
}

/// The store as a process sees it that has used nothing yet.
fn another(test: &TestStore) -> Store {
    Store::open(test.store.root()).unwrap()
}

fn used_before(path: &Path, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(hours * 3600);
    let file = File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(time))
        .unwrap();
}

fn all(store: &Store) -> Vec<Item> {
    let inventory = store.inventory(Sizes::Measured).unwrap();
    inventory.victims(|_| true, None)
}

#[test]
fn threat_c06_what_a_process_uses_stays_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let builder = Store::open(&root).unwrap();
    let layer = result(&builder, "a", 10);
    let blob = builder.content().put(b"blob").unwrap();

    let cleaner = Store::open(&root).unwrap();
    let inventory = cleaner.inventory(Sizes::Measured).unwrap();
    for kind in [ItemKind::Layer, ItemKind::Blob] {
        let item = inventory.items.iter().find(|item| item.kind == kind);
        assert!(item.unwrap().in_use, "{kind:?}");
    }
    // Even what was chosen before it came into use.
    let chosen: Vec<Item> = inventory
        .items
        .iter()
        .filter(|item| item.kind != ItemKind::Records)
        .map(|item| Item {
            in_use: false,
            ..item.clone()
        })
        .collect();
    assert_eq!(cleaner.remove(&chosen).unwrap(), []);
    assert!(builder.layers().contains(&layer) && builder.content().contains(&blob));

    drop(builder);
    assert_eq!(cleaner.remove(&chosen).unwrap(), chosen);
    assert_eq!(fs::read_dir(root.join("layers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(root.join("tmp")).unwrap().count(), 0);
    let record: Option<serde_json::Value> = cleaner.records().get(RESULT, &Digest::of(b"a"));
    assert_eq!(record, None);
    assert!(!cleaner.layers().contains(&layer) && !cleaner.content().contains(&blob));
}

#[test]
fn threat_c06_a_layer_that_is_found_is_used() {
    let test = TestStore::new();
    let layer = result(&test.store, "a", 10);
    let root = test.store.root().to_owned();
    let builder = another(&test);
    // Whoever made it has ended.
    let TestStore { store, directory } = test;
    drop(store);
    assert!(builder.layers().contains(&layer));
    let cleaner = Store::open(&root).unwrap();
    assert!(
        all(&cleaner)
            .iter()
            .all(|item| item.kind == ItemKind::Records)
    );
    drop(builder);
    assert!(
        all(&cleaner)
            .iter()
            .any(|item| item.kind == ItemKind::Layer)
    );
    drop(directory);
}

#[test]
fn what_a_named_image_needs_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let builder = Store::open(&root).unwrap();
    let content = builder.content();
    let (config, layer) = (b"{}", b"a layer");
    let family = oci::media_type::Family::Oci;
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::Manifest(family),
        "config": Descriptor::of(MediaType::Config(family), config),
        "layers": [Descriptor::of(
            MediaType::Layer(family, oci::Compression::Uncompressed), layer)],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    for blob in [&config[..], layer, &manifest, b"nobody's"] {
        content.put(blob).unwrap();
    }
    let name: Reference = "a:1".parse().unwrap();
    let image = Descriptor::of(MediaType::Manifest(family), &manifest);
    builder.images().set(&name, image).unwrap();
    drop(builder);

    let store = Store::open(&root).unwrap();
    let removed = store.remove(&all(&store)).unwrap();
    let blobs: Vec<&Item> = removed
        .iter()
        .filter(|i| i.kind == ItemKind::Blob)
        .collect();
    assert_eq!(blobs.len(), 1);
    assert_eq!(blobs[0].id, Digest::of(b"nobody's").to_string());
    let kept = store.inventory(Sizes::Measured).unwrap();
    let layer = Digest::of(layer).to_string();
    let layer = kept.items.iter().find(|item| item.id == layer).unwrap();
    assert_eq!(layer.description, "layer of docker.io/library/a:1");
    // An image that came into being after the choice was made protects its blobs, too.
    let chosen = Item {
        images: 0,
        ..layer.clone()
    };
    assert_eq!(store.remove(&[chosen]).unwrap(), []);

    // A list that is not pushed yet needs it as well.
    let list: Reference = "list".parse().unwrap();
    let draft = Draft {
        name: list.clone(),
        members: vec![DraftMember {
            name: "a:1".to_owned(),
            descriptor: store.images().get(&name).unwrap().unwrap(),
            place: DraftPlace::Layout(root.clone()),
        }],
    };
    let change = |draft| store.drafts().change(&list, |_| Ok::<_, DraftError>(draft));
    change(Some(draft)).unwrap();
    store.images().remove(&name).unwrap();
    let reclaimable = all(&store);
    assert!(
        reclaimable
            .iter()
            .all(|item| item.kind == ItemKind::Records)
    );

    change(None).unwrap();
    store.remove(&all(&store)).unwrap();
    assert_eq!(fs::read_dir(root.join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn the_least_recently_used_goes_first_and_only_as_much_as_has_to() {
    let test = TestStore::new();
    let ids: Vec<LayerId> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| result(&test.store, name, 100_000))
        .collect();
    for (id, hours) in ids.iter().zip([1, 4, 2, 3]) {
        used_before(&test.store.layers().home(id), hours);
    }
    let root = test.store.root().to_owned();
    let TestStore { store, directory } = test;
    drop(store);
    let store = Store::open(&root).unwrap();
    let inventory = store.inventory(Sizes::Noted).unwrap();
    let keep = inventory.size_bytes() - 150_000;
    let victims = inventory.victims(|item| item.kind == ItemKind::Layer, Some(keep));
    let chosen: Vec<&str> = victims.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(chosen, [ids[1].to_string(), ids[3].to_string()]);

    let limits = Limits {
        max_used_bytes: Some(keep),
        ..Limits::default()
    };
    let now = SystemTime::now();
    let removed = store.collect(&limits, now).unwrap();
    assert_eq!(removed, victims);
    // Nothing was added since, so nobody looks again so soon.
    let none = Limits {
        max_used_bytes: Some(0),
        ..limits
    };
    assert_eq!(store.collect(&none, SystemTime::now()).unwrap(), []);
    let later = now + Duration::from_secs(4000);
    assert_ne!(store.collect(&none, later).unwrap(), []);
    assert!(store.inventory(Sizes::Measured).unwrap().size_bytes() <= keep);
    // Where there is room, nothing is looked at.
    let roomy = Limits {
        min_free_bytes: Some(1),
        ..Limits::default()
    };
    assert_eq!(store.collect(&roomy, later).unwrap(), []);
    drop(directory);
}

#[test]
fn limits_say_how_much_may_stay() {
    let disk = Disk {
        total_bytes: 1000,
        free_bytes: 100,
        used_bytes: 900,
    };
    let keep = |reserved_bytes, max_used_bytes, min_free_bytes| {
        let limits = Limits {
            reserved_bytes,
            max_used_bytes,
            min_free_bytes,
        };
        limits.keep_bytes(500, &disk)
    };
    assert_eq!(keep(None, None, None), None);
    assert_eq!(keep(Some(70), None, None), Some(70));
    assert_eq!(keep(None, Some(300), None), Some(300));
    assert_eq!(keep(None, None, Some(50)), Some(500));
    assert_eq!(keep(None, None, Some(250)), Some(350));
    assert_eq!(keep(None, Some(300), Some(250)), Some(300));
    assert_eq!(keep(Some(400), Some(300), Some(250)), Some(400));
    assert_eq!(keep(None, None, Some(5000)), Some(0));
}

#[test]
fn cache_mounts_and_repositories_go_unless_somebody_uses_them() {
    let test = TestStore::new();
    let identity = CacheMountIdentity {
        id: "a".to_owned(),
        content: None,
        attributes: None,
    };
    let nothing = || Ok::<_, DiskError>(None);
    let mounts = test.store.cache_mounts();
    let mount = mounts
        .acquire(&identity, CacheSharing::Shared, nothing)
        .unwrap();
    fs::write(mount.path().join("f"), vec![1; 50_000]).unwrap();
    let (repository, lock) = test.store.repository(&Digest::of(b"url")).unwrap();
    fs::create_dir_all(&repository).unwrap();

    let inventory = test.store.inventory(Sizes::Measured).unwrap();
    let items: Vec<Item> = inventory.items;
    let chosen: Vec<Item> = items
        .into_iter()
        .filter(|item| matches!(item.kind, ItemKind::CacheMount | ItemKind::Repository))
        .collect();
    assert_eq!(chosen.len(), 2);
    assert!(chosen.iter().all(|item| item.in_use));
    let mounted = chosen
        .iter()
        .find(|i| i.kind == ItemKind::CacheMount)
        .unwrap();
    assert!(mounted.size_bytes > 50_000);
    assert_eq!(mounted.description, "cache mount a");
    assert_eq!(test.store.remove(&chosen).unwrap(), []);
    drop((mount, lock));
    assert_eq!(test.store.remove(&chosen).unwrap().len(), 2);
    assert!(!repository.exists());
}

#[test]
fn unused_locks_go_and_held_ones_stay() {
    let test = TestStore::new();
    let held = test.store.lock(RESULT, &Digest::of(b"held")).unwrap();
    drop(test.store.lock(RESULT, &Digest::of(b"free")).unwrap());
    let locks = test.store.root().join("locks/result");
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 2);
    test.store.remove_unused_locks().unwrap();
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 1);
    drop(held);
}

#[test]
fn threat_c06_users_and_cleaners_at_once_agree_on_what_is_there() {
    let test = TestStore::new();
    let root = test.store.root();
    let rounds = 30;
    std::thread::scope(|scope| {
        for user in 0..4 {
            scope.spawn(move || {
                for round in 0..rounds {
                    // Each round is another process.
                    let store = Store::open(root).unwrap();
                    let name = format!("{}", (user + round) % 5);
                    let key = Digest::of(name.as_bytes());
                    let _lock = store.lock(RESULT, &key).unwrap();
                    let record: Option<serde_json::Value> = store.records().get(RESULT, &key);
                    let found = record
                        .and_then(|record| record["layer"].as_str()?.parse().ok())
                        .filter(|id: &LayerId| store.layers().contains(id));
                    let id = found.unwrap_or_else(|| result(&store, &name, 1000));
                    for _ in 0..3 {
                        let file = store.layers().path(&id).join("f");
                        assert_eq!(fs::read(file).unwrap().len(), 1000);
                        std::thread::yield_now();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..rounds {
                let store = Store::open(root).unwrap();
                store.remove(&all(&store)).unwrap();
            }
        });
    });
    let verified = test
        .store
        .verify(crate::Repair::No, std::num::NonZeroUsize::MIN)
        .unwrap();
    assert_eq!(verified.problems, []);
}

#[test]
fn threat_c06_records_of_a_running_build_stay() {
    let test = TestStore::new();
    let options = crate::ExportOptions {
        encoding: crate::layer::Encoding::new(oci::Compression::Uncompressed, None).unwrap(),
        mtime_max: None,
        threads: std::num::NonZeroUsize::MIN,
    };
    // A layer that is nowhere but in its blob, which only a record leads to.
    let id = test
        .store
        .layers()
        .pack_new::<PackError>(&options, |_| Ok(()))
        .unwrap();
    let record = serde_json::json!({"layer": id, "created": "now"});
    let key = Digest::of(b"a");
    test.store.records().put(RESULT, &key, &record).unwrap();

    let cleaner = another(&test);
    let everything = cleaner.inventory(Sizes::Measured).unwrap().items;
    cleaner.remove(&everything).unwrap();
    assert!(test.store.layers().export(&id, &[], &options).is_ok());

    let root = test.store.root().to_owned();
    let TestStore { store, directory } = test;
    drop(store);
    // Nobody uses it, but it leads somewhere.
    cleaner.remove_dangling_records().unwrap();
    let store = Store::open(&root).unwrap();
    assert!(store.layers().is_packed(&id, &options));
    drop(store);
    cleaner.remove(&everything).unwrap();
    let store = Store::open(&root).unwrap();
    assert!(!store.layers().is_packed(&id, &options));
    drop(directory);
}

#[derive(Debug, thiserror::Error)]
enum PackError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Tar(#[from] crate::layer::tar::TarError),
    #[error(transparent)]
    Put(#[from] crate::cache::PutError),
}

#[test]
fn threat_c06_many_remove_the_same_tree_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..40 {
        let tree = directory.path().join("tree");
        for number in 0..30 {
            fs::create_dir_all(tree.join(format!("{number}/a/b"))).unwrap();
        }
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| disk::remove_tree_path(&tree).unwrap());
            }
        });
        assert!(!tree.exists());
    }
}
