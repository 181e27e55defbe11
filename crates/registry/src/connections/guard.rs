//! The resolver of those connections that must not end in a private network.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::host::is_public;

/// Resolves names, and refuses those watched that have an address which is not public.
///
/// The check is made on the very addresses that are connected to, so that a name cannot change its
/// mind in between. Names not watched are those of proxies: with a proxy it is the proxy that
/// resolves and connects, and decides.
#[derive(Debug, Default)]
pub(super) struct PublicOnly {
    watched: Arc<Mutex<BTreeSet<String>>>,
}

/// A public server led to a name with a private address.
#[derive(Debug, thiserror::Error)]
#[error("{host} has a private address")]
pub(super) struct NotPublic {
    pub(super) host: String,
}

impl PublicOnly {
    /// Watches the host of `url`.
    pub(super) fn watch(&self, url: &Url) {
        if let Some(host) = url.host_str() {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.insert(host.to_owned());
        }
    }
}

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let is_watched = watched.contains(name.as_str());
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            let addresses: Vec<SocketAddr> = found.collect();
            if is_watched && !addresses.iter().all(|address| is_public(address.ip())) {
                return Err(NotPublic { host }.into());
            }
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r11_a_watched_name_with_a_private_address_is_refused() {
        let guard = PublicOnly::default();
        let resolve = |name: &str| guard.resolve(name.parse().unwrap());
        assert!(resolve("localhost").await.is_ok(), "it may be a proxy's");
        guard.watch(&"https://localhost/".parse().unwrap());
        let error = resolve("localhost").await.err().unwrap();
        assert!(error.downcast_ref::<NotPublic>().is_some());
    }
}
