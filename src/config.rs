//! rbuild's own configuration file: how the registries are reached, and how large the store may get.
//!
//! ```toml
//! [registry."docker.io"]
//! mirrors = ["mirror.example.com/hub", "127.0.0.1:5000"]   # asked first, for pulls only
//!
//! [registry."registry.internal:5000"]
//! plain-http = true                    # no TLS
//! insecure = true                      # TLS without verification; instead of the former
//! ca = ["internal.pem"]                # more roots of trust; relative to this file
//! client-cert = "me.pem"               # what rbuild shows of itself
//! client-key = "me.key"
//!
//! ca-bundle = "company.pem"            # trusted by rbuild and by steps; at the top of the file
//!
//! [store]
//! gc = true                            # remove what was not used for longest, by these limits:
//! reserved-space = "10%"               # so much is kept in any case; of the disk, or as in "10GB"
//! max-used-space = "60%"               # no more than this
//! min-free-space = "20%"               # less, where the disk has less room than this
//!
//! [emulators]
//! "linux/arm64" = "/opt/qemu-aarch64"  # what runs programs of a platform; relative to this file
//! image = "example.com/qemu@sha256:…"  # what `rbuild emulators install` takes emulators out of
//! ```
//!
//! The file is `$RBUILD_CONFIG`, else `$XDG_CONFIG_HOME/rbuild/config.toml`, else
//! `~/.config/rbuild/config.toml`. Only the first must exist. A key that is not known is refused: it
//! may be a security setting that was misspelt.
//!
//! What Podman and Docker are told is heard, too: `registries.conf` and directories of certificates.
//! Where both say something of one host, rbuild's own file decides.

mod certificates;
mod containers;

pub(crate) use containers::files as containers_files;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use oci::Reference;
use oci::reference::ReferenceError;
use registry::{CaBundle, CaBundleError, HostConfig, Mirror, RegistryConfig, Secret, Transport};
use sandbox::Architecture;
use serde::Deserialize;
use store::Limits;

use crate::commands::kept::{FilterError, Size};
use crate::emulators::{self, ChoiceError};

/// Every file that says how registries are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// rbuild's own.
    pub(crate) own: Option<Location>,
    /// `registries.conf` and the files beside it, those that count more later.
    pub(crate) containers: Vec<Location>,
    /// Directories with one of certificates for each host, those that count more first.
    pub(crate) certificates: Vec<PathBuf>,
}

/// Where the file is, and whether it has to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// The user named it.
    Named(PathBuf),
    /// The usual place.
    Usual(PathBuf),
}

/// What the file says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[serde(rename_all = "kebab-case")]
struct File {
    ca_bundle: Option<PathBuf>,
    #[serde(default)]
    registry: BTreeMap<String, RegistryTable>,
    #[serde(default)]
    store: StoreTable,
    #[serde(default)]
    emulators: EmulatorsTable,
}

/// `[store]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct StoreTable {
    gc: bool,
    reserved_space: String,
    max_used_space: String,
    min_free_space: String,
}

impl Default for StoreTable {
    fn default() -> Self {
        Self {
            gc: true,
            reserved_space: "10%".to_owned(),
            max_used_space: "60%".to_owned(),
            min_free_space: "20%".to_owned(),
        }
    }
}

/// How large the store may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    reserved: Size,
    max_used: Size,
    min_free: Size,
}

impl Room {
    /// Returns the limits on a disk of that size.
    pub(crate) fn limits(&self, disk_bytes: u64) -> Limits {
        Limits {
            reserved_bytes: Some(self.reserved.bytes(disk_bytes)),
            max_used_bytes: Some(self.max_used.bytes(disk_bytes)),
            min_free_bytes: Some(self.min_free.bytes(disk_bytes)),
        }
    }
}

/// `[registry."host"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RegistryTable {
    #[serde(default)]
    mirrors: Vec<String>,
    #[serde(default)]
    plain_http: bool,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    ca: Vec<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// `[emulators]`
#[derive(Debug, Default, Deserialize)]
struct EmulatorsTable {
    image: Option<String>,
    #[serde(flatten)]
    platforms: BTreeMap<String, PathBuf>,
}

