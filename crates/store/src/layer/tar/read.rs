//! Reading tars of others.
//!
//! A record's meaning must not depend on who reads it (CVE-2025-62518, RUSTSEC-2026-0066 to 0068):
//! where GNU tar and Go's reader are known to differ, or the archive is malformed in a way that
//! some readers overlook, it is refused. Sparse files are refused too.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{BLOCK_BYTES, XATTR};
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
            let header = RawHeader::parse(&block).map_err(malformed)?;
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

/// The fields of a header that are needed, decoded.
struct RawHeader {
    typeflag: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    uid: i128,
    gid: i128,
    size_bytes: u64,
    mtime_s: i64,
    major: i128,
    minor: i128,
}

impl RawHeader {
    fn parse(block: &Block) -> Result<Self, MalformedError> {
        check_sum(block)?;
        let is_ustar = &block[257..263] == b"ustar\0";
        if is_ustar && &block[508..512] == b"tar\0" {
            return Err(MalformedError::Star);
        }
        let mut path = until_nul(&block[0..100]);
        let prefix = until_nul(&block[345..500]);
        if is_ustar && !prefix.is_empty() {
            path = [prefix.as_slice(), b"/", &path].concat();
        }
        let typeflag = block[156];
        let is_device = matches!(typeflag, b'3' | b'4');
        let device = |range: std::ops::Range<usize>, field| match is_device {
            true => number(&block[range], field),
            false => Ok(0),
        };
        let mode = number(&block[100..108], "mode")?;
        let size = number(&block[124..136], "size")?;
        let mtime = number(&block[136..148], "mtime")?;
        Ok(Self {
            typeflag,
            path,
            link: until_nul(&block[157..257]),
            // Some writers put the file type into the upper bits.
            mode: u32::try_from(mode & 0o7777)
                .map_err(|_| MalformedError::Number { field: "mode" })?,
            uid: number(&block[108..116], "uid")?,
            gid: number(&block[116..124], "gid")?,
            size_bytes: i64::try_from(size)
                .ok()
                .and_then(|size| u64::try_from(size).ok())
                .ok_or(MalformedError::Number { field: "size" })?,
            mtime_s: i64::try_from(mtime).map_err(|_| MalformedError::Number { field: "mtime" })?,
            major: device(329..337, "devmajor")?,
            minor: device(337..345, "devminor")?,
        })
    }

    /// Joins the header with the extended ones before it.
    fn entry(mut self, extended: Extended) -> Result<Entry, MalformedError> {
        let mut xattrs = BTreeMap::new();
        let mut mtime_ns = 0;
        if let Some(name) = extended.long_name.as_ref() {
            self.path.clone_from(name);
        }
        if let Some(link) = extended.long_link.as_ref() {
            self.link.clone_from(link);
        }
        for (key, value) in extended.pax.unwrap_or_default() {
            match key.as_slice() {
                // GNU tar and Go do not agree on which of the two wins.
                b"path" if extended.long_name.is_some() => return Err(MalformedError::Twice),
                b"linkpath" if extended.long_link.is_some() => return Err(MalformedError::Twice),
                b"path" => self.path = value,
                b"linkpath" => self.link = value,
                b"size" => {
                    self.size_bytes = decimal(&value)
                        .and_then(|size| i64::try_from(size).ok())
                        .and_then(|size| u64::try_from(size).ok())
                        .ok_or(MalformedError::Number { field: "size" })?;
                }
                b"uid" => {
                    self.uid = decimal(&value).ok_or(MalformedError::Number { field: "uid" })?;
                }
                b"gid" => {
                    self.gid = decimal(&value).ok_or(MalformedError::Number { field: "gid" })?;
                }
                b"mtime" => {
                    (self.mtime_s, mtime_ns) =
                        time(&value).ok_or(MalformedError::Number { field: "mtime" })?;
                }
                _ => {
                    if let Some(name) = key.strip_prefix(XATTR) {
                        xattrs.insert(name.to_vec(), value);
                    }
                }
            }
        }
        Ok(Entry {
            what: self.what()?,
            uid: id(self.uid, "uid")?,
            gid: id(self.gid, "gid")?,
            path: self.path,
            mode: self.mode,
            mtime_s: self.mtime_s,
            mtime_ns,
            xattrs,
        })
    }

    fn what(&mut self) -> Result<What, MalformedError> {
        let typeflag = self.typeflag;
        let device = |number: i128, field| {
            u32::try_from(number).map_err(|_| MalformedError::Number { field })
        };
        let what = match typeflag {
            b'0' | b'7' | 0 if self.path.ends_with(b"/") => {
                // Only the oldest form means a directory by that, and readers agree on it.
                if typeflag != 0 || self.size_bytes > 0 {
                    return Err(MalformedError::FileOrDirectory);
                }
                What::Directory
            }
            b'0' | b'7' | 0 => {
                return Ok(What::File {
                    size_bytes: self.size_bytes,
                });
            }
            b'1' => {
                // All readers take it that a hard link has no content, whatever the field says.
                self.size_bytes = 0;
                What::HardLink {
                    target: std::mem::take(&mut self.link),
                }
            }
            b'2' => What::Symlink {
                target: std::mem::take(&mut self.link),
            },
            b'3' => What::CharDevice {
                major: device(self.major, "devmajor")?,
                minor: device(self.minor, "devminor")?,
            },
            b'4' => What::BlockDevice {
                major: device(self.major, "devmajor")?,
                minor: device(self.minor, "devminor")?,
            },
            b'5' => What::Directory,
            b'6' => What::Fifo,
            typeflag => return Err(MalformedError::Type { typeflag }),
        };
        if self.size_bytes > 0 {
            return Err(MalformedError::Content { typeflag });
        }
        Ok(what)
    }
}

