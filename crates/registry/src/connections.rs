//! Connections: one request goes out, redirects are followed, and the rules of both are kept.
//!
//! `reqwest` would follow redirects by itself, but its rules are not ours: an `Authorization`
//! stays with the host, port and scheme it was made for, TLS never becomes plain HTTP, and a
//! public server does not send us into a private network. So each redirect is a request of its own.
//!
//! A `reqwest::Client` is one set of TLS settings. There is one for most hosts, one without a proxy
//! for this machine, one that connects to public addresses only, and one for each host whose
//! settings differ. Reading the system's certificates takes up to 45 ms, so each is made when it is
//! first needed.

mod classify;
mod guard;
mod response;
mod upload;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci::Reference;
use oci::reference::DOCKER_HUB;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, StatusCode, Url};
use tokio::sync::OnceCell;
use tracing::debug;

use crate::auth::Authorization;
use crate::config::{HostConfig, Network, Patience, RegistryConfig, Transport};
use crate::endpoint::MirrorOf;
use crate::host::{self, HostKey};
use crate::request::{
    Body, HopError, Reach, Redirects, Request, RequestError, RequestErrorKind, Target, shown,
};
use crate::route::{self, Route, Routed};
use crate::trust::CaBundle;
use guard::PublicOnly;
pub(crate) use response::Response;

const MAX_REDIRECTS: usize = 5;
const USER_AGENT: &str = concat!("rbuild/", env!("CARGO_PKG_VERSION"));

/// Every connection of one [`Client`](crate::Client).
#[derive(Debug)]
pub(crate) struct Connections {
    hosts: BTreeMap<HostKey, HostConfig>,
    routes: Vec<Route>,
    ca_bundle: Option<CaBundle>,
    pub(crate) patience: Patience,
    network: Network,
    clients: Memo<Settings, reqwest::Client>,
    schemes: Memo<String, Scheme>,
    /// How much can be sent at once, by registry, where that is not everything.
    upload_limits: Mutex<BTreeMap<String, u64>>,
    guard: Arc<PublicOnly>,
}

type Memo<K, V> = Mutex<BTreeMap<K, Arc<OnceCell<V>>>>;

/// Which settings a request is sent with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Settings {
    Standard,
    /// This machine, which no proxy is asked for; without TLS there is nobody to trust.
    Loopback {
        is_plain: bool,
    },
    Public,
    Own(HostKey),
}

#[derive(Clone, Copy, Debug)]
enum Scheme {
    Http,
    Https,
}

impl Connections {
    pub(crate) fn new(config: RegistryConfig) -> Self {
        let RegistryConfig {
            hosts,
            routes,
            ca_bundle,
            patience,
            network,
        } = config;
        // What is no host cannot be connected to either, so nobody will look for what is left out.
        let hosts = hosts
            .into_iter()
            .filter_map(|(host, config)| Some((HostKey::of(&host)?, config)))
            .collect();
        Self {
            hosts,
            routes,
            ca_bundle,
            patience,
            network,
            clients: Memo::default(),
            schemes: Memo::default(),
            upload_limits: Mutex::default(),
            guard: Arc::new(PublicOnly::default()),
        }
    }

    /// Returns the mirrors that are asked for `reference`, first choice first.
    pub(crate) fn mirrors<'a>(&'a self, reference: &'a Reference) -> Vec<MirrorOf<'a>> {
        let routed = self.route(reference);
        if routed.is_some_and(|routed| routed.route.is_blocked) {
            return Vec::new();
        }
        let own = self.config_of(reference.registry());
        let own = own.into_iter().flat_map(|config| &config.mirrors);
        let own = own.map(|mirror| MirrorOf {
            mirror,
            rest: reference.repository(),
        });
        let routed = routed.into_iter().flat_map(|Routed { route, rest }| {
            let mirrors = route.mirrors.iter();
            mirrors.map(move |mirror| MirrorOf { mirror, rest })
        });
        own.chain(routed)
            .filter(|MirrorOf { mirror, .. }| mirror.serves(reference))
            .collect()
    }

