//! Blobs: streamed to where they are kept, taken up again where the stream broke.
//!
//! ```text
//! answer ─► pieces ─► channel ─► one blocking thread: hash, write
//! ```
//!
//! The async side only counts. It never lets more through than the blob has, and when a connection
//! breaks it asks for the rest, the same server first and then the next.

use std::io::{self, Write};

use bytes::Bytes;
use oci::{Descriptor, Digest, Hasher, MediaType, Reference};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;

use super::FetchError;
use crate::client::Client;
use crate::connections::{Connections, Response, blocking};
use crate::endpoint::Endpoint;
use crate::request::{Request, RequestError, RequestErrorKind, Target, shown};
use crate::retry::Backoff;

/// How many pieces, of some hundred kilobytes at most, wait for the disk.
const PIECES_WAITING: usize = 16;

/// A server that breaks off is given as many tries again after this much has come through.
const PROGRESS_BYTES: u64 = 1 << 20;

/// Fetches `blob` of the repository of `reference` into `sink`.
pub(super) async fn fetch<W: Write + Send + 'static>(
    client: &Client,
    reference: &Reference,
    blob: &Descriptor,
    sink: W,
) -> Result<W, FetchError> {
    let (feed, pieces) = mpsc::channel(PIECES_WAITING);
    let writer = blocking(move || write(pieces, sink));
    let transfer = Transfer {
        client,
        reference,
        blob,
        received_bytes: 0,
        feed,
    };
    // The writer ends when the transfer, which owns the feed, has ended.
    let (fetched, written) = tokio::join!(transfer.run(), writer);
    let (sink, found) = written.map_err(|source| FetchError::Sink {
        blob: blob.digest,
        source,
    })?;
    let url = fetched?;
    if found != blob.digest {
        return Err(FetchError::Digest {
            url,
            expected: blob.digest,
            found,
        });
    }
    Ok(sink)
}

fn write<W: Write>(mut pieces: mpsc::Receiver<Bytes>, mut sink: W) -> io::Result<(W, Digest)> {
    let mut hasher = Hasher::new();
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece);
        sink.write_all(&piece)?;
    }
    Ok((sink, hasher.finish()))
}

struct Transfer<'a> {
    client: &'a Client,
    reference: &'a Reference,
    blob: &'a Descriptor,
    received_bytes: u64,
    feed: mpsc::Sender<Bytes>,
}

/// Why one answer did not bring the rest of the blob.
enum Stop {
    /// It may be had elsewhere, or later.
    Request(RequestError),
    /// Nobody is writing any more.
    Sink,
    /// It is no use going on.
    Fatal(FetchError),
}

impl From<RequestError> for Stop {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl Transfer<'_> {
    /// Asks the mirrors and then the registry; returns who gave the last piece.
    async fn run(mut self) -> Result<String, FetchError> {
        let connections = self.client.connections();
        for mirror in connections.mirrors(self.reference) {
            let endpoint = Endpoint::mirror(connections, self.reference, mirror).await;
            let stop = match endpoint {
                Ok(endpoint) => match self.from(&endpoint).await {
                    Ok(url) => return Ok(url),
                    Err(stop) => stop,
                },
                Err(error) => error.into(),
            };
            match stop {
                Stop::Sink => return Ok(String::new()),
                Stop::Request(error) => {
                    tracing::debug!(mirror = mirror.mirror.host(), %error, "mirror passed over");
                }
                Stop::Fatal(error) => {
                    tracing::debug!(mirror = mirror.mirror.host(), %error, "mirror passed over");
                }
            }
        }
        self.run_origin(connections).await
    }

