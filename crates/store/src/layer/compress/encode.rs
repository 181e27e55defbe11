//! The pipeline from tar bytes to a compressed stream.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crc32fast::Hasher as Crc;
use oci::{DiffId, Hasher};

use super::{Encoding, Format, estargz, gzip};

/// Uncompressed bytes of a zstd frame. It fixes digests: a change is a new encoder version.
const ZSTD_FRAME_BYTES: usize = 4 * 1024 * 1024;
const PLAIN_BLOCK_BYTES: usize = 1024 * 1024;

/// What is known of a stream once it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded {
    /// Digest of the tar inside.
    pub(crate) diff_id: DiffId,
    /// What a descriptor of it has to say.
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A part of the tar on its way to a worker, and where its result is expected.
struct Block {
    dictionary: Vec<u8>,
    bytes: Vec<u8>,
    reply: Sender<Packed>,
}

/// A part of the result.
struct Packed {
    bytes: io::Result<Vec<u8>>,
    checksum: Crc,
    size_bytes: u64,
}

/// Runs `produce` and writes what it writes to `output`, compressed.
///
/// `output` is used on a thread of its own. Its error, if any, is the inner result; `produce` sees a
/// broken pipe then, and what it made of that is in the outer one.
pub(crate) fn encode<T>(
    encoding: Encoding,
    threads: NonZeroUsize,
    output: &mut (dyn Write + Send),
    produce: impl FnOnce(&mut dyn Write) -> T,
) -> (T, io::Result<Encoded>) {
    // Copying needs no company.
    let workers = match encoding.format() {
        Format::Tar => 1,
        Format::Gzip | Format::Estargz | Format::Zstd => threads.get(),
    };
    let in_flight = 2 * workers + 1;
    let (to_workers, blocks) = sync_channel::<Block>(in_flight);
    let (to_writer, replies) = sync_channel::<Receiver<Packed>>(in_flight);
    let blocks = Mutex::new(blocks);
    thread::scope(|scope| {
        let blocks = &blocks;
        for _ in 0..workers {
            scope.spawn(move || work(encoding, blocks));
        }
        let writer = scope.spawn(move || {
            let ends = write_in_order(encoding, replies, output)?;
            Ok((ends, output))
        });
        let queue = Queue {
            to_workers,
            to_writer,
            hasher: Hasher::new(),
        };
        let written = || match writer.join() {
            Ok(written) => written,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let block_bytes = match encoding.format() {
            Format::Tar => PLAIN_BLOCK_BYTES,
            Format::Gzip => gzip::BLOCK_BYTES,
            Format::Zstd => ZSTD_FRAME_BYTES,
            Format::Estargz => {
                let (produced, cut) = estargz::cut(scope, queue, produce);
                let encoded =
                    written().and_then(|(ends, output)| cut?.finish(encoding, &ends, output));
                return (produced, encoded);
            }
        };
        let mut cutter = Cutter {
            block_bytes,
            primed: encoding.format() == Format::Gzip,
            dictionary: Vec::new(),
            bytes: Vec::with_capacity(block_bytes),
            queue,
        };
        let produced = produce(&mut cutter);
        let diff_id = cutter.finish();
        let encoded = written().and(diff_id).map(|diff_id| Encoded {
            diff_id,
            annotations: BTreeMap::new(),
        });
        (produced, encoded)
    })
}

/// Where the parts of the tar go in their order; all of them are hashed.
pub(super) struct Queue {
    to_workers: SyncSender<Block>,
    to_writer: SyncSender<Receiver<Packed>>,
    pub(super) hasher: Hasher,
}

impl Queue {
    pub(super) fn send(&mut self, dictionary: Vec<u8>, bytes: Vec<u8>) -> io::Result<()> {
        self.hasher.update(&bytes);
        let (reply, replies) = channel();
        let broken = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        // The writer learns of the block first: it is what stops everybody when it fails.
        self.to_writer.send(replies).map_err(|_| broken(()))?;
        let block = Block {
            dictionary,
            bytes,
            reply,
        };
        self.to_workers.send(block).map_err(|_| broken(()))
    }
}

/// Cuts what is written to it into blocks of one size.
struct Cutter {
    block_bytes: usize,
    primed: bool,
    dictionary: Vec<u8>,
    bytes: Vec<u8>,
    queue: Queue,
}

impl Cutter {
    fn send(&mut self) -> io::Result<()> {
        let bytes = std::mem::replace(&mut self.bytes, Vec::with_capacity(self.block_bytes));
        let dictionary = match self.primed {
            true => {
                let tail = bytes.len().saturating_sub(gzip::DICTIONARY_BYTES);
                std::mem::replace(&mut self.dictionary, bytes[tail..].to_vec())
            }
            false => Vec::new(),
        };
        self.queue.send(dictionary, bytes)
    }

    fn finish(mut self) -> io::Result<DiffId> {
        if !self.bytes.is_empty() {
            self.send()?;
        }
        Ok(DiffId(self.queue.hasher.finish()))
    }
}

impl Write for Cutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.block_bytes - self.bytes.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.bytes.extend_from_slice(taken);
        if self.bytes.len() == self.block_bytes {
            self.send()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses one block; nothing is carried over from the one before.
fn compress(encoding: Encoding, dictionary: &[u8], bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let level = encoding.level();
    match encoding.format() {
        Format::Tar => Ok(bytes),
        Format::Gzip => gzip::deflate(level.unsigned_abs(), dictionary, &bytes),
        Format::Estargz => gzip::member(level.unsigned_abs(), &bytes),
        Format::Zstd => zstd::bulk::compress(&bytes, level),
    }
}

fn work(encoding: Encoding, blocks: &Mutex<Receiver<Block>>) {
    loop {
        let next = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(block) = next else {
            return;
        };
        let mut checksum = Crc::new();
        if encoding.format() == Format::Gzip {
            checksum.update(&block.bytes);
        }
        let size_bytes = block.bytes.len() as u64;
        let packed = Packed {
            bytes: compress(encoding, &block.dictionary, block.bytes),
            checksum,
            size_bytes,
        };
        // Nobody waits for it any more where the writer has failed, which it says itself. Going on
        // empties the queue, so that the producer never waits for room in it.
        block.reply.send(packed).ok();
    }
}

/// Writes the blocks one after the other; returns where each ends in the output.
fn write_in_order(
    encoding: Encoding,
    replies: Receiver<Receiver<Packed>>,
    output: &mut (dyn Write + Send),
) -> io::Result<Vec<u64>> {
    // The blocks of a gzip stream are one member.
    let is_gzip = encoding.format() == Format::Gzip;
    let mut checksum = Crc::new();
    let mut size_bytes = 0;
    let mut ends = Vec::new();
    let mut end = 0;
    if is_gzip {
        output.write_all(&gzip::HEADER)?;
    }
    for reply in replies {
        // The producer gave up between announcing a block and handing it over.
        let Ok(packed) = reply.recv() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let bytes = packed.bytes?;
        output.write_all(&bytes)?;
        end += bytes.len() as u64;
        ends.push(end);
        checksum.combine(&packed.checksum);
        size_bytes += packed.size_bytes;
    }
    if is_gzip {
        output.write_all(&gzip::trailer(checksum.finalize(), size_bytes))?;
    }
    Ok(ends)
}
