//! From a compressed stream to tar bytes, within limits.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use oci::{DiffId, Hasher};

use super::Kind;

/// Largest zstd window, as a power of two: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Memory for one xz block's dictionary: that of `xz -9` twice over.
const XZ_MEMORY_KIB: u32 = 128 * 1024;
/// Below this many bytes any ratio is fine.
const RATIO_FREE_BYTES: u64 = 100 * 1024 * 1024;
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_IN_FLIGHT: usize = 8;

/// A stream that would grow beyond all bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A decompression bomb.
    #[error(
        "the archive grows to more than {limit} times its compressed size; if it is to be trusted, pack it again without compression"
    )]
    Ratio {
        /// Uncompressed bytes allowed for each compressed one.
        limit: u64,
    },
}

/// Returns a reader of the uncompressed bytes. Everything is decoded in this process, no program is
/// started for it (CVE-2014-9357).
pub(super) fn decoder<'a>(
    input: impl Read + Send + 'a,
    kind: Kind,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let input = BufReader::with_capacity(CHUNK_BYTES, input);
    Ok(match kind {
        Kind::Tar => Box::new(input),
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Kind::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Kind::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            input,
            true,
            XZ_MEMORY_KIB,
        )),
        Kind::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// The uncompressed bytes, decoded on a thread of their own.
pub(crate) struct Decoded {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Decoded {
    /// Reads to the end; an archive may be followed by bytes that count for the diff ID.
    fn drain(&mut self) -> io::Result<()> {
        self.chunks.iter().try_for_each(|chunk| chunk.map(drop))
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Decoded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            self.chunk = match self.chunks.recv() {
                Ok(chunk) => chunk?,
                Err(_) => Vec::new(),
            };
            self.at = 0;
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// Decodes `input` for `consume`; returns what that returned, and the digest of the whole stream.
///
/// `ratio` is how many bytes each compressed byte may become, beyond the first 100 MiB.
pub(crate) fn decode<T, E: From<io::Error>>(
    input: impl Read + Send,
    kind: Kind,
    ratio: u64,
    consume: impl FnOnce(&mut Decoded) -> Result<T, E>,
) -> Result<(T, DiffId), E> {
    thread::scope(|scope| {
        let (sender, chunks) = sync_channel(CHUNKS_IN_FLIGHT);
        let decoding = scope.spawn(move || decode_chunks(input, kind, ratio, &sender));
        let mut decoded = Decoded {
            chunks,
            chunk: Vec::new(),
            at: 0,
        };
        let consumed = consume(&mut decoded).and_then(|value| {
            decoded.drain()?;
            Ok(value)
        });
        // Without a receiver the other thread stops at its next chunk.
        drop(decoded);
        let diff_id = match decoding.join() {
            Ok(diff_id) => diff_id,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((consumed?, diff_id))
    })
}

fn decode_chunks(
    input: impl Read + Send,
    kind: Kind,
    ratio: u64,
    sender: &SyncSender<io::Result<Vec<u8>>>,
) -> DiffId {
    let compressed_bytes = AtomicU64::new(0);
    let counted = Counted {
        input,
        count: &compressed_bytes,
    };
    let mut hasher = Hasher::new();
    let mut failed = None;
    match decoder(counted, kind) {
        Err(error) => failed = Some(error),
        Ok(mut decoder) => loop {
            let chunk = match next_chunk(&mut decoder) {
                Ok(chunk) if chunk.is_empty() => break,
                Ok(chunk) => chunk,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            hasher.update(&chunk);
            let allowed = compressed_bytes
                .load(Ordering::Relaxed)
                .saturating_mul(ratio)
                .max(RATIO_FREE_BYTES);
            if kind != Kind::Tar && hasher.size_bytes() > allowed {
                failed = Some(io::Error::new(
                    io::ErrorKind::InvalidData,
                    DecodeError::Ratio { limit: ratio },
                ));
                break;
            }
            if sender.send(Ok(chunk)).is_err() {
                break;
            }
        },
    }
    if let Some(error) = failed
        && let Err(unsent) = sender.send(Err(error))
    {
        tracing::trace!(?unsent, "the reader had stopped before");
    }
    DiffId(hasher.finish())
}

/// Reads a whole chunk, or what is left; an error after some bytes comes with the next call.
fn next_chunk(decoder: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    decoder.take(CHUNK_BYTES as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

/// Counts the bytes read through it.
struct Counted<'a, R> {
    input: R,
    count: &'a AtomicU64,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}
