//! Directories of certificates, one for each host, as Docker and Podman have them:
//!
//! ```text
//! /etc/docker/certs.d/registry.internal:5000/
//!     ca.crt                      more roots of trust: every *.crt
//!     client.cert client.key      what is shown to the host: the first such pair
//! ```
//!
//! They belong to the machine, so what this user may not read is not for him.

use std::io;
use std::path::{Path, PathBuf};

use registry::RegistryConfig;

use super::{ConfigError, identity};

/// Adds what is in `directories`; what `config` has already stays.
pub(super) fn add(config: &mut RegistryConfig, directories: &[PathBuf]) -> Result<(), ConfigError> {
    for directory in directories {
        for path in sorted(directory) {
            let Some(host) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            add_host(config, host, &path)?;
        }
    }
    Ok(())
}

fn add_host(config: &mut RegistryConfig, host: &str, path: &Path) -> Result<(), ConfigError> {
    let read = |path: &Path| match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::debug!(path = %path.display(), "not for this user");
            Ok(None)
        }
        Err(source) => Err(ConfigError::Certificate {
            path: path.to_owned(),
            host: host.to_owned(),
            source,
        }),
    };
    let has = |path: &PathBuf, extension: &str| path.extension().is_some_and(|e| e == extension);
    let files = sorted(path);
    let mut roots = Vec::new();
    for file in files.iter().filter(|file| has(file, "crt")) {
        roots.extend(read(file)?);
    }
    let mut shown = None;
    for certificate in files.iter().filter(|file| has(file, "cert")) {
        let key = certificate.with_extension("key");
        if shown.is_none()
            && key.exists()
            && let (Some(certificate), Some(key)) = (read(certificate)?, read(&key)?)
        {
            shown = Some(identity(&certificate, &key));
        }
    }
    if !roots.is_empty() || shown.is_some() {
        let settings = config.hosts.entry(host.to_owned()).or_default();
        settings.ca_certificates.append(&mut roots);
        if settings.client_identity.is_none() {
            settings.client_identity = shown;
        }
    }
    Ok(())
}

/// Returns what is in a directory; nothing where it is not there, or not for us.
fn sorted(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn roots_and_a_pair_are_found_by_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join("r.example:5000");
        fs::create_dir(&host).unwrap();
        for (name, text) in [
            ("ca.crt", "one"),
            ("more.crt", "two"),
            ("alone.cert", "x"),
            ("client.cert", "certificate"),
            ("client.key", "key"),
            ("README", "x"),
        ] {
            fs::write(host.join(name), text).unwrap();
        }
        fs::create_dir(folder.path().join("empty.example")).unwrap();
        let mut config = RegistryConfig::default();
        let missing = PathBuf::from("/nonexistent");
        add(&mut config, &[missing, folder.path().to_owned()]).unwrap();
        assert_eq!(config.hosts.len(), 1);
        let settings = &config.hosts["r.example:5000"];
        assert_eq!(settings.ca_certificates, [b"one".to_vec(), b"two".to_vec()]);
        let shown = settings.client_identity.as_ref().unwrap();
        assert_eq!(shown.reveal(), "certificate\nkey");
    }
}
