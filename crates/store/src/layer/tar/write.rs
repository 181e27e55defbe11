//! Writing tars whose bytes depend on nothing but the tree.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use tar::{EntryType, Header};

use super::{BLOCK_BYTES, EntryKind, Meta, XATTR};
use crate::layer::whiteout;

/// Why a tar could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// A file could not be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file was changed while it was packed.
    #[error("{path} changed its size while it was packed")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The output could not be written.
    #[error("writing the tar: {source}")]
    Write {
        /// What the output said.
        source: io::Error,
    },
}

/// Writes entries in the one form that `cli-and-outputs.md` §6.4 describes.
///
/// The caller sorts: parents before children, siblings by the bytes of their names.
pub struct TarWriter<'a> {
    output: &'a mut dyn Write,
    mtime_max: Option<i64>,
    buffer: Vec<u8>,
}

/// Fields of a ustar header end here; what is larger goes to a PAX record as well.
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
const MAX_MTIME: i64 = 0o77_777_777_777;
const NAME_BYTES: usize = 100;
const PREFIX_BYTES: usize = 155;

impl<'a> TarWriter<'a> {
    /// Begins a tar; modification times later than `mtime_max` become that.
    pub fn new(output: &'a mut dyn Write, mtime_max: Option<i64>) -> Self {
        Self {
            output,
            mtime_max,
            buffer: vec![0; 128 * 1024],
        }
    }

    /// Writes an entry; `path` is relative, without a slash at its end. For a file, `content` gives
    /// exactly its size in bytes; otherwise it is not read.
    ///
    /// # Errors
    ///
    /// The content is shorter or longer than announced, or reading or writing fails.
    pub fn append(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        meta: &Meta,
        content: &mut dyn Read,
    ) -> Result<(), TarError> {
        let mtime = self.mtime_max.map_or(meta.mtime, |max| meta.mtime.min(max));
        self.header(path, kind, meta, mtime)
            .map_err(|source| TarError::Write { source })?;
        if let EntryKind::File { size_bytes } = kind {
            self.content(path, size_bytes, content)?;
        }
        Ok(())
    }

    /// Writes a whiteout: `path` of the layers below is gone.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn append_whiteout(&mut self, path: &[u8]) -> Result<(), TarError> {
        self.append_whiteout_entry(&whiteout::path_of(path))
    }

    /// Does the same for a path that is in a whiteout's form already.
    pub(crate) fn append_whiteout_entry(&mut self, path: &[u8]) -> Result<(), TarError> {
        let meta = Meta {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        let kind = EntryKind::File { size_bytes: 0 };
        self.header(path, kind, &meta, 0)
            .map_err(|source| TarError::Write { source })
    }

    /// Writes the end of the archive.
    ///
    /// # Errors
    ///
    /// Writing fails.
    pub fn finish(self) -> Result<(), TarError> {
        self.output
            .write_all(&[0; 2 * BLOCK_BYTES])
            .map_err(|source| TarError::Write { source })
    }

    fn header(
        &mut self,
        path: &[u8],
        kind: EntryKind<'_>,
        meta: &Meta,
        mtime: i64,
    ) -> io::Result<()> {
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        let mut path = path.to_vec();
        let mut size_bytes = 0;
        let entry_type = match kind {
            EntryKind::Directory => {
                path.push(b'/');
                EntryType::Directory
            }
            EntryKind::File { size_bytes: size } => {
                size_bytes = size;
                EntryType::Regular
            }
            EntryKind::HardLink { target } => {
                set_link(&mut header, &mut records, target);
                EntryType::Link
            }
            EntryKind::Symlink { target } => {
                set_link(&mut header, &mut records, target);
                EntryType::Symlink
            }
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::CharDevice { major, minor } => {
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
                EntryType::Char
            }
            EntryKind::BlockDevice { major, minor } => {
                header.set_device_major(major)?;
                header.set_device_minor(minor)?;
                EntryType::Block
            }
        };
        header.set_entry_type(entry_type);
        set_path(&mut header, &mut records, &path);
        header.set_mode(meta.mode & 0o7777);
        header.set_uid(meta.uid.into());
        header.set_gid(meta.gid.into());
        header.set_size(size_bytes);
        header.set_mtime(u64::try_from(mtime).unwrap_or(0));
        records.add_if(meta.uid > MAX_ID, b"uid", meta.uid);
        records.add_if(meta.gid > MAX_ID, b"gid", meta.gid);
        records.add_if(size_bytes > MAX_SIZE, b"size", size_bytes);
        records.add_if(!(0..=MAX_MTIME).contains(&mtime), b"mtime", mtime);
        for (name, value) in &meta.xattrs {
            records.add(&[XATTR, name].concat(), value);
        }
        self.records(records)?;
        header.set_cksum();
        self.output.write_all(header.as_bytes())
    }

    fn records(&mut self, records: Records) -> io::Result<()> {
        if records.0.is_empty() {
            return Ok(());
        }
        let body: Vec<u8> = records.0.into_values().flatten().collect();
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        set_bytes(&mut header.as_old_mut().name, b"././@PaxHeader");
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(body.len() as u64);
        header.set_cksum();
        self.output.write_all(header.as_bytes())?;
        self.output.write_all(&body)?;
        self.pad(body.len() as u64)
    }

    fn content(
        &mut self,
        path: &[u8],
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), TarError> {
        let name = || PathBuf::from(String::from_utf8_lossy(path).into_owned());
        let mut left = size_bytes;
        loop {
            // One byte more than announced is asked for, to notice a file that has grown.
            let wanted = left
                .saturating_add(1)
                .min(self.buffer.len() as u64)
                .try_into()
                .unwrap_or(self.buffer.len());
            let count = match content.read(&mut self.buffer[..wanted]) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(TarError::Read {
                        path: name(),
                        source,
                    });
                }
            };
            match (count as u64, left) {
                (0, 0) => break,
                (0, _) => return Err(TarError::Changed { path: name() }),
                (count, left) if count > left => return Err(TarError::Changed { path: name() }),
                (_, _) => {}
            }
            left -= count as u64;
            self.output
                .write_all(&self.buffer[..count])
                .map_err(|source| TarError::Write { source })?;
        }
        self.pad(size_bytes)
            .map_err(|source| TarError::Write { source })
    }

    fn pad(&mut self, size_bytes: u64) -> io::Result<()> {
        let over = (size_bytes % BLOCK_BYTES as u64) as usize;
        if over == 0 {
            return Ok(());
        }
        self.output.write_all(&[0; BLOCK_BYTES][over..])
    }
}

