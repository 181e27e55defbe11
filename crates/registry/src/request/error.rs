//! What can come of a request but an answer.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use oci::Reference;
use oci::reference::DOCKER_HUB;
use reqwest::{Method, StatusCode};

use super::Answer;
use crate::auth::AuthError;
use crate::host::DOCKER_HUB_SERVER;

/// A request that was not answered as hoped: what was asked of whom, and what came of it.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {method} {url}: {kind}")]
pub struct RequestError {
    /// What the request was for, for example `fetch blob`.
    pub operation: &'static str,
    /// The HTTP method.
    pub method: String,
    /// The address, without its query.
    pub url: String,
    /// What came of it.
    pub kind: Box<RequestErrorKind>,
}

/// What came of a request.
#[derive(Debug, thiserror::Error)]
pub enum RequestErrorKind {
    /// The certificates that the configuration names for this host cannot be used.
    #[error("the certificates configured for this host cannot be used: {cause}")]
    Setup {
        /// Why.
        cause: Cause,
    },
    /// The configuration says that nobody may go there.
    #[error("the configuration blocks this registry")]
    Blocked,
    /// Nobody is to be connected to.
    #[error("no connection is made, as the build is offline")]
    Offline,
    /// There is nobody: no such name, no route, nothing listens.
    #[error("cannot connect: {cause}")]
    Connect {
        /// Why.
        cause: Cause,
    },
    /// The server could not prove who it is, or did not speak TLS.
    #[error("cannot connect over TLS: {cause}")]
    Tls {
        /// Why.
        cause: Cause,
    },
    /// The connection broke before all was said.
    #[error("the connection broke: {cause}")]
    Broken {
        /// Why.
        cause: Cause,
    },
    /// Nothing came for too long.
    #[error("no answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// How long that was.
        after: Duration,
    },
    /// The server answered that it will not.
    #[error("{status}{answer}{}", wish(*retry_after))]
    Status {
        /// The HTTP status.
        status: StatusCode,
        /// What it says about that.
        answer: Answer,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The server pointed to where we do not go.
    #[error("refused to follow the server to {to}: {reason}")]
    Hop {
        /// Where to, without its query.
        to: String,
        /// Why not.
        reason: HopError,
    },
    /// The server wants to know who we are, and that did not work out.
    #[error("{0}")]
    Auth(#[from] AuthError),
    /// The answer ended, in an orderly way, before it was complete.
    #[error("the answer ended too early")]
    TooShort,
    /// The answer is longer than anything of its kind.
    #[error("the answer is larger than {limit_bytes} bytes")]
    TooLarge {
        /// What is accepted.
        limit_bytes: u64,
    },
    /// The answer goes on for longer than anybody waits.
    #[error("the answer was not complete after {} s", after.as_secs_f32())]
    Unending {
        /// How long that was.
        after: Duration,
    },
    /// The answer comes so slowly that it will never be complete.
    #[error("the answer comes more slowly than {floor_bytes_per_second} bytes a second")]
    TooSlow {
        /// What is accepted.
        floor_bytes_per_second: u64,
    },
    /// The answer is not what the protocol says.
    #[error("the answer is not as the protocol has it: {what}")]
    Protocol {
        /// What is wrong.
        what: &'static str,
    },
    /// The file to be sent cannot be read.
    #[error("cannot read what is to be sent: {source}")]
    File {
        /// Why.
        source: io::Error,
    },
}

/// Why an address that a server names is not gone to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// From TLS to plain HTTP.
    #[error("it leads from https to plain http")]
    Downgrade,
    /// From the internet to this machine or a private network.
    #[error("a public server leads to a private address")]
    NotPublic,
    /// Not an http or https address.
    #[error("it is not an http address")]
    Address,
    /// In circles, probably.
    #[error("too many redirects")]
    TooMany,
    /// A redirect of a request that is not to be repeated elsewhere.
    #[error("this request is not redirected")]
    NotAllowed,
}

/// The innermost cause of a network error, which alone says what happened.
#[derive(Debug)]
pub struct Cause(reqwest::Error);

impl From<reqwest::Error> for Cause {
    fn from(error: reqwest::Error) -> Self {
        // The address may carry a signature in its query.
        Self(error.without_url())
    }
}

impl Cause {
    pub(crate) fn error(&self) -> &(dyn Error + 'static) {
        &self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut innermost: &dyn Error = &self.0;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        fmt::Display::fmt(innermost, f)
    }
}

/// Returns what a server says about asking again, to be put behind what else it says.
fn wish(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(after) => format!(" (it asks to be left alone for {} s)", after.as_secs()),
        None => String::new(),
    }
}

/// How hopeful it is to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prospect {
    /// Not: the same would happen.
    None,
    /// A little: somebody may just be starting.
    Brief,
    /// Good: it was an accident, or the server is busy and may say until when.
    Good { after: Option<Duration> },
}

impl RequestError {
    /// The error of not even asking.
    pub(crate) fn blocked(reference: &Reference) -> Self {
        Self {
            operation: "look for registry",
            method: Method::GET.to_string(),
            url: format!("https://{}/v2/", reference.name()),
            kind: Box::new(RequestErrorKind::Blocked),
        }
    }