/// What the file says of emulators.
#[derive(Debug, Default)]
pub(crate) struct NamedEmulators {
    /// What runs programs of which architecture.
    pub(crate) programs: BTreeMap<Architecture, PathBuf>,
    /// The image that emulators can be taken out of.
    pub(crate) image: Option<Reference>,
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("configuration file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("configuration file {}: {source}", path.display())]
    Syntax {
        path: PathBuf,
        source: Box<toml::de::Error>,
    },
    #[error("configuration file {}: `{host}` is not a registry's host", path.display())]
    Host { path: PathBuf, host: String },
    #[error("configuration file {}: registry `{host}`: {source}", path.display())]
    Mirror {
        path: PathBuf,
        host: String,
        source: registry::config::MirrorError,
    },
    #[error(
        "configuration file {}: registry `{host}`: client-cert and client-key go together",
        path.display()
    )]
    HalfIdentity { path: PathBuf, host: String },
    #[error(
        "configuration file {}: registry `{host}`: plain-http and insecure exclude each other",
        path.display()
    )]
    TwoTransports { path: PathBuf, host: String },
    #[error("configuration file {}: [store] {key}: {source}", path.display())]
    Size {
        path: PathBuf,
        key: &'static str,
        source: FilterError,
    },
    #[error("CA bundle {}: {source}", path.display())]
    ReadBundle { path: PathBuf, source: io::Error },
    #[error("CA bundle {}: {source}", path.display())]
    Bundle {
        path: PathBuf,
        source: CaBundleError,
    },
    #[error("configuration file {}: [emulators] {platform}: {source}", path.display())]
    Emulator {
        path: PathBuf,
        platform: String,
        source: ChoiceError,
    },
    #[error("configuration file {}: [emulators] image: {source}", path.display())]
    EmulatorImage {
        path: PathBuf,
        source: ReferenceError,
    },
    #[error("certificate {} of registry `{host}`: {source}", path.display())]
    Certificate {
        path: PathBuf,
        host: String,
        source: io::Error,
    },
}

/// Reads all files; usual places may be empty.
///
/// # Errors
///
/// A file, or one that it names, cannot be read, or holds something else than it should.
pub(crate) fn load(sources: &Sources) -> Result<RegistryConfig, ConfigError> {
    let mut config = RegistryConfig::default();
    if let Some(location) = &sources.own
        && let Some((path, text)) = read(location)?
    {
        config = parse(path, &text)?;
    }
    containers::add(&mut config, &sources.containers)?;
    certificates::add(&mut config, &sources.certificates)?;
    Ok(config)
}

impl ConfigError {
    /// The user's next step, where the message alone does not imply it.
    pub(crate) fn help(&self) -> Option<String> {
        match self {
            Self::ReadBundle { .. } | Self::Bundle { .. } => Some(
                "name a file of certificates in PEM: --ca-bundle, RBUILD_CA_BUNDLE, or `ca-bundle` in \
                 the configuration file"
                    .to_owned(),
            ),
            Self::Read { .. }
            | Self::Syntax { .. }
            | Self::Host { .. }
            | Self::Mirror { .. }
            | Self::HalfIdentity { .. }
            | Self::TwoTransports { .. }
            | Self::Size { .. }
            | Self::Emulator { .. }
            | Self::EmulatorImage { .. }
            | Self::Certificate { .. } => None,
        }
    }
}

/// Reads the certificates that are trusted everywhere: those in `named`, else those that the
/// configuration file names.
///
/// # Errors
///
/// As [`load`], or there are none in it.
pub(crate) fn load_ca_bundle(
    named: Option<&Path>,
    own: Option<&Location>,
) -> Result<Option<CaBundle>, ConfigError> {
    let path = match named {
        Some(named) => Some(named.to_owned()),
        None => match own.map(read).transpose()?.flatten() {
            // Relative to the file that names it.
            Some((path, text)) => parse_file(path, &text)?
                .ca_bundle
                .map(|bundle| path.parent().unwrap_or(Path::new(".")).join(bundle)),
            None => None,
        },
    };
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read(&path);
    let text = text.map_err(|source| ConfigError::ReadBundle {
        path: path.clone(),
        source,
    })?;
    let bundle = CaBundle::parse(&text);
    bundle
        .map(Some)
        .map_err(|source| ConfigError::Bundle { path, source })
}

