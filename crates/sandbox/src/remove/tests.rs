use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::rootfs::open_directory;

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("remove-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn directories_without_permissions_and_deep_ones_go() {
    let top = temporary("modes");
    let closed = top.join("tree/closed");
    fs::create_dir_all(closed.join("inner")).unwrap();
    fs::write(closed.join("inner/file"), "x").unwrap();
    fs::set_permissions(closed.join("inner"), PermissionsExt::from_mode(0o000)).unwrap();
    fs::set_permissions(&closed, PermissionsExt::from_mode(0o000)).unwrap();
    fs::create_dir_all(top.join("tree").join("d/".repeat(500))).unwrap();
    let parent = open_directory(&top).unwrap();
    remove_tree(parent.as_fd(), OsStr::new("tree")).unwrap();
    remove_tree(parent.as_fd(), OsStr::new("tree")).unwrap();
    assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
    fs::remove_dir(top).unwrap();
}

#[test]
fn p16_only_single_names_are_removed_and_links_go_themselves() {
    let top = temporary("names");
    fs::create_dir(top.join("canary")).unwrap();
    fs::write(top.join("canary/file"), "x").unwrap();
    symlink("canary", top.join("link")).unwrap();
    let parent = open_directory(&top).unwrap();
    for name in ["", ".", "..", "canary/file", "/etc"] {
        assert!(remove_tree(parent.as_fd(), OsStr::new(name)).is_err());
    }
    remove_tree(parent.as_fd(), OsStr::new("link")).unwrap();
    assert!(top.join("canary/file").exists() && !top.join("link").is_symlink());
    fs::remove_dir_all(top).unwrap();
}

#[test]
fn u23_directories_swapped_for_links_meanwhile_lead_nowhere() {
    let top = temporary("swap");
    let canary = top.join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("file"), "canary").unwrap();
    let parent = open_directory(&top).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (real, hidden) = (top.join("tree/sub"), top.join("tree/hidden"));
            while !over.load(Ordering::Relaxed) {
                // Each may fail: the tree is being removed and made again.
                let _ = fs::rename(&real, &hidden);
                let _ = symlink(&canary, &real);
                let _ = fs::remove_file(&real);
                let _ = fs::rename(&hidden, &real);
            }
        });
        for _ in 0..1000 {
            // Made elsewhere and moved in, so that the test itself follows no link.
            let fresh = top.join("fresh");
            fs::create_dir_all(fresh.join("sub/deep")).unwrap();
            fs::write(fresh.join("sub/file"), "x").unwrap();
            let _ = fs::rename(&fresh, top.join("tree"));
            // May find an entry the other thread has just put there, and say so.
            let _ = remove_tree(parent.as_fd(), OsStr::new("tree"));
        }
        over.store(true, Ordering::Relaxed);
    });
    remove_tree(parent.as_fd(), OsStr::new("tree")).unwrap();
    assert_eq!(fs::read(canary.join("file")).unwrap(), b"canary");
    fs::remove_dir_all(top).unwrap();
}
