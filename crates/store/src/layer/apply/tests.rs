#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::fixture::{Canary, Raw, RawTar, describe, filter};

/// A directory to unpack into, `root`, and a canary beside it.
struct Arena {
    directory: TempDir,
    canary: Canary,
}

impl Arena {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let canary = Canary::new(directory.path());
        Self { directory, canary }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// Unpacks a layer; the canary must have survived it.
    #[track_caller]
    fn layer(&self, tar: &[u8]) -> Result<(), ExtractError> {
        let root = fs::File::open(self.root()).unwrap();
        let applied = apply(tar, Kind::Tar, root.as_fd(), Form::Layer, &Limits::STANDARD);
        self.canary.check();
        applied.map(drop)
    }

    /// Unpacks any archive at `destination`; the canary must have survived it.
    #[track_caller]
    fn archive(&self, archive: &[u8], destination: &str) -> Result<(), ExtractError> {
        let root = fs::File::open(self.root()).unwrap();
        let options = ExtractOptions {
            owner: None,
            limits: Limits::STANDARD,
        };
        let extracted = extract(archive, root.as_fd(), Path::new(destination), &options);
        self.canary.check();
        extracted
    }

    fn names(&self) -> Vec<String> {
        describe(&self.root()).into_keys().collect()
    }
}

#[track_caller]
fn refused(result: Result<(), ExtractError>) -> RefusedError {
    match result {
        Err(ExtractError::Refused { why, .. }) => why,
        other => panic!("not refused: {other:?}"),
    }
}

/// Unpacks as a layer and as an archive; each must be refused or stay inside.
#[track_caller]
fn contained(tar: impl Fn(&Arena) -> RawTar) {
    for is_layer in [true, false] {
        let arena = Arena::new();
        let tar = tar(&arena).end();
        let result = match is_layer {
            true => arena.layer(&tar),
            false => arena.archive(&tar, "/"),
        };
        if let Err(error) = result {
            assert!(
                matches!(error, ExtractError::Refused { .. }),
                "layer {is_layer}: {error}"
            );
        }
    }
}

#[test]
fn u01_links_to_the_outside_are_not_written_through() {
    contained(|arena| {
        RawTar::default()
            .symlink("a", arena.canary.text())
            .file("a/x", b"evil")
            .file("a/file", b"evil")
    });
    contained(|arena| {
        let file = format!("{}/file", arena.canary.text());
        RawTar::default().hard_link("h", &file).file("h", b"evil")
    });
    contained(|_| {
        RawTar::default()
            .symlink("up", "..")
            .hard_link("h", "up/canary/file")
            .file("h", b"evil")
    });
    contained(|_| {
        RawTar::default()
            .symlink("a", "../canary/file")
            .hard_link("h", "a")
            .file("h", b"evil")
            .file("a", b"evil")
    });
}

#[test]
fn u01_a_file_replaces_the_link_of_its_name() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .symlink("a", "../canary/file")
        .file("a", b"new")
        .end();
    arena.layer(&tar).unwrap();
    assert!(arena.path("a").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read(arena.path("a")).unwrap(), b"new");
}

