//! The client: what all operations share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use oci::{Digest, Document, ImageSource};
use reqwest::{Method, StatusCode};

use crate::auth::{Answer, Authenticator};
use crate::config::RegistryConfig;
use crate::connections::{Connections, Response};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Scopes};
use crate::host::same_origin;
use crate::request::{Request, RequestError, RequestErrorKind, Target};
use crate::retry::Backoff;

/// A client of registries and of layout directories; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connections: Connections,
    authenticator: Authenticator,
    /// What names led to: the same for all platforms of a build, even if a tag moves meanwhile.
    names: Mutex<BTreeMap<ImageSource, Name>>,
}

/// What a name led to; locked while that is being found out.
type Name = Arc<tokio::sync::Mutex<Led>>;

/// How much is known of what a name leads to.
#[derive(Debug, Default)]
pub(crate) enum Led {
    #[default]
    Unasked,
    /// Its digest.
    To(Digest),
    /// All of it.
    Fetched(Arc<Document>),
}

impl Client {
    /// Returns a client that has connected to nothing yet.
    pub fn new(config: RegistryConfig, credentials: Credentials) -> Self {
        Self {
            shared: Arc::new(Shared {
                connections: Connections::new(config),
                authenticator: Authenticator::new(credentials),
                names: Mutex::default(),
            }),
        }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.shared.connections
    }

    pub(crate) fn name(&self, source: &ImageSource) -> Name {
        let names = &self.shared.names;
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        names.entry(source.clone()).or_default().clone()
    }

    /// Finds out whether the registry at `host` takes us for who we say we are.
    ///
    /// # Errors
    ///
    /// It does not, or does not answer.
    pub async fn check_login(&self, host: &str) -> Result<(), RequestError> {
        let mut backoff = Backoff::new(self.connections().patience);
        loop {
            match self.try_login(host).await {
                Ok(()) => return Ok(()),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    async fn try_login(&self, host: &str) -> Result<(), RequestError> {
        let endpoint = Endpoint::registry(self.connections(), host).await?;
        let request = Request::new("log in", Method::GET, Target::named(endpoint.root()));
        let response = self.call(&endpoint, &Scopes::none(), &request).await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            _ => Err(response.into_error().await),
        }
    }

    /// Sends `request` to `endpoint`, or where that one has led it, and says who we are if asked.
    ///
    /// Any status but 401 is an answer.
    pub(crate) async fn call(
        &self,
        endpoint: &Endpoint,
        scopes: &Scopes,
        request: &Request,
    ) -> Result<Response, RequestError> {
        let Shared {
            connections,
            authenticator,
            names: _,
        } = &*self.shared;
        if !same_origin(&request.target.url, &endpoint.base) {
            return accepted(connections.send(request, None).await?).await;
        }
        let mut held = authenticator.held(endpoint, scopes).await;
        let mut response = connections.send(request, held.as_ref()).await?;
        loop {
            let is_own = same_origin(response.url(), &endpoint.base);
            if response.status() != StatusCode::UNAUTHORIZED || !is_own {
                return accepted(response).await;
            }
            let answer = authenticator
                .answer(connections, endpoint, scopes, held.as_ref(), &response)
                .await;
            match answer {
                Ok(Some(Answer::New(authorization))) => {
                    let again = connections.send(request, Some(&authorization)).await?;
                    return accepted(again).await;
                }
                // Those who asked for it may have used it up.
                Ok(Some(Answer::Shared(authorization))) => {
                    response = connections.send(request, Some(&authorization)).await?;
                    held = Some(authorization);
                }
                Ok(None) => return Err(response.into_error().await),
                Err(error) => return Err(response.error(RequestErrorKind::Auth(error))),
            }
        }
    }
}

async fn accepted(response: Response) -> Result<Response, RequestError> {
    match response.status() {
        StatusCode::UNAUTHORIZED => Err(response.into_error().await),
        _ => Ok(response),
    }
}
