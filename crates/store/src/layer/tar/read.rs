//! Reading tars of others.
//!
//! A record's meaning must not depend on who reads it (CVE-2025-62518, RUSTSEC-2026-0066 to 0068):
//! where GNU tar and Go's reader are known to differ, or the archive is malformed in a way that
//! some readers overlook, it is refused. Sparse files are refused too.

mod header;
mod pax;

use std::collections::BTreeMap;
use std::io::{self, Read};

use header::{Header, until_nul};
use pax::{check_global, parse_records};

pub(crate) use header::is_header;

use super::BLOCK_BYTES;
use crate::layer::apply::Limits;

/// One entry, its content aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime_s: i64,
    pub(crate) mtime_ns: u32,
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// Returns the size of its content; `None` for what is no file.
    pub(crate) fn size_bytes(&self) -> Option<u64> {
        if let What::File { size_bytes } = self.what {
            return Some(size_bytes);
        }
        None
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File { size_bytes: u64 },
    HardLink { target: Vec<u8> },
    Symlink { target: Vec<u8> },
    Fifo,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not a well-formed tar, or one that readers understand differently.
    #[error("the archive is malformed at byte {at_byte}: {problem}")]
    Malformed {
        /// Where the header begins, in the uncompressed archive.
        at_byte: u64,
        /// What is wrong.
        problem: MalformedError,
    },
    /// It asks for more than the limit allows.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The stream ended early, or could not be decompressed.
    #[error("the archive cannot be read to its end: {source}")]
    Read {
        /// What the decompressor or the kernel said.
        #[from]
        source: io::Error,
    },
}

/// What is wrong with a tar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MalformedError {
    /// The checksum of a header does not fit.
    #[error("a header's checksum is wrong")]
    Checksum,
    /// A single block of zeros is followed by something else.
    #[error("a block of zeros is followed by more entries")]
    LoneZeroBlock,
    /// The archive ends in the middle of an entry.
    #[error("it ends in the middle of an entry")]
    Truncated,
    /// A numeric field does not hold a number, or one that is out of range.
    #[error("the field `{field}` does not hold a valid number")]
    Number {
        /// The field.
        field: &'static str,
    },
    /// A kind of entry that is not supported.
    #[error("entries of type `{}` are not supported", typeflag.escape_ascii())]
    Type {
        /// The type's letter.
        typeflag: u8,
    },
    /// An entry without content announces some.
    #[error("an entry of type `{}` has content", typeflag.escape_ascii())]
    Content {
        /// The type's letter.
        typeflag: u8,
    },
    /// A regular file whose name ends with a slash: a directory to some readers.
    #[error("a file's name ends with a slash")]
    FileOrDirectory,
    /// The header mixes the star format's fields with others.
    #[error("headers in star's format are not supported")]
    Star,
    /// A PAX record is not of the form `length key=value`.
    #[error("a PAX record is malformed")]
    Record,
    /// A PAX record whose meaning readers disagree on.
    #[error("the PAX record `{key}` is not supported here")]
    UnsupportedRecord {
        /// The record's key.
        key: String,
    },
    /// Two headers give the same entry a name, or its records twice.
    #[error("an entry has more than one extended header of a kind")]
    Twice,
    /// Extended headers are not followed by an entry.
    #[error("extended headers are not followed by an entry")]
    Dangling,
}

/// Reads entries one after the other; the content of each is read through [`TarReader::content`].
pub(crate) struct TarReader<R> {
    input: R,
    limits: Limits,
    at_byte: u64,
    entries: u64,
    content_left: u64,
    padding: usize,
    finished: bool,
}

/// Extended headers that belong to the next entry.
#[derive(Default)]
struct Extended {
    pax: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Extended {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

type Block = [u8; BLOCK_BYTES];

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R, limits: Limits) -> Self {
        Self {
            input,
            limits,
            at_byte: 0,
            entries: 0,
            content_left: 0,
            padding: 0,
            finished: false,
        }
    }

