#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use proptest::prelude::*;
use rustix::fs::{AtFlags, FileType};

use super::*;
use crate::fixture::{describe, filter};
use crate::layer::apply::{Limits, unpack_tar};
use crate::layer::{EntryKind, Meta};
use crate::scripts::{Place, Times, linking_script, run};

fn packed(upper: &Path, lowers: &[&Path], mtime_max: Option<i64>) -> Vec<u8> {
    let lowers: Vec<PathBuf> = lowers.iter().map(|&lower| lower.to_owned()).collect();
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes, mtime_max);
    write_layer(upper, Lowers::Unpacked(&lowers), &mut tar).unwrap();
    tar.finish().unwrap();
    bytes
}

fn unpacked(tar: &[u8], into: &Path) {
    fs::create_dir(into).unwrap();
    let root = fs::File::open(into).unwrap();
    unpack_tar(tar, root.as_fd(), &Limits::STANDARD).unwrap();
}

/// GNU tar's view of an archive.
fn listing(tar: &[u8]) -> Vec<String> {
    let text = filter(
        "tar",
        &["--numeric-owner", "--full-time", "--utc", "-tvf", "-"],
        tar,
    );
    String::from_utf8(text)
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

fn whiteout_at(path: PathBuf) {
    let device = FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, device, Mode::empty(), 0).unwrap();
}

fn opaque(path: PathBuf) {
    whiteout::make_opaque(fs::File::open(path).unwrap()).unwrap();
}

fn set_time(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 999_999_999,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_all_times(root: &Path, seconds: i64) {
    for name in describe(root).into_keys() {
        set_time(&root.join(name), seconds);
    }
}

#[test]
fn a_layer_without_changes_is_an_empty_tar() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(packed(directory.path(), &[], None), vec![0; 1024]);
}

#[test]
fn entries_have_the_one_form_of_the_specification() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::create_dir(root.join("a")).unwrap();
    fs::write(root.join("a/x"), b"content").unwrap();
    fs::write(root.join("a-b"), b"").unwrap();
    fs::hard_link(root.join("a/x"), root.join("b")).unwrap();
    symlink("a/x", root.join("c")).unwrap();
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("p"), Mode::from_raw_mode(0o600)).unwrap();
    whiteout_at(root.join("gone"));
    lchown(root.join("a"), Some(3_000_000), Some(5)).unwrap();
    fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
    set_all_times(root, 86_400);
    let tar = packed(root, &[], None);
    assert_eq!(
        listing(&tar),
        [
            "---------- 0/0 0 1970-01-01 00:00:00 .wh.gone",
            "drwxrwxrwt 3000000/5 0 1970-01-02 00:00:00 a/",
            "-rw-r--r-- 0/0 7 1970-01-02 00:00:00 a/x",
            "-rw-r--r-- 0/0 0 1970-01-02 00:00:00 a-b",
            "hrw-r--r-- 0/0 0 1970-01-02 00:00:00 b link to a/x",
            "lrwxrwxrwx 0/0 0 1970-01-02 00:00:00 c -> a/x",
            "prw------- 0/0 0 1970-01-02 00:00:00 p",
        ]
    );
    // The same tree at another place and time is the same tar.
    assert_eq!(tar, packed(root, &[], None));
}

#[test]
fn times_later_than_the_epoch_become_the_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    fs::write(root.join("early"), b"").unwrap();
    fs::write(root.join("late"), b"").unwrap();
    set_time(&root.join("early"), 60);
    set_time(&root.join("late"), 1_000_000_000);
    assert_eq!(
        listing(&packed(root, &[], Some(3600))),
        [
            "-rw-r--r-- 0/0 0 1970-01-01 00:01:00 early",
            "-rw-r--r-- 0/0 0 1970-01-01 01:00:00 late",
        ]
    );
}

