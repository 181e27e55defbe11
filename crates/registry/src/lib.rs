//! Speaks the distribution protocol: the network client of rbuild.
//!
//! A registry is a machine of somebody else's, reached over a network of somebody else's. So the
//! crate believes nothing that it can check, and tells a secret to nobody but the one it is for:
//!
//! - bytes count only once their size and digest are those that were asked for;
//! - TLS never becomes plain HTTP, and an `Authorization` never leaves the host, port and scheme
//!   that it is meant for (redirects are followed here, not by the HTTP library, for that reason);
//! - what is read into memory has a limit, what waits has a timeout, what repeats has an end.
//!
//! ```text
//! resolve, fetch_blob ──────► pull ─┬─► layout         a directory
//! push_blob, push_manifest ─► push ─┴─► client ─┬─► connections   redirects, TLS settings, limits
//!                                               └─► auth ─► credentials   challenge, token, helper
//! ```
//!
//! The crate reads no configuration file and, but for the proxy variables that the HTTP library
//! honours, no environment: who uses it passes a [`RegistryConfig`] and [`Credentials`]. Every
//! operation is cancelled by dropping its future.

#![forbid(unsafe_code)]

pub mod auth;
pub mod client;
pub mod config;
pub mod copy;
pub mod credentials;
pub mod download;
pub mod layout;
pub mod manifests;
pub mod pull;
pub mod push;
pub mod request;
pub mod route;
pub mod secret;
pub mod tags;
pub mod trust;

mod connections;
mod endpoint;
mod host;
mod retry;

pub use client::Client;
pub use config::{HostConfig, Mirror, Network, Patience, RegistryConfig, Serves, Transport};
pub use copy::{CopyError, Passage};
pub use credentials::{
    CredentialSource, Credentials, CredentialsError, DockerConfigText, Keeper, Kept,
};
pub use download::{DownloadError, DownloadLimits, Downloaded, Validators};
pub use layout::LayoutError;
pub use pull::{FetchError, ResolveError, ResolveErrorKind, ResolvedImage};
pub use push::{PushError, PushErrorKind, Pushed};
pub use request::{RequestError, RequestErrorKind};
pub use route::{Prefix, Route};
pub use secret::Secret;
pub use trust::{CaBundle, CaBundleError};
