//! Any archive is unpacked or refused, and what is beside the directory stays as it was.

#![no_main]

#[path = "../checksums.rs"]
mod checksums;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use store::layer::Limits;
use store::layer::apply::{ExtractOptions, extract};

fuzz_target!(|bytes: &[u8]| {
    // In memory, where there is room for it.
    let memory = Path::new("/dev/shm");
    let directory = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let directory = directory.expect("a directory");
    let (canary, root) = (directory.path().join("canary"), directory.path().join("root"));
    fs::write(&canary, "untouched").expect("a canary");
    fs::create_dir(&root).expect("a root");
    let state = || {
        let stat = canary.metadata().expect("the canary");
        (stat.mode(), stat.uid(), stat.gid(), stat.nlink(), stat.mtime_nsec(), stat.len())
    };
    let before = state();
    let options = ExtractOptions {
        owner: None,
        limits: Limits {
            // Nothing is learnt from more.
            entries: 64,
            record_bytes: 4096,
            depth: 32,
            ratio: 10,
        },
    };
    let opened = File::open(&root).expect("the root");
    drop(extract(
        checksums::repaired(bytes).as_slice(),
        opened.as_fd(),
        Path::new("/a/b"),
        &options,
    ));
    assert_eq!(state(), before);
    let beside = fs::read_dir(directory.path()).expect("the directory");
    assert_eq!(beside.count(), 2);
});