/// Reads how large the store may get; `None` where it may get as large as it likes.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn load_room(own: Option<&Location>) -> Result<Option<Room>, ConfigError> {
    match own.map(read).transpose()?.flatten() {
        Some((path, text)) => parse_room(path, &text),
        None => parse_room(Path::new(""), ""),
    }
}

/// Reads which emulators there are.
///
/// # Errors
///
/// As [`load`].
pub(crate) fn load_emulators(own: Option<&Location>) -> Result<NamedEmulators, ConfigError> {
    let Some((path, text)) = own.map(read).transpose()?.flatten() else {
        return Ok(NamedEmulators::default());
    };
    let path = std::path::absolute(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let EmulatorsTable { image, platforms } = parse_file(&path, &text)?.emulators;
    let image = image.map(|image| image.parse());
    let image = image
        .transpose()
        .map_err(|source| ConfigError::EmulatorImage {
            path: path.clone(),
            source,
        })?;
    let programs = platforms
        .into_iter()
        .map(
            |(platform, emulator)| match emulators::architecture(&platform) {
                Ok(architecture) => Ok((architecture, folder.join(emulator))),
                Err(source) => Err(ConfigError::Emulator {
                    path: path.clone(),
                    platform,
                    source,
                }),
            },
        )
        .collect::<Result<_, _>>()?;
    Ok(NamedEmulators { programs, image })
}

/// Returns a file's text; `None` where it need not be there and is not.
fn read(location: &Location) -> Result<Option<(&Path, String)>, ConfigError> {
    let (Location::Named(path) | Location::Usual(path)) = location;
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some((path, text))),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && matches!(location, Location::Usual(_)) =>
        {
            Ok(None)
        }
        Err(source) => Err(ConfigError::Read {
            path: path.clone(),
            source,
        }),
    }
}

fn parse_room(path: &Path, text: &str) -> Result<Option<Room>, ConfigError> {
    let StoreTable {
        gc,
        reserved_space,
        max_used_space,
        min_free_space,
    } = parse_file(path, text)?.store;
    let size = |key, text: &str| {
        Size::parse(text).map_err(|source| ConfigError::Size {
            path: path.to_owned(),
            key,
            source,
        })
    };
    let room = Room {
        reserved: size("reserved-space", &reserved_space)?,
        max_used: size("max-used-space", &max_used_space)?,
        min_free: size("min-free-space", &min_free_space)?,
    };
    Ok(gc.then_some(room))
}

