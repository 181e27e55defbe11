#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rustix::fs::{FileType, Mode, Timespec, Timestamps, XattrFlags};
use tempfile::TempDir;

use super::CopiedTree;
use crate::layer::diff::{Lowers, write_layer};
use crate::layer::tar::TarWriter;
use crate::layer::whiteout;
use crate::scripts::{OLD, Place, Times, age, linking_script, run, script, socket};
use crate::{LayerDraft, Layers, Store, disk};

fn store() -> (TempDir, Layers) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    (directory, store.layers())
}

fn packed(upper: &Path, lowers: &[PathBuf]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes, Some(OLD));
    write_layer(upper, Lowers::Unpacked(lowers), &mut tar).unwrap();
    tar.finish().unwrap();
    bytes
}

fn save(layers: &Layers, tree: &mut CopiedTree, lowers: &[PathBuf]) -> LayerDraft {
    let draft = layers.draft().unwrap();
    tree.save(&draft, lowers, &[]).unwrap();
    draft
}

/// Every path of a layer, with a sign for what it says of the layers below.
fn contents(layer: &Path) -> Vec<String> {
    fn walk(directory: &Path, prefix: &str, all: &mut Vec<String>) {
        let mut entries: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            let metadata = entry.path().symlink_metadata().unwrap();
            if metadata.is_dir() {
                let fd = disk::open_directory(&entry.path()).unwrap();
                let sign = if whiteout::is_opaque(&fd).unwrap() {
                    "!"
                } else {
                    ""
                };
                all.push(format!("{path}/{sign}"));
                walk(&entry.path(), &format!("{path}/"), all);
            } else if metadata.file_type().is_char_device() && metadata.rdev() == 0 {
                all.push(format!("{path} gone"));
            } else {
                all.push(path);
            }
        }
    }
    let mut all = Vec::new();
    walk(layer, "", &mut all);
    all
}

/// A layer with a little of everything, all of it old.
fn base(at: &Path) {
    fs::create_dir_all(at.join("etc/deep")).unwrap();
    fs::create_dir(at.join("empty")).unwrap();
    for name in ["etc/a", "etc/b", "etc/deep/c", "top"] {
        fs::write(at.join(name), name).unwrap();
    }
    fs::hard_link(at.join("top"), at.join("top2")).unwrap();
    symlink("/etc/a", at.join("link")).unwrap();
    age(at);
}

fn set_modified(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    let (cwd, follow) = (rustix::fs::CWD, rustix::fs::AtFlags::empty());
    rustix::fs::utimensat(cwd, path, &times, follow).unwrap();
}

#[test]
fn a_tree_that_nobody_touches_becomes_an_empty_layer() {
    let (directory, layers) = store();
    let lower = directory.path().join("lower");
    base(&lower);
    let lowers = [lower];
    let mut tree = layers.copy_tree(&lowers).unwrap();
    for name in ["etc/a", "top", "link"] {
        fs::read(tree.directory().join(name)).ok();
    }
    let draft = save(&layers, &mut tree, &lowers);
    assert_eq!(contents(draft.fs()), [""; 0]);
}

