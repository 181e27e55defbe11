//! eStargz: gzip in which every file can be fetched and read by itself.
//!
//! ```text
//! member  headers │ chunk of a file │ padding, headers │ chunk │ … │ stargz.index.json │ footer
//! ```
//!
//! The content of a file, in chunks of 4 MiB, begins with a gzip member of its own. The last entry of
//! the tar is the table of contents, which says where; the footer, an empty member, says where that
//! is. To everybody else it is a gzip stream with one file too many. (containerd's stargz snapshotter,
//! "eStargz: Standard-Compatible Extension to Tar.gz Layers for Lazy Pulling".)

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oci::{Descriptor, DiffId, Digest, Hasher};
use serde::Serialize;

use super::encode::{Encoded, Queue};
use super::{Encoding, gzip};
use crate::layer::apply::Limits;
use crate::layer::tar::{
    ArchiveError, Entry, EntryKind, MalformedError, Meta, TarReader, TarWriter, What,
};

/// Digest of the table of contents.
const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Size of the tar inside.
const TAR_BYTES: &str = "io.containers.estargz.uncompressed-size";
const TOC_NAME: &[u8] = b"stargz.index.json";
/// Bytes of a file that are read at once. It fixes digests: a change is a new encoder version.
const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// Returns whether a descriptor says that its blob has a table of contents.
pub(super) fn is_announced(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key(TOC_DIGEST)
}

/// Sends what `produce` writes, a tar, to `queue`, cut where members begin.
///
/// Where the tar breaks off, that is an error of kind [`io::ErrorKind::UnexpectedEof`], and the
/// producer will have said why.
pub(super) fn cut<'scope, T>(
    scope: &'scope Scope<'scope, '_>,
    queue: Queue,
    produce: impl FnOnce(&mut dyn Write) -> T,
) -> (T, io::Result<Cut>) {
    let (sender, receiver) = sync_channel(4);
    let cutter = scope.spawn(move || {
        let input = FromProducer {
            receiver,
            bytes: Vec::new(),
            position: 0,
        };
        Cutter::new(input, queue).run()
    });
    let mut output = ToCutter { sender };
    let produced = produce(&mut output);
    drop(output);
    match cutter.join() {
        Ok(cut) => (produced, cut),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// A tar of which everything was sent but the table of contents.
pub(super) struct Cut {
    hasher: Hasher,
    /// Size of what was sent.
    tar_bytes: u64,
    listed: Vec<Listed>,
}

/// A line of the table of contents, and the member in which its content is.
struct Listed {
    line: Line,
    member: Option<usize>,
}

impl Cut {
    /// Writes the table of contents and the footer; `ends` says where each member ends.
    pub(super) fn finish(
        self,
        encoding: Encoding,
        ends: &[u64],
        output: &mut (dyn Write + Send),
    ) -> io::Result<Encoded> {
        let Self {
            mut hasher,
            tar_bytes,
            listed,
        } = self;
        let start_of = |member: usize| match member.checked_sub(1) {
            None => 0,
            Some(before) => ends.get(before).copied().unwrap_or_default(),
        };
        let entries = listed.into_iter().map(|Listed { line, member }| Line {
            offset: member.map_or(0, start_of),
            ..line
        });
        let toc = serde_json::to_vec(&Toc {
            version: 1,
            entries: entries.collect(),
        })?;
        let mut entry = Vec::new();
        let meta = Meta {
            mode: 0o444,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: BTreeMap::new(),
        };
        let kind = EntryKind::File {
            size_bytes: toc.len() as u64,
        };
        let mut tar = TarWriter::new(&mut entry, None);
        tar.append(TOC_NAME, kind, &meta, &mut toc.as_slice())
            .and_then(|()| tar.finish())
            .map_err(io::Error::other)?;
        hasher.update(&entry);
        output.write_all(&gzip::member(encoding.level().unsigned_abs(), &entry)?)?;
        output.write_all(&footer(ends.last().copied().unwrap_or_default()))?;
        let annotations = [
            (TOC_DIGEST, Digest::of(&toc).to_string()),
            (TAR_BYTES, (tar_bytes + entry.len() as u64).to_string()),
        ];
        Ok(Encoded {
            diff_id: DiffId(hasher.finish()),
            annotations: annotations
                .map(|(key, value)| (key.to_owned(), value))
                .into(),
        })
    }
}

/// An empty member with the offset of the table's member in its header: 51 bytes.
fn footer(toc_offset: u64) -> Vec<u8> {
    let field = format!("{toc_offset:016x}STARGZ");
    let field_bytes = field.len() as u8;
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 255];
    footer.extend([field_bytes + 4, 0, b'S', b'G', field_bytes, 0]);
    footer.extend(field.bytes());
    // A stored block without bytes, the last one; then checksum and size.
    footer.extend([1, 0, 0, 0xff, 0xff]);
    footer.extend([0; 8]);
    footer
}

/// Reads the tar and sends it on.
struct Cutter {
    reader: TarReader<Recorded<FromProducer>>,
    queue: Queue,
    members: usize,
    tar_bytes: u64,
    listed: Vec<Listed>,
}

impl Cutter {
    fn new(input: FromProducer, queue: Queue) -> Self {
        let input = Recorded {
            input,
            bytes: Vec::new(),
        };
        Self {
            reader: TarReader::new(input, Limits::STANDARD),
            queue,
            members: 0,
            tar_bytes: 0,
            listed: Vec::new(),
        }
    }

    fn run(mut self) -> io::Result<Cut> {
        // How much of what is recorded belongs to entries; the rest is the end of the archive, which
        // comes after the table of contents.
        let mut of_entries = 0;
        while let Some(entry) = self.reader.next().map_err(archive_error)? {
            of_entries = self.recorded().len();
            let Some(size_bytes) = entry.size_bytes() else {
                self.list(Line::of(&entry)?, None);
                continue;
            };
            if size_bytes > 0 {
                self.send()?;
                of_entries = (size_bytes.wrapping_neg() % 512) as usize;
            }
            self.file(Line::of(&entry)?, size_bytes)?;
        }
        self.recorded().truncate(of_entries);
        if !self.recorded().is_empty() {
            self.send()?;
        }
        Ok(Cut {
            hasher: self.queue.hasher,
            tar_bytes: self.tar_bytes,
            listed: self.listed,
        })
    }

    /// Sends the content of a file, each chunk as a member.
    fn file(&mut self, first: Line, size_bytes: u64) -> io::Result<()> {
        let place = self.listed.len();
        let name = first.name.clone();
        let mut whole = Hasher::new();
        let mut offset = 0;
        self.list(first, None);
        while offset < size_bytes {
            let chunk_bytes = CHUNK_BYTES.min(size_bytes - offset);
            let mut chunk = self.reader.content().take(chunk_bytes);
            io::copy(&mut chunk, &mut io::sink())?;
            let bytes = self.recorded();
            let digest = Digest::of(bytes);
            whole.update(bytes);
            let member = self.send()?;
            if offset > 0 {
                self.list(Line::chunk(&name), None);
            }
            // The line of the file itself is that of its first chunk.
            if let Some(last) = self.listed.last_mut() {
                last.member = Some(member);
                last.line.chunk_offset = offset;
                last.line.chunk_size = if chunk_bytes == CHUNK_BYTES {
                    CHUNK_BYTES
                } else {
                    0
                };
                last.line.chunk_digest = Some(digest);
            }
            offset += chunk_bytes;
        }
        self.listed[place].line.digest = Some(whole.finish());
        Ok(())
    }

    fn list(&mut self, line: Line, member: Option<usize>) {
        self.listed.push(Listed { line, member });
    }

    fn recorded(&mut self) -> &mut Vec<u8> {
        &mut self.reader.input().bytes
    }

    /// Sends what was read since the last time; returns the number of the member it becomes.
    fn send(&mut self) -> io::Result<usize> {
        let bytes = std::mem::take(self.recorded());
        self.tar_bytes += bytes.len() as u64;
        self.queue.send(Vec::new(), bytes)?;
        self.members += 1;
        Ok(self.members - 1)
    }
}

fn archive_error(error: ArchiveError) -> io::Error {
    match error {
        ArchiveError::Read { source } => source,
        ArchiveError::Malformed {
            problem: MalformedError::Truncated,
            ..
        } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        ArchiveError::Malformed { .. } | ArchiveError::Limit { .. } => {
            io::Error::new(io::ErrorKind::InvalidData, error)
        }
    }
}

/// Keeps what is read from it.
struct Recorded<R> {
    input: R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Recorded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(count)
    }
}

