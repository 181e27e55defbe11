//! Walking a tree: to record it, and to find out and save what has changed since it was recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::record::{Directory, Facts, Identity, Node, Record};
use super::{MAX_DEPTH, node};
use crate::disk::{self, DiskError, Doing};
use crate::layer::whiteout;

/// A walk through a tree.
pub(super) struct Walk<'a> {
    top: &'a Path,
    /// From the root to where the walk is.
    levels: Vec<Level>,
    record: Record,
    saving: Option<Saving<'a>>,
}

struct Level {
    name: CString,
    fd: OwnedFd,
    /// What is still to be looked at.
    names: std::vec::IntoIter<CString>,
    /// Its place in the record, and in that of before if it is the same directory.
    now: usize,
    before: Option<usize>,
    /// The same directory in the layer, once it has to be there.
    saved: Option<OwnedFd>,
}

/// Where changes are saved to.
struct Saving<'a> {
    layer: &'a Path,
    root: OwnedFd,
    before: &'a Record,
    /// What the tree was equal to, topmost first.
    lowers: &'a [PathBuf],
    put_back: &'a BTreeSet<&'a Path>,
    /// First names of files that have several.
    links: HashMap<Identity, PathBuf>,
}

impl<'a> Walk<'a> {
    pub(super) fn of(top: &'a Path) -> Self {
        Self {
            top,
            levels: Vec::new(),
            record: Record::default(),
            saving: None,
        }
    }

    /// Records the tree.
    pub(super) fn scan(mut self) -> Result<Record, DiskError> {
        self.run(None)?;
        Ok(self.record)
    }

    /// Records the tree, and makes an empty directory the layer of what differs from `before`.
    pub(super) fn compare(
        mut self,
        before: &'a Record,
        layer: &'a Path,
        lowers: &'a [PathBuf],
        put_back: &'a BTreeSet<&'a Path>,
    ) -> Result<Record, DiskError> {
        let root = disk::open_directory(layer)?;
        let saved = root.try_clone().doing("opening", layer)?;
        self.saving = Some(Saving {
            layer,
            root,
            before,
            lowers,
            put_back,
            links: HashMap::new(),
        });
        self.run(Some(saved))?;
        Ok(self.record)
    }