    /// Returns the route of `reference`, if it has one.
    pub(crate) fn route<'a>(&'a self, reference: &'a Reference) -> Option<Routed<'a>> {
        route::of(&self.routes, reference)
    }

    /// Returns how large a PATCH gets through to `registry`, as far as is known.
    pub(crate) fn upload_limit(&self, registry: &str) -> u64 {
        let limits = &self.upload_limits;
        let limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(registry).copied().unwrap_or(u64::MAX)
    }

    /// Remembers that more than `bytes` do not get through to `registry` at once.
    pub(crate) fn limit_uploads(&self, registry: &str, bytes: u64) {
        let limits = &self.upload_limits;
        let mut limits = limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(registry.to_owned()).or_insert(u64::MAX);
        *limit = bytes.min(*limit);
    }

    fn config_of(&self, host: &str) -> Option<&HostConfig> {
        self.hosts.get(&HostKey::of(host)?)
    }

    /// Returns whether the certificate of `url`'s host is checked.
    pub(crate) fn is_verified(&self, url: &Url) -> bool {
        let own = HostKey::of_url(url).and_then(|key| self.hosts.get(&key));
        url.scheme() == "https" && own.is_none_or(|own| own.transport != Transport::Unverified)
    }

    /// Returns the address of a registry, `https://host:port/`.
    pub(crate) async fn base(&self, registry: &str) -> Result<Url, RequestError> {
        let server = match registry {
            DOCKER_HUB => host::DOCKER_HUB_SERVER,
            other => other,
        };
        let https = base_url(Scheme::Https, server)?;
        let config = self.config_of(registry);
        let has_ca = config.is_some_and(|config| !config.ca_certificates.is_empty());
        let scheme = match config.map(|config| config.transport).unwrap_or_default() {
            Transport::PlainHttp => Scheme::Http,
            Transport::Standard | Transport::Unverified => {
                if host::is_loopback(&https) && !has_ca {
                    self.scheme_of_loopback(server).await?
                } else {
                    Scheme::Https
                }
            }
        };
        base_url(scheme, server)
    }

    /// Finds out what is spoken at a port of this machine, once.
    ///
    /// Plain HTTP is the rule there. TLS shows itself in that HTTP gets no answer, or a 400, and TLS
    /// gets one. The other way, from TLS to HTTP, is never taken.
    async fn scheme_of_loopback(&self, server: &str) -> Result<Scheme, RequestError> {
        let cell = entry(&self.schemes, server.to_owned());
        let decided = cell
            .get_or_try_init(async || {
                let http = self.ping(base_url(Scheme::Http, server)?).await;
                if matches!(&http, Ok(status) if *status != StatusCode::BAD_REQUEST) {
                    return Ok(Scheme::Http);
                }
                match self.ping(base_url(Scheme::Https, server)?).await {
                    Ok(_) => Ok(Scheme::Https),
                    Err(error) if error.is_certificate() => Ok(Scheme::Https),
                    Err(_) => http.map(|_| Scheme::Http),
                }
            })
            .await?;
        Ok(*decided)
    }

    async fn ping(&self, base: Url) -> Result<StatusCode, RequestError> {
        let url = base.join("v2/").unwrap_or(base);
        let mut request = Request::new("look for registry", Method::GET, Target::named(url));
        request.redirects = Redirects::Refuse;
        Ok(self.send(&request, None).await?.status())
    }

    /// Sends `request` and follows redirects. Any HTTP status is an answer.
    pub(crate) async fn send(
        &self,
        request: &Request,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RequestError> {
        let mut target = request.target.clone();
        let mut authorization = authorization;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(request, &target, authorization).await?;
            let Some(location) = response.redirect() else {
                return Ok(response);
            };
            let next = self.redirected(request, &response, &location)?;
            if !host::same_origin(&target.url, &next.url) {
                // Never to be taken up again, even if a later redirect leads back.
                authorization = None;
            }
            target = next;
        }
        Err(request.error(&target.url, hop_error(&target.url, HopError::TooMany)))
    }