/// The producer's end of the way to the cutter.
struct ToCutter {
    sender: SyncSender<Vec<u8>>,
}

impl Write for ToCutter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.sender.send(bytes.to_vec()) {
            Ok(()) => Ok(bytes.len()),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The cutter's end.
struct FromProducer {
    receiver: Receiver<Vec<u8>>,
    bytes: Vec<u8>,
    position: usize,
}

impl Read for FromProducer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.bytes.len() {
            let Ok(bytes) = self.receiver.recv() else {
                return Ok(0);
            };
            self.bytes = bytes;
            self.position = 0;
        }
        let left = &self.bytes[self.position..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.position += count;
        Ok(count)
    }
}

/// The table of contents.
#[derive(Serialize)]
struct Toc {
    version: u32,
    entries: Vec<Line>,
}

/// An entry of the tar, or a further chunk of a file. What is zero or empty is left out.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(rename = "modtime", skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    link_name: String,
    #[serde(skip_serializing_if = "is_zero")]
    mode: u64,
    #[serde(skip_serializing_if = "is_zero")]
    uid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    gid: u64,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_major: u64,
    #[serde(skip_serializing_if = "is_zero")]
    dev_minor: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<Digest>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Line {
    fn chunk(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: "chunk",
            ..Self::default()
        }
    }

    fn of(entry: &Entry) -> io::Result<Self> {
        let invalid = |what: &str| {
            let name = String::from_utf8_lossy(&entry.path);
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{name}: eStargz cannot express {what}"),
            )
        };
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map_err(|_| invalid("names that are not UTF-8"))
        };
        let time = jiff::Timestamp::from_second(entry.mtime_s);
        let mut line = Self {
            name: text(&entry.path)?,
            mtime: Some(time.map_err(|_| invalid("its time"))?.to_string()),
            mode: entry.mode.into(),
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            ..Self::default()
        };
        for (name, value) in &entry.xattrs {
            line.xattrs.insert(text(name)?, BASE64.encode(value));
        }
        match &entry.what {
            What::Directory => {
                line.kind = "dir";
                if !line.name.ends_with('/') {
                    line.name.push('/');
                }
            }
            What::File { size_bytes } => {
                line.kind = "reg";
                line.size = *size_bytes;
            }
            What::HardLink { target } => {
                line.kind = "hardlink";
                line.link_name = text(target)?;
            }
            What::Symlink { target } => {
                line.kind = "symlink";
                line.link_name = text(target)?;
            }
            What::Fifo => line.kind = "fifo",
            What::CharDevice { major, minor } => {
                line.kind = "char";
                (line.dev_major, line.dev_minor) = ((*major).into(), (*minor).into());
            }
            What::BlockDevice { major, minor } => {
                line.kind = "block";
                (line.dev_major, line.dev_minor) = ((*major).into(), (*minor).into());
            }
        }
        Ok(line)
    }
}
