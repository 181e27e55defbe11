//! Downloads: plain files over HTTP, for ADD and for build contexts.
//!
//! Nobody vouches for such a file: its size is not known before, and its digest only to those who
//! wrote it down. So the transfer is bounded in size, in time and by a least speed (`threats.md`
//! D3), and what an answer says of itself serves for nothing but to ask later whether it changed.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{
    ETAG, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::Client;
use crate::connections::{Response, blocking};
use crate::request::{Request, RequestError, RequestErrorKind, Target};
use crate::retry::Backoff;

/// The name of a file whose URL has none.
const UNNAMED: &str = "__unnamed__";

/// How many pieces, of some hundred kilobytes at most, wait for the disk.
const PIECES_WAITING: usize = 16;

/// What a download may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadLimits {
    /// Bytes in all.
    pub size_bytes: u64,
    /// The least average speed, once `grace` has passed.
    pub floor_bytes_per_second: u64,
    /// How long a server may be slower than that.
    pub grace: Duration,
    /// For the whole transfer.
    pub timeout: Duration,
}

impl DownloadLimits {
    /// What no honest server passes: 64 GiB, 1 KiB a second, six hours.
    pub const STANDARD: Self = Self {
        size_bytes: 64 << 30,
        floor_bytes_per_second: 1 << 10,
        grace: Duration::from_secs(60),
        timeout: Duration::from_secs(6 * 3600),
    };
}

/// What a server says of a file, by which it recognises the version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// `ETag`
    pub etag: Option<String>,
    /// `Last-Modified` as the server wrote it.
    pub last_modified: Option<String>,
}

impl Validators {
    /// Returns when the file was last changed, in seconds since 1970, if the server says so.
    pub fn modified(&self) -> Option<i64> {
        let text = self.last_modified.as_deref()?;
        let parser = jiff::fmt::rfc2822::DateTimeParser::new();
        Some(parser.parse_timestamp(text).ok()?.as_second())
    }

    fn of(response: &Response) -> Self {
        let text = |name: HeaderName| response.header(name.as_str()).map(str::to_owned);
        Self {
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
        }
    }

    fn ask(&self, request: &mut Request) {
        let asked = [
            (IF_NONE_MATCH, &self.etag),
            (IF_MODIFIED_SINCE, &self.last_modified),
        ];
        for (name, text) in asked {
            // They came as headers, so they can be headers; a damaged record asks for nothing.
            let value = text
                .as_deref()
                .and_then(|text| HeaderValue::from_str(text).ok());
            request.headers.extend(value.map(|value| (name, value)));
        }
    }

    fn are_none(&self) -> bool {
        let Self {
            etag,
            last_modified,
        } = self;
        etag.is_none() && last_modified.is_none()
    }
}

/// What a download brought.
#[derive(Debug)]
pub enum Downloaded<W> {
    /// The file is still the one that the caller has.
    Unchanged,
    /// The file, whole.
    File {
        /// What it was written to.
        sink: W,
        /// By what to ask for it the next time.
        validators: Validators,
    },
}

/// Why a file was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The address is none.
    #[error("`{url}` is not an http address: {reason}")]
    Url {
        /// The text, without password.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The server cannot be reached, refuses, or sends what is not accepted.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What arrives cannot be kept.
    #[error("download of {url}: {source}")]
    Sink {
        /// Where from, without query and password.
        url: String,
        /// What the system says.
        source: io::Error,
    },
}

impl DownloadError {
    /// Returns whether the server could not be asked, as opposed to having answered no.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_unreachable())
    }

    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            // What helps with a registry, such as a login, does not help here.
            Self::Request(error) => error.status().is_none().then(|| error.help())?,
            Self::Url { .. } | Self::Sink { .. } => None,
        }
    }
}

impl Client {
    /// Downloads a file, if it is not the one that `known` is about. `open` makes the place to write
    /// to, again for every try.
    ///
    /// User and password in the address are sent to its host, and not on to where that redirects.
    ///
    /// # Errors
    ///
    /// The address is none; the server cannot be reached, answers with another status than 200 or
    /// 304, redirects to where we do not go, sends too much or too slowly; writing fails.
    pub async fn download<W: Write + Send + 'static>(
        &self,
        url: &str,
        known: &Validators,
        limits: &DownloadLimits,
        open: impl Fn() -> io::Result<W>,
    ) -> Result<Downloaded<W>, DownloadError> {
        let address = address(url)?;
        let mut request = Request::new("download", Method::GET, Target::named(address.clone()));
        known.ask(&mut request);
        let sink_error = |source| DownloadError::Sink {
            url: crate::request::shown(&address),
            source,
        };
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            let error = match self.answer(&request, known).await {
                Ok(None) => return Ok(Downloaded::Unchanged),
                Ok(Some(response)) => {
                    let validators = Validators::of(&response);
                    let sink = open().map_err(sink_error)?;
                    match receive(response, limits, sink).await {
                        Ok(Ok(sink)) => return Ok(Downloaded::File { sink, validators }),
                        Ok(Err(source)) => return Err(sink_error(source)),
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            backoff.wait(error).await?;
        }
    }

    /// Asks for the file; `None` where it is the one that is known.
    async fn answer(
        &self,
        request: &Request,
        known: &Validators,
    ) -> Result<Option<Response>, RequestError> {
        let response = self.connections().send(request, None).await?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_MODIFIED if !known.are_none() => Ok(None),
            _ => Err(response.into_error().await),
        }
    }
}

