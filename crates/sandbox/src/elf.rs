//! The first bytes of an ELF file: for which architecture it is, and whether it needs a loader.

use crate::Architecture;

/// Returns the architecture of the ELF program or library that begins with `header`.
///
/// 64 bytes are enough. `None` for anything that is not an ELF file of an architecture known here,
/// a script for example.
pub fn architecture_of(header: &[u8]) -> Option<Architecture> {
    let _ = header;
    todo!()
}