#[test]
fn u02_programs_of_the_tree_are_not_run_to_decompress() {
    let arena = Arena::new();
    for name in ["xz", "gzip", "unpigz", "bzip2", "zstd", "tar", "ld.so"] {
        for directory in ["bin", "usr/bin"] {
            fs::create_dir_all(arena.path(directory)).unwrap();
            let path = arena.path(directory).join(name);
            let script = format!("#!/bin/sh\necho evil > {}/file\n", arena.canary.text());
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    let tar = RawTar::default().file("f", b"content").end();
    for (program, arguments) in [
        ("cat", ["-u"]),
        ("gzip", ["-c"]),
        ("bzip2", ["-c"]),
        ("xz", ["-c"]),
        ("zstd", ["-c"]),
    ] {
        let archive = filter(program, &arguments, &tar);
        arena.archive(&archive, program).unwrap();
        let unpacked = arena.path(program).join("f");
        assert_eq!(fs::read(unpacked).unwrap(), b"content", "{program}");
    }
}

#[test]
fn u05_a_layer_makes_no_directories_beyond_a_link() {
    let tar = || {
        RawTar::default()
            .symlink("s", "..")
            .file("s/new/dir/f", b"x")
            .end()
    };
    let arena = Arena::new();
    assert_eq!(refused(arena.layer(&tar())), RefusedError::ParentBeyondLink);
    assert_eq!(arena.names(), ["s"]);
    // An archive for ADD may, but inside the root.
    let arena = Arena::new();
    arena.archive(&tar(), "/").unwrap();
    assert_eq!(arena.names(), ["new", "new/dir", "new/dir/f", "s"]);
}

#[test]
fn u09_a_directory_entry_does_not_follow_an_earlier_link() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .symlink("d", arena.canary.text())
        .dir("d", 0o777)
        .file("d/inside", b"x")
        .end();
    arena.layer(&tar).unwrap();
    let metadata = arena.path("d").symlink_metadata().unwrap();
    assert!(metadata.is_dir());
    assert_eq!(metadata.mode() & 0o7777, 0o777);
    assert!(arena.path("d/inside").exists());
}

#[test]
fn u10_attributes_of_files_do_not_follow_links() {
    contained(|arena| {
        let file = format!("{}/file", arena.canary.text());
        RawTar::default()
            .symlink("f", &file)
            .raw(
                &Raw {
                    name: b"f",
                    mode: 0o6777,
                    ..Raw::default()
                },
                b"",
            )
            .symlink("g", &file)
            .pax(
                b'x',
                &[
                    ("SCHILY.xattr.user.evil", "1"),
                    ("SCHILY.xattr.system.posix_acl_access", "\u{2}\0\0\0"),
                    ("uid", "4711"),
                ],
            )
            .symlink("g", &file)
            .node("f", b'6', (0, 0))
    });
}

/// Swaps directories for links to the canary as fast as it can while an archive is unpacked.
#[test]
fn u11_a_race_with_links_never_leaves_the_root() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let rounds = crate::fixture::rounds(50);
    let arena = Arena::new();
    let mut tar = RawTar::default();
    for directory in 0..20 {
        tar = tar.dir(&format!("d{directory}"), 0o755);
        for file in 0..10 {
            let name = format!("d{directory}/sub/f{file}");
            tar = tar
                .file(&name, b"x")
                .dir(&format!("d{directory}/e{file}"), 0o777);
        }
    }
    let tar = tar.end();
    let done = AtomicBool::new(false);
    let root = arena.root();
    let canary = arena.canary.text().to_owned();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for directory in 0..20 {
                    let path = root.join(format!("d{directory}"));
                    let aside = root.join(format!("aside{directory}"));
                    // Each step may fail, whatever the other side is doing just now.
                    if fs::rename(&path, &aside).is_ok() {
                        std::os::unix::fs::symlink(&canary, &path).ok();
                        std::thread::yield_now();
                        fs::remove_file(&path).ok();
                        fs::rename(&aside, &path).ok();
                    }
                }
            }
        });
        for _ in 0..rounds {
            // Refusals and errors are fine; the canary is checked after each round.
            arena.archive(&tar, "/").ok();
        }
        done.store(true, Ordering::Relaxed);
    });
    arena.canary.check();
}

#[test]
fn u12_an_entry_for_the_root_must_be_a_directory() {
    for name in [".", "/", "./", "//", "/./."] {
        for is_layer in [true, false] {
            let arena = Arena::new();
            let before = arena.root().metadata().unwrap();
            let cases = [
                RawTar::default().symlink(name, arena.canary.text()),
                RawTar::default().hard_link(name, "x"),
                RawTar::default().node(name, b'6', (0, 0)),
                RawTar::default().node(name, b'3', (1, 3)),
                RawTar::default().raw(
                    &Raw {
                        name: name.trim_end_matches('/').as_bytes(),
                        ..Raw::default()
                    },
                    b"",
                ),
            ];
            for tar in cases {
                let tar = tar.end();
                let result = match is_layer {
                    true => arena.layer(&tar),
                    false => arena.archive(&tar, "/"),
                };
                assert!(
                    matches!(refused(result), RefusedError::Root | RefusedError::Empty),
                    "{name}"
                );
            }
            let directory = RawTar::default().dir(name, 0o700).end();
            match is_layer {
                true => arena.layer(&directory).unwrap(),
                false => arena.archive(&directory, "/").unwrap(),
            }
            let after = arena.root().metadata().unwrap();
            assert_eq!(after.ino(), before.ino());
            assert_eq!(after.mode(), before.mode());
        }
    }
    let arena = Arena::new();
    let nameless = RawTar::default().dir("", 0o777).end();
    assert_eq!(refused(arena.layer(&nameless)), RefusedError::Empty);
}