#[test]
fn every_touch_is_in_the_layer_and_nothing_else() {
    let (directory, layers) = store();
    let lower = directory.path().join("lower");
    base(&lower);
    let lowers = [lower.clone()];
    let changed = |change: &dyn Fn(&Path)| {
        let mut tree = layers.copy_tree(&lowers).unwrap();
        change(tree.directory());
        let draft = save(&layers, &mut tree, &lowers);
        // What became a layer is not changed any more.
        let again = save(&layers, &mut tree, &lowers);
        assert_eq!(contents(again.fs()), [""; 0]);
        contents(draft.fs())
    };
    let chmod = |path: PathBuf, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));

    // A change that hides behind an equal size and the old time.
    let hidden = |tree: &Path| {
        let path = tree.join("etc/a");
        let before = fs::metadata(&path).unwrap();
        fs::write(&path, "etc/x").unwrap();
        set_modified(&path, before.mtime(), before.mtime_nsec());
    };
    assert_eq!(changed(&hidden), ["etc/", "etc/a"]);
    // Changes to what was there already: overlayfs copies up before it looks.
    let mode = fs::metadata(lower.join("etc/b")).unwrap().mode();
    assert_eq!(
        changed(&|tree| chmod(tree.join("etc/b"), mode).unwrap()),
        ["etc/", "etc/b"]
    );
    let mode = fs::metadata(lower.join("empty")).unwrap().mode();
    assert_eq!(
        changed(&|tree| chmod(tree.join("empty"), mode).unwrap()),
        ["empty/"]
    );
    let attribute = |tree: &Path| {
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(tree.join("etc/b"), "user.note", b"x", flags).unwrap();
    };
    assert_eq!(changed(&attribute), ["etc/", "etc/b"]);

    assert_eq!(
        changed(&|tree| fs::remove_file(tree.join("etc/a")).unwrap()),
        ["etc/", "etc/a gone"]
    );
    assert_eq!(
        changed(&|tree| fs::remove_dir_all(tree.join("etc")).unwrap()),
        ["etc gone"]
    );
    let replaced = |tree: &Path| {
        fs::rename(tree.join("etc"), tree.join("old")).unwrap();
        fs::create_dir(tree.join("etc")).unwrap();
        fs::rename(tree.join("old/b"), tree.join("etc/b")).unwrap();
        fs::remove_dir_all(tree.join("old")).unwrap();
    };
    assert_eq!(changed(&replaced), ["etc/!", "etc/b"]);
    let renamed = |tree: &Path| fs::rename(tree.join("etc"), tree.join("new")).unwrap();
    assert_eq!(
        changed(&renamed),
        [
            "etc gone",
            "new/",
            "new/a",
            "new/b",
            "new/deep/",
            "new/deep/c"
        ]
    );
    let file_to_directory = |tree: &Path| {
        fs::remove_file(tree.join("etc/a")).unwrap();
        fs::create_dir(tree.join("etc/a")).unwrap();
        fs::remove_dir(tree.join("empty")).unwrap();
        fs::write(tree.join("empty"), "").unwrap();
    };
    assert_eq!(changed(&file_to_directory), ["empty", "etc/", "etc/a/!"]);

    // A file that only lost one of its names is what it was; one that got one is copied up.
    assert_eq!(
        changed(&|tree| fs::remove_file(tree.join("top2")).unwrap()),
        ["top2 gone"]
    );
    let lost_and_changed = |tree: &Path| {
        fs::remove_file(tree.join("top2")).unwrap();
        fs::write(tree.join("top"), "TOP").unwrap();
        set_modified(&tree.join("top"), OLD, 0);
    };
    assert_eq!(changed(&lost_and_changed), ["top", "top2 gone"]);
    let linked = |tree: &Path| fs::hard_link(tree.join("etc/a"), tree.join("etc/z")).unwrap();
    assert_eq!(changed(&linked), ["etc/", "etc/a", "etc/z"]);

    let others = |tree: &Path| {
        let (cwd, mode) = (rustix::fs::CWD, Mode::RWXU);
        rustix::fs::mknodat(cwd, tree.join("pipe"), FileType::Fifo, mode, 0).unwrap();
        rustix::fs::mknodat(cwd, tree.join("socket"), FileType::Socket, mode, 0).unwrap();
        // Would be a deletion in a layer.
        for null in ["null", "empty/null"] {
            let kind = FileType::CharacterDevice;
            rustix::fs::mknodat(cwd, tree.join(null), kind, mode, 0).unwrap();
        }
        let flags = XattrFlags::empty();
        fs::create_dir(tree.join("dir")).unwrap();
        rustix::fs::setxattr(tree.join("dir"), "user.overlay.opaque", b"y", flags).unwrap();
    };
    assert_eq!(changed(&others), ["dir/", "empty/", "pipe", "socket"]);
}

#[test]
fn what_was_put_back_counts_as_it_looks() {
    let (directory, layers) = store();
    let lower = directory.path().join("lower");
    base(&lower);
    let lowers = [lower];
    let touch = |tree: &CopiedTree, mode| {
        fs::write(tree.directory().join("etc/deep/hosts"), "").unwrap();
        fs::remove_file(tree.directory().join("etc/deep/hosts")).unwrap();
        set_modified(&tree.directory().join("etc/deep"), OLD, 0);
        let etc = tree.directory().join("etc");
        fs::set_permissions(etc, PermissionsExt::from_mode(mode)).unwrap();
    };
    let put_back = [PathBuf::from("etc/deep")];
    for (mode, expected) in [(0o755, [].as_slice()), (0o700, ["etc/"].as_slice())] {
        let mut tree = layers.copy_tree(&lowers).unwrap();
        touch(&tree, mode);
        let draft = layers.draft().unwrap();
        tree.save(&draft, &lowers, &put_back).unwrap();
        assert_eq!(contents(draft.fs()), expected);
    }
}

#[test]
fn no_file_is_shared_with_a_layer() {
    let (directory, layers) = store();
    let lower = directory.path().join("lower");
    base(&lower);
    let lowers = [lower.clone()];
    let mut tree = layers.copy_tree(&lowers).unwrap();
    fs::write(tree.directory().join("top2"), "other").unwrap();
    assert_eq!(fs::read(lower.join("top")).unwrap(), b"top");
    assert_eq!(fs::read(tree.directory().join("top")).unwrap(), b"other");
    let draft = save(&layers, &mut tree, &lowers);
    fs::write(tree.directory().join("top2"), "again").unwrap();
    assert_eq!(fs::read(draft.fs().join("top")).unwrap(), b"other");
    let links = fs::metadata(draft.fs().join("top")).unwrap().nlink();
    assert_eq!(links, 2);
}