    async fn run_origin(&mut self, connections: &Connections) -> Result<String, FetchError> {
        let mut backoff = Backoff::new(connections.patience);
        let mut reset_at_bytes = self.received_bytes + PROGRESS_BYTES;
        loop {
            let stop = match Endpoint::origin(connections, self.reference).await {
                Ok(endpoint) => match self.from(&endpoint).await {
                    Ok(url) => return Ok(url),
                    Err(stop) => stop,
                },
                Err(error) => error.into(),
            };
            if self.received_bytes >= reset_at_bytes {
                reset_at_bytes = self.received_bytes + PROGRESS_BYTES;
                backoff.progressed();
            }
            match stop {
                Stop::Sink => return Ok(String::new()),
                Stop::Fatal(error) => return Err(error),
                Stop::Request(error) => {
                    let waited = backoff.wait(error).await;
                    waited.map_err(|error| self.error(error))?;
                }
            }
        }
    }

    /// Gets the rest of the blob from `endpoint`.
    async fn from(&mut self, endpoint: &Endpoint) -> Result<String, Stop> {
        let url = endpoint.blob(self.blob.digest);
        let mut request = Request::new("fetch blob", Method::GET, Target::named(url));
        if self.received_bytes > 0 && self.received_bytes < self.blob.size {
            let range = format!("bytes={}-", self.received_bytes);
            // Digits are legal in a header.
            let range = HeaderValue::from_str(&range).ok();
            request.headers.extend(range.map(|range| (RANGE, range)));
        }
        let mut response = self
            .client
            .call(endpoint, &endpoint.pull_scope(), &request)
            .await?;
        let mut skip_bytes = match response.status() {
            StatusCode::OK => self.received_bytes,
            StatusCode::PARTIAL_CONTENT => {
                self.check_range(&response)?;
                0
            }
            _ => return Err(response.into_error().await.into()),
        };
        let coming_bytes = self.blob.size - self.received_bytes + skip_bytes;
        if let Some(length) = response.length_bytes()
            && length != coming_bytes
        {
            let found_bytes = self.blob.size - coming_bytes + length;
            return Err(self.wrong_size(&response, found_bytes));
        }
        while let Some(mut piece) = response.piece().await? {
            let skipped = piece
                .len()
                .min(usize::try_from(skip_bytes).unwrap_or(usize::MAX));
            skip_bytes -= skipped as u64;
            let piece = piece.split_off(skipped);
            self.take(&response, piece).await?;
        }
        if self.received_bytes < self.blob.size {
            return Err(response.error(RequestErrorKind::TooShort).into());
        }
        Ok(shown(response.url()))
    }

    async fn take(&mut self, response: &Response, piece: Bytes) -> Result<(), Stop> {
        let length = piece.len() as u64;
        if length > self.blob.size - self.received_bytes {
            return Err(self.wrong_size(response, self.received_bytes + length));
        }
        if length > 0 {
            self.feed.send(piece).await.map_err(|_| Stop::Sink)?;
            self.received_bytes += length;
        }
        Ok(())
    }

    /// A range must start where we are; servers that misread it would give us shifted content.
    fn check_range(&self, response: &Response) -> Result<(), Stop> {
        let expected = format!("bytes {}-{}/", self.received_bytes, self.blob.size - 1);
        let range = response.header(CONTENT_RANGE.as_str()).unwrap_or_default();
        if range.starts_with(&expected) {
            return Ok(());
        }
        Err(response
            .protocol_error("it is another range than was asked for")
            .into())
    }

    fn wrong_size(&self, response: &Response, found_bytes: u64) -> Stop {
        Stop::Fatal(FetchError::Size {
            url: shown(response.url()),
            blob: self.blob.digest,
            expected_bytes: self.blob.size,
            found_bytes,
        })
    }

    fn error(&self, source: RequestError) -> FetchError {
        let blob = self.blob.digest;
        let image = self.reference.to_string();
        if source.is_not_found() && matches!(self.blob.media_type, MediaType::ForeignLayer(..)) {
            return FetchError::ForeignLayer { blob, image };
        }
        FetchError::Request {
            blob,
            image,
            source,
        }
    }
}
