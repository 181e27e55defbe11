#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::process::Command;

use oci::Compression;

use super::*;
use crate::fixture::{RawTar, TestStore};

#[test]
fn all_items_together_take_what_du_says() {
    let test = TestStore::new();
    let tar = (0..40)
        .fold(RawTar::default(), |tar, number| {
            tar.file(&format!("f{number}"), &vec![7; 9_000])
        })
        .end();
    let layer = test.layer(&tar, Compression::Gzip);
    let id = test.store.layers().unpack(&layer).unwrap();
    let records = test.store.records();
    for number in 0..50 {
        let key = Digest::of(&[number]);
        let record = serde_json::json!({"layer": id});
        records.put(Kind::new("result"), &key, &record).unwrap();
        drop(test.store.lock(Kind::new("result"), &key).unwrap());
    }
    let inventory = test.store.inventory(Sizes::Measured).unwrap();
    let du = Command::new("du")
        .args(["-s", "-B1"])
        .arg(test.store.root())
        .output()
        .unwrap();
    let du = String::from_utf8(du.stdout).unwrap();
    let du: u64 = du.split_whitespace().next().unwrap().parse().unwrap();
    let found = inventory.size_bytes();
    let off_by = found.abs_diff(du);
    assert!(off_by * 100 <= du * 3, "{found} bytes, du says {du}");

    let item = inventory
        .items
        .iter()
        .find(|i| i.kind == ItemKind::Layer)
        .unwrap();
    assert_eq!(item.references, 50);
    assert!(item.is_shared() && item.in_use && !item.is_mutable());
    // The size that is noted is the size that is measured.
    let noted = test.store.inventory(Sizes::Noted).unwrap();
    let noted = noted
        .items
        .iter()
        .find(|other| other.id == item.id)
        .unwrap();
    assert_eq!(noted.size_bytes, item.size_bytes);
}

#[test]
fn finding_something_again_is_a_use() {
    let test = TestStore::new();
    let blob = test.store.content().put(b"x").unwrap();
    let path = test.store.content().path(&blob);
    let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let times = fs::FileTimes::new().set_modified(long_ago);
    fs::File::open(&path).unwrap().set_times(times).unwrap();
    let last_use = |store: &Store| {
        let inventory = store.inventory(Sizes::Noted).unwrap();
        let item = inventory.items.iter().find(|i| i.kind == ItemKind::Blob);
        item.unwrap().last_used
    };
    assert_eq!(last_use(&test.store), long_ago);
    let other = Store::open(test.store.root()).unwrap();
    assert!(other.content().contains(&blob));
    assert!(last_use(&test.store) > long_ago);
}
