//! One request: what is sent, and what can go wrong with it.

mod answer;
mod error;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

pub use answer::Answer;
pub(crate) use error::Prospect;
pub use error::{Cause, HopError, RequestError, RequestErrorKind};

/// What is asked of a server, in a form that can be sent more than once.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// What it is for, in a word or two, for messages.
    pub(crate) operation: &'static str,
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) redirects: Redirects,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: Url,
    pub(crate) reach: Reach,
}

/// Which addresses a target may turn out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Any: the user named the host.
    Anywhere,
    /// Only public ones: a public server named the host.
    Public,
}

/// What a redirect in the answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    /// The answer is to be had there.
    Follow,
    /// An error: the request has a secret in its body or address.
    Refuse,
}

/// Opens the file that is sent; called again for every try.
pub(crate) type OpenFile = Arc<dyn Fn() -> io::Result<File> + Send + Sync>;

#[derive(Clone)]
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    /// These bytes of a file.
    File {
        open: OpenFile,
        range: Range<u64>,
    },
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Bytes may be a password on the way to a token server.
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Bytes(_) => "Bytes(..)",
            Self::File { .. } => "File(..)",
        })
    }
}

impl Request {
    pub(crate) fn new(operation: &'static str, method: Method, target: Target) -> Self {
        Self {
            operation,
            method,
            target,
            headers: HeaderMap::new(),
            body: Body::Empty,
            redirects: Redirects::Follow,
        }
    }

    /// Returns the error of this request at `url`, to which redirects may have led.
    pub(crate) fn error(&self, url: &Url, kind: RequestErrorKind) -> RequestError {
        RequestError {
            operation: self.operation,
            method: self.method.to_string(),
            url: shown(url),
            kind: Box::new(kind),
        }
    }
}

/// Returns `url` without what may be a secret: user, password and query (signed addresses).
pub(crate) fn shown(url: &Url) -> String {
    let port = url
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r14_addresses_are_shown_without_what_may_be_secret() {
        let url: Url = "https://u:p@h.example:5000/v2/x?sig=secret"
            .parse()
            .unwrap();
        assert_eq!(shown(&url), "https://h.example:5000/v2/x");
    }
}
