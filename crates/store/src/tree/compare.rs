//! Finding out what has changed in a tree between two records of it, and saving that as a layer.

use std::collections::{BTreeSet, HashMap, btree_map};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::node;
use super::record::{Directory, Facts, Identity, Node, Record};
use crate::disk::{self, DiskError, Doing};
use crate::layer::whiteout;

/// What a tree was and is.
pub(super) struct Change<'a> {
    pub(super) before: &'a Record,
    pub(super) now: &'a Record,
    /// What the tree was equal to, topmost first.
    pub(super) lowers: &'a [PathBuf],
    /// Directories whose entries were changed and changed back.
    pub(super) put_back: &'a BTreeSet<&'a Path>,
}

/// Makes the empty directory `layer` the layer of what has changed in the tree at `top`.
pub(super) fn save(top: &Path, change: &Change<'_>, layer: &Path) -> Result<(), DiskError> {
    let root = disk::open_directory(layer)?;
    let mut walk = Walk {
        top,
        change,
        levels: vec![Level {
            name: c"",
            entries: change.now.directories[0].entries.iter(),
            now: &change.now.directories[0],
            before: change.before.directories.first(),
            fd: Some(disk::open_directory(top)?),
            saved: Some(root.try_clone().doing("opening", layer)?),
        }],
        layer,
        root,
        links: HashMap::new(),
    };
    while let Some(level) = walk.levels.last_mut() {
        match level.entries.next() {
            Some((name, node)) => walk.entry(name, node)?,
            None => {
                walk.mark_what_is_gone()?;
                walk.dress()?;
                walk.levels.pop();
            }
        }
    }
    Ok(())
}

/// A walk through the record of a tree; the tree itself is looked at where it has changed.
struct Walk<'a> {
    top: &'a Path,
    change: &'a Change<'a>,
    /// From the root to where the walk is.
    levels: Vec<Level<'a>>,
    layer: &'a Path,
    root: OwnedFd,
    /// First names of files that have several.
    links: HashMap<Identity, PathBuf>,
}

struct Level<'a> {
    name: &'a CStr,
    /// What is still to be looked at.
    entries: btree_map::Iter<'a, CString, Node>,
    now: &'a Directory,
    /// As it was, if it is the same directory.
    before: Option<&'a Directory>,
    /// Once it has to be looked at.
    fd: Option<OwnedFd>,
    /// The same directory in the layer, once it has to be there.
    saved: Option<OwnedFd>,
}

impl<'a> Walk<'a> {
    /// Saves a name if it has changed; goes into a directory.
    fn entry(&mut self, name: &'a CStr, node: &'a Node) -> Result<(), DiskError> {
        let before = self.levels.last().and_then(|level| level.before);
        let was = before.and_then(|before| before.entries.get(name));
        if let Some(place) = node.directory {
            return self.subdirectory(name, was, &node.facts, &self.change.now.directories[place]);
        }
        if self.has_changed(name, was, &node.facts)? {
            self.save(name, &node.facts)?;
        }
        Ok(())
    }

    fn subdirectory(
        &mut self,
        name: &'a CStr,
        was: Option<&'a Node>,
        facts: &Facts,
        now: &'a Directory,
    ) -> Result<(), DiskError> {
        let same = was.filter(|was| was.facts.identity == facts.identity);
        let same = same.and_then(|same| {
            let before = self.change.before.directories.get(same.directory?)?;
            Some((same.facts, before))
        });
        let is_dressed_alike = same.is_some_and(|(was, before)| {
            facts.is_dressed_like(&was) && before.xattrs == now.xattrs
        });
        let is_untouched = same.is_some_and(|(was, _)| was.changed == facts.changed);
        self.levels.push(Level {
            name,
            entries: now.entries.iter(),
            now,
            before: same.map(|(_, before)| before),
            fd: None,
            saved: None,
        });
        if is_dressed_alike && (is_untouched || self.is_put_back()) {
            return Ok(());
        }
        self.enter_layer()?;
        if was.is_some() && same.is_none() {
            let saved = self.levels.last().and_then(|level| level.saved.as_ref());
            let marked = saved.map(whiteout::make_opaque).transpose();
            marked.doing("marking as opaque", &self.here())?;
        }
        Ok(())
    }