#[test]
fn u13_paths_that_climb_or_are_too_long_are_refused() {
    let long_name = "n".repeat(256);
    let long_path = "d/".repeat(2000) + "d";
    for (name, why) in [
        ("../x", RefusedError::DotDot),
        ("a/../../x", RefusedError::DotDot),
        ("a/..", RefusedError::DotDot),
        ("/../x", RefusedError::DotDot),
        (long_name.as_str(), RefusedError::TooLong),
        (long_path.as_str(), RefusedError::TooDeep { limit: 1024 }),
    ] {
        for is_layer in [true, false] {
            let arena = Arena::new();
            let tar = RawTar::default()
                .pax(b'x', &[("path", name)])
                .file("short", b"")
                .end();
            let result = match is_layer {
                true => arena.layer(&tar),
                false => arena.archive(&tar, "/"),
            };
            assert_eq!(refused(result), why, "{name}");
            assert_eq!(arena.names(), [""; 0]);
        }
    }
    let path_of_4k = format!("{}/x", "m".repeat(200)).repeat(21);
    let arena = Arena::new();
    let tar = RawTar::default()
        .pax(b'x', &[("path", &path_of_4k)])
        .file("short", b"")
        .end();
    assert_eq!(refused(arena.layer(&tar)), RefusedError::TooLong);
}

#[test]
fn u13_absolute_names_and_backslashes_stay_inside() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .file("/etc/f", b"1")
        .file(r"..\x", b"2")
        .file(r"C:\y", b"3")
        .end();
    arena.layer(&tar).unwrap();
    assert_eq!(arena.names(), [r"..\x", r"C:\y", "etc", "etc/f"]);
}

#[test]
fn u13_a_nul_in_a_pax_path_is_refused() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .pax(b'x', &[("path", "a\0b")])
        .file("short", b"")
        .end();
    assert!(matches!(
        arena.layer(&tar),
        Err(ExtractError::Archive(ArchiveError::Malformed { .. }))
    ));
}

#[test]
fn u17_hard_links_lead_to_files_of_the_tree_only() {
    for target in ["../canary/file", "/canary/file", "nothing", "", ".", "d"] {
        let arena = Arena::new();
        let tar = RawTar::default()
            .dir("d", 0o755)
            .hard_link("h", target)
            .end();
        let why = refused(arena.layer(&tar));
        assert!(
            matches!(
                why,
                RefusedError::LinkTarget { .. } | RefusedError::DotDot | RefusedError::Empty
            ),
            "{target}: {why}"
        );
    }
}