#[test]
fn names_can_be_the_signs_where_a_file_system_takes_no_others() {
    let (directory, layers) = store();
    let (lower, upper) = (
        directory.path().join("lower"),
        directory.path().join("upper"),
    );
    base(&lower);
    fs::create_dir_all(upper.join("etc")).unwrap();
    let sign = |path: &str| {
        fs::write(upper.join(path), "").unwrap();
        let flags = XattrFlags::empty();
        rustix::fs::setxattr(upper.join(path), "user.rbuild.sign", b"y", flags).unwrap();
    };
    sign(".wh.link");
    sign("etc/.wh.a");
    fs::create_dir(upper.join("etc/deep")).unwrap();
    sign("etc/deep/.wh..wh..opq");
    fs::write(upper.join("etc/deep/d"), "").unwrap();
    age(&upper);
    let lowers = [upper.clone(), lower.clone()];
    let tree = layers.copy_tree(&lowers).unwrap();
    assert_eq!(
        contents(tree.directory()),
        [
            "empty/",
            "etc/",
            "etc/b",
            "etc/deep/",
            "etc/deep/d",
            "top",
            "top2"
        ]
    );
    let nodes = directory.path().join("nodes");
    fs::create_dir_all(nodes.join("etc/deep")).unwrap();
    let gone = |path: &str| {
        let (cwd, mode) = (rustix::fs::CWD, Mode::empty());
        rustix::fs::mknodat(cwd, nodes.join(path), FileType::CharacterDevice, mode, 0).unwrap();
    };
    gone("link");
    gone("etc/a");
    fs::write(nodes.join("etc/deep/d"), "").unwrap();
    whiteout::make_opaque(disk::open_directory(&nodes.join("etc/deep")).unwrap()).unwrap();
    age(&nodes);
    let lowers = [lower];
    assert_eq!(packed(&upper, &lowers), packed(&nodes, &lowers));
}

#[test]
fn d08_trees_are_as_deep_as_layers_may_be_and_no_deeper() {
    let (directory, layers) = store();
    let lower = directory.path().join("lower");
    fs::create_dir(&lower).unwrap();
    let lowers = [lower];
    let mut tree = layers.copy_tree(&lowers).unwrap();
    let deepen = |tree: &CopiedTree, depth: usize| {
        let path: PathBuf = std::iter::repeat_n("d", depth).collect();
        fs::create_dir_all(tree.directory().join(path)).unwrap();
    };
    deepen(&tree, super::MAX_DEPTH);
    let draft = save(&layers, &mut tree, &lowers);
    assert_eq!(contents(draft.fs()).len(), super::MAX_DEPTH);
    layers.copy_tree(&[draft.fs().to_owned()]).unwrap();

    deepen(&tree, super::MAX_DEPTH + 1);
    let draft = layers.draft().unwrap();
    let error = tree.save(&draft, &lowers, &[]).unwrap_err().to_string();
    assert!(error.contains("more than 512 directories"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn a_tree_gives_the_layers_that_an_overlay_gives(
        below in script(),
        first in script(),
        second in script(),
        third in linking_script(),
        socket in socket(),
    ) {
        let (directory, layers) = store();
        let path = |name: &str| directory.path().join(name);
        for name in ["nothing", "base", "one", "two", "three"] {
            fs::create_dir(path(name)).unwrap();
        }
        let overlay = |upper: &str, lowers: &[PathBuf], script: &str| {
            run(&path(upper), Place::Overlay(lowers), Times::Old, script)
        };
        let shown = |script: &str, tree: &CopiedTree| {
            run(tree.directory(), Place::Plain, Times::Old, script)
        };
        if overlay("base", &[path("nothing")], &below).is_none() {
            return Ok(());
        }
        age(&path("base"));
        overlay("one", &[path("base")], &first);
        age(&path("one"));
        let lowers = [path("one"), path("base")];
        let mut tree = layers.copy_tree(&lowers).unwrap();

        let second = format!("{second}\n{socket}");
        let seen = overlay("two", &lowers, &second);
        prop_assert_eq!(shown(&second, &tree), seen);
        let two = save(&layers, &mut tree, &lowers);
        prop_assert_eq!(packed(two.fs(), &lowers), packed(&path("two"), &lowers));

        // The next step, the last that may make a second name, goes on in the same tree.
        let lowers = [path("two"), path("one"), path("base")];
        let seen = overlay("three", &lowers, &third);
        prop_assert_eq!(shown(&third, &tree), seen);
        let three = save(&layers, &mut tree, &lowers);
        prop_assert_eq!(packed(three.fs(), &lowers), packed(&path("three"), &lowers));

        // And a copy of everything is that tree.
        let lowers = [path("three"), path("two"), path("one"), path("base")];
        let copied = layers.copy_tree(&lowers).unwrap();
        prop_assert_eq!(shown("", &copied), shown("", &tree));
    }
}
