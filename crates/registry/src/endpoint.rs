//! Endpoints: a server and a repository on it, and the addresses of what is there.

use std::collections::BTreeSet;

use oci::{Digest, Reference};
use reqwest::Url;

use crate::config::Mirror;
use crate::connections::Connections;
use crate::host::HostKey;
use crate::request::RequestError;
use crate::route::Routed;

/// A repository on a registry, or on a mirror of it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// The host as the user wrote it: whose credentials are used.
    pub(crate) host: String,
    /// The server's address.
    pub(crate) base: Url,
    /// The repository, with the mirror's prefix.
    pub(crate) repository: String,
    /// On a mirror: the registry that is mirrored.
    namespace: Option<String>,
}

impl Endpoint {
    /// Returns the repository of `reference` where it is at home.
    ///
    /// # Errors
    ///
    /// Nobody may go there, or nobody is there.
    pub(crate) async fn origin(
        connections: &Connections,
        reference: &Reference,
    ) -> Result<Self, RequestError> {
        let routed = connections.route(reference);
        if routed.is_some_and(|routed| routed.route.is_blocked) {
            return Err(RequestError::blocked(reference));
        }
        let located = routed.and_then(|Routed { route, rest }| {
            let location = route.location.as_ref()?;
            Some((location.host(), below(location.prefix(), rest)))
        });
        let (host, repository) = located.unwrap_or_else(|| {
            let repository = reference.repository().to_owned();
            (reference.registry(), repository)
        });
        Ok(Self {
            host: host.to_owned(),
            base: connections.base(host).await?,
            repository,
            namespace: None,
        })
    }

    /// Returns a registry as such.
    pub(crate) async fn registry(
        connections: &Connections,
        host: &str,
    ) -> Result<Self, RequestError> {
        Ok(Self {
            host: host.to_owned(),
            base: connections.base(host).await?,
            repository: String::new(),
            namespace: None,
        })
    }

    /// Returns the address that every registry has.
    pub(crate) fn root(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path("/v2/");
        url
    }

    /// Returns the repository of `reference` on `mirror`.
    pub(crate) async fn mirror(
        connections: &Connections,
        reference: &Reference,
        MirrorOf { mirror, rest }: MirrorOf<'_>,
    ) -> Result<Self, RequestError> {
        Ok(Self {
            host: mirror.host().to_owned(),
            base: connections.base(mirror.host()).await?,
            repository: below(mirror.prefix(), rest),
            namespace: Some(reference.registry().to_owned()),
        })
    }

    /// Returns the address of a manifest or an index, by tag or digest.
    pub(crate) fn manifest(&self, name: &str) -> Url {
        self.url(&["manifests", name])
    }

    /// Returns the address of a blob.
    pub(crate) fn blob(&self, digest: Digest) -> Url {
        self.url(&["blobs", &digest.to_string()])
    }

    /// Returns the address at which uploads are started; it ends in a slash.
    pub(crate) fn uploads(&self) -> Url {
        self.url(&["blobs", "uploads", ""])
    }

    /// Returns the address of the first page of the list of tags.
    pub(crate) fn tags(&self) -> Url {
        self.url(&["tags", "list"])
    }

    fn url(&self, rest: &[&str]) -> Url {
        let mut url = self.base.clone();
        // Parts of references and digests need no escaping; this cannot fail for http addresses.
        url.set_path(&format!("/v2/{}/{}", self.repository, rest.join("/")));
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        url
    }

    pub(crate) fn key(&self) -> Option<HostKey> {
        HostKey::of(&self.host)
    }

    pub(crate) fn pull_scope(&self) -> Scopes {
        Scopes::one(&self.repository, "pull")
    }

    pub(crate) fn push_scope(&self) -> Scopes {
        Scopes::one(&self.repository, "pull,push")
    }

    pub(crate) fn delete_scope(&self) -> Scopes {
        Scopes::one(&self.repository, "delete,pull")
    }
}

/// A mirror, and how a repository is called below its prefix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MirrorOf<'a> {
    pub(crate) mirror: &'a Mirror,
    pub(crate) rest: &'a str,
}

fn below(prefix: &str, rest: &str) -> String {
    match (prefix, rest) {
        ("", rest) => rest.to_owned(),
        (prefix, "") => prefix.to_owned(),
        (prefix, rest) => format!("{prefix}/{rest}"),
    }
}

/// What a token is to allow, sorted: `repository:library/alpine:pull`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Returns no scopes: what a token is asked for that only says who we are.
    pub(crate) fn none() -> Self {
        Self(BTreeSet::new())
    }

    fn one(repository: &str, actions: &str) -> Self {
        Self(BTreeSet::from([scope(repository, actions)]))
    }

    /// Returns the scopes with reading `repository` added, which mounting from it needs.
    pub(crate) fn and_pull(mut self, repository: &str) -> Self {
        self.0.insert(scope(repository, "pull"));
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns whether the resource of `scope`, which is what stands before its actions, is among
    /// those named here.
    pub(crate) fn cover(&self, scope: &str) -> bool {
        let resource = |scope: &str| scope.rsplit_once(':').map(|(name, _)| name.to_owned());
        self.iter().any(|own| resource(own) == resource(scope))
    }
}

fn scope(repository: &str, actions: &str) -> String {
    format!("repository:{repository}:{actions}")
}
