//! What a network error is, found by the types in its chain of causes.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::guard::NotPublic;
use super::upload::Unreadable;
use crate::request::{Cause, HopError, RequestErrorKind};

/// Returns what `error` means; `after` is how long we were ready to wait.
pub(super) fn kind_of(error: reqwest::Error, after: Duration) -> RequestErrorKind {
    if let Some(unreadable) = find::<Unreadable>(&error) {
        let source = unreadable.to_io();
        return RequestErrorKind::File { source };
    }
    if let Some(NotPublic { host }) = find::<NotPublic>(&error) {
        let to = host.clone();
        let reason = HopError::NotPublic;
        return RequestErrorKind::Hop { to, reason };
    }
    let is_connect = error.is_connect();
    if error.is_timeout() && !is_connect {
        return RequestErrorKind::TimedOut { after };
    }
    let is_tls = find::<rustls::Error>(&error).is_some();
    let broke = find::<io::Error>(&error).is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    });
    let cause = error.into();
    if is_tls {
        RequestErrorKind::Tls { cause }
    } else if is_connect && !broke {
        RequestErrorKind::Connect { cause }
    } else {
        RequestErrorKind::Broken { cause }
    }
}

impl Cause {
    /// Returns whether the server spoke TLS but showed a certificate that is not trusted.
    pub(super) fn is_certificate(&self) -> bool {
        matches!(
            find::<rustls::Error>(self.error()),
            Some(rustls::Error::InvalidCertificate(_))
        )
    }
}

/// Looks for a `T` in the chain of causes, also within I/O errors, which do not count themselves.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