#[test]
fn an_opaque_directory_lists_what_the_layers_below_show() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for tree in ["bottom/d/sub/deep", "bottom/other", "middle/d", "top/d/sub"] {
        fs::create_dir_all(path(tree)).unwrap();
    }
    for file in [
        "bottom/d/both",
        "bottom/d/deleted",
        "bottom/d/sub/deep/f",
        "bottom/d/sub/g",
        "middle/d/both",
        "middle/d/middle",
        "top/d/new",
        "top/d/middle",
    ] {
        fs::write(path(file), b"").unwrap();
    }
    whiteout_at(path("middle/d/deleted"));
    opaque(path("top/d"));
    let tar = packed(&path("top"), &[&path("middle"), &path("bottom")], None);
    let names: Vec<_> = listing(&tar)
        .iter()
        .map(|line| line.rsplit(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(
        names,
        [
            "d/",
            "d/.wh.both",
            "d/middle",
            "d/new",
            "d/sub/",
            "d/sub/.wh.deep",
            "d/sub/.wh.g",
        ]
    );
}

#[test]
fn capabilities_and_user_attributes_are_packed_and_books_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let upper = directory.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::write(upper.join("f"), b"x").unwrap();
    let file = fs::File::open(upper.join("f")).unwrap();
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let flags = rustix::fs::XattrFlags::empty();
    for (name, value) in [
        ("security.capability", capability),
        ("user.b", b"2"),
        ("user.a", b"1\n=2"),
        ("user.overlay.origin", b"secret"),
        ("user.rbuild.stat", b"secret"),
        ("trusted.overlay.origin", b"secret"),
    ] {
        rustix::fs::fsetxattr(&file, name, value, flags).unwrap();
    }
    let tar = packed(&upper, &[], None);
    assert!(!tar.windows(6).any(|window| window == b"secret"));
    let copy = directory.path().join("copy");
    unpacked(&tar, &copy);
    let found = xattrs(fs::File::open(copy.join("f")).unwrap()).unwrap();
    let expected = BTreeMap::from([
        (b"security.capability".to_vec(), capability.to_vec()),
        (b"user.a".to_vec(), b"1\n=2".to_vec()),
        (b"user.b".to_vec(), b"2".to_vec()),
    ]);
    assert_eq!(found, expected);
}

#[test]
fn a_tree_that_is_too_deep_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("d/".repeat(DEPTH + 2))).unwrap();
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes, None);
    let result = write_layer(directory.path(), Lowers::Unpacked(&[]), &mut tar);
    assert!(matches!(result, Err(DiffError::TooDeep { .. })));
}

#[test]
fn a_file_that_changes_its_size_is_an_error() {
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes, None);
    let meta = Meta {
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        xattrs: BTreeMap::new(),
    };
    for content in [b"four".as_slice(), b"sixsix"] {
        let kind = EntryKind::File { size_bytes: 5 };
        let result = tar.append(b"f", kind, &meta, &mut &*content);
        assert!(matches!(result, Err(TarError::Changed { .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_layer_rebuilds_the_tree_it_was_made_from(
        base in linking_script(),
        first in linking_script(),
        second in linking_script(),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["nothing", "base", "one", "two"] {
            fs::create_dir(path(name)).unwrap();
        }
        let overlay = |upper: &str, lowers: &[PathBuf], script: &str| {
            run(&path(upper), Place::Overlay(lowers), Times::All, script)
        };
        if overlay("base", &[path("nothing")], &base).is_none() {
            return Ok(());
        }
        overlay("one", &[path("base")], &first);
        let made = overlay("two", &[path("one"), path("base")], &second);

        let base = packed(&path("base"), &[], None);
        let one = packed(&path("one"), &[&path("base")], None);
        let two = packed(&path("two"), &[&path("one"), &path("base")], None);
        unpacked(&base, &path("base-copy"));
        unpacked(&one, &path("one-copy"));
        unpacked(&two, &path("two-copy"));
        let copies = [path("one-copy"), path("base-copy")];
        let rebuilt = overlay("two-copy", &copies, "");
        prop_assert_eq!(&made, &rebuilt);

        // Packed again, the copies give the same bytes: nothing was lost on the way.
        prop_assert_eq!(packed(&copies[1], &[], None), base);
        prop_assert_eq!(packed(&copies[0], &[&copies[1]], None), one);
    }
}
