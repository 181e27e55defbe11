#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something unexpected happens"
)]

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use oci::{Descriptor, Reference};

use super::*;
use crate::content::{CommitError, ReadError};
use crate::fixture::{Canary, TestStore};

const TEST: Kind = Kind::new("test");

#[test]
fn a_store_is_made_and_opened_again() {
    let test = TestStore::new();
    let root = test.store.root().to_owned();
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "2\n");
    let again = Store::open(&root).unwrap();
    assert_eq!(again.root(), root);
    // A store whose maker was killed before the version was written is completed.
    fs::remove_file(root.join("version")).unwrap();
    fs::remove_dir_all(root.join("records")).unwrap();
    Store::open(&root).unwrap();
    assert!(root.join("version").exists() && root.join("records").exists());
}

#[test]
fn many_open_a_new_store_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("deep/store");
    let name: Reference = "a:1".parse().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (root, name) = (&root, &name);
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                let image = Descriptor::of(oci::MediaType::Unknown("x".into()), &[number]);
                store.images().set(name, image).unwrap();
            });
        }
    });
    let store = Store::open(&root).unwrap();
    assert_eq!(store.images().list().unwrap().len(), 1);
}

#[test]
fn where_no_store_can_be_made_another_place_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let help = Store::open(&root).unwrap_err().help().unwrap();
        assert!(help.contains("--root or RBUILD_ROOT"), "{help}");
    }
}

#[test]
fn newer_damaged_and_foreign_directories_are_refused() {
    let test = TestStore::new();
    let root = test.store.root();
    fs::write(root.join("version"), "3\n").unwrap();
    let error = Store::open(root).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the store at {} has layout 3, this program knows layouts up to 2",
            root.display()
        )
    );
    fs::write(root.join("version"), b"\xff\xfe").unwrap();
    assert!(matches!(Store::open(root), Err(OpenError::Version { .. })));
    let foreign = test.directory.path().join("home");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), b"").unwrap();
    let error = Store::open(&foreign).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { ref name, .. } if name == "letter.txt"));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn threat_c03_nobody_else_can_list_or_open_the_store() {
    let test = TestStore::new();
    let root = test.store.root();
    fs::set_permissions(test.directory.path(), Permissions::from_mode(0o755)).unwrap();
    test.store.content().put(b"secret").unwrap();
    test.store
        .records()
        .put(TEST, &Digest::of(b"k"), &1)
        .unwrap();
    let _lock = test.store.lock(TEST, &Digest::of(b"k")).unwrap();
    let _draft = test.store.layers().draft().unwrap();
    assert_modes(root);
    let list = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"])
        .arg(root)
        .output()
        .unwrap();
    assert!(!list.status.success());
    // Loose modes of a store that is found are tightened.
    fs::set_permissions(root, Permissions::from_mode(0o777)).unwrap();
    Store::open(root).unwrap();
    assert_modes(root);
}

fn assert_modes(directory: &Path) {
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(mode(directory), 0o700, "{}", directory.display());
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            // What is in an image keeps its modes.
            true if path.ends_with("fs") || path.ends_with("work") => {}
            true => assert_modes(&path),
            false => assert_eq!(mode(&path), 0o600, "{}", path.display()),
        }
    }
}

#[test]
fn blobs_are_known_by_their_content() {
    let test = TestStore::new();
    let content = test.store.content();
    let digest = content.put(b"hello").unwrap();
    assert!(content.contains(&digest));
    assert_eq!(content.size(&digest).unwrap(), 5);
    assert_eq!(content.read(&digest, 5).unwrap(), b"hello");
    assert!(matches!(
        content.read(&digest, 4),
        Err(ReadError::TooLarge {
            size_bytes: 5,
            limit_bytes: 4,
            ..
        })
    ));
    let missing = Digest::of(b"other");
    assert!(matches!(
        content.open(&missing),
        Err(ReadError::Missing { .. })
    ));
    assert!(matches!(
        content.size(&missing),
        Err(ReadError::Missing { .. })
    ));
    fs::write(content.path(&digest), b"jello").unwrap();
    assert!(matches!(
        content.read(&digest, 5),
        Err(ReadError::Damaged { .. })
    ));
}

