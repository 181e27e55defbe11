#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oci::media_type::Family;
use oci::{Compression, MediaType};

use super::*;
use crate::disk::Kind;
use crate::fixture::{RawTar, TestStore};

const THREADS: NonZeroUsize = NonZeroUsize::MIN;

fn problems(store: &Store, repair: Repair) -> Vec<String> {
    let verified = store.verify(repair, THREADS).unwrap();
    let problems = verified.problems.iter();
    problems
        .map(|problem| format!("{}: {}: {:?}", problem.subject, problem.kind, problem.fate))
        .collect()
}

/// An image with one layer, named `a:1`; returns the layer's blob.
fn image(store: &Store) -> Digest {
    let (config, layer) = (b"{}", b"a layer");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::Manifest(Family::Oci),
        "config": Descriptor::of(MediaType::Config(Family::Oci), config),
        "layers": [Descriptor::of(
            MediaType::Layer(Family::Oci, Compression::Uncompressed), layer)],
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    for blob in [&config[..], layer, &manifest] {
        store.content().put(blob).unwrap();
    }
    let image = Descriptor::of(MediaType::Manifest(Family::Oci), &manifest);
    store.images().set(&"a:1".parse().unwrap(), image).unwrap();
    Digest::of(layer)
}

#[test]
fn whatever_is_damaged_is_found_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("store");
    let store = Store::open(&root).unwrap();
    let test = TestStore { store, directory };
    let blob = image(&test.store);
    let tar = RawTar::default().file("f", b"content").end();
    let layer = test.layer(&tar, Compression::Gzip);
    let id = test.store.layers().unpack(&layer).unwrap();
    let key = Digest::of(b"k");
    test.store
        .records()
        .put(Kind::new("result"), &key, &id)
        .unwrap();
    assert_eq!(problems(&test.store, Repair::No), [] as [String; 0]);

    let blob_path = test.store.content().path(&blob);
    fs::write(&blob_path, "another").unwrap();
    fs::write(root.join("blobs/sha256/note.txt"), "hello").unwrap();
    fs::write(test.store.layers().path(&id).join("more"), "hello").unwrap();
    let hex = key.hex();
    let record = root.join(format!("records/result/{}/{hex}", &hex[..2]));
    fs::write(&record, "cut").unwrap();

    // As long as somebody uses them, they stay.
    let expected = |in_use: &str, unused: &str| {
        vec![
            format!(
                "blob {blob}: its content has digest {}: {in_use}",
                Digest::of(b"another")
            ),
            format!("blob sha256:note.txt: the store has put no such file there: {unused}"),
            format!("layer {id}: its files are not those that were put there: {in_use}"),
            format!(
                "records/result/{}/{hex}: it is damaged: {in_use}",
                &hex[..2]
            ),
        ]
    };
    assert_eq!(problems(&test.store, Repair::No), expected("Kept", "Kept"));
    assert_eq!(
        problems(&test.store, Repair::Drop),
        expected("InUse", "Dropped")
    );

    let TestStore { store, directory } = test;
    drop(store);
    let store = Store::open(&root).unwrap();
    assert_eq!(
        problems(&store, Repair::Drop),
        [
            format!(
                "blob {blob}: its content has digest {}: Dropped",
                Digest::of(b"another")
            ),
            format!("layer {id}: its files are not those that were put there: Dropped"),
            format!("records/result/{}/{hex}: it is damaged: Dropped", &hex[..2]),
            format!("image docker.io/library/a:1: blob {blob} is not in the store: Dropped"),
        ]
    );
    assert_eq!(problems(&store, Repair::No), [] as [String; 0]);
    assert_eq!(store.images().list().unwrap(), []);
    drop(directory);
}

#[test]
fn counts_say_what_was_looked_at() {
    let test = TestStore::new();
    image(&test.store);
    let verified = test.store.verify(Repair::No, THREADS).unwrap();
    assert_eq!((verified.blobs, verified.images), (3, 1));
    assert!(verified.blob_bytes > 9);
    let path = test.store.root().join("blobs/sha256");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
}
