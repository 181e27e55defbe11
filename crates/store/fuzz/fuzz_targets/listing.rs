//! Any tar, over itself as a second layer, is listed or refused; no name leads out of the image.

#![no_main]

#[path = "../checksums.rs"]
mod checksums;

use libfuzzer_sys::fuzz_target;
use store::layer::Limits;
use store::layer::listing::FileTree;

fuzz_target!(|bytes: &[u8]| {
    let tar = checksums::repaired(bytes);
    let mut tree = FileTree::default();
    if tree.add_tar(tar.as_slice(), &Limits::STANDARD).is_err() {
        return;
    }
    let once = tree.clone();
    tree.add_tar(tar.as_slice(), &Limits::STANDARD)
        .expect("it was read before");
    for (path, file) in tree.files() {
        assert!(!path.is_empty() && !path.starts_with(b"/"));
        assert_eq!(tree.get(path), Some(file));
    }
    // A second time it may take away what the first has made, but not bring anything new.
    assert!(tree.files().all(|(path, _)| once.get(path).is_some()));
});
