#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::fixture::TestStore;

fn identity(id: &str) -> CacheMountIdentity {
    CacheMountIdentity {
        id: id.to_owned(),
        content: None,
        attributes: None,
    }
}

fn take_empty(test: &TestStore, id: &str, sharing: CacheSharing) -> CacheMount {
    let nothing = || Ok::<_, DiskError>(None);
    let mounts = test.store.cache_mounts();
    mounts.acquire(&identity(id), sharing, nothing).unwrap()
}

#[test]
fn a_cache_is_found_again_by_its_id() {
    let test = TestStore::new();
    let first = take_empty(&test, "a", CacheSharing::Shared);
    assert_eq!(first.path().metadata().unwrap().mode() & 0o7777, 0o755);
    fs::write(first.path().join("f"), "x").unwrap();
    drop(first);
    let again = take_empty(&test, "a", CacheSharing::Locked);
    assert_eq!(fs::read(again.path().join("f")).unwrap(), b"x");
    let other = take_empty(&test, "b", CacheSharing::Shared);
    assert_ne!(other.path(), again.path());
}

#[test]
fn everything_in_an_identity_tells_caches_apart() {
    let plain = identity("a");
    let attributes = CacheMountAttributes {
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let owned = |uid| CacheMountIdentity {
        attributes: Some(CacheMountAttributes { uid, ..attributes }),
        ..identity("a")
    };
    let filled = CacheMountIdentity {
        content: Some(Digest::of(b"content")),
        ..identity("a")
    };
    let keys = [
        plain.key(),
        owned(0).key(),
        owned(1).key(),
        filled.key(),
        key(&plain, 1),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(!keys[..at].contains(one), "{at}");
    }
}

#[test]
fn p05_ids_are_stored_under_a_hash() {
    let test = TestStore::new();
    let long = "x".repeat(1 << 20);
    let ids = [
        "../..",
        "/etc",
        "/",
        "",
        ".",
        "..",
        "a/b",
        "\u{1}\n\0",
        "ä\u{202e}b",
        &long,
    ];
    let mounts = test.store.root().join("mounts");
    for id in ids {
        let mount = take_empty(&test, id, CacheSharing::Shared);
        let hash = mount.path().parent().unwrap();
        assert_eq!(hash.parent().unwrap(), mounts);
        let name = hash.file_name().unwrap().to_str().unwrap();
        assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    let listed = test.store.cache_mounts().list().unwrap();
    let mut found: Vec<&str> = listed.iter().map(|it| it.identity.id.as_str()).collect();
    let mut ids = ids.to_vec();
    found.sort_unstable();
    ids.sort_unstable();
    assert_eq!(found, ids);
}

#[test]
fn shared_users_meet_and_private_ones_do_not() {
    let test = TestStore::new();
    let one = take_empty(&test, "a", CacheSharing::Shared);
    let two = take_empty(&test, "a", CacheSharing::Shared);
    assert_eq!(one.path(), two.path());
    let alone = take_empty(&test, "a", CacheSharing::Private);
    let also_alone = take_empty(&test, "a", CacheSharing::Private);
    assert_ne!(alone.path(), one.path());
    assert_ne!(alone.path(), also_alone.path());
    let first = one.path().to_owned();
    drop((one, two));
    assert_eq!(
        take_empty(&test, "a", CacheSharing::Private).path(),
        first,
        "a directory that nobody uses is used again"
    );
}

#[test]
fn a_locked_cache_is_waited_for() {
    let test = TestStore::new();
    let held = take_empty(&test, "a", CacheSharing::Locked);
    assert!(test.store.cache_mounts().list().unwrap()[0].in_use);
    let (told, hear) = mpsc::channel();
    thread::scope(|scope| {
        for sharing in [CacheSharing::Locked, CacheSharing::Shared] {
            let (test, told) = (&test, told.clone());
            scope.spawn(move || told.send(take_empty(test, "a", sharing)));
        }
        assert!(hear.recv_timeout(Duration::from_millis(200)).is_err());
        let path = held.path().to_owned();
        drop(held);
        for _ in 0..2 {
            let next = hear.recv_timeout(Duration::from_secs(60)).unwrap();
            assert_eq!(next.path(), path);
        }
    });
    // A process that another test is starting holds all our locks until it executes its program.
    let released = Instant::now();
    while test.store.cache_mounts().list().unwrap()[0].in_use {
        assert!(released.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_new_cache_starts_with_a_copy() {
    let test = TestStore::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("canary"), "canary").unwrap();
    let source = tempfile::tempdir().unwrap();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("d/e")).unwrap();
    fs::write(at("d/e/f"), "content").unwrap();
    fs::set_permissions(at("d/e/f"), Permissions::from_mode(0o4640)).unwrap();
    fs::set_permissions(at("d"), Permissions::from_mode(0o1770)).unwrap();
    fs::set_permissions(source.path(), Permissions::from_mode(0o750)).unwrap();
    symlink(outside.path(), at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();

    let filled = CacheMountIdentity {
        content: Some(Digest::of(b"content")),
        ..identity("a")
    };
    let content = || disk::open_directory(source.path()).map(Some);
    let mounts = test.store.cache_mounts();
    let mount = mounts
        .acquire(&filled, CacheSharing::Shared, content)
        .unwrap();
    let mode = |name: &str| {
        let path = mount.path().join(name);
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    };
    assert_eq!(fs::read(mount.path().join("d/e/f")).unwrap(), b"content");
    assert_eq!(
        (mode("."), mode("d"), mode("d/e/f")),
        (0o750, 0o1770, 0o4640)
    );
    assert_eq!(
        fs::read_link(mount.path().join("link")).unwrap(),
        outside.path()
    );
    assert!(!mount.path().join("fifo").exists());
    drop(mount);

    fs::remove_file(at("d/e/f")).unwrap();
    let again = mounts
        .acquire(&filled, CacheSharing::Shared, || {
            Err(DiskError {
                doing: "asking for the content of",
                path: PathBuf::from("a cache that exists"),
                source: io::ErrorKind::Other.into(),
            })
        })
        .unwrap();
    assert!(again.path().join("d/e/f").exists());
}

#[test]
fn of_many_makers_one_wins() {
    let test = TestStore::new();
    let source = tempfile::tempdir().unwrap();
    for number in 0..50 {
        fs::write(source.path().join(number.to_string()), "x").unwrap();
    }
    let path = source.path();
    let paths: Vec<PathBuf> = thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let content = || disk::open_directory(path).map(Some);
                    let mounts = test.store.cache_mounts();
                    let sharing = CacheSharing::Shared;
                    let mount = mounts.acquire(&identity("a"), sharing, content).unwrap();
                    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 50);
                    mount.path().to_owned()
                })
            })
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(paths.iter().all(|path| *path == paths[0]));
    assert_eq!(test.store.cache_mounts().list().unwrap().len(), 1);
}
