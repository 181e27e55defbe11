#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::FileType;

use super::*;
use crate::layer::{EntryKind, LayerId};
use crate::root::Store;

/// A layer that a test fills.
fn layer(store: &Store, fill: impl FnOnce(&Path)) -> LayerId {
    let draft = store.layers().draft().unwrap();
    fill(draft.fs());
    draft.publish().unwrap()
}

fn put(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn whiteout_at(path: PathBuf) {
    let device = FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, device, Mode::empty(), 0).unwrap();
}

/// What a stack shows, a line each.
fn shown(store: &Store, layers: &[LayerId]) -> Vec<String> {
    let snapshot = Snapshot {
        layers: layers.to_vec(),
    };
    let mut lines = Vec::new();
    walk::<DiskError>(&store.layers(), &snapshot, &mut |path, kind, _, content| {
        let path = String::from_utf8_lossy(path);
        let mut text = String::new();
        content.read_to_string(&mut text).unwrap();
        lines.push(match kind {
            EntryKind::Directory => format!("{path}/"),
            EntryKind::File { .. } => format!("{path}={text}"),
            EntryKind::HardLink { target } => {
                format!("{path} is {}", String::from_utf8_lossy(target))
            }
            EntryKind::Symlink { target } => {
                format!("{path} -> {}", String::from_utf8_lossy(target))
            }
            EntryKind::Fifo | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } => {
                format!("{path} {kind:?}")
            }
        });
        Ok(())
    })
    .unwrap();
    lines
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store)
}

#[test]
fn the_topmost_layer_decides_and_directories_are_merged() {
    let (_directory, store) = store();
    let lower = layer(&store, |root| {
        put(root, "etc/a", "old");
        put(root, "etc/b", "kept");
        put(root, "z", "z");
        fs::hard_link(root.join("etc/b"), root.join("etc/c")).unwrap();
    });
    let upper = layer(&store, |root| {
        put(root, "etc/a", "new");
        put(root, "etc/sub/deep", "1");
        symlink("../etc", root.join("link")).unwrap();
    });
    assert_eq!(
        shown(&store, &[lower, upper]),
        [
            "etc/",
            "etc/a=new",
            "etc/b=kept",
            "etc/c is etc/b",
            "etc/sub/",
            "etc/sub/deep=1",
            "link -> ../etc",
            "z=z"
        ]
    );
    assert!(shown(&store, &[]).is_empty());
}

#[test]
fn c43_deletions_are_never_shown_but_files_of_such_names_are() {
    let (_directory, store) = store();
    let lower = layer(&store, |root| {
        put(root, "gone", "x");
        put(root, "dir/below", "x");
        put(root, "emptied/one", "x");
        put(root, "file-now/below", "x");
        put(root, "back/below", "x");
    });
    let middle = layer(&store, |root| {
        whiteout_at(root.join("gone"));
        whiteout_at(root.join("dir"));
        whiteout_at(root.join("back"));
        put(root, "file-now", "I am a file");
        put(root, "emptied/two", "y");
        whiteout::make_opaque(fs::File::open(root.join("emptied")).unwrap()).unwrap();
    });
    let upper = layer(&store, |root| {
        put(root, ".wh.mine", "mine");
        put(root, "back/new", "n");
    });
    assert_eq!(
        shown(&store, &[lower, middle, upper]),
        [
            ".wh.mine=mine",
            "back/",
            "back/new=n",
            "emptied/",
            "emptied/two=y",
            "file-now=I am a file",
        ]
    );
}

#[test]
fn a_layer_that_is_not_unpacked_is_named() {
    let (_directory, store) = store();
    let snapshot = Snapshot {
        layers: vec!["0".repeat(32).parse().unwrap()],
    };
    let walked = walk::<DiskError>(&store.layers(), &snapshot, &mut |_, _, _, _| Ok(()));
    assert!(walked.unwrap_err().to_string().contains(&"0".repeat(32)));
}