    fn redirected(
        &self,
        request: &Request,
        response: &Response,
        location: &str,
    ) -> Result<Target, RequestError> {
        let next = self.hop(response, location)?;
        let harmless = matches!(request.method, Method::GET | Method::HEAD)
            || matches!(
                response.status(),
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
            );
        if request.redirects == Redirects::Refuse || !harmless {
            return Err(response.error(hop_error(&next.url, HopError::NotAllowed)));
        }
        Ok(next)
    }

    /// Returns where `response` leads to with `location`: a redirect, an upload or a token server.
    ///
    /// # Errors
    ///
    /// [`RequestErrorKind::Hop`]: we do not go there.
    pub(crate) fn hop(&self, response: &Response, location: &str) -> Result<Target, RequestError> {
        let from = &response.url;
        let refuse = |to: &Url, reason| Err(response.error(hop_error(to, reason)));
        let Ok(url) = from.join(location) else {
            return refuse(from, HopError::Address);
        };
        if !matches!(url.scheme(), "http" | "https")
            || !url.username().is_empty()
            || url.password().is_some()
        {
            return refuse(&url, HopError::Address);
        }
        if from.scheme() == "https" && url.scheme() == "http" {
            return refuse(&url, HopError::Downgrade);
        }
        let is_named = HostKey::of_url(&url).is_some_and(|key| self.hosts.contains_key(&key));
        let from_public = response.request.target.reach == Reach::Public
            || response.peer.is_some_and(|peer| host::is_public(peer.ip()));
        if !from_public || is_named {
            return Ok(Target::named(url));
        }
        if url.host() == from.host() {
            let reach = response.request.target.reach;
            return Ok(Target { url, reach });
        }
        let is_private = host::is_loopback(&url)
            || host::literal_address(&url).is_some_and(|address| !host::is_public(address));
        if is_private {
            return refuse(&url, HopError::NotPublic);
        }
        let reach = Reach::Public;
        Ok(Target { url, reach })
    }

    async fn send_once(
        &self,
        request: &Request,
        target: &Target,
        authorization: Option<&Authorization>,
    ) -> Result<Response, RequestError> {
        let url = &target.url;
        if self.network == Network::Closed {
            return Err(request.error(url, RequestErrorKind::Offline));
        }
        let client = self.client_for(target).await;
        let client =
            client.map_err(|cause| request.error(url, RequestErrorKind::Setup { cause }))?;
        let mut builder = client
            .request(request.method.clone(), url.clone())
            .headers(request.headers.clone());
        if let Some(authorization) = authorization {
            let value = authorization.header_value().ok_or_else(|| {
                let what = "a credential has characters that a header cannot have";
                request.error(url, RequestErrorKind::Protocol { what })
            })?;
            builder = builder.header(AUTHORIZATION, value);
        }
        let answered = match &request.body {
            Body::Empty => self.answer_of(builder).await,
            Body::Bytes(bytes) => self.answer_of(builder.body(bytes.clone())).await,
            Body::File { open, range } => {
                upload::send(builder, open.clone(), range.clone(), &self.patience).await
            }
        };
        let inner = answered.map_err(|kind| request.error(url, kind))?;
        let operation = request.operation;
        debug!(operation, method = %request.method, url = shown(url), status = %inner.status());
        Ok(Response {
            request: Request {
                target: target.clone(),
                ..request.clone()
            },
            url: url.clone(),
            peer: inner.remote_addr(),
            idle_timeout: self.patience.idle_timeout,
            inner,
        })
    }

