//! One blob on its way into a repository, over as many connections as that takes.
//!
//! ```text
//! HEAD ─► there?   POST ?mount ─► taken over?   POST ─► session
//!   ┌───────────────────────────────────────────────────┘
//!   ├─ small: PUT ?digest with the content
//!   └─ else:  PATCH the rest ─► PUT ?digest
//!        └─ broken off: HEAD, then GET session ─► how far it came ─► PATCH the rest
//! ```
//!
//! The content goes in one PATCH, as registries know it from Docker, or with the PUT where a registry
//! knows no other way. It goes in several where something in between refuses so large a body, or where
//! a connection broke and the registry cannot say what it has: many, `docker-registry` 2 among them,
//! give an upload up unless the break lies between two PATCHes. What size gets through is remembered
//! for the host. A session that cannot be gone on with is given up for a new one.
//!
//! Every try begins by looking for the blob: the answer that said it was there may be what broke.

use oci::{Descriptor, Reference};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, StatusCode};

use super::{PushErrorKind, Pushed, check_created, check_file};
use crate::client::Client;
use crate::connections::Response;
use crate::endpoint::{Endpoint, Scopes};
use crate::request::{Body, OpenFile, Request, RequestError, Target};
use crate::retry::Backoff;

/// What is sent at once: to begin it again costs less than to ask how far it came.
const SMALL_BYTES: u64 = 256 << 10;

const CHUNK_MIN_LENGTH: &str = "oci-chunk-min-length";

/// The largest PATCH once a larger one was refused or broke.
const FIRST_LIMIT_BYTES: u64 = 16 << 20;
/// Where this does not get through either, nothing does.
const LEAST_LIMIT_BYTES: u64 = 256 << 10;

/// With so much more at the registry, a connection that broke is worth a try at once.
const PROGRESS_BYTES: u64 = 64 << 10;

/// A blob that is being pushed.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) target: &'a Reference,
    pub(super) blob: &'a Descriptor,
    pub(super) open: OpenFile,
    pub(super) mount_from: Option<&'a str>,
    state: State,
}

struct State {
    /// The upload that broke off.
    session: Option<Session>,
    /// The largest PATCH; changes when one does not get through.
    limit_bytes: u64,
    /// How large the last one was, if it may not have got through.
    in_flight_bytes: Option<u64>,
    /// Whether content was sent.
    has_sent: bool,
    /// Whether the session is one that broke off.
    is_resumed: bool,
    /// Whether the registry takes content with the PUT only.
    is_put_only: bool,
    /// How far the registry was at the last try.
    progress_bytes: u64,
}

#[derive(Clone)]
struct Session {
    target: Target,
    /// What the registry has.
    offset_bytes: u64,
    /// The smallest PATCH that it takes, but for the last.
    least_bytes: u64,
}

/// Why one try did not bring the blob there.
enum Stop {
    /// It may pass, as the kind of error says.
    Request(RequestError),
    /// The session is not usable, but another may be.
    Session(RequestError),
    /// It is no use going on.
    Fatal(PushErrorKind),
}

impl From<RequestError> for Stop {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<PushErrorKind> for Stop {
    fn from(kind: PushErrorKind) -> Self {
        if let PushErrorKind::Request(error) = kind {
            return Self::Request(error);
        }
        Self::Fatal(kind)
    }
}

enum Begun {
    Mounted,
    Session(Session),
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        client: &'a Client,
        target: &'a Reference,
        blob: &'a Descriptor,
        open: OpenFile,
        mount_from: Option<&'a str>,
    ) -> Self {
        let state = State {
            session: None,
            limit_bytes: client.connections().upload_limit(target.registry()),
            in_flight_bytes: None,
            has_sent: false,
            is_resumed: false,
            is_put_only: false,
            progress_bytes: 0,
        };
        Self {
            client,
            target,
            blob,
            open,
            mount_from,
            state,
        }
    }