#[test]
fn r09_a_blob_other_than_announced_is_refused_and_nothing_stays() {
    use std::io::Write;
    let test = TestStore::new();
    let content = test.store.content();
    let announced = Descriptor::of(oci::MediaType::Unknown("x".into()), b"announced");
    let write = |bytes: &[u8]| {
        let mut writer = content.writer().unwrap();
        writer.write_all(bytes).unwrap();
        assert_eq!(writer.size_bytes(), bytes.len() as u64);
        writer.commit_expecting(&announced)
    };
    assert!(matches!(
        write(b"short"),
        Err(CommitError::Size { found_bytes: 5, .. })
    ));
    assert!(matches!(
        write(b"announceX"),
        Err(CommitError::Digest { .. })
    ));
    assert!(!content.contains(&announced.digest));
    write(b"announced").unwrap();
    write(b"announced").unwrap();
    drop(content.writer().unwrap());
    let own = fs::read_dir(test.store.root().join("tmp")).unwrap().next();
    let left: Vec<_> = fs::read_dir(own.unwrap().unwrap().path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["uses"]);
    assert_eq!(content.read(&announced.digest, 100).unwrap(), b"announced");
}

#[test]
fn records_survive_and_damaged_ones_are_misses() {
    let test = TestStore::new();
    let records = test.store.records();
    let key = Digest::of(b"key");
    assert_eq!(records.get::<Vec<u32>>(TEST, &key), None);
    records.put(TEST, &key, &vec![1, 2, 3]).unwrap();
    assert_eq!(records.get(TEST, &key), Some(vec![1, 2, 3]));
    records.put(TEST, &key, &vec![4]).unwrap();
    assert_eq!(records.get(TEST, &key), Some(vec![4]));
    assert_eq!(records.get::<String>(TEST, &key), None);
    let hex = key.hex();
    let path = test
        .store
        .root()
        .join("records/test")
        .join(&hex[..2])
        .join(&hex);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(records.get::<Vec<u32>>(TEST, &key), None, "cut at {cut}");
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(records.get::<Vec<u32>>(TEST, &key), None, "bit at {at}");
    }
    records.remove(TEST, &key).unwrap();
    records.remove(TEST, &key).unwrap();
    assert!(!path.exists());
}

#[test]
fn images_have_names_that_move() {
    let test = TestStore::new();
    let images = test.store.images();
    let image = |text: &str| Descriptor::of(oci::MediaType::Unknown("x".into()), text.as_bytes());
    let name = |text: &str| text.parse::<Reference>().unwrap();
    images.set(&name("alpine:3"), image("one")).unwrap();
    images.set(&name("example.com/x:3"), image("two")).unwrap();
    images.set(&name("alpine:3"), image("three")).unwrap();
    let list = images.list().unwrap();
    let of = |at: usize, key: &str| list[at].annotations[key].as_str();
    assert_eq!(list.len(), 2);
    assert_eq!(
        of(1, "io.containerd.image.name"),
        "docker.io/library/alpine:3"
    );
    assert_eq!(of(1, "org.opencontainers.image.ref.name"), "3");
    let found = images.get(&name("docker.io/library/alpine:3")).unwrap();
    assert_eq!(found.unwrap().digest, image("three").digest);
    assert_eq!(images.get(&name("alpine:4")).unwrap(), None);
    assert!(images.remove(&name("alpine:3")).unwrap().is_some());
    assert!(images.remove(&name("alpine:3")).unwrap().is_none());
    assert_eq!(images.list().unwrap().len(), 1);
    fs::write(test.store.root().join("index.json"), "[").unwrap();
    assert!(images.list().is_err());
    assert!(images.set(&name("alpine:3"), image("x")).is_err());
}

