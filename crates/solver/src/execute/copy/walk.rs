//! A walk over a directory: everything in it that the patterns leave, with its metadata.
//!
//! Most of the time that it takes is one system call for each file, so the directories of a level are
//! read on several threads. The order of the result depends on names alone all the same.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use graph::ignore::{Patterns, Verdict};
use rustix::fs::{AtFlags, FileType};

use super::parallel::in_parallel;
use super::select::{Entry, MAX_DEPTH, Meta, SelectError, Source, io_error, meta, read_names};
use super::tree::PlainPath;

/// A walk over a directory that keeps what the patterns leave.
pub(super) struct Walk<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) exclude: Option<&'a Patterns>,
    /// `--parents`: only what matches, and the directories above it.
    pub(super) wanted: Option<&'a Patterns>,
}

/// What the three lists of patterns say of a directory.
#[derive(Clone)]
struct Verdicts {
    ignored: Option<Verdict>,
    excluded: Option<Verdict>,
    wanted: Option<Verdict>,
}

/// A directory that is to be read.
struct Unread {
    path: PlainPath,
    /// Where its entries go.
    below: PathBuf,
    verdicts: Verdicts,
}

/// What of a directory is kept.
struct Kept {
    entry: Entry,
    /// What is to be read of it, if it is a directory.
    inside: Option<Inside>,
}

struct Inside {
    directory: Unread,
    /// It is out, or not itself wanted, and there only for what is in it.
    only_as_parent: bool,
}

/// A directory's entries that are kept.
type Listing = Vec<Listed>;

struct Listed {
    entry: Entry,
    /// Which directory of the next level it is, and whether it is there only for what is in it.
    inside: Option<(usize, bool)>,
}

impl Walk<'_> {
    /// Lists what is in the directory at `path`: parents first, names in byte order.
    pub(super) fn directory(&self, path: PlainPath) -> Result<Vec<Entry>, SelectError> {
        let verdicts = Verdicts {
            ignored: self.source.ignored.map(|patterns| {
                // The verdict of a directory further down follows from those above it.
                let mut verdict = patterns.root();
                let mut above = PlainPath::default();
                for component in path.as_path() {
                    above = above.join(component);
                    verdict = patterns.child(&verdict, above.as_bytes());
                }
                verdict
            }),
            excluded: self.exclude.map(Patterns::root),
            wanted: self.wanted.map(Patterns::root),
        };
        let mut level = vec![Unread {
            path,
            below: PathBuf::new(),
            verdicts,
        }];
        let mut levels: Vec<Vec<Listing>> = Vec::new();
        while !level.is_empty() {
            if let Some(directory) = level.first().filter(|_| levels.len() > MAX_DEPTH) {
                return Err(SelectError::TooDeep {
                    path: Path::new("/").join(directory.path.as_path()),
                });
            }
            let read = in_parallel(&level, self.source.threads, |directory| {
                self.children(directory)
            })?;
            let mut next = Vec::new();
            let mut listings = Vec::new();
            for kept in read {
                let listed = kept.into_iter().map(|Kept { entry, inside }| {
                    let inside = inside.map(|inside| {
                        next.push(inside.directory);
                        (next.len() - 1, inside.only_as_parent)
                    });
                    Listed { entry, inside }
                });
                listings.push(listed.collect());
            }
            levels.push(listings);
            level = next;
        }
        let mut entries = Vec::new();
        put_in_order(&mut levels, 0, &mut entries);
        Ok(entries)
    }

    fn children(&self, directory: &Unread) -> Result<Vec<Kept>, SelectError> {
        let Unread {
            path,
            below,
            verdicts,
        } = directory;
        let source = self.source;
        let handle = source.root.open_directory(path).map_err(io_error(path))?;
        let mut kept = Vec::new();
        for name in read_names(&handle).map_err(io_error(path))? {
            let child = path.join(&name);
            let stat = match rustix::fs::statat(&handle, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // Gone since the directory was read: the context is the user's, and alive.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Err(io_error(&child)(error.into())),
            };
            let owner = source.owner_kept(|| ownership::of_at(&handle, &*name, &stat));
            let meta = meta(&stat, owner.map_err(io_error(&child))?);
            kept.extend(self.entry(child, below.join(&name), meta, verdicts));
        }
        Ok(kept)
    }

    /// Returns what is kept of an entry.
    fn entry(&self, path: PlainPath, below: PathBuf, meta: Meta, above: &Verdicts) -> Option<Kept> {
        let relative = below.as_os_str().as_bytes();
        let judge = |patterns: Option<&Patterns>, above: &Option<Verdict>, path: &[u8]| {
            patterns
                .zip(above.as_ref())
                .map(|(patterns, above)| patterns.child(above, path))
        };
        let verdicts = Verdicts {
            ignored: judge(self.source.ignored, &above.ignored, path.as_bytes()),
            excluded: judge(self.exclude, &above.excluded, relative),
            wanted: judge(self.wanted, &above.wanted, relative),
        };
        let matches = |verdict: &Option<Verdict>| verdict.as_ref().is_some_and(Verdict::is_match);
        let out = matches(&verdicts.ignored) || matches(&verdicts.excluded);
        let wanted = verdicts.wanted.is_none() || matches(&verdicts.wanted);
        if meta.kind != FileType::Directory {
            let entry = Entry { below, path, meta };
            return (!out && wanted).then_some(Kept {
                entry,
                inside: None,
            });
        }
        let excepted = |patterns: Option<&Patterns>, path: &[u8]| {
            patterns.is_some_and(|patterns| patterns.may_except_below(path))
        };
        let enter = (!matches(&verdicts.ignored) || excepted(self.source.ignored, path.as_bytes()))
            && (!matches(&verdicts.excluded) || excepted(self.exclude, relative));
        enter.then(|| Kept {
            inside: Some(Inside {
                directory: Unread {
                    path: path.clone(),
                    below: below.clone(),
                    verdicts,
                },
                only_as_parent: out || !wanted,
            }),
            entry: Entry { below, path, meta },
        })
    }
}

/// Appends the first level's directory `at` and what is below it.
fn put_in_order(levels: &mut [Vec<Listing>], at: usize, entries: &mut Vec<Entry>) {
    let Some((level, deeper)) = levels.split_first_mut() else {
        return;
    };
    for Listed { entry, inside } in std::mem::take(&mut level[at]) {
        let place = entries.len();
        entries.push(entry);
        let Some((at, only_as_parent)) = inside else {
            continue;
        };
        put_in_order(deeper, at, entries);
        if only_as_parent && entries.len() == place + 1 {
            entries.pop();
        }
    }
}