    /// Returns the HTTP status, where there was an answer.
    pub fn status(&self) -> Option<StatusCode> {
        match self.kind.as_ref() {
            RequestErrorKind::Status { status, .. } => Some(*status),
            RequestErrorKind::Setup { .. }
            | RequestErrorKind::Connect { .. }
            | RequestErrorKind::Tls { .. }
            | RequestErrorKind::Broken { .. }
            | RequestErrorKind::TimedOut { .. }
            | RequestErrorKind::Blocked
            | RequestErrorKind::Offline
            | RequestErrorKind::Hop { .. }
            | RequestErrorKind::Auth(_)
            | RequestErrorKind::TooShort
            | RequestErrorKind::TooLarge { .. }
            | RequestErrorKind::Unending { .. }
            | RequestErrorKind::TooSlow { .. }
            | RequestErrorKind::Protocol { .. }
            | RequestErrorKind::File { .. } => None,
        }
    }

    /// Returns whether the server, or its token server, answered that we may not.
    pub fn is_denied(&self) -> bool {
        if let RequestErrorKind::Auth(error) = self.kind.as_ref() {
            return match error {
                AuthError::Token(error) => error.is_denied(),
                AuthError::InsufficientScope => true,
                AuthError::Credentials(_) | AuthError::Realm { .. } => false,
            };
        }
        matches!(
            self.status(),
            Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        )
    }

    /// Returns whether the server answered that it has no such thing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// Returns whether the registry answered that it has no such repository.
    pub(crate) fn is_name_unknown(&self) -> bool {
        matches!(
            self.kind.as_ref(),
            RequestErrorKind::Status { answer, .. } if answer.code.as_deref() == Some("NAME_UNKNOWN")
        )
    }

    /// Returns whether the connection broke, for no reason that anybody gave.
    pub(crate) fn is_broken(&self) -> bool {
        matches!(
            self.kind.as_ref(),
            RequestErrorKind::Broken { .. } | RequestErrorKind::TooShort
        )
    }

    /// Returns whether nobody could be asked, or nobody who could answer just now: what was true
    /// before may still be.
    pub fn is_unreachable(&self) -> bool {
        self.prospect() != Prospect::None
    }

    pub(crate) fn prospect(&self) -> Prospect {
        match self.kind.as_ref() {
            RequestErrorKind::Connect { .. } => Prospect::Brief,
            RequestErrorKind::Broken { .. }
            | RequestErrorKind::TimedOut { .. }
            | RequestErrorKind::TooShort => Prospect::Good { after: None },
            RequestErrorKind::Status {
                status,
                retry_after,
                ..
            } if status.is_server_error()
                || matches!(
                    *status,
                    StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
                ) =>
            {
                Prospect::Good {
                    after: *retry_after,
                }
            }
            RequestErrorKind::Auth(AuthError::Token(error)) => error.prospect(),
            RequestErrorKind::Setup { .. }
            | RequestErrorKind::Tls { .. }
            | RequestErrorKind::Status { .. }
            | RequestErrorKind::Blocked
            | RequestErrorKind::Offline
            | RequestErrorKind::Hop { .. }
            | RequestErrorKind::Auth(_)
            | RequestErrorKind::TooLarge { .. }
            | RequestErrorKind::Unending { .. }
            | RequestErrorKind::TooSlow { .. }
            | RequestErrorKind::Protocol { .. }
            | RequestErrorKind::File { .. } => Prospect::None,
        }
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        let host = self.host();
        match self.kind.as_ref() {
            RequestErrorKind::Connect { .. } => Some(format!(
                "check that {host} is spelled right and can be reached from here (network, proxy)"
            )),
            RequestErrorKind::Tls { .. } => Some(format!(
                "if {host} speaks plain http, configure it so (`http = true`); if its certificate is \
                 your own, configure the CA that signed it"
            )),
            RequestErrorKind::Status { status, .. } => match *status {
                StatusCode::UNAUTHORIZED => Some(format!("log in: rbuild login {host}")),
                StatusCode::FORBIDDEN => Some(format!(
                    "the account used for {host} may not do this; log in with another one: rbuild login {host}"
                )),
                StatusCode::TOO_MANY_REQUESTS => Some(
                    "wait, log in for a higher limit, or configure a mirror for this registry"
                        .to_owned(),
                ),
                _ => None,
            },
            RequestErrorKind::Auth(error) => error.help(host),
            RequestErrorKind::Hop {
                reason: HopError::NotPublic,
                to,
            } => Some(format!(
                "if that is right, name the host of {to} in the registry configuration"
            )),
            RequestErrorKind::TimedOut { .. } => Some(format!(
                "check the network between here and {host}, or configure a mirror"
            )),
            RequestErrorKind::Blocked => Some(
                "it is `blocked` in registries.conf; name another registry, or unblock it"
                    .to_owned(),
            ),
            RequestErrorKind::Offline => {
                Some("build once without --offline, while there is a network".to_owned())
            }
            RequestErrorKind::Setup { .. }
            | RequestErrorKind::Broken { .. }
            | RequestErrorKind::Hop { .. }
            | RequestErrorKind::TooShort
            | RequestErrorKind::TooLarge { .. }
            | RequestErrorKind::Unending { .. }
            | RequestErrorKind::TooSlow { .. }
            | RequestErrorKind::Protocol { .. }
            | RequestErrorKind::File { .. } => None,
        }
    }

    fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        match rest.split('/').next().unwrap_or_default() {
            DOCKER_HUB_SERVER => DOCKER_HUB,
            host => host,
        }
    }
}