#[test]
fn a_lock_excludes_threads_and_ends_with_its_process() {
    let test = TestStore::new();
    let key = Digest::of(b"key");
    let lock = test.store.lock(TEST, &key).unwrap();
    assert!(test.store.try_lock(TEST, &key).unwrap().is_none());
    assert!(
        test.store
            .try_lock(TEST, &Digest::of(b"x"))
            .unwrap()
            .is_some()
    );
    drop(lock);
    let path = test.store.root().join("locks/test").join(key.hex());
    let mut holder = Command::new("flock")
        .arg(&path)
        .args(["sh", "-c", "echo held; exec sleep 1000"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 5];
    io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert!(test.store.try_lock(TEST, &key).unwrap().is_none());
    // The descriptor is inherited by the sleeping child; killing it is what lets go.
    let children = format!("/proc/{0}/task/{0}/children", holder.id());
    for child in fs::read_to_string(children).unwrap().split_whitespace() {
        Command::new("kill").args(["-9", child]).status().unwrap();
    }
    holder.wait().unwrap();
    test.store.lock(TEST, &key).unwrap();
}

#[test]
fn what_dead_processes_left_is_removed_and_the_living_are_spared() {
    let test = TestStore::new();
    let scratch = test.store.scratch().unwrap();
    fs::write(scratch.path().join("mine"), b"").unwrap();
    let dead = test
        .store
        .root()
        .join("tmp/00000000000000000000000000000000");
    let deep = dead.join("7/work/work").join("d/".repeat(300));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), b"").unwrap();
    let canary = Canary::new(test.directory.path());
    std::os::unix::fs::symlink(&canary.path, dead.join("7/link")).unwrap();
    std::os::unix::fs::chown(dead.join("7/work"), Some(100_000), Some(100_000)).unwrap();
    fs::set_permissions(dead.join("7/work/work"), Permissions::from_mode(0o000)).unwrap();
    Store::open(test.store.root()).unwrap();
    assert!(!dead.exists());
    assert!(scratch.path().join("mine").exists());
    canary.check();
}

#[test]
fn u23_removal_never_follows_swapped_links() {
    let rounds = crate::fixture::rounds(300);
    let directory = tempfile::tempdir().unwrap();
    let canary = Canary::new(directory.path());
    let tree = directory.path().join("canary-sibling");
    fs::create_dir(&tree).unwrap();
    let canary_path = canary.path.clone();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (sub, aside) = (tree.join("t/sub"), tree.join("t/aside"));
            while !done.load(Ordering::Relaxed) {
                // Each step may fail, whatever the other side is doing just now.
                if fs::rename(&sub, &aside).is_ok() {
                    std::os::unix::fs::symlink(&canary_path, &sub).ok();
                    fs::remove_file(&sub).ok();
                    fs::rename(&aside, &sub).ok();
                }
            }
        });
        for _ in 0..rounds {
            // Made where the other side does not look, for making it follows links.
            let next = tree.join("next");
            for name in ["a", "b", "sub/c", "sub/d/e"] {
                fs::create_dir_all(next.join(name)).unwrap();
                fs::write(next.join(name).join("file"), b"").unwrap();
            }
            fs::rename(next, tree.join("t")).unwrap();
            // The other side may add faster than we remove.
            while disk::remove_tree_path(&tree.join("t")).is_err() {}
        }
        done.store(true, Ordering::Relaxed);
    });
    disk::remove_tree_path(&tree).unwrap();
    assert!(!tree.exists());
    canary.check_content();
}

#[test]
fn a_store_of_layout_1_is_brought_up_to_date() {
    let test = TestStore::new();
    let root = test.store.root();
    let draft = test.store.layers().draft().unwrap();
    fs::write(draft.fs().join("f"), "made by an older rbuild").unwrap();
    let id = draft.publish().unwrap();
    // What layout 1 did not have.
    let home = root.join(format!("layers/{id}"));
    fs::remove_file(home.join("about")).unwrap();
    fs::write(root.join("version"), "1\n").unwrap();

    let migrated = Store::open(root).unwrap();
    assert_eq!(fs::read_to_string(root.join("version")).unwrap(), "2\n");
    assert!(home.join("about").exists());
    assert!(migrated.layers().contains(&id));
    let threads = std::num::NonZeroUsize::MIN;
    let verified = migrated.verify(crate::Repair::No, threads).unwrap();
    assert_eq!(verified.problems, []);
}