fn parse_file(path: &Path, text: &str) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|source| ConfigError::Syntax {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

fn parse(path: &Path, text: &str) -> Result<RegistryConfig, ConfigError> {
    let file = parse_file(path, text)?;
    let mut config = RegistryConfig::default();
    for (host, table) in file.registry {
        let settings = host_config(path, &host, table)?;
        config.hosts.insert(host, settings);
    }
    Ok(config)
}

fn host_config(path: &Path, host: &str, table: RegistryTable) -> Result<HostConfig, ConfigError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    if host.is_empty() || !host.chars().all(legal) {
        return Err(ConfigError::Host {
            path: path.to_owned(),
            host: host.to_owned(),
        });
    }
    let transport = match (table.plain_http, table.insecure) {
        (false, false) => Transport::Standard,
        (true, false) => Transport::PlainHttp,
        (false, true) => Transport::Unverified,
        (true, true) => {
            return Err(ConfigError::TwoTransports {
                path: path.to_owned(),
                host: host.to_owned(),
            });
        }
    };
    let mirror = |text: &String| {
        text.parse::<Mirror>()
            .map_err(|source| ConfigError::Mirror {
                path: path.to_owned(),
                host: host.to_owned(),
                source,
            })
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    let certificate = |file: &PathBuf| -> Result<Vec<u8>, ConfigError> {
        let path = folder.join(file);
        std::fs::read(&path).map_err(|source| ConfigError::Certificate {
            path,
            host: host.to_owned(),
            source,
        })
    };
    let client_identity = match (&table.client_cert, &table.client_key) {
        (None, None) => None,
        (Some(cert), Some(key)) => Some(identity(&certificate(cert)?, &certificate(key)?)),
        (Some(_), None) | (None, Some(_)) => {
            return Err(ConfigError::HalfIdentity {
                path: path.to_owned(),
                host: host.to_owned(),
            });
        }
    };
    Ok(HostConfig {
        mirrors: table.mirrors.iter().map(mirror).collect::<Result<_, _>>()?,
        transport,
        ca_certificates: table.ca.iter().map(certificate).collect::<Result<_, _>>()?,
        client_identity,
    })
}

/// Joins a certificate and its key as the client wants them.
fn identity(certificate: &[u8], key: &[u8]) -> Secret {
    let text = [certificate, b"\n", key].concat();
    Secret::new(String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_text(text: &str) -> Result<RegistryConfig, String> {
        parse(Path::new("/etc/rb/config.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn all_settings_of_a_registry() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.pem"), "certificate").unwrap();
        let text = "[registry.\"docker.io\"]\nmirrors = [\"127.0.0.1:5000\", \"m.example/hub\"]\n\
             [registry.\"r.internal:5000\"]\ninsecure = true\nca = [\"a.pem\"]\n\
             [registry.\"p.internal\"]\nplain-http = true";
        let config = parse(&folder.path().join("config.toml"), text).unwrap();
        let mirrors: Vec<&str> = config.hosts["docker.io"]
            .mirrors
            .iter()
            .map(Mirror::host)
            .collect();
        assert_eq!(mirrors, ["127.0.0.1:5000", "m.example"]);
        let internal = &config.hosts["r.internal:5000"];
        assert_eq!(internal.transport, Transport::Unverified);
        assert_eq!(internal.ca_certificates, [b"certificate"]);
        assert_eq!(config.hosts["p.internal"].transport, Transport::PlainHttp);
        assert!(parse_text("").unwrap().hosts.is_empty());
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        insta::assert_snapshot!(
            parse_text("[registry.\"a\"]\nplain_http = true").unwrap_err(),
            @r"
    configuration file /etc/rb/config.toml: TOML parse error at line 2, column 1
      |
    2 | plain_http = true
      | ^^^^^^^^^^
    unknown field `plain_http`, expected one of `mirrors`, `plain-http`, `insecure`, `ca`, `client-cert`, `client-key`
    "
        );
        insta::assert_snapshot!(parse_text("[registry.\"http://a\"]").unwrap_err(), @r"configuration file /etc/rb/config.toml: `http://a` is not a registry's host");
        insta::assert_snapshot!(
            parse_text("[registry.a]\nplain-http = true\ninsecure = true").unwrap_err(),
            @r"configuration file /etc/rb/config.toml: registry `a`: plain-http and insecure exclude each other"
        );
        insta::assert_snapshot!(
            parse_text("[registry.a]\nmirrors = [\"http://x y\"]").unwrap_err(),
            @r"configuration file /etc/rb/config.toml: registry `a`: mirror `http://x y` is not of the form [https://]host[:port][/path]"
        );
        insta::assert_snapshot!(
            parse_text("[registry.a]\nca = [\"nonexistent.pem\"]").unwrap_err(),
            @r"certificate /etc/rb/nonexistent.pem of registry `a`: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn how_large_the_store_may_get() {
        let room = |text| parse_room(Path::new("/etc/rb/config.toml"), text);
        let usual = room("").unwrap().unwrap().limits(1_000_000);
        assert_eq!(
            usual,
            Limits {
                reserved_bytes: Some(100_000),
                max_used_bytes: Some(600_000),
                min_free_bytes: Some(200_000),
            }
        );
        let own = room("[store]\nmax-used-space = \"1MB\"\nmin-free-space = \"0\"");
        let own = own.unwrap().unwrap().limits(1_000_000_000);
        assert_eq!(own.max_used_bytes, Some(1_000_000));
        assert_eq!(own.min_free_bytes, Some(0));
        assert_eq!(room("[store]\ngc = false").unwrap(), None);
        insta::assert_snapshot!(
            room("[store]\nmax-used-space = \"much\"").unwrap_err(),
            @"configuration file /etc/rb/config.toml: [store] max-used-space: invalid size `much`: expected a number and a unit, as in `512MB`, `10GB` or `2GiB`"
        );
    }

    #[test]
    fn only_a_named_file_must_exist() {
        let missing = PathBuf::from("/nonexistent/rbuild.toml");
        let own = |location| Sources {
            own: Some(location),
            ..Sources::default()
        };
        assert!(load(&own(Location::Usual(missing.clone()))).is_ok());
        assert!(load(&own(Location::Named(missing))).is_err());
    }
}
