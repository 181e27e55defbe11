//! The first bytes of an ELF file: for which architecture it is, and whether it needs a loader.

use std::io;
use std::os::unix::fs::FileExt;

use crate::Architecture;

const CLASS_32: u8 = 1;
const CLASS_64: u8 = 2;
const LITTLE: u8 = 1;
const BIG: u8 = 2;

/// Program header that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// The part of a header that tells architectures apart: word size, byte order, machine number.
pub(crate) const fn signature(architecture: Architecture) -> (u8, u8, u16) {
    match architecture {
        Architecture::I386 => (CLASS_32, LITTLE, 3),
        Architecture::Amd64 => (CLASS_64, LITTLE, 62),
        Architecture::Arm => (CLASS_32, LITTLE, 40),
        Architecture::Arm64 => (CLASS_64, LITTLE, 183),
        Architecture::Loong64 => (CLASS_64, LITTLE, 258),
        Architecture::Mips => (CLASS_32, BIG, 8),
        Architecture::Mipsle => (CLASS_32, LITTLE, 8),
        Architecture::Mips64 => (CLASS_64, BIG, 8),
        Architecture::Mips64le => (CLASS_64, LITTLE, 8),
        Architecture::Ppc64le => (CLASS_64, LITTLE, 21),
        Architecture::Riscv64 => (CLASS_64, LITTLE, 243),
        Architecture::S390x => (CLASS_64, BIG, 22),
    }
}

/// Returns the architecture of the ELF program or library that begins with `header`.
///
/// 20 bytes are enough. `None` for anything that is not an ELF file of an architecture known here,
/// a script for example.
pub fn architecture_of(header: &[u8]) -> Option<Architecture> {
    let header = header.get(..20)?;
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let machine = half(header, 18, header[5])?;
    let found = (header[4], header[5], machine);
    Architecture::ALL
        .into_iter()
        .find(|architecture| signature(*architecture) == found)
}

/// Returns the architecture of the ELF program `file`, and whether it runs without a loader of the file
/// system it is started in.
///
/// # Errors
///
/// The file cannot be read, or is not an ELF program.
pub(crate) fn is_static(file: &impl FileExt) -> io::Result<(Architecture, bool)> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0)?;
    let architecture = architecture_of(&header).ok_or_else(malformed)?;
    let order = header[5];
    let (table, size_at, count_at) = match header[4] {
        CLASS_32 => (word(&header, 28, order).map(u64::from), 42, 44),
        _ => (double_word(&header, 32, order), 54, 56),
    };
    let table = table.ok_or_else(malformed)?;
    let size = half(&header, size_at, order).ok_or_else(malformed)?;
    let count = half(&header, count_at, order).ok_or_else(malformed)?;
    for index in 0..u64::from(count) {
        let mut kind = [0; 4];
        let offset = index
            .checked_mul(u64::from(size))
            .and_then(|offset| offset.checked_add(table))
            .ok_or_else(malformed)?;
        file.read_exact_at(&mut kind, offset)?;
        if word(&kind, 0, order) == Some(PT_INTERP) {
            return Ok((architecture, false));
        }
    }
    Ok((architecture, true))
}

fn half(bytes: &[u8], at: usize, order: u8) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?.try_into().ok()?;
    match order {
        LITTLE => Some(u16::from_le_bytes(bytes)),
        BIG => Some(u16::from_be_bytes(bytes)),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize, order: u8) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    match order {
        LITTLE => Some(u32::from_le_bytes(bytes)),
        BIG => Some(u32::from_be_bytes(bytes)),
        _ => None,
    }
}

fn double_word(bytes: &[u8], at: usize, order: u8) -> Option<u64> {
    let bytes = bytes.get(at..at + 8)?.try_into().ok()?;
    match order {
        LITTLE => Some(u64::from_le_bytes(bytes)),
        BIG => Some(u64::from_be_bytes(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_a_program_of_the_host() {
        let bytes = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(architecture_of(&bytes), Architecture::host());
    }

    #[test]
    fn what_is_no_elf_file_has_no_architecture() {
        let cases: [&[u8]; 4] = [
            b"",
            b"#!/bin/sh\nexit 0\n      ",
            b"\x7fELF",
            b"\x7fELF\x02\x07\x01                    ",
        ];
        for header in cases {
            assert_eq!(architecture_of(header), None);
        }
    }
}
