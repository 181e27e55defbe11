//! Token requests (the distribution project's "Token Authentication", and its OAuth2 form).

use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::challenge::Bearer;
use super::{AuthError, Authorization, Grant, RealmError, realm};
use crate::connections::{Connections, Response};
use crate::credentials::Credential;
use crate::endpoint::Scopes;
use crate::request::{Body, Redirects, Request, RequestError, Target, shown};
use crate::secret::Secret;

const LIMIT_BYTES: u64 = 256 << 10;
const CLIENT_ID: &str = "rbuild";
const OPERATION: &str = "get token";

/// How long a token is good where its server does not say.
const DEFAULT_EXPIRY_S: u64 = 60;

/// A registry that wants a token of us.
pub(super) struct Asked<'a> {
    pub(super) connections: &'a Connections,
    /// Its 401.
    pub(super) refused: &'a Response,
    pub(super) bearer: &'a Bearer,
    /// What we are about to do.
    pub(super) scopes: &'a Scopes,
}

impl Asked<'_> {
    /// Gets a token from the token server that the registry names.
    pub(super) async fn for_token(&self, credential: &Credential) -> Result<Grant, AuthError> {
        let asked_by = self.refused.url();
        let proven = self.connections.is_verified(asked_by);
        let realm_error = |realm: String, reason| AuthError::Realm { realm, reason };
        let url = Url::parse(&self.bearer.realm)
            .map_err(|_| realm_error(self.bearer.realm.clone(), RealmError::Address))?;
        realm::check(&url, asked_by, proven, credential)
            .map_err(|reason| realm_error(shown(&url), reason))?;
        let target = self
            .connections
            .hop(self.refused, url.as_str())
            .map_err(boxed)?;
        let asked_at = Instant::now();
        let response = match credential {
            Credential::Password { user, password } => {
                self.with_password(&target, user, password).await
            }
            Credential::Identity(token) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token.reveal()),
                ];
                self.post(&target, &form).await
            }
            Credential::Anonymous | Credential::RegistryToken(_) => self.get(&target, None).await,
        };
        read(response.map_err(boxed)?, asked_at)
            .await
            .map_err(boxed)
    }

    /// Asks in the OAuth2 form, and in the older one where the server knows only that.
    async fn with_password(
        &self,
        target: &Target,
        user: &str,
        password: &Secret,
    ) -> Result<Response, RequestError> {
        let form = [
            ("grant_type", "password"),
            ("username", user),
            ("password", password.reveal()),
        ];
        let response = self.post(target, &form).await?;
        match response.status() {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UNAUTHORIZED => {
                self.get(target, Some((user, password))).await
            }
            _ => Ok(response),
        }
    }

    async fn post(&self, target: &Target, who: &[(&str, &str)]) -> Result<Response, RequestError> {
        // A form is written as a query is.
        let mut form = target.url.clone();
        form.query_pairs_mut()
            .clear()
            .extend_pairs(who)
            .append_pair("client_id", CLIENT_ID)
            .extend_pairs(self.service());
        let scopes = self.scope_list();
        // Who only wants to know whether a password is right asks for nothing.
        if !scopes.is_empty() {
            form.query_pairs_mut()
                .append_pair("scope", &scopes.join(" "));
        }
        let mut request = Request::new(OPERATION, Method::POST, target.clone());
        request.redirects = Redirects::Refuse;
        request.headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        request.body = Body::Bytes(form.query().unwrap_or_default().to_owned().into());
        self.connections.send(&request, None).await
    }

    async fn get(
        &self,
        target: &Target,
        who: Option<(&str, &Secret)>,
    ) -> Result<Response, RequestError> {
        let mut target = target.clone();
        target.url.query_pairs_mut().extend_pairs(self.service());
        for scope in self.scope_list() {
            target.url.query_pairs_mut().append_pair("scope", &scope);
        }
        let authorization = who.map(|(user, password)| {
            target.url.query_pairs_mut().append_pair("account", user);
            Authorization::Basic {
                user: user.to_owned(),
                password: password.clone(),
            }
        });
        let mut request = Request::new(OPERATION, Method::GET, target);
        request.redirects = Redirects::Refuse;
        self.connections
            .send(&request, authorization.as_ref())
            .await
    }

    fn service(&self) -> Option<(&str, &str)> {
        self.bearer
            .service
            .as_deref()
            .map(|service| ("service", service))
    }

    /// Returns what we need, and what the registry asks for where it calls the repository
    /// otherwise than we do.
    fn scope_list(&self) -> Vec<String> {
        let theirs = self.bearer.scope.iter().flat_map(|scope| scope.split(' '));
        self.scopes
            .iter()
            .chain(theirs.filter(|scope| !scope.is_empty() && !self.scopes.cover(scope)))
            .map(str::to_owned)
            .collect()
    }
}

/// Reads a token; it counts as expired when nine tenths of its time are over.
async fn read(response: Response, asked_at: Instant) -> Result<Grant, RequestError> {
    #[derive(Deserialize)]
    struct Token {
        token: Option<String>,
        access_token: Option<String>,
        expires_in: Option<u64>,
    }
    if response.status() != StatusCode::OK {
        return Err(response.into_error().await);
    }
    let no_token = response.protocol_error("there is no token in it");
    let body = response.body(LIMIT_BYTES).await?;
    let Ok(token) = serde_json::from_slice::<Token>(&body) else {
        return Err(no_token);
    };
    let text = [token.token, token.access_token]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty());
    let expires_in_s = token
        .expires_in
        .filter(|&s| s > 0)
        .unwrap_or(DEFAULT_EXPIRY_S);
    let good_for = Duration::from_secs(expires_in_s.min(86_400)) * 9 / 10;
    match text {
        Some(text) => Ok(Grant {
            authorization: Authorization::Bearer(Secret::new(text)),
            expires: Some(asked_at + good_for),
        }),
        None => Err(no_token),
    }
}

fn boxed(error: RequestError) -> AuthError {
    AuthError::Token(Box::new(error))
}
