//! Answers, read with limits: of size, and of how long the next piece may take.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use crate::request::{Answer, Request, RequestError, RequestErrorKind};

/// A whole body may take this many times as long as one piece of it: all that is read whole is
/// small, and a server that sends it byte by byte wants to keep us.
const BODY_PATIENCE: u32 = 5;

/// The head of an answer, and its body yet to come.
#[derive(Debug)]
pub(crate) struct Response {
    pub(super) request: Request,
    pub(super) url: Url,
    pub(super) peer: Option<SocketAddr>,
    pub(super) idle_timeout: Duration,
    pub(super) inner: reqwest::Response,
}

impl Response {
    pub(crate) fn status(&self) -> StatusCode {
        self.inner.status()
    }

    /// Returns where the answer comes from, after redirects.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.inner.headers()
    }

    /// Returns the text of a header, if there is one and it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }

    /// Returns how long the body is, if the server says so.
    pub(crate) fn length_bytes(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    pub(crate) fn error(&self, kind: RequestErrorKind) -> RequestError {
        self.request.error(&self.url, kind)
    }

    pub(crate) fn protocol_error(&self, what: &'static str) -> RequestError {
        self.error(RequestErrorKind::Protocol { what })
    }

    /// Returns where the answer is to be had instead.
    pub(super) fn redirect(&self) -> Option<String> {
        let moved = matches!(
            self.status(),
            StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
        );
        let location = moved.then(|| self.header(LOCATION.as_str()))??;
        Some(location.to_owned())
    }

    /// Returns the next piece of the body; `None` after the last.
    pub(crate) async fn piece(&mut self) -> Result<Option<Bytes>, RequestError> {
        let after = self.idle_timeout;
        match tokio::time::timeout(after, self.inner.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(cause)) => {
                let cause = cause.into();
                Err(self.error(RequestErrorKind::Broken { cause }))
            }
            Err(_) => Err(self.error(RequestErrorKind::TimedOut { after })),
        }
    }

    /// Returns the whole body.
    ///
    /// # Errors
    ///
    /// [`RequestErrorKind::TooLarge`], without reading on, or the connection broke.
    pub(crate) async fn body(mut self, limit_bytes: u64) -> Result<Vec<u8>, RequestError> {
        let after = self.idle_timeout * BODY_PATIENCE;
        match tokio::time::timeout(after, self.read_body(limit_bytes)).await {
            Ok(body) => body,
            Err(_) => Err(self.error(RequestErrorKind::TimedOut { after })),
        }
    }

    async fn read_body(&mut self, limit_bytes: u64) -> Result<Vec<u8>, RequestError> {
        let too_large = RequestErrorKind::TooLarge { limit_bytes };
        if self
            .length_bytes()
            .is_some_and(|length| length > limit_bytes)
        {
            return Err(self.error(too_large));
        }
        let mut body = Vec::new();
        while let Some(piece) = self.piece().await? {
            if (body.len() + piece.len()) as u64 > limit_bytes {
                return Err(self.error(too_large));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    /// Returns how long the server wants to be left alone: seconds, or until a time of its own clock.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?.trim();
        if let Ok(seconds) = text.parse() {
            return Some(Duration::from_secs(seconds));
        }
        let seconds_of = |text: &str| {
            let time = jiff::fmt::rfc2822::parse(text).ok()?;
            Some(time.timestamp().as_second())
        };
        let wait_s = seconds_of(text)? - seconds_of(self.header(DATE.as_str())?)?;
        Some(Duration::from_secs(wait_s.try_into().unwrap_or(0)))
    }

    /// Makes an error of an answer whose status is none of those hoped for.
    pub(crate) async fn into_error(self) -> RequestError {
        let retry_after = self.retry_after();
        let status = self.status();
        let request = self.request.clone();
        let url = self.url.clone();
        // The status is the answer; that its explanation breaks off or is too long does not matter.
        let body = self.body(Answer::LIMIT_BYTES).await;
        let answer = body.map(|body| Answer::parse(&body)).unwrap_or_default();
        request.error(
            &url,
            RequestErrorKind::Status {
                status,
                answer,
                retry_after,
            },
        )
    }
}