    /// Returns what it reads from, as far as it has read.
    pub(crate) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// Goes to the next entry; what is left of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        self.skip_content()?;
        let mut extended = Extended::default();
        loop {
            let header_at = self.at_byte;
            let malformed = |problem| ArchiveError::Malformed {
                at_byte: header_at,
                problem,
            };
            let Some(block) = self.header_block()? else {
                if !extended.is_empty() {
                    return Err(malformed(MalformedError::Dangling));
                }
                self.finished = true;
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(ArchiveError::Limit {
                    what: "entries",
                    limit: self.limits.entries,
                });
            }
            let header = Header::parse(&block).map_err(malformed)?;
            match header.typeflag {
                b'x' => {
                    let body = self.record_body(header.size_bytes, header_at)?;
                    let records = parse_records(&body).map_err(malformed)?;
                    put_once(&mut extended.pax, records).map_err(malformed)?;
                }
                b'g' => {
                    if !extended.is_empty() {
                        return Err(malformed(MalformedError::Dangling));
                    }
                    let body = self.record_body(header.size_bytes, header_at)?;
                    check_global(&body).map_err(malformed)?;
                }
                b'L' => {
                    let name = until_nul(&self.record_body(header.size_bytes, header_at)?);
                    put_once(&mut extended.long_name, name).map_err(malformed)?;
                }
                b'K' => {
                    let name = until_nul(&self.record_body(header.size_bytes, header_at)?);
                    put_once(&mut extended.long_link, name).map_err(malformed)?;
                }
                _ => {
                    let entry = header.entry(extended).map_err(malformed)?;
                    if let What::File { size_bytes } = entry.what {
                        self.expect_content(size_bytes);
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Returns a reader of the current entry's content, from where it was left off.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content { reader: self }
    }

    fn expect_content(&mut self, size_bytes: u64) {
        self.content_left = size_bytes;
        self.padding = (size_bytes.wrapping_neg() % BLOCK_BYTES as u64) as usize;
    }

    fn skip_content(&mut self) -> Result<(), ArchiveError> {
        if self.content_left > 0 {
            io::copy(&mut self.content(), &mut io::sink())?;
        }
        let padding = std::mem::take(&mut self.padding);
        self.exactly(&mut [0; BLOCK_BYTES][..padding])
    }

    /// Returns the next header, or `None` at the end of the archive.
    fn header_block(&mut self) -> Result<Option<Block>, ArchiveError> {
        if self.finished {
            return Ok(None);
        }
        let at_byte = self.at_byte;
        let Some(block) = self.block()? else {
            return Ok(None);
        };
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        match self.block()? {
            Some(block) if block.iter().any(|&byte| byte != 0) => Err(ArchiveError::Malformed {
                at_byte,
                problem: MalformedError::LoneZeroBlock,
            }),
            Some(_) | None => Ok(None),
        }
    }

    /// Reads a block; `None` where the stream ends before its first byte.
    fn block(&mut self) -> Result<Option<Block>, ArchiveError> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while filled < BLOCK_BYTES {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.truncated()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.at_byte += BLOCK_BYTES as u64;
        Ok(Some(block))
    }

    fn record_body(&mut self, size_bytes: u64, at_byte: u64) -> Result<Vec<u8>, ArchiveError> {
        let limit = self.limits.record_bytes;
        if size_bytes > limit {
            return Err(ArchiveError::Limit {
                what: "bytes in one extended header",
                limit,
            });
        }
        let size = usize::try_from(size_bytes).map_err(|_| ArchiveError::Malformed {
            at_byte,
            problem: MalformedError::Number { field: "size" },
        })?;
        let mut body = vec![0; size.next_multiple_of(BLOCK_BYTES)];
        self.exactly(&mut body)?;
        // Readers do not agree on whether a name ends with its size or with its NUL, which may be
        // behind it.
        if body[size..].iter().any(|&byte| byte != 0) {
            return Err(ArchiveError::Malformed {
                at_byte,
                problem: MalformedError::Record,
            });
        }
        body.truncate(size);
        Ok(body)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<(), ArchiveError> {
        match self.input.read_exact(buffer) {
            Ok(()) => {
                self.at_byte += buffer.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.truncated()),
            Err(error) => Err(error.into()),
        }
    }

    fn truncated(&self) -> ArchiveError {
        ArchiveError::Malformed {
            at_byte: self.at_byte,
            problem: MalformedError::Truncated,
        }
    }
}

/// Reads the content of one entry.
pub(crate) struct Content<'a, R> {
    reader: &'a mut TarReader<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.reader.content_left).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.reader.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                MalformedError::Truncated,
            ));
        }
        self.reader.content_left -= count as u64;
        self.reader.at_byte += count as u64;
        Ok(count)
    }
}

fn put_once<T>(slot: &mut Option<T>, value: T) -> Result<(), MalformedError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(MalformedError::Twice),
    }
}

#[cfg(test)]
mod tests;
