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
    tree.add_tar(tar.as_slice(), &Limits::STANDARD)
        .expect("it was read before");
    for (path, file) in tree.files() {
        let mut parts = path.split(|&byte| byte == b'/');
        assert!(!parts.any(|part| matches!(part, b"" | b"." | b"..")));
        assert_eq!(tree.get(path), Some(file));
    }
});