    async fn answer_of(
        &self,
        builder: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, RequestErrorKind> {
        let after = self.patience.idle_timeout;
        match tokio::time::timeout(after, builder.send()).await {
            Ok(answer) => answer.map_err(|error| classify::kind_of(error, after)),
            Err(_) => Err(RequestErrorKind::TimedOut { after }),
        }
    }

    async fn client_for(&self, target: &Target) -> Result<reqwest::Client, crate::request::Cause> {
        let key = HostKey::of_url(&target.url);
        let is_loopback = host::is_loopback(&target.url);
        let settings = match key {
            Some(key) if self.hosts.get(&key).is_some_and(HostConfig::has_own_tls) => {
                Settings::Own(key)
            }
            _ if is_loopback => Settings::Loopback {
                is_plain: target.url.scheme() == "http",
            },
            _ if target.reach == Reach::Public => {
                self.guard.watch(&target.url);
                Settings::Public
            }
            _ => Settings::Standard,
        };
        let cell = entry(&self.clients, settings.clone());
        let client = cell
            .get_or_try_init(async || {
                let mut builder = self.builder(&settings)?;
                if is_loopback {
                    builder = builder.no_proxy();
                }
                blocking(move || builder.build()).await
            })
            .await?;
        Ok(client.clone())
    }

    fn builder(&self, settings: &Settings) -> Result<reqwest::ClientBuilder, reqwest::Error> {
        // Fails where it is installed already, which is as well.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.patience.connect_timeout)
            .tcp_keepalive(Duration::from_secs(30));
        if let Some(bundle) = &self.ca_bundle {
            let certificates = reqwest::Certificate::from_pem_bundle(bundle.pem())?;
            builder = builder.tls_certs_merge(certificates);
        }
        match settings {
            Settings::Standard | Settings::Loopback { is_plain: false } => {}
            // To read the certificates of the system takes longer than all else before the answer.
            Settings::Loopback { is_plain: true } => builder = builder.tls_certs_only([]),
            Settings::Public => builder = builder.dns_resolver(self.guard.clone()),
            Settings::Own(key) => {
                if let Some(config) = self.hosts.get(key) {
                    builder = with_own_tls(builder, config)?;
                }
            }
        }
        Ok(builder)
    }
}

impl HostConfig {
    fn has_own_tls(&self) -> bool {
        self.transport == Transport::Unverified
            || !self.ca_certificates.is_empty()
            || self.client_identity.is_some()
    }
}

fn with_own_tls(
    mut builder: reqwest::ClientBuilder,
    config: &HostConfig,
) -> Result<reqwest::ClientBuilder, reqwest::Error> {
    let mut certificates = Vec::new();
    for pem in &config.ca_certificates {
        certificates.extend(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    if !certificates.is_empty() {
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some(pem) = &config.client_identity {
        builder = builder.identity(reqwest::Identity::from_pem(pem.reveal().as_bytes())?);
    }
    Ok(match config.transport {
        Transport::Unverified => builder.tls_danger_accept_invalid_certs(true),
        Transport::Standard | Transport::PlainHttp => builder,
    })
}

impl Target {
    /// Returns a target whose host the user named.
    pub(crate) fn named(url: Url) -> Self {
        let reach = Reach::Anywhere;
        Self { url, reach }
    }
}

impl RequestError {
    fn is_certificate(&self) -> bool {
        matches!(self.kind.as_ref(), RequestErrorKind::Tls { cause } if cause.is_certificate())
    }
}

fn hop_error(to: &Url, reason: HopError) -> RequestErrorKind {
    let to = shown(to);
    RequestErrorKind::Hop { to, reason }
}

fn base_url(scheme: Scheme, server: &str) -> Result<Url, RequestError> {
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let text = format!("{scheme}://{server}/");
    Url::parse(&text).map_err(|_| RequestError {
        operation: "look for registry",
        method: Method::GET.to_string(),
        url: text,
        kind: Box::new(RequestErrorKind::Protocol {
            what: "the registry's name is not a host",
        }),
    })
}

fn entry<K: Ord, V>(memo: &Memo<K, V>, key: K) -> Arc<OnceCell<V>> {
    let mut memo = memo.lock().unwrap_or_else(PoisonError::into_inner);
    memo.entry(key).or_default().clone()
}

/// Runs work on files off the async threads, inside the caller's span.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let span = tracing::Span::current();
    match tokio::task::spawn_blocking(move || span.in_scope(work)).await {
        Ok(value) => value,
        Err(failure) => std::panic::resume_unwind(failure.into_panic()),
    }
}