/// Returns whether a block is a header whose checksum fits: the start of an archive.
pub(crate) fn is_header(block: &[u8]) -> bool {
    let Ok(block) = <&Block>::try_from(block) else {
        return false;
    };
    check_sum(block).is_ok()
}

/// The sum is that of the block with its own field as blanks; old writers summed signed bytes.
fn check_sum(block: &Block) -> Result<(), MalformedError> {
    let field = 148..156;
    let expected = number(&block[field.clone()], "checksum")?;
    let bytes = || {
        let bytes = block.iter().enumerate();
        bytes.map(|(at, &byte)| if field.contains(&at) { b' ' } else { byte })
    };
    let unsigned: i128 = bytes().map(i128::from).sum();
    let signed: i128 = bytes().map(|byte| i128::from(byte.cast_signed())).sum();
    if expected == unsigned || expected == signed {
        Ok(())
    } else {
        Err(MalformedError::Checksum)
    }
}

/// Reads octal digits amid blanks and NULs, or a base-256 number. An empty field is 0.
fn number(field: &[u8], name: &'static str) -> Result<i128, MalformedError> {
    let invalid = MalformedError::Number { field: name };
    match field.first() {
        Some(0x80) => Ok(field[1..]
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | i128::from(byte))),
        Some(0xff) => Ok(field[1..]
            .iter()
            .fold(-1, |sum, &byte| (sum << 8) | i128::from(byte))),
        _ => {
            let blank = |byte: &u8| *byte == b' ' || *byte == 0;
            let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
            let digits = &field[start..];
            let end = digits.iter().position(blank).unwrap_or(digits.len());
            // After the first NUL anything may follow, before it only blanks.
            let rest = &digits[end..];
            if rest
                .iter()
                .take_while(|byte| **byte != 0)
                .any(|b| *b != b' ')
            {
                return Err(invalid);
            }
            digits[..end].iter().try_fold(0, |sum, &byte| match byte {
                b'0'..=b'7' => Ok(sum * 8 + i128::from(byte - b'0')),
                _ => Err(invalid.clone()),
            })
        }
    }
}

/// An owner that the kernel can store; all ones mean "unchanged" to it.
fn id(number: i128, field: &'static str) -> Result<u32, MalformedError> {
    u32::try_from(number)
        .ok()
        .filter(|&id| id != u32::MAX)
        .ok_or(MalformedError::Number { field })
}

fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

fn put_once<T>(slot: &mut Option<T>, value: T) -> Result<(), MalformedError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(MalformedError::Twice),
    }
}

/// Splits a body into `length key=value\n` records.
fn parse_records(mut body: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, MalformedError> {
    let mut records = BTreeMap::new();
    while !body.is_empty() {
        let blank = body
            .iter()
            .take(10)
            .position(|&byte| byte == b' ')
            .ok_or(MalformedError::Record)?;
        let length = decimal(&body[..blank])
            .and_then(|length| usize::try_from(length).ok())
            .filter(|&length| length > blank + 1 && length <= body.len())
            .ok_or(MalformedError::Record)?;
        let (record, rest) = body.split_at(length);
        body = rest;
        let record = record[blank + 1..]
            .strip_suffix(b"\n")
            .ok_or(MalformedError::Record)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .filter(|&at| at > 0)
            .ok_or(MalformedError::Record)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        check_record(key, value)?;
        if records.insert(key.to_vec(), value.to_vec()).is_some() {
            return Err(MalformedError::Twice);
        }
    }
    Ok(records)
}

fn check_record(key: &[u8], value: &[u8]) -> Result<(), MalformedError> {
    let unsupported = || MalformedError::UnsupportedRecord {
        key: String::from_utf8_lossy(key).into_owned(),
    };
    if key.contains(&0) {
        return Err(MalformedError::Record);
    }
    match key {
        // An empty value withdraws the record to some readers and is the value to others.
        b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime" => {
            if value.is_empty() || value.contains(&0) {
                return Err(MalformedError::Record);
            }
        }
        key if key.starts_with(b"GNU.sparse.") || key.starts_with(b"SUN.holesdata") => {
            return Err(unsupported());
        }
        key if key.starts_with(XATTR) && key.len() == XATTR.len() => {
            return Err(MalformedError::Record);
        }
        _ => {}
    }
    Ok(())
}

/// GNU tar applies global records to what follows, Go's reader does not; so only those that change
/// nothing are let through, such as the commit that `git archive` notes.
fn check_global(body: &[u8]) -> Result<(), MalformedError> {
    for key in parse_records(body)?.into_keys() {
        let harmless = matches!(
            key.as_slice(),
            b"comment" | b"charset" | b"atime" | b"ctime" | b"uname" | b"gname" | b"hdrcharset"
        ) || key.starts_with(b"LIBARCHIVE.");
        if !harmless {
            return Err(MalformedError::UnsupportedRecord {
                key: String::from_utf8_lossy(&key).into_owned(),
            });
        }
    }
    Ok(())
}

/// Reads decimal digits, without sign or blanks.
fn decimal(text: &[u8]) -> Option<i128> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `seconds[.fraction]`, where both may be negative as a whole.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|&byte| byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, b"".as_slice()),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanos = (0..9).fold(0, |sum, at| {
        let digit = fraction.get(at).map_or(0, |digit| digit - b'0');
        sum * 10 + u32::from(digit)
    });
    Some(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests;
