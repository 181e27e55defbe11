//! One header: its fields, and what they and the extended headers before it make of an entry.

use std::collections::BTreeMap;

use super::pax::{decimal, time};
use super::{Block, Entry, Extended, MalformedError, What};
use crate::layer::tar::XATTR;

/// The fields of a header that are needed, decoded.
pub(super) struct Header {
    pub(super) typeflag: u8,
    path: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    uid: i128,
    gid: i128,
    pub(super) size_bytes: u64,
    mtime_s: i64,
    major: i128,
    minor: i128,
}

impl Header {
    pub(super) fn parse(block: &Block) -> Result<Self, MalformedError> {
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
        // Readers that know of these fields read them of every kind of entry, and some stop without a
        // word at one that is no number: what follows would be seen by us alone.
        let has_device = matches!(typeflag, b'3' | b'4') || &block[257..262] == b"ustar";
        let device = |range: std::ops::Range<usize>, field| match has_device {
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
    pub(super) fn entry(mut self, extended: Extended) -> Result<Entry, MalformedError> {
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

pub(super) fn until_nul(bytes: &[u8]) -> Vec<u8> {
    bytes
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}
