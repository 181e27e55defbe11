//! What several commands need before they can work: a store, a client, a namespace.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use registry::{
    CaBundle, Client, Credentials, DockerConfigText, Network, RegistryConfig, Transport,
};
use sandbox::Entered;
use store::{InventoryError, Store};

use crate::args::GlobalArgs;
use crate::config::{self, Location, Room};
use crate::environment::{Environment, RegistriesConf};
use crate::ui::report::Failure;
use crate::ui::{self, units};

/// Returns where the store is.
pub(crate) fn store_root(
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<PathBuf, Failure> {
    let root = global.root.clone().or_else(|| environment.store_root());
    let root = root.ok_or_else(|| {
        Failure::usage(
            "there is no home directory for the store; name one with --root or RBUILD_ROOT",
        )
    })?;
    // Relative paths would change their meaning with the working directory of a child process.
    std::path::absolute(&root)
        .map_err(|error| Failure::of_system("looking for the working directory", error))
}

/// Opens the store.
pub(crate) fn open_store(root: &Path) -> Result<Store, Failure> {
    Store::open(root).map_err(|error| Failure::new(&error, error.help()))
}

/// Opens the store for a look, if there is one.
pub(crate) fn store_if_any(
    global: &GlobalArgs,
    environment: &Environment,
) -> Result<Option<Store>, Failure> {
    let Some(root) = global.root.clone().or_else(|| environment.store_root()) else {
        return Ok(None);
    };
    match root.join("version").exists() {
        true => open_store(&std::path::absolute(&root).unwrap_or(root)).map(Some),
        false => Ok(None),
    }
}

/// Keeps the store as small as the user's configuration wants it, and says what went. A build goes
/// on where that does not work.
pub(crate) fn make_room(store: &Store, room: Option<&Room>) {
    let Some(room) = room else { return };
    let removed = store
        .disk()
        .map_err(InventoryError::from)
        .and_then(|disk| store.collect(&room.limits(disk.total_bytes), SystemTime::now()));
    match removed {
        Ok(removed) if removed.is_empty() => {}
        Ok(removed) => {
            let bytes = removed.iter().map(|item| item.size_bytes).sum();
            ui::say(&format!(
                "note: the disk of the store is getting full: {} things that were not used for \
                 longest were removed from the store ({}); `[store]` in the configuration says how \
                 large it may be\n",
                removed.len(),
                units::bytes(bytes)
            ));
        }
        Err(error) => ui::say(&format!(
            "note: the store could not be made smaller: {error}\n"
        )),
    }
}

/// Returns how large the store may get.
pub(crate) fn room(environment: &Environment) -> Result<Option<Room>, Failure> {
    let own = environment.config_file();
    config::load_room(own.as_ref()).map_err(|error| Failure::new(&error, None))
}

/// Returns the client of registries, as the user's files configure it.
pub(crate) fn client(environment: &Environment) -> Result<Client, Failure> {
    client_without_certificates(environment, &BTreeSet::new(), Network::Open)
}

/// Returns the same, but that it does not ask these registries for certificates (`--insecure`), and
/// that it may connect to nobody at all (`--offline`).
pub(crate) fn client_without_certificates(
    environment: &Environment,
    registries: &BTreeSet<&str>,
    network: Network,
) -> Result<Client, Failure> {
    let mut config = registry_config(environment)?;
    config.network = network;
    for registry in registries {
        let host = config.hosts.entry((*registry).to_owned()).or_default();
        // Who configured plain HTTP has said more than that.
        if host.transport == Transport::Standard {
            host.transport = Transport::Unverified;
        }
    }
    Ok(Client::new(config, credentials(environment)?))
}

/// Returns what the user's files say of credentials; helpers are not asked yet.
pub(crate) fn credentials(environment: &Environment) -> Result<Credentials, Failure> {
    let helpers = helper_directories(environment);
    Credentials::new(&credential_texts(environment)?, helpers)
        .map_err(|error| Failure::new(&error, error.help()))
}

/// Returns the directories in which credential helpers are looked for.
pub(crate) fn helper_directories(environment: &Environment) -> Vec<PathBuf> {
    let path = environment.path.as_deref().unwrap_or(OsStr::new(""));
    std::env::split_paths(path).collect()
}

/// Returns what the user's and the machine's files say of registries.
pub(crate) fn registry_config(environment: &Environment) -> Result<RegistryConfig, Failure> {
    let loaded = config::load(&registry_sources(environment));
    let mut config = loaded.map_err(|error| Failure::new(&error, None))?;
    config.ca_bundle = ca_bundle(environment)?;
    Ok(config)
}

/// Returns the certificates that are trusted everywhere, if somebody named any: on the command line, in
/// the environment or in the configuration file.
pub(crate) fn ca_bundle(environment: &Environment) -> Result<Option<CaBundle>, Failure> {
    let own = environment.config_file();
    let loaded = config::load_ca_bundle(environment.ca_bundle.as_deref(), own.as_ref());
    loaded.map_err(|error| Failure::new(&error, error.help()))
}

/// Returns the files and directories that say so, as far as they are there.
pub(crate) fn registry_files(environment: &Environment) -> Vec<PathBuf> {
    let config::Sources {
        own,
        containers,
        certificates,
    } = registry_sources(environment);
    let files = own.into_iter().chain(containers);
    let files = files.map(|(Location::Named(path) | Location::Usual(path))| path);
    files
        .chain(certificates)
        .filter(|path| path.exists())
        .collect()
}

fn registry_sources(environment: &Environment) -> config::Sources {
    config::Sources {
        own: environment.config_file(),
        containers: match environment.registries_conf() {
            RegistriesConf::Named(path) => vec![Location::Named(path)],
            RegistriesConf::Usual { system, own } => {
                config::containers_files(&system, own.as_deref())
            }
        },
        certificates: environment.certificate_directories(),
    }
}

/// A credential file that is there but cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("credential file {}: {source}", path.display())]
struct CredentialFileError {
    path: PathBuf,
    source: io::Error,
}

fn credential_texts(environment: &Environment) -> Result<Vec<DockerConfigText>, Failure> {
    let variable = environment.docker_auth_config.iter();
    let mut texts: Vec<DockerConfigText> = variable
        .map(|text| DockerConfigText {
            origin: "DOCKER_AUTH_CONFIG".to_owned(),
            text: text.clone(),
        })
        .collect();
    for path in environment.credential_files() {
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push(DockerConfigText {
                origin: path.display().to_string(),
                text,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Failure::new(&CredentialFileError { path, source }, None));
            }
        }
    }
    Ok(texts)
}

/// Moves this process to where steps can be run, on the rung that is asked for or the highest that
/// can be had; no thread may run yet.
pub(crate) fn enter(global: &GlobalArgs) -> Result<Entered, Failure> {
    let entered =
        sandbox::enter(global.isolation).map_err(|error| Failure::new(&error, error.help()))?;
    tracing::debug!(?entered, "found a rung");
    Ok(entered)
}

/// Opens the store for a command that reads or makes layers, once it is where steps can be run.
pub(crate) fn open_layers(root: &Path) -> Result<Store, Failure> {
    let store = open_store(root)?;
    store
        .keep_ids()
        .map_err(|error| Failure::new(&error, error.help()))?;
    Ok(store)
}