    /// Says in the layer what the directory where the walk is has no more.
    fn mark_what_is_gone(&mut self) -> Result<(), DiskError> {
        let Some(level) = self.levels.last() else {
            return Ok(());
        };
        let (before, now) = (level.before, level.now);
        let names = before.into_iter().flat_map(|before| before.entries.keys());
        for name in names.filter(|&name| !now.entries.contains_key(name)) {
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
        self.change.put_back.contains(self.path().as_path())
    }

    /// Whether overlayfs would have copied up, or made, what has this name.
    fn has_changed(
        &mut self,
        name: &CStr,
        was: Option<&Node>,
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
        if !lost_a_name {
            return Ok(true);
        }
        self.open()?;
        let is_equal = self.equals_layer(name);
        Ok(!is_equal.doing("comparing", &self.at(name))?)
    }

    /// Whether it was elsewhere for the length of a step, out of its reach.
    fn was_laid_aside(&self, name: &CStr) -> bool {
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        self.change.put_back.contains(path.as_path())
    }

    /// Whether a file is what the layers have at its path.
    fn equals_layer(&self, name: &CStr) -> io::Result<bool> {
        let Some(directory) = self.levels.last().and_then(|level| level.fd.as_ref()) else {
            return Ok(false);
        };
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for lower in self.change.lowers {
            let lower = disk::open_directory(lower).map_err(|error| error.source)?;
            let theirs = match rustix::fs::openat2(&lower, &path, flags, Mode::empty(), resolve) {
                Ok(file) => file,
                Err(Errno::NOENT) => continue,
                // It is no file that has content.
                Err(_) => return Ok(false),
            };
            let ours = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            let have_equal_attributes = node::attributes(&ours)? == node::attributes(&theirs)?;
            return Ok(have_equal_attributes && same_bytes(File::from(ours), File::from(theirs))?);
        }
        Ok(false)
    }

    /// Copies one file into the layer.
    fn save(&mut self, name: &CStr, facts: &Facts) -> Result<(), DiskError> {
        self.enter_layer()?;
        let path = self.path().join(OsStr::from_bytes(name.to_bytes()));
        let Some(Level {
            fd: Some(from),
            saved: Some(to),
            ..
        }) = self.levels.last()
        else {
            return Ok(());
        };
        let at = self.layer.join(&path);
        if facts.links > 1 {
            if let Some(first) = self.links.get(&facts.identity) {
                let linked = rustix::fs::linkat(&self.root, first, to, name, AtFlags::empty());
                return linked.doing("linking", &at);
            }
            self.links.insert(facts.identity, path);
        }
        node::copy(from.as_fd(), name, to.as_fd()).doing("copying to", &at)
    }

    /// Opens the directory where the walk is, and those above it.
    fn open(&mut self) -> Result<(), DiskError> {
        for depth in 1..self.levels.len() {
            if let (None, Some(parent)) = (&self.levels[depth].fd, &self.levels[depth - 1].fd) {
                let opened = disk::open_directory_at(parent, self.levels[depth].name);
                self.levels[depth].fd = Some(opened.doing("opening", &self.here())?);
            }
        }
        Ok(())
    }

    /// Makes the directory where the walk is, and those above it, in the layer.
    fn enter_layer(&mut self) -> Result<(), DiskError> {
        self.open()?;
        for depth in 1..self.levels.len() {
            if let (None, Some(parent)) = (&self.levels[depth].saved, &self.levels[depth - 1].saved)
            {
                let name = self.levels[depth].name;
                let made = rustix::fs::mkdirat(parent, name, Mode::RWXU)
                    .and_then(|()| disk::open_directory_at(parent, name));
                self.levels[depth].saved = Some(made.doing("creating", &self.here())?);
            }
        }
        Ok(())
    }

    /// Gives the directory where the walk is its attributes in the layer, if it is there.
    fn dress(&self) -> Result<(), DiskError> {
        let Some(Level {
            fd: Some(fd),
            saved: Some(saved),
            ..
        }) = self.levels.last()
        else {
            return Ok(());
        };
        node::dress_directory(saved, fd).doing("setting the attributes of", &self.here())
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
