//! gzip in independent blocks.
//!
//! Each block of 128 KiB is deflated with the 32 KiB before it as its dictionary and ends with a
//! sync flush, so blocks can be made in any order and joined. The whole is one gzip member, closed
//! by an empty final block; the checksums of the blocks are combined. The header is fixed.

use std::io;

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Uncompressed bytes of a block. It fixes digests: a change is a new encoder version.
pub(super) const BLOCK_BYTES: usize = 128 * 1024;

/// How far deflate can look back.
pub(super) const DICTIONARY_BYTES: usize = 32 * 1024;

/// No name, no time, system unknown (RFC 1952).
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// Returns a block's deflate stream, which ends at a byte without being final.
///
/// Each block gets an encoder of its own: one of zlib-rs 0.6 that was only reset does not always
/// give the same bytes as a new one, so they would depend on which thread had which blocks before.
/// It costs nothing that can be measured.
pub(super) fn deflate(level: u32, dictionary: &[u8], block: &[u8]) -> io::Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(level), false);
    if !dictionary.is_empty() {
        compress
            .set_dictionary(dictionary)
            .map_err(io::Error::other)?;
    }
    let mut output = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let consumed = usize::try_from(compress.total_in()).map_err(io::Error::other)?;
        compress
            .compress_vec(&block[consumed..], &mut output, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // Room left in the output says that nothing is pending in the encoder.
        if compress.total_in() == block.len() as u64 && output.len() < output.capacity() {
            return Ok(output);
        }
        output.reserve(block.len() / 2 + 1024);
    }
}

/// Returns the end of the member: an empty final block, checksum and size.
pub(super) fn trailer(checksum: u32, size_bytes: u64) -> Vec<u8> {
    let mut trailer = vec![0x03, 0x00];
    trailer.extend(checksum.to_le_bytes());
    // The size is kept modulo 2^32.
    trailer.extend(&size_bytes.to_le_bytes()[..4]);
    trailer
}

/// Returns a block as a member of its own.
pub(super) fn member(level: u32, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut checksum = Crc::new();
    checksum.update(block);
    let mut member = HEADER.to_vec();
    member.extend(deflate(level, &[], block)?);
    member.extend(trailer(checksum.sum(), block.len() as u64));
    Ok(member)
}