#[test]
fn u24_whiteouts_mean_what_the_table_says() {
    type Case = (
        &'static str,
        RawTar,
        Result<Vec<(&'static str, &'static str)>, RefusedError>,
    );
    let whiteout = |name| RawTar::default().file(name, b"");
    let cases: Vec<Case> = vec![
        (".wh.", whiteout("d/.wh."), Err(RefusedError::Whiteout)),
        (".wh..", whiteout("d/.wh.."), Err(RefusedError::Whiteout)),
        (".wh...", whiteout("d/.wh..."), Err(RefusedError::Whiteout)),
        (".wh.a/b", whiteout(".wh.a/b"), Err(RefusedError::Whiteout)),
        (
            "of a whiteout",
            whiteout(".wh..wh.x"),
            Err(RefusedError::Whiteout),
        ),
        (
            "aufs",
            whiteout(".wh..wh.aufs"),
            Err(RefusedError::Whiteout),
        ),
        (
            "a directory",
            RawTar::default().dir(".wh.x", 0o755),
            Err(RefusedError::WhiteoutType),
        ),
        (
            "a link to one",
            whiteout(".wh.x").hard_link("y", "x"),
            Err(RefusedError::LinkTarget {
                target: "x".to_owned(),
            }),
        ),
        ("plain", whiteout(".wh.x"), Ok(vec![("x", "whiteout")])),
        (
            "opaque twice",
            RawTar::default()
                .dir("d", 0o755)
                .file("d/.wh..wh..opq", b"")
                .file("d/f", b"")
                .file("d/.wh..wh..opq", b""),
            Ok(vec![("d", "opaque"), ("d/f", "file")]),
        ),
        (
            "file after its whiteout",
            whiteout(".wh.x").file("x", b""),
            Ok(vec![("x", "file")]),
        ),
        (
            "file before its whiteout",
            RawTar::default().file("x", b"").file(".wh.x", b""),
            Ok(vec![("x", "file")]),
        ),
        (
            "directory after its whiteout",
            whiteout(".wh.x").dir("x", 0o755),
            Ok(vec![("x", "opaque")]),
        ),
        (
            "directory before its whiteout",
            RawTar::default().dir("x", 0o755).file(".wh.x", b""),
            Ok(vec![("x", "opaque")]),
        ),
        (
            "twice",
            whiteout(".wh.x").file(".wh.x", b""),
            Ok(vec![("x", "whiteout")]),
        ),
    ];
    for (what, tar, expected) in cases {
        let arena = Arena::new();
        let result = arena.layer(&tar.end());
        match expected {
            Err(why) => assert_eq!(refused(result), why, "{what}"),
            Ok(nodes) => {
                result.unwrap();
                let found = describe(&arena.root());
                let found: BTreeMap<&str, &str> = found
                    .iter()
                    .map(|(path, node)| (path.as_str(), kind_of(node)))
                    .collect();
                assert_eq!(found, nodes.into_iter().collect(), "{what}");
            }
        }
    }
}

fn kind_of(node: &str) -> &'static str {
    match node.split(' ').next() {
        Some("20000") => "whiteout",
        Some(mode) if mode.starts_with("10") => "file",
        Some(mode) if mode.starts_with('4') && node.ends_with("opaque") => "opaque",
        Some(mode) if mode.starts_with('4') => "directory",
        _ => "other",
    }
}

#[test]
fn an_archive_for_add_keeps_names_in_whiteout_form() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .file(".wh.x", b"1")
        .file(".wh..wh..opq", b"2")
        .end();
    arena.archive(&tar, "/d").unwrap();
    assert_eq!(arena.names(), ["d", "d/.wh..wh..opq", "d/.wh.x"]);
}

#[test]
fn a_device_that_would_be_a_whiteout_is_refused() {
    for is_layer in [true, false] {
        let arena = Arena::new();
        let tar = RawTar::default().node("x", b'3', (0, 0)).end();
        let result = match is_layer {
            true => arena.layer(&tar),
            false => arena.archive(&tar, "/"),
        };
        assert_eq!(refused(result), RefusedError::WhiteoutDevice);
    }
}

#[test]
fn overlayfs_attributes_are_not_taken_from_an_archive() {
    let arena = Arena::new();
    let tar = RawTar::default()
        .pax(
            b'x',
            &[
                ("SCHILY.xattr.user.overlay.opaque", "y"),
                ("SCHILY.xattr.user.overlay.redirect", "/etc"),
                ("SCHILY.xattr.trusted.overlay.opaque", "y"),
                ("SCHILY.xattr.user.kept", "value"),
            ],
        )
        .dir("d", 0o755)
        .end();
    arena.layer(&tar).unwrap();
    let directory = crate::disk::open_directory(&arena.path("d")).unwrap();
    let xattrs = crate::layer::diff::xattrs(&directory).unwrap();
    let expected = BTreeMap::from([(b"user.kept".to_vec(), b"value".to_vec())]);
    assert_eq!(xattrs, expected);
    assert!(!crate::layer::whiteout::is_opaque(&directory).unwrap());
}

