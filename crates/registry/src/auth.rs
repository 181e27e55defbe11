//! Authentication: a registry says how, and gets an `Authorization` made for it alone.
//!
//! ```text
//! request ─► 401 + challenge ─┬─ Basic ──► user and password
//!                             └─ Bearer ─► token server (realm) ─► token ─► request again
//! ```
//!
//! Tokens are kept by host and scopes, and one request for each is under way at a time, however
//! many blobs wait for it. A 401 to a token that was made for the request is final.

pub(crate) mod challenge;
mod realm;
mod token;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use tokio::sync::OnceCell;

use crate::connections::{Connections, Response};
use crate::credentials::{Credential, Credentials, CredentialsError};
use crate::endpoint::{Endpoint, Scopes};
use crate::host::HostKey;
use crate::request::RequestError;
use crate::secret::Secret;
use challenge::Challenge;
pub use realm::RealmError;

/// Why a registry that wants to know who we are could not be told.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The credential cannot be had.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The registry names a token server that must not have the credential.
    #[error("token server {realm}: {reason}")]
    Realm {
        /// Where it is, without its query.
        realm: String,
        /// Why not.
        reason: RealmError,
    },
    /// The token server did not give a token.
    #[error(transparent)]
    Token(Box<RequestError>),
    /// The registry says that the token does not allow enough.
    #[error("the registry does not accept the token that it had made: insufficient scope")]
    InsufficientScope,
}

impl AuthError {
    pub(crate) fn help(&self, host: &str) -> Option<String> {
        match self {
            Self::Credentials(error) => error.help(),
            Self::Realm { reason, .. } => reason.help(),
            Self::Token(error) if error.is_denied() => Some(format!(
                "the credential for {host} is not accepted; log in again: rbuild login {host}"
            )),
            Self::Token(error) => error.help(),
            Self::InsufficientScope => {
                Some(format!("log in to {host} with an account that may do this"))
            }
        }
    }
}

/// What may get a refused request through.
pub(crate) enum Answer {
    /// It was made for this request.
    New(Authorization),
    /// It was made for another one meanwhile.
    Shared(Authorization),
}

/// What a request carries to say who it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    Basic { user: String, password: Secret },
    Bearer(Secret),
}

impl Authorization {
    /// Returns the header's value; `None` where a token has characters that no header can have.
    pub(crate) fn header_value(&self) -> Option<HeaderValue> {
        let text = match self {
            Self::Basic { user, password } => {
                let pair = format!("{user}:{}", password.reveal());
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
            Self::Bearer(token) => format!("Bearer {}", token.reveal()),
        };
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// An authorization, and until when it is good.
#[derive(Clone, Debug)]
struct Grant {
    authorization: Authorization,
    expires: Option<Instant>,
}

impl Grant {
    fn lasting(authorization: Authorization) -> Self {
        Self {
            authorization,
            expires: None,
        }
    }

    fn is_good(&self) -> bool {
        self.expires.is_none_or(|expires| Instant::now() < expires)
    }
}

/// Whom registries take us for.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Credentials,
    known: Mutex<BTreeMap<Part, Arc<OnceCell<Credential>>>>,
    slots: Mutex<BTreeMap<(HostKey, Scopes), Arc<Slot>>>,
}

/// A host, and the part of its repositories that has a credential of its own.
type Part = (HostKey, String);

/// The grant for one host and set of scopes. The lock is held while one is asked for, over the
/// network: that is what makes all others wait for it rather than ask too.
type Slot = tokio::sync::Mutex<Option<Grant>>;

impl Authenticator {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials,
            known: Mutex::default(),
            slots: Mutex::default(),
        }
    }

    fn slot(&self, endpoint: &Endpoint, scopes: &Scopes) -> Option<Arc<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Some(
            slots
                .entry((endpoint.key()?, scopes.clone()))
                .or_default()
                .clone(),
        )
    }

    /// Returns what was granted for these scopes before, if it is still good.
    pub(crate) async fn held(&self, endpoint: &Endpoint, scopes: &Scopes) -> Option<Authorization> {
        let slot = self.slot(endpoint, scopes)?;
        let grant = slot.lock().await;
        let good = grant.as_ref().filter(|grant| grant.is_good())?;
        Some(good.authorization.clone())
    }

    /// Returns a new authorization for a request that was answered with `refused`, a 401, when it
    /// carried `held`; `None` if there is nothing that this registry could be told.
    pub(crate) async fn answer(
        &self,
        connections: &Connections,
        endpoint: &Endpoint,
        scopes: &Scopes,
        held: Option<&Authorization>,
        refused: &Response,
    ) -> Result<Option<Answer>, AuthError> {
        let challenges = Challenge::all(refused.headers());
        if held.is_some() && challenges.iter().any(Challenge::is_insufficient_scope) {
            return Err(AuthError::InsufficientScope);
        }
        let Some(slot) = self.slot(endpoint, scopes) else {
            return Ok(None);
        };
        let mut slot = slot.lock().await;
        if let Some(grant) = slot.as_ref().filter(|grant| grant.is_good())
            && Some(&grant.authorization) != held
        {
            // Somebody else has asked in the meantime.
            return Ok(Some(Answer::Shared(grant.authorization.clone())));
        }
        *slot = None;
        let credential = self.credential(endpoint).await?;
        let grant = match (&credential, choose(&challenges)) {
            (_, None) => None,
            (Credential::RegistryToken(token), Some(Challenge::Bearer(_))) => {
                Some(Grant::lasting(Authorization::Bearer(token.clone())))
            }
            (_, Some(Challenge::Bearer(bearer))) => {
                let asked = token::Asked {
                    connections,
                    refused,
                    bearer,
                    scopes,
                };
                Some(asked.for_token(&credential).await?)
            }
            (Credential::Password { user, password }, Some(Challenge::Basic)) => {
                Some(Grant::lasting(Authorization::Basic {
                    user: user.clone(),
                    password: password.clone(),
                }))
            }
            (
                Credential::Anonymous | Credential::Identity(_) | Credential::RegistryToken(_),
                Some(Challenge::Basic),
            ) => None,
        };
        *slot = grant.filter(|grant| Some(&grant.authorization) != held);
        let granted = slot.as_ref();
        Ok(granted.map(|grant| Answer::New(grant.authorization.clone())))
    }

    async fn credential(&self, endpoint: &Endpoint) -> Result<Credential, AuthError> {
        let Some(key) = endpoint.key() else {
            return Ok(Credential::Anonymous);
        };
        let (host, credentials) = (&endpoint.host, &self.credentials);
        let part = credentials.part(host, &endpoint.repository);
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.entry((key, part.to_owned())).or_default().clone()
        };
        let found = cell
            .get_or_try_init(|| credentials.find(host, part))
            .await?;
        Ok(found.clone())
    }
}

impl Challenge {
    fn is_insufficient_scope(&self) -> bool {
        matches!(self, Self::Bearer(bearer) if bearer.error.as_deref() == Some("insufficient_scope"))
    }
}

/// Tokens before passwords: a token allows less and ends by itself.
fn choose(challenges: &[Challenge]) -> Option<&Challenge> {
    challenges
        .iter()
        .find(
            |challenge| matches!(challenge, Challenge::Bearer(bearer) if !bearer.realm.is_empty()),
        )
        .or_else(|| challenges.iter().find(|c| **c == Challenge::Basic))
}
