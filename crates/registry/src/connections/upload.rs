//! Sending a file: piece by piece, as fast as the server takes it, and noticing when it does not.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use reqwest::header::CONTENT_LENGTH;

use super::{blocking, classify};
use crate::config::Patience;
use crate::request::{OpenFile, RequestErrorKind};

const PIECE_BYTES: u64 = 512 << 10;

/// The file could not be read, as opposed to: the network failed.
#[derive(Debug)]
pub(super) struct Unreadable(io::Error);

impl Unreadable {
    pub(super) fn to_io(&self) -> io::Error {
        io::Error::new(self.0.kind(), self.0.to_string())
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unreadable {}

/// Sends these bytes of a file as the body of a request.
pub(super) async fn send(
    builder: reqwest::RequestBuilder,
    open: OpenFile,
    range: Range<u64>,
    patience: &Patience,
) -> Result<reqwest::Response, RequestErrorKind> {
    let file = blocking(move || open())
        .await
        .map_err(|source| RequestErrorKind::File { source })?;
    let length_bytes = range.end - range.start;
    let taken_bytes = Arc::new(AtomicU64::new(range.start));
    let body = reqwest::Body::wrap_stream(pieces(file, range, taken_bytes.clone()));
    let answer = builder
        .header(CONTENT_LENGTH, length_bytes)
        .body(body)
        .send();
    let mut answer = std::pin::pin!(answer);
    let after = patience.upload_timeout;
    let mut before_bytes = 0;
    loop {
        match tokio::time::timeout(after, &mut answer).await {
            Ok(answer) => return answer.map_err(|error| classify::kind_of(error, after)),
            Err(_) => {
                let now_bytes = taken_bytes.load(Ordering::Relaxed);
                if now_bytes == before_bytes {
                    return Err(RequestErrorKind::TimedOut { after });
                }
                before_bytes = now_bytes;
            }
        }
    }
}

fn pieces(
    file: File,
    range: Range<u64>,
    taken_bytes: Arc<AtomicU64>,
) -> impl Stream<Item = Result<Bytes, Unreadable>> {
    stream::try_unfold((file, range), move |(file, Range { start, end })| {
        let taken_bytes = taken_bytes.clone();
        async move {
            taken_bytes.store(start, Ordering::Relaxed);
            if start == end {
                return Ok(None);
            }
            let length = (end - start).min(PIECE_BYTES);
            let (piece, file) = blocking(move || {
                let mut piece = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                // Not where the file stands: what was opened may be one file, opened several times.
                file.read_exact_at(&mut piece, start)
                    .map(|()| (piece, file))
            })
            .await
            .map_err(Unreadable)?;
            Ok(Some((Bytes::from(piece), (file, start + length..end))))
        }
    })
}
