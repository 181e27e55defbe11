//! The client: what all operations share.

use std::sync::Arc;

use crate::config::RegistryConfig;
use crate::credentials::Credentials;

/// A client of registries and of layout directories; clones share connections and tokens.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: RegistryConfig,
    credentials: Credentials,
}

impl Client {
    /// Returns a client that has connected to nothing yet.
    pub fn new(config: RegistryConfig, credentials: Credentials) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                credentials,
            }),
        }
    }
}