    pub(super) async fn run(mut self) -> Result<Pushed, PushErrorKind> {
        let mut backoff = Backoff::new(self.client.connections().patience);
        loop {
            let stop = match self.attempt(&mut backoff).await {
                Ok(pushed) => return Ok(pushed),
                Err(stop) => stop,
            };
            match stop {
                Stop::Request(error) => backoff.wait(error).await,
                Stop::Session(error) => {
                    self.state.session = None;
                    self.state.progress_bytes = 0;
                    backoff.insist(error).await
                }
                Stop::Fatal(kind) => return Err(kind),
            }
            .map_err(PushErrorKind::of)?;
        }
    }

    async fn attempt(&mut self, backoff: &mut Backoff) -> Result<Pushed, Stop> {
        let endpoint = Endpoint::origin(self.client.connections(), self.target).await?;
        let exists = self.client.try_blob_exists(self.target, self.blob).await?;
        if exists {
            return Ok(match self.state.has_sent {
                true => Pushed::Uploaded,
                false => Pushed::Existed,
            });
        }
        let scopes = endpoint.push_scope();
        let broken_off = match self.state.session.clone() {
            Some(session) => self.how_far(&endpoint, &scopes, session).await?,
            None => None,
        };
        if broken_off.is_none()
            && let Some(length) = self.state.in_flight_bytes.take()
        {
            self.shrink(length);
        }
        self.state.is_resumed = broken_off.is_some();
        let session = match broken_off {
            Some(session) => {
                self.note_progress(&session, backoff);
                session
            }
            None => match self.begin(&endpoint, &scopes).await? {
                Begun::Mounted => return Ok(Pushed::Mounted),
                Begun::Session(session) => session,
            },
        };
        self.send(&endpoint, &scopes, session, backoff).await?;
        Ok(Pushed::Uploaded)
    }

    fn note_progress(&mut self, session: &Session, backoff: &mut Backoff) {
        if session.offset_bytes >= self.state.progress_bytes + PROGRESS_BYTES {
            self.state.progress_bytes = session.offset_bytes;
            backoff.progressed();
        }
    }

    /// Sends less at once from now on, as `length` bytes did not get through.
    fn shrink(&mut self, length: u64) {
        let limit_bytes = (length / 4).clamp(LEAST_LIMIT_BYTES, FIRST_LIMIT_BYTES);
        if limit_bytes < self.state.limit_bytes {
            self.state.limit_bytes = limit_bytes;
            let connections = self.client.connections();
            connections.limit_uploads(self.target.registry(), limit_bytes);
        }
    }

    /// Has the registry take the blob over, or opens a session.
    async fn begin(&mut self, endpoint: &Endpoint, scopes: &Scopes) -> Result<Begun, Stop> {
        let mounted = match self.mount_from {
            Some(from) => self.client.mount(endpoint, self.blob, from).await?,
            None => None,
        };
        if mounted
            .as_ref()
            .is_some_and(|response| response.status() == StatusCode::CREATED)
        {
            return Ok(Begun::Mounted);
        }
        // Only now: a blob that the registry takes from elsewhere need not be here.
        check_file(self.blob, &self.open).await?;
        let started = match mounted {
            // Not mounted, but a session for an upload is open.
            Some(response) => response,
            None => self.client.start_upload(endpoint, scopes).await?,
        };
        Ok(Begun::Session(Session {
            target: self.client.session(&started)?,
            offset_bytes: 0,
            least_bytes: started
                .header(CHUNK_MIN_LENGTH)
                .and_then(|text| text.parse().ok())
                .unwrap_or(0),
        }))
    }

    /// Asks how far an upload came that broke off; `None` if it is to be begun anew.
    async fn how_far(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        session: Session,
    ) -> Result<Option<Session>, RequestError> {
        let request = Request::new("resume upload", Method::GET, session.target.clone());
        let response = self.client.call(endpoint, scopes, &request).await?;
        if response.status().is_server_error() {
            return Err(response.into_error().await);
        }
        let is_known = response.status().is_success();
        let offset_bytes = taken_bytes(&response).filter(|&taken| {
            // `0-0` may be one byte or none.
            is_known && taken > 1 && taken <= self.blob.size
        });
        let Some(offset_bytes) = offset_bytes else {
            return Ok(None);
        };
        tracing::debug!(blob = %self.blob.digest, offset_bytes, "upload taken up again");
        Ok(Some(Session {
            target: self.moved(&response, &session)?,
            offset_bytes,
            ..session
        }))
    }

