//! The files of an image without unpacking it: its layers are read one over the other in memory.
//!
//! It serves to look at images, not to run them. So paths mean what they say: a parent that is a link
//! in a layer below is not followed.

use std::collections::BTreeMap;
use std::io;

use oci::{BaseLayer, Digest, Hasher};

use crate::content::ContentStore;
use crate::layer::Limits;
use crate::layer::apply::{self, ExtractError, UnpackError};
use crate::layer::tar::{Entry, TarReader, What};
use crate::layer::whiteout::{Mark, mark};

/// The files of an image, by path: `etc/passwd`. The root itself is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTree {
    files: BTreeMap<Vec<u8>, Placed>,
    layers: usize,
}

/// A file of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFile {
    /// What it is, and what is in it.
    pub kind: FileKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Size of its content.
        size_bytes: u64,
        /// Digest of its content.
        digest: Digest,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character or block device.
    Device {
        /// Whether it is a block device.
        block: bool,
        /// Major and minor number.
        number: (u32, u32),
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Placed {
    file: ListedFile,
    /// The layer that it came with last.
    layer: usize,
}

impl FileTree {
    /// Returns the files, by path.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &ListedFile)> {
        let files = self.files.iter();
        files.map(|(path, placed)| (path.as_slice(), &placed.file))
    }

    /// Returns the file at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&ListedFile> {
        self.files.get(path).map(|placed| &placed.file)
    }

    /// Puts a layer, whose blob is in the store, over what there is; blocks.
    ///
    /// # Errors
    ///
    /// The blob cannot be read, or is not the layer that it should be.
    pub fn add(&mut self, content: &ContentStore, layer: &BaseLayer) -> Result<(), UnpackError> {
        let blob = content.open(&layer.descriptor.digest)?;
        let limits = Limits::STANDARD;
        apply::read_layer(blob, layer, &limits, |decoded| {
            self.add_tar(decoded, &limits)
        })
    }

    /// Puts a layer, whose uncompressed tar this is, over what there is.
    ///
    /// # Errors
    ///
    /// It is malformed, passes a limit, has a name that leads out of it, or cannot be read.
    pub fn add_tar(&mut self, tar: impl io::Read, limits: &Limits) -> Result<(), ExtractError> {
        self.layers += 1;
        let mut reader = TarReader::new(tar, *limits);
        while let Some(entry) = reader.next()? {
            let path = apply::clean(&entry.path, limits)?;
            if path.is_empty() {
                continue;
            }
            let (parent, name) = match path.iter().rposition(|&byte| byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&path[..0], path.as_slice()),
            };
            match mark(name) {
                Mark::Whiteout(hidden) => {
                    let separator: &[u8] = if parent.is_empty() { b"" } else { b"/" };
                    let hidden = [parent, separator, hidden].concat();
                    self.hide_below(&hidden);
                    if self
                        .files
                        .get(&hidden)
                        .is_some_and(|p| p.layer < self.layers)
                    {
                        self.files.remove(&hidden);
                    }
                }
                Mark::Opaque => self.hide_below(parent),
                Mark::Senseless => {}
                Mark::None => {
                    if let Some(file) = self.file(&entry, &mut reader.content(), limits)? {
                        self.place(path, file);
                    }
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, path: Vec<u8>, file: ListedFile) {
        if file.kind != FileKind::Directory {
            self.remove_below(&path, |_| true);
        }
        let layer = self.layers;
        self.files.insert(path, Placed { file, layer });
    }

    /// Removes what layers below have within a directory.
    fn hide_below(&mut self, directory: &[u8]) {
        let layers = self.layers;
        self.remove_below(directory, |placed| placed.layer < layers);
    }

    fn remove_below(&mut self, directory: &[u8], is_meant: impl Fn(&Placed) -> bool) {
        let prefix = match directory {
            b"" => Vec::new(),
            directory => [directory, b"/"].concat(),
        };
        let below = self.files.range(prefix.clone()..);
        let below = below.take_while(|(path, _)| path.starts_with(&prefix));
        let meant: Vec<Vec<u8>> = below
            .filter(|(_, placed)| is_meant(placed))
            .map(|(path, _)| path.clone())
            .collect();
        for path in meant {
            self.files.remove(&path);
        }
    }

    fn file(
        &self,
        entry: &Entry,
        content: &mut impl io::Read,
        limits: &Limits,
    ) -> Result<Option<ListedFile>, ExtractError> {
        let kind = match &entry.what {
            What::Directory => FileKind::Directory,
            What::File { .. } => {
                let mut hashing = Hashing(Hasher::new());
                io::copy(content, &mut hashing)?;
                FileKind::File {
                    size_bytes: hashing.0.size_bytes(),
                    digest: hashing.0.finish(),
                }
            }
            What::HardLink { target } => {
                let target = self.files.get(&apply::clean(target, limits)?);
                return Ok(target.map(|placed| placed.file.clone()));
            }
            What::Symlink { target } => FileKind::Symlink {
                target: target.clone(),
            },
            What::Fifo => FileKind::Fifo,
            What::CharDevice { major, minor } => FileKind::Device {
                block: false,
                number: (*major, *minor),
            },
            What::BlockDevice { major, minor } => FileKind::Device {
                block: true,
                number: (*major, *minor),
            },
        };
        Ok(Some(ListedFile {
            kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime_s,
            xattrs: entry.xattrs.clone(),
        }))
    }
}

struct Hashing(Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use oci::{Compression, Descriptor, DiffId, Family, ImageSource, MediaType};

    /// A tree of layers; `d/` is a directory, `l>t` a link, `h=t` a hard link, anything else a file
    /// that holds its own name.
    fn tree(layers: &[&[&str]]) -> String {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut tree = FileTree::default();
        for names in layers {
            let mut builder = ::tar::Builder::new(Vec::new());
            for name in *names {
                let mut header = ::tar::Header::new_ustar();
                header.set_mode(0o644);
                header.set_size(0);
                if let Some((name, target)) = name.split_once('>') {
                    header.set_entry_type(::tar::EntryType::Symlink);
                    builder.append_link(&mut header, name, target).unwrap();
                } else if let Some((name, target)) = name.split_once('=') {
                    header.set_entry_type(::tar::EntryType::Link);
                    builder.append_link(&mut header, name, target).unwrap();
                } else if name.ends_with('/') {
                    header.set_entry_type(::tar::EntryType::Directory);
                    builder.append_data(&mut header, name, io::empty()).unwrap();
                } else {
                    header.set_size(name.len() as u64);
                    builder
                        .append_data(&mut header, name, name.as_bytes())
                        .unwrap();
                }
            }
            let tar = builder.into_inner().unwrap();
            let digest = store.content().put(&tar).unwrap();
            let media_type = MediaType::Layer(Family::Oci, Compression::Uncompressed);
            let layer = BaseLayer {
                descriptor: Descriptor::new(media_type, digest, tar.len() as u64),
                diff_id: DiffId(digest),
                source: ImageSource::Registry("x".parse().unwrap()),
            };
            tree.add(store.content(), &layer).unwrap();
        }
        let paths = tree.files().map(|(path, _)| String::from_utf8_lossy(path));
        paths.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn layers_lie_one_over_the_other() {
        for (layers, expected) in [
            (
                &[&["a", "d/", "d/b", "d/c"][..], &["d/b"]][..],
                "a d d/b d/c",
            ),
            (&[&["d/", "d/b", "dx"], &[".wh.d"]], "dx"),
            (
                &[&["d/", "d/b"], &["d/", "d/new", "d/.wh..wh..opq"]],
                "d d/new",
            ),
            (&[&["d/", "d/b"], &["d"]], "d"),
            (&[&["d/", "d/b"], &["d>x"]], "d"),
            (&[&["d/", "d/b"], &["d/.wh.b", "d/b"]], "d d/b"),
            (&[&["a", "h=a"]], "a h"),
            (&[&["h=a", "a"]], "a"),
            (&[&["h=a", "a"], &["h=a", "a"]], "a h"),
            (&[&["./a", "./"]], "a"),
        ] {
            assert_eq!(tree(layers), expected, "{layers:?}");
        }
    }

    #[test]
    fn a_name_that_leads_out_is_refused() {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(0);
        header.as_mut_bytes()[..4].copy_from_slice(b"../x");
        header.set_cksum();
        let error = FileTree::default()
            .add_tar(&header.as_bytes()[..], &Limits::STANDARD)
            .unwrap_err();
        assert!(error.to_string().contains("`../x`"), "{error}");
    }
}
