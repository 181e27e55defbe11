//! Speaks the distribution protocol: the network client of rbuild.
//!
//! A registry is a machine of somebody else's, reached over a network of somebody else's. So the
//! crate believes nothing that it can check, and tells a secret to nobody but the one it is for:
//!
//! - bytes count only once their size and digest are those that were asked for;
//! - TLS never becomes plain HTTP, and an `Authorization` never leaves the host, port and scheme
//!   that it is meant for (the transport follows redirects itself, for that reason);
//! - what is read into memory has a limit, what waits has a timeout, what repeats has an end.
//!
//! ```text
//! client ── resolve, fetch_blob ─► pull ─┬─► layout              a directory
//!        └─ push_blob, push_manifest ─► push ─┴─► session ─► transport   one request, redirects, TLS
//!                                              └─► auth ─► credentials   challenge, token, helper
//! ```
//!
//! The crate reads no environment and no configuration file: who uses it passes a
//! [`RegistryConfig`] and [`Credentials`]. Every operation is cancelled by dropping its future.

#![forbid(unsafe_code)]

pub mod client;
pub mod config;
pub mod credentials;
pub mod layout;
pub mod pull;
pub mod push;
pub mod request;
pub mod secret;

pub use client::Client;
pub use config::{HostConfig, Mirror, Patience, RegistryConfig, Transport};
pub use credentials::{Credentials, CredentialsError, DockerConfigText};
pub use layout::LayoutError;
pub use pull::{FetchError, ResolveError, ResolvedImage};
pub use push::{PushError, Pushed};
pub use request::RequestError;
pub use secret::Secret;