    fn run(&mut self, saved: Option<OwnedFd>) -> Result<(), DiskError> {
        let root = disk::open_directory(self.top)?;
        let before = self.saving.as_ref().map(|_| 0);
        self.enter(CString::default(), root, BTreeMap::new(), before)?;
        self.levels[0].saved = saved;
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => self.entry(name)?,
                None => {
                    self.mark_what_is_gone()?;
                    self.dress()?;
                    self.levels.pop();
                }
            }
        }
        Ok(())
    }

    /// Goes into a directory; `before` is where it was recorded.
    fn enter(
        &mut self,
        name: CString,
        fd: OwnedFd,
        xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
        before: Option<usize>,
    ) -> Result<(), DiskError> {
        let path = self.at(&name);
        if self.levels.len() > MAX_DEPTH {
            let error = io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("more than {MAX_DEPTH} directories, one in the other"),
            );
            return Err(error).doing("reading", &path);
        }
        let entries = disk::entries(&fd).doing("reading", &path)?;
        let mut names: Vec<CString> = entries.into_iter().map(|entry| entry.name).collect();
        names.sort();
        self.levels.push(Level {
            name,
            fd,
            names: names.into_iter(),
            now: self.record.directories.len(),
            before,
            saved: None,
        });
        self.record.directories.push(Directory {
            xattrs,
            entries: BTreeMap::new(),
        });
        Ok(())
    }

    fn before(&self) -> Option<&'a Directory> {
        let before = self.saving.as_ref()?.before;
        before.directories.get(self.levels.last()?.before?)
    }

    /// Records one name, and saves it if it has changed; goes into a directory.
    fn entry(&mut self, name: CString) -> Result<(), DiskError> {
        let facts = Facts::of(self.fd(), &name).doing("reading", &self.at(&name))?;
        if facts.is_null_device() {
            // A layer would say with it that something is gone. Overlayfs lets nobody make one.
            if self.saving.is_some() {
                let removed = rustix::fs::unlinkat(self.fd(), &name, AtFlags::empty());
                removed.doing("removing", &self.at(&name))?;
            }
            return Ok(());
        }
        self.record.newest = self.record.newest.max(facts.changed);
        let was = self
            .before()
            .and_then(|before| before.entries.get(&name))
            .copied();
        let is_directory = facts.kind() == FileType::Directory;
        let here = self.levels[self.levels.len() - 1].now;
        let place = self.record.directories.len();
        let node = Node {
            facts,
            directory: is_directory.then_some(place),
        };
        self.record.directories[here]
            .entries
            .insert(name.clone(), node);
        if is_directory {
            return self.subdirectory(name, was, &facts);
        }
        if self.saving.is_some() && self.has_changed(&name, was, &facts)? {
            self.save(&name, &facts)?;
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        name: CString,
        was: Option<Node>,
        facts: &Facts,
    ) -> Result<(), DiskError> {
        let path = self.at(&name);
        let fd = disk::open_directory_at(self.fd(), &name).doing("opening", &path)?;
        let xattrs = node::attributes(&fd).doing("reading the attributes of", &path)?;
        let same = was.filter(|was| was.facts.identity == facts.identity);
        let same = same.and_then(|same| Some((same.facts, same.directory?)));
        let is_dressed_alike = same.is_some_and(|(was, place)| {
            let saving = self.saving.as_ref();
            let before = saving.and_then(|saving| saving.before.directories.get(place));
            facts.is_dressed_like(&was) && before.is_some_and(|before| before.xattrs == xattrs)
        });
        let is_untouched = same.is_some_and(|(was, _)| was.changed == facts.changed);
        self.enter(name, fd, xattrs, same.map(|(_, place)| place))?;
        if self.saving.is_none() || is_dressed_alike && (is_untouched || self.is_put_back()) {
            return Ok(());
        }
        self.enter_layer()?;
        if was.is_some() && same.is_none() {
            let saved = self.levels.last().and_then(|level| level.saved.as_ref());
            let marked = saved.map(whiteout::make_opaque).transpose();
            marked.doing("marking as opaque", &path)?;
        }
        Ok(())
    }

    /// Says in the layer what the directory where the walk is has no more.
    fn mark_what_is_gone(&mut self) -> Result<(), DiskError> {
        let Some(before) = self.before() else {
            return Ok(());
        };
        for name in before.entries.keys() {
            let here = self.levels[self.levels.len() - 1].now;
            if self.record.directories[here].entries.contains_key(name) {
                continue;
            }
            self.enter_layer()?;
            if let Some(Level {
                saved: Some(saved), ..
            }) = self.levels.last()
            {
                whiteout::make(saved, name).doing("marking as deleted", &self.at(name))?;
            }
        }
        Ok(())
    }

    fn is_put_back(&self) -> bool {
        let path = self.path();
        let saving = self.saving.as_ref();
        saving.is_some_and(|saving| saving.put_back.contains(path.as_path()))
    }

    /// Whether overlayfs would have copied up, or made, what has this name.
    fn has_changed(
        &self,
        name: &CStr,
        was: Option<Node>,
        facts: &Facts,
    ) -> Result<bool, DiskError> {
        let Some(was) = was.map(|was| was.facts) else {
            return Ok(true);
        };
        if !facts.looks_like(&was) {
            return Ok(true);
        }
        if facts.changed == was.changed || self.was_laid_aside(name) {
            return Ok(false);
        }
        // Losing one of its names is a change of a file that overlayfs knows nothing of. Whether there
        // was more to it only its content tells.
        let lost_a_name = facts.links < was.links;
        Ok(!lost_a_name || !self.equals_layer(name).doing("comparing", &self.at(name))?)
    }

    /// Whether it was elsewhere for the length of a step, out of its reach.
    fn was_laid_aside(&self, name: &CStr) -> bool {
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        let saving = self.saving.as_ref();
        saving.is_some_and(|saving| saving.put_back.contains(path.as_path()))
    }

    /// Whether a file is what the layers have at its path.
    fn equals_layer(&self, name: &CStr) -> io::Result<bool> {
        let Some(saving) = &self.saving else {
            return Ok(false);
        };
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for lower in saving.lowers {
            let lower = disk::open_directory(lower).map_err(|error| error.source)?;
            let theirs = match rustix::fs::openat2(&lower, &path, flags, Mode::empty(), resolve) {
                Ok(file) => file,
                Err(Errno::NOENT) => continue,
                // It is no file that has content.
                Err(_) => return Ok(false),
            };
            let ours = rustix::fs::openat(self.fd(), name, flags, Mode::empty())?;
            let have_equal_attributes = node::attributes(&ours)? == node::attributes(&theirs)?;
            return Ok(have_equal_attributes && same_bytes(File::from(ours), File::from(theirs))?);
        }
        Ok(false)
    }

    /// Copies one file into the layer.
    fn save(&mut self, name: &CStr, facts: &Facts) -> Result<(), DiskError> {
        self.enter_layer()?;
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        let (Some(saving), Some(to)) = (&mut self.saving, &level.saved) else {
            return Ok(());
        };
        let at = saving.layer.join(&path);
        if facts.links > 1 {
            if let Some(first) = saving.links.get(&facts.identity) {
                let linked = rustix::fs::linkat(&saving.root, first, to, name, AtFlags::empty());
                return linked.doing("linking", &at);
            }
            saving.links.insert(facts.identity, path);
        }
        node::copy(level.fd.as_fd(), name, to.as_fd()).doing("copying to", &at)
    }

    /// Makes the directory where the walk is, and those above it, in the layer.
    fn enter_layer(&mut self) -> Result<(), DiskError> {
        for depth in 1..self.levels.len() {
            if self.levels[depth].saved.is_some() {
                continue;
            }
            let Some(parent) = &self.levels[depth - 1].saved else {
                continue;
            };
            let name = &self.levels[depth].name;
            let made = rustix::fs::mkdirat(parent, name, Mode::RWXU)
                .and_then(|()| disk::open_directory_at(parent, name));
            self.levels[depth].saved = Some(made.doing("creating", &self.here())?);
        }
        Ok(())
    }

    /// Gives the directory where the walk is its attributes in the layer, if it is there.
    fn dress(&self) -> Result<(), DiskError> {
        let Some(Level {
            fd,
            saved: Some(saved),
            ..
        }) = self.levels.last()
        else {
            return Ok(());
        };
        node::dress_directory(saved, fd).doing("setting the attributes of", &self.here())
    }

    fn fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.levels[self.levels.len() - 1].fd.as_fd()
    }

    /// Where the walk is, from the root.
    fn path(&self) -> PathBuf {
        let names = self.levels.iter().skip(1);
        names
            .map(|level| OsStr::from_bytes(level.name.to_bytes()))
            .collect()
    }

    fn here(&self) -> PathBuf {
        self.top.join(self.path())
    }

    fn at(&self, name: &CStr) -> PathBuf {
        self.here().join(OsStr::from_bytes(name.to_bytes()))
    }
}

fn same_bytes(left: File, right: File) -> io::Result<bool> {
    let (mut left, mut right) = (io::BufReader::new(left), io::BufReader::new(right));
    let (mut ours, mut theirs) = ([0; 8192], [0; 8192]);
    loop {
        let length = left.read(&mut ours)?;
        if length == 0 {
            return Ok(right.read(&mut theirs)? == 0);
        }
        match right.read_exact(&mut theirs[..length]) {
            Ok(()) if ours[..length] == theirs[..length] => {}
            Ok(()) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