#[test]
fn attributes_of_every_kind_of_entry_are_set() {
    let arena = Arena::new();
    let owned = |tar: RawTar| tar.pax(b'x', &[("uid", "4711"), ("gid", "4712"), ("mtime", "77.5")]);
    let mut tar = owned(RawTar::default()).dir("d", 0o2750);
    tar = owned(tar).raw(
        &Raw {
            name: b"d/f",
            mode: 0o6755,
            ..Raw::default()
        },
        b"",
    );
    tar = owned(tar).symlink("d/s", "nowhere");
    tar = owned(tar).node("d/p", b'6', (0, 0));
    tar = tar.file("d/plain", b"x");
    arena.layer(&tar.end()).unwrap();
    let of = |name: &str| {
        let metadata = arena.path(name).symlink_metadata().unwrap();
        (
            metadata.mode() & 0o7777,
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
        )
    };
    assert_eq!(of("d"), (0o2750, 4711, 4712, 77));
    assert_eq!(of("d/f"), (0o6755, 4711, 4712, 77));
    assert_eq!(of("d/s"), (0o777, 4711, 4712, 77));
    assert_eq!(of("d/p"), (0o644, 4711, 4712, 77));
    // Not the group that the directory would have handed down.
    assert_eq!(of("d/plain"), (0o644, 0, 0, 1_000_000_000));
}

#[test]
fn chown_replaces_every_owner() {
    let arena = Arena::new();
    fs::create_dir(arena.path("there")).unwrap();
    let tar = RawTar::default()
        .pax(b'x', &[("uid", "4711")])
        .dir("there", 0o750)
        .file("there/new/f", b"x")
        .end();
    let root = fs::File::open(arena.root()).unwrap();
    let options = ExtractOptions {
        owner: Some((12, 34)),
        limits: Limits::STANDARD,
    };
    extract(&*tar, root.as_fd(), Path::new("/"), &options).unwrap();
    for name in ["there", "there/new", "there/new/f"] {
        let metadata = arena.path(name).metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.gid()), (12, 34), "{name}");
    }
}

#[test]
fn existing_directories_keep_their_content_and_files_give_way() {
    let arena = Arena::new();
    fs::create_dir_all(arena.path("d/sub")).unwrap();
    fs::write(arena.path("d/old"), b"old").unwrap();
    fs::write(arena.path("d/sub/old"), b"old").unwrap();
    let tar = RawTar::default()
        .dir("d", 0o700)
        .file("d/new", b"new")
        .file("d/sub", b"a file now")
        .end();
    arena.archive(&tar, "/").unwrap();
    assert_eq!(arena.names(), ["d", "d/new", "d/old", "d/sub"]);
    assert_eq!(fs::read(arena.path("d/sub")).unwrap(), b"a file now");
}

#[test]
fn a_file_as_destination_is_an_error() {
    let arena = Arena::new();
    fs::write(arena.path("D"), b"").unwrap();
    let tar = RawTar::default().file("f", b"").end();
    assert_eq!(refused(arena.archive(&tar, "/D")), RefusedError::Parent);
}

#[test]
fn u25_links_of_the_tree_are_resolved_within_the_root() {
    let arena = Arena::new();
    fs::create_dir(arena.path("real")).unwrap();
    std::os::unix::fs::symlink("/real", arena.path("link")).unwrap();
    let tar = RawTar::default()
        .file("link/f", b"x")
        .hard_link("link/g", "link/f")
        .hard_link("h", "link/g")
        .end();
    arena.archive(&tar, "/").unwrap();
    assert_eq!(arena.names(), ["h", "link", "real", "real/f", "real/g"]);
    assert_eq!(arena.path("h").metadata().unwrap().nlink(), 3);
}