    async fn send(
        &mut self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        mut session: Session,
        backoff: &mut Backoff,
    ) -> Result<(), Stop> {
        self.state.has_sent = true;
        let size_bytes = self.blob.size;
        let is_small = session.offset_bytes == 0 && size_bytes <= SMALL_BYTES;
        if !is_small {
            while session.offset_bytes < size_bytes && !self.state.is_put_only {
                // Before anything is sent, so that the next try knows where to ask.
                self.state.session = Some(session.clone());
                session = self.patch(endpoint, scopes, session).await?;
                self.note_progress(&session, backoff);
            }
        }
        self.state.session = Some(session.clone());
        let mut target = session.target;
        let digest = self.blob.digest.to_string();
        // What the session's query holds already stays as it is.
        target.url.query_pairs_mut().append_pair("digest", &digest);
        let mut request = Request::new("upload blob", Method::PUT, target);
        self.fill(&mut request, session.offset_bytes, size_bytes);
        let response = self.client.call(endpoint, scopes, &request).await?;
        // What was put together of pieces may not fit: a registry that was still writing one when it
        // was asked. From the start, it will.
        let does_not_fit = matches!(
            response.status(),
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::RANGE_NOT_SATISFIABLE
        );
        if self.state.is_resumed && does_not_fit {
            return Err(Stop::Session(response.into_error().await));
        }
        check_created(response, self.blob.digest).await?;
        Ok(())
    }

    /// Sends as much of the rest as may be sent at once.
    async fn patch(
        &mut self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        session: Session,
    ) -> Result<Session, Stop> {
        let start = session.offset_bytes;
        let limit_bytes = self.state.limit_bytes.max(session.least_bytes);
        let end = self.blob.size.min(start.saturating_add(limit_bytes));
        let mut request = Request::new("upload blob", Method::PATCH, session.target.clone());
        self.fill(&mut request, start, end);
        if (start, end) != (0, self.blob.size) {
            let range = HeaderValue::from_str(&format!("{start}-{}", end - 1));
            // Digits are legal in a header.
            request
                .headers
                .extend(range.ok().map(|range| (CONTENT_RANGE, range)));
        }
        self.state.in_flight_bytes = Some(end - start);
        let response = self.client.call(endpoint, scopes, &request).await?;
        self.state.in_flight_bytes = None;
        match response.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                if end - start <= LEAST_LIMIT_BYTES {
                    return Err(Stop::Fatal(response.into_error().await.into()));
                }
                self.shrink(end - start);
                Ok(session)
            }
            status if status.is_success() => {
                let offset_bytes = taken_bytes(&response).unwrap_or(end);
                if offset_bytes <= start || offset_bytes > end {
                    let what = "it took another part of the upload than was sent";
                    return Err(Stop::Session(response.protocol_error(what)));
                }
                let target = self.moved(&response, &session)?;
                Ok(Session {
                    target,
                    offset_bytes,
                    ..session
                })
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED if start == 0 => {
                self.state.is_put_only = true;
                Ok(session)
            }
            // It has forgotten the session, or is elsewhere in it.
            StatusCode::NOT_FOUND => Err(Stop::Session(response.into_error().await)),
            StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => {
                Err(Stop::Session(response.into_error().await))
            }
            _ => Err(response.into_error().await.into()),
        }
    }

    fn fill(&self, request: &mut Request, start: u64, end: u64) {
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(CONTENT_TYPE, octets);
        request.body = Body::File {
            open: self.open.clone(),
            range: start..end,
        };
    }

    /// Returns where the session goes on, which may be at a new address.
    fn moved(&self, response: &Response, session: &Session) -> Result<Target, RequestError> {
        match response.header(LOCATION.as_str()) {
            Some(_) => self.client.session(response),
            None => Ok(session.target.clone()),
        }
    }
}

/// Returns how many bytes the registry says to have: `0-9` are ten.
fn taken_bytes(response: &Response) -> Option<u64> {
    let range = response.header(RANGE.as_str())?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (start, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (start.trim() == "0").then(|| last.saturating_add(1))
}