/// PAX records of one entry, sorted by key.
#[derive(Default)]
struct Records(BTreeMap<Vec<u8>, Vec<u8>>);

impl Records {
    /// The length at the start of a record counts its own digits.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + decimal_digits(rest);
        if decimal_digits(length) + rest != length {
            length += 1;
        }
        let mut line = format!("{length} ").into_bytes();
        line.extend_from_slice(key);
        line.push(b'=');
        line.extend_from_slice(value);
        line.push(b'\n');
        self.0.insert(key.to_vec(), line);
    }

    fn add_if(&mut self, needed: bool, key: &[u8], value: impl ToString) {
        if needed {
            self.add(key, value.to_string().as_bytes());
        }
    }
}

fn decimal_digits(mut number: usize) -> usize {
    let mut digits = 1;
    while number >= 10 {
        number /= 10;
        digits += 1;
    }
    digits
}

fn set_path(header: &mut Header, records: &mut Records, path: &[u8]) {
    let Some(ustar) = header.as_ustar_mut() else {
        return;
    };
    if path.len() <= NAME_BYTES {
        set_bytes(&mut ustar.name, path);
    } else if let Some((prefix, name)) = split_path(path) {
        set_bytes(&mut ustar.prefix, prefix);
        set_bytes(&mut ustar.name, name);
    } else {
        set_bytes(&mut ustar.name, &path[..NAME_BYTES]);
        records.add(b"path", path);
    }
}

/// Splits at the first slash that leaves a name short enough, so that the split is unique.
fn split_path(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let from = path.len().checked_sub(NAME_BYTES + 1)?;
    let at = from + path[from..].iter().position(|&byte| byte == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (prefix.len() <= PREFIX_BYTES && !prefix.is_empty() && !name.is_empty())
        .then_some((prefix, name))
}

fn set_link(header: &mut Header, records: &mut Records, target: &[u8]) {
    let short = &target[..target.len().min(NAME_BYTES)];
    set_bytes(&mut header.as_old_mut().linkname, short);
    if target.len() > NAME_BYTES {
        records.add(b"linkpath", target);
    }
}

fn set_bytes(field: &mut [u8], bytes: &[u8]) {
    field[..bytes.len()].copy_from_slice(bytes);
}
