use super::*;

use std::cell::Cell;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::execute::copy::digest;
use crate::execute::copy::select::{Request, Selected, Source};
use crate::solver::Owners;

/// A directory of a user, and what is remembered of it.
struct Case {
    directory: tempfile::TempDir,
    remembered: Cell<Option<IndexRecord>>,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("file"), "one").unwrap();
        Self {
            directory,
            remembered: Cell::new(None),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn index(&self, root: &Root, now: SystemTime) -> FileIndex {
        FileIndex::new(root, now, || self.remembered.take()).expect("the kernel keeps these times")
    }

    fn select(&self) -> (Root, Vec<Selected>) {
        let root = Root::open_host(self.directory.path()).unwrap();
        let source = Source {
            root: &root,
            ignored: None,
            owners: Owners::Root,
            threads: NonZeroUsize::MIN,
        };
        let request = Request {
            path: "/",
            parents: false,
            exclude: None,
        };
        let selected = source.select(&request).unwrap();
        (root, selected)
    }

    /// Builds at `now`; returns the digest, and how many files the index knew.
    fn build_at(&self, now: SystemTime) -> (Digest, usize) {
        let (root, selected) = self.select();
        let index = self.index(&root, now);
        let entries = selected.iter().flat_map(|selected| &selected.entries);
        let known = entries.filter(|entry| index.get(&entry.meta).is_some());
        let known = known.count();
        let digest_with = |index| {
            let contents = digest::digest(&root, &selected, index, NonZeroUsize::MIN);
            contents.unwrap().digest
        };
        let with_index = digest_with(Some(&index));
        assert_eq!(with_index, digest_with(None));
        let known_lines = (0..index.known.len()).map(|at| index.known.line(at));
        let lines = known_lines.flat_map(|line| line.to_bytes());
        let unchanged = IndexRecord {
            device: index.device,
            lines: STANDARD_NO_PAD.encode(lines.collect::<Vec<_>>()),
        };
        self.remembered
            .set(Some(index.record().unwrap_or(unchanged)));
        (with_index, known)
    }

    /// Builds when all files have been still for long.
    fn build(&self) -> (Digest, usize) {
        self.build_at(later())
    }

    /// Changes a file's bytes, but neither its size nor its time of modification.
    fn change_secretly(&self, name: &str, content: &str) {
        let path = self.path(name);
        let before = fs::metadata(&path).unwrap();
        // Until the clock has ticked.
        loop {
            fs::write(&path, content).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
            let after = fs::metadata(&path).unwrap();
            assert_eq!(after.len(), before.len());
            assert_eq!(after.modified().unwrap(), before.modified().unwrap());
            let changed = |metadata: &fs::Metadata| (metadata.ctime(), metadata.ctime_nsec());
            if changed(&after) != changed(&before) {
                return;
            }
        }
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_secs(3600)
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let case = Case::new();
    fs::create_dir(case.path("directory")).unwrap();
    fs::write(case.path("directory/large"), vec![7; 300_000]).unwrap();
    fs::hard_link(case.path("file"), case.path("directory/also")).unwrap();
    symlink("../file", case.path("directory/link")).unwrap();
    let (first, known) = case.build();
    assert_eq!(known, 0);
    assert_eq!(case.build(), (first, 5));
    assert_eq!(case.build(), (first, 5));
}

#[test]
fn a_change_of_same_size_and_time_is_seen() {
    let case = Case::new();
    let (first, _) = case.build();
    case.change_secretly("file", "two");
    let (second, known) = case.build();
    assert_eq!(known, 0);
    assert_ne!(first, second);
    assert_eq!(case.build(), (second, 1));
}

#[test]
fn a_file_changed_within_the_tick_of_its_reading_is_read_again() {
    let case = Case::new();
    for _ in 0..3 {
        // Whatever is changed now may have the times of before.
        assert_eq!(case.build_at(SystemTime::now()).1, 0);
    }
}

#[test]
fn a_file_from_the_future_is_read_again() {
    let case = Case::new();
    // The clock was set back: the file is newer than the build.
    let now = SystemTime::now() - Duration::from_secs(3600);
    for _ in 0..3 {
        assert_eq!(case.build_at(now).1, 0);
    }
    // So it may have another content under its times later on.
    let future = fs::File::options().write(true).open(case.path("file"));
    future.unwrap().set_modified(later() + TICK).unwrap();
    for _ in 0..3 {
        assert_eq!(case.build().1, 0);
    }
}

#[test]
fn another_file_under_the_name_is_read() {
    let case = Case::new();
    fs::write(case.path("other"), "two").unwrap();
    let time = fs::metadata(case.path("file")).unwrap().modified().unwrap();
    let other = fs::File::options().write(true).open(case.path("other"));
    other.unwrap().set_modified(time).unwrap();
    let (first, _) = case.build();
    fs::rename(case.path("other"), case.path("file")).unwrap();
    let (second, _) = case.build();
    assert_ne!(first, second);
    // And a directory that takes the place of a file.
    fs::remove_file(case.path("file")).unwrap();
    fs::create_dir(case.path("file")).unwrap();
    assert_ne!(case.build().0, second);
}

#[test]
fn what_changes_while_it_is_read_is_not_kept() {
    let case = Case::new();
    let (root, selected) = case.select();
    let index = case.index(&root, later());
    case.change_secretly("file", "two");
    digest::digest(&root, &selected, Some(&index), NonZeroUsize::MIN).unwrap();
    assert!(
        index.record().is_none(),
        "it is kept under its former times"
    );
}

#[test]
fn attributes_are_read_every_time() {
    let case = Case::new();
    let path = case.path("file");
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(&path, "user.of-us", b"here", flags).is_err() {
        return;
    }
    let (first, _) = case.build();
    assert_eq!(case.build(), (first, 0));
    rustix::fs::removexattr(&path, "user.of-us").unwrap();
    let (second, known) = case.build();
    assert_ne!(first, second);
    assert_eq!(known, 0);
    assert_eq!(case.build(), (second, 1));
}

#[test]
fn files_that_are_gone_are_forgotten_in_the_end() {
    let case = Case::new();
    let (root, _) = case.select();
    let (first, _) = case.build();
    let record = case.remembered.take().unwrap();
    let line = Known::parse(&record.lines).line(0);
    let bytes: Vec<u8> = (0..MOST_UNSEEN as u64 + 2)
        .flat_map(|more| {
            let inode = line.identity.inode + more;
            let identity = Identity {
                inode,
                ..line.identity
            };
            Line { identity, ..line }.to_bytes()
        })
        .collect();
    let lines = STANDARD_NO_PAD.encode(bytes);
    case.remembered.set(Some(IndexRecord { lines, ..record }));
    assert_eq!(case.build(), (first, 1));
    fs::write(case.path("new"), "new").unwrap();
    case.build();
    let index = case.index(&root, later());
    assert_eq!(index.known.len(), 2, "the file and the new one");
}

#[test]
fn a_damaged_or_foreign_index_is_none() {
    let case = Case::new();
    let (first, _) = case.build();
    let record = case.remembered.take().unwrap();
    for (device, lines) in [
        (record.device, "no base64!"),
        (record.device, "AAAA"),
        (record.device, ""),
        (record.device + 1, record.lines.as_str()),
    ] {
        let lines = lines.to_owned();
        case.remembered.set(Some(IndexRecord { device, lines }));
        assert_eq!(case.build(), (first, 0));
    }
    assert!(Path::new(&case.path("file")).exists());
}