/// Writes the body of an answer; the outer error is the network's, the inner the disk's.
async fn receive<W: Write + Send + 'static>(
    response: Response,
    limits: &DownloadLimits,
    mut sink: W,
) -> Result<io::Result<W>, RequestError> {
    let (feed, mut pieces) = mpsc::channel::<Bytes>(PIECES_WAITING);
    let writer = blocking(move || {
        while let Some(piece) = pieces.blocking_recv() {
            sink.write_all(&piece)?;
        }
        sink.flush()?;
        Ok(sink)
    });
    // The writer ends when the transfer, which owns the feed, has ended.
    let (received, written) = tokio::join!(transfer(response, limits, feed), writer);
    received.map(|()| written)
}

async fn transfer(
    mut response: Response,
    limits: &DownloadLimits,
    feed: mpsc::Sender<Bytes>,
) -> Result<(), RequestError> {
    let limit_bytes = limits.size_bytes;
    let too_large = || RequestErrorKind::TooLarge { limit_bytes };
    if response
        .length_bytes()
        .is_some_and(|length| length > limit_bytes)
    {
        return Err(response.error(too_large()));
    }
    let started = Instant::now();
    let mut received_bytes = 0;
    loop {
        let end = started + limits.timeout;
        let piece = match tokio::time::timeout_at(end, response.piece()).await {
            Ok(piece) => piece?,
            Err(_) => {
                let after = limits.timeout;
                return Err(response.error(RequestErrorKind::Unending { after }));
            }
        };
        let Some(piece) = piece else { return Ok(()) };
        received_bytes += piece.len() as u64;
        if received_bytes > limit_bytes {
            return Err(response.error(too_large()));
        }
        let elapsed = started.elapsed();
        let floor = limits.floor_bytes_per_second;
        if elapsed > limits.grace && received_bytes < floor.saturating_mul(elapsed.as_secs()) {
            return Err(response.error(RequestErrorKind::TooSlow {
                floor_bytes_per_second: floor,
            }));
        }
        if feed.send(piece).await.is_err() {
            // The writer has failed, and says why.
            return Ok(());
        }
    }
}

fn address(text: &str) -> Result<Url, DownloadError> {
    let refused = |reason: String| DownloadError::Url {
        url: text
            .split_once('@')
            .map_or(text, |(_, rest)| rest)
            .to_owned(),
        reason,
    };
    let url = Url::parse(text).map_err(|error| refused(error.to_string()))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(refused(format!("its scheme is {scheme}"))),
    }
}

/// Returns an address as messages show it: without user, password and query.
pub fn shown(url: &str) -> String {
    Url::parse(url).map_or_else(|_| url.to_owned(), |url| crate::request::shown(&url))
}

/// Returns the name that a downloaded file gets: the last segment of its URL's path, `__unnamed__`
/// where that is none that a file can have. No header has a say in it.
pub fn file_name(url: &str) -> String {
    let segment = Url::parse(url).ok().and_then(|url| {
        let path = url.path().trim_end_matches('/');
        let segment = path.rsplit('/').next()?;
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
        decoded.ok().map(Cow::into_owned)
    });
    // A segment may hold an encoded slash; what stands behind it is the name.
    let name = segment
        .as_deref()
        .map(|segment| segment.trim_end_matches('/'));
    let name = name
        .and_then(|name| name.rsplit('/').next())
        .unwrap_or_default();
    match name {
        "" | "." | ".." => UNNAMED.to_owned(),
        name if name.chars().any(char::is_control) => UNNAMED.to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p17_names_are_one_safe_component() {
        for (url, name) in [
            ("http://h/p/a.tar.gz", "a.tar.gz"),
            ("http://h/p/a%20b?x=/y#/z", "a b"),
            ("http://h/p/", "p"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h/..", "__unnamed__"),
            ("http://h/%2e%2e", "__unnamed__"),
            ("http://h/a%2f..", "__unnamed__"),
            ("http://h/..%2f..%2fetc%2fpasswd", "passwd"),
            ("http://h/a%2fb", "b"),
            ("http://h/%00", "__unnamed__"),
            ("http://h/%ff", "__unnamed__"),
            ("http://h/%zz", "%zz"),
        ] {
            assert_eq!(file_name(url), name, "{url}");
        }
    }

    #[test]
    fn times_are_read_as_http_writes_them() {
        let modified = |text: &str| {
            let last_modified = Some(text.to_owned());
            let etag = None;
            Validators {
                etag,
                last_modified,
            }
            .modified()
        };
        assert_eq!(modified("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(modified("yesterday"), None);
    }

    #[test]
    fn addresses_that_are_none_do_not_show_passwords() {
        for text in [
            "http://u:secret@",
            "ftp://u:secret@h/x",
            "http://u:secret@h:x/",
        ] {
            let error = address(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