#[test]
fn the_last_entry_of_a_name_wins_in_any_order_of_kinds() {
    let arena = Arena::new();
    let mut tar = RawTar::default();
    for round in 0..50 {
        let name = format!("d{round}");
        tar = tar
            .dir(&name, 0o755)
            .file(&format!("{name}/a"), b"first")
            .file(&format!("{name}/a"), b"second")
            .file(&format!("{name}/b"), b"file")
            .dir(&format!("{name}/b"), 0o755)
            .file(&format!("{name}/b/in"), b"")
            .symlink(&format!("{name}/c"), "a")
            .file(&format!("{name}/c"), b"not a link")
            .hard_link(&format!("{name}/l"), &format!("{name}/a"))
            .hard_link(&format!("{name}/m"), &format!("{name}/l"))
            .hard_link(&format!("{name}/a"), &format!("{name}/a"));
    }
    arena.layer(&tar.end()).unwrap();
    for round in 0..50 {
        let read = |name: &str| fs::read(arena.path(&format!("d{round}/{name}"))).unwrap();
        assert_eq!(read("a"), b"second");
        assert_eq!(read("b/in"), b"");
        assert_eq!(read("c"), b"not a link");
        assert_eq!(read("m"), b"second");
    }
}

#[test]
fn a_file_is_no_parent() {
    let arena = Arena::new();
    let tar = RawTar::default().file("a", b"").file("a/b", b"").end();
    assert_eq!(refused(arena.layer(&tar)), RefusedError::Parent);
}

#[test]
fn d08_limits_are_named() {
    let arena = Arena::new();
    let root = fs::File::open(arena.root()).unwrap();
    let mut tar = RawTar::default();
    for number in 0..10 {
        tar = tar.file(&format!("f{number}"), b"");
    }
    let limits = Limits {
        entries: 9,
        ..Limits::STANDARD
    };
    let tar = tar.end();
    let error = apply(&*tar, Kind::Tar, root.as_fd(), Form::Layer, &limits).unwrap_err();
    assert_eq!(error.to_string(), "the archive has more than 9 entries");
}

#[test]
fn d08_an_eight_exbibyte_file_is_not_allocated() {
    let arena = Arena::new();
    let huge = RawTar::default().pax(b'x', &[("size", "9223372036854775807")]);
    assert!(arena.layer(&huge.file("f", b"little").end()).is_err());
    let sparse = RawTar::default().pax(
        b'x',
        &[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.realsize", "9223372036854775807"),
        ],
    );
    assert!(matches!(
        arena.layer(&sparse.file("f", b"0\n").end()),
        Err(ExtractError::Archive(ArchiveError::Malformed { .. }))
    ));
}

/// Random entries over few names, so that they collide; what is created must be what a model of
/// paths expects, and all of it below the root.
mod u20 {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        File(String),
        Dir(String),
        Symlink(String, String),
        HardLink(String, String),
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[abc]", 1..4).prop_map(|names| names.join("/"))
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => path().prop_map(Step::File),
            3 => path().prop_map(Step::Dir),
            2 => (path(), "(\\.\\./|/)?[abc](/[abc])?").prop_map(|(p, t)| Step::Symlink(p, t)),
            2 => (path(), path()).prop_map(|(p, t)| Step::HardLink(p, t)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn u20_many_threads_make_what_one_makes(steps in prop::collection::vec(step(), 1..30)) {
            // The same entries, one archive each: no work is ever pending between two of them.
            let together = Arena::new();
            let single = Arena::new();
            let mut tar = RawTar::default();
            let mut last = Ok(());
            for step in &steps {
                let add = |tar: RawTar| match step {
                    Step::File(path) => tar.file(path, path.as_bytes()),
                    Step::Dir(path) => tar.dir(path, 0o755),
                    Step::Symlink(path, target) => tar.symlink(path, target),
                    Step::HardLink(path, target) => tar.hard_link(path, target),
                };
                tar = add(tar);
                if last.is_ok() {
                    last = single.archive(&add(RawTar::default()).end(), "/");
                }
            }
            let whole = together.archive(&tar.end(), "/");
            prop_assert_eq!(whole.is_ok(), last.is_ok(), "{:?} {:?}", whole, last);
            if whole.is_ok() {
                let strip = |arena: &Arena| -> Vec<(String, String)> {
                    describe(&arena.root())
                        .into_iter()
                        // Directories without an entry of their own have the present time.
                        .map(|(path, node)| match kind_of(&node) {
                            "directory" => (path, "directory".to_owned()),
                            _ => (path, node),
                        })
                        .collect()
                };
                prop_assert_eq!(strip(&together), strip(&single));
            }
        }
    }
}
