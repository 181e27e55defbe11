//! What the user says about registries: mirrors, certificates, plain HTTP, patience.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use oci::Reference;

use crate::route::Route;
use crate::secret::Secret;
use crate::trust::CaBundle;

/// How registries are to be talked to.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// By registry as it stands in references, for example `docker.io` or `127.0.0.1:5000`; mirrors
    /// and hosts that registries redirect to are looked up here too, under their own names.
    pub hosts: BTreeMap<String, HostConfig>,
    /// Where names that begin in a certain way are really kept.
    pub routes: Vec<Route>,
    /// Trusted for all hosts, beside the system's certificates.
    pub ca_bundle: Option<CaBundle>,
    /// How long to wait and how often to try again.
    pub patience: Patience,
    /// Whether anybody may be connected to.
    pub network: Network,
}

/// Whether anybody may be connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Whoever is asked for.
    #[default]
    Open,
    /// Nobody: every request fails before a name is looked up (`--offline`).
    Closed,
}

impl Default for RegistryConfig {
    /// Returns what holds where the user says nothing.
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            routes: Vec::new(),
            ca_bundle: None,
            patience: Patience::STANDARD,
            network: Network::Open,
        }
    }
}

/// What differs for one host.
#[derive(Clone, Debug, Default)]
pub struct HostConfig {
    /// Tried in order before the host itself and what routes say, for pulls only.
    pub mirrors: Vec<Mirror>,
    /// How the host is connected to.
    pub transport: Transport,
    /// Certificates in PEM (`ca.crt`) that are trusted for this host beside the system's. A host on
    /// this machine that has one is spoken to over TLS.
    pub ca_certificates: Vec<Vec<u8>>,
    /// Certificate and key in PEM (`client.cert` and `client.key` joined) that rbuild shows to it.
    pub client_identity: Option<Secret>,
}

/// How a host is connected to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Verified TLS; for `localhost`, `127.0.0.0/8` and `[::1]` plain HTTP, or TLS if that is what
    /// answers there.
    #[default]
    Standard,
    /// HTTP without TLS (`http = true`).
    PlainHttp,
    /// As [`Transport::Standard`], but whose certificate it is does not matter
    /// (`registry.insecure=true`). Away from this machine it is TLS, and never becomes plain HTTP.
    Unverified,
}

/// A host that serves copies of another registry's images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    host: String,
    prefix: String,
    serves: Serves,
}

/// What a mirror is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serves {
    /// Everything.
    #[default]
    All,
    /// What is named by digest, where a mirror that is behind cannot mislead.
    Digests,
    /// What is named by tag.
    Tags,
}

/// Why some text is not a [`Mirror`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("mirror `{text}` is not of the form [https://]host[:port][/path]")]
pub struct MirrorError {
    /// The whole text.
    pub text: String,
}

impl Mirror {
    /// Returns the mirror's host and, if not the default one, its port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the same mirror, for what `serves` says.
    #[must_use]
    pub fn serving(self, serves: Serves) -> Self {
        Self { serves, ..self }
    }

    /// Returns whether it is asked for `reference`.
    pub(crate) fn serves(&self, reference: &Reference) -> bool {
        match self.serves {
            Serves::All => true,
            Serves::Digests => reference.digest().is_some(),
            Serves::Tags => reference.digest().is_none(),
        }
    }

    /// Returns what stands before the repository on this mirror, without slashes around; may be empty.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl std::fmt::Display for Mirror {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.prefix.as_str() {
            "" => f.write_str(&self.host),
            prefix => write!(f, "{}/{prefix}", self.host),
        }
    }
}

impl FromStr for Mirror {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let rest = text.strip_prefix("https://").unwrap_or(text);
        let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        // The grammar of references is the grammar of mirrors: a host, and components below it.
        let probe = format!("{host}/{}x", if prefix.is_empty() { "" } else { "x/" });
        let is_host = probe
            .parse::<oci::Reference>()
            .is_ok_and(|reference| reference.registry() == host || host == "index.docker.io");
        let is_prefix = prefix.is_empty()
            || format!("localhost/{prefix}")
                .parse::<oci::Reference>()
                .is_ok_and(|reference| reference.repository() == prefix);
        if is_host && is_prefix {
            Ok(Self {
                host: host.to_owned(),
                prefix: prefix.to_owned(),
                serves: Serves::All,
            })
        } else {
            Err(MirrorError {
                text: text.to_owned(),
            })
        }
    }
}

/// How long to wait for an answer, and how often to ask again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a connection to be made, TLS included.
    pub connect_timeout: Duration,
    /// For the head of an answer, and for the next piece of its body.
    pub idle_timeout: Duration,
    /// For the next piece of an upload to be taken, and for the answer once all is sent: registries
    /// move a finished blob within their storage before they answer.
    pub upload_timeout: Duration,
    /// Before the second try; doubled each time up to eight times as much.
    pub first_delay: Duration,
    /// How often in all something is tried that fails for reasons that may pass.
    pub attempts: u32,
    /// The longest `Retry-After` that is waited for.
    pub longest_retry_after: Duration,
}

impl Patience {
    /// What suits people: delays of 1, 2, 4 and 8 seconds.
    pub const STANDARD: Self = Self {
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(60),
        upload_timeout: Duration::from_secs(300),
        first_delay: Duration::from_secs(1),
        attempts: 5,
        longest_retry_after: Duration::from_secs(60),
    };
}
