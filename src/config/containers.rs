//! `registries.conf`, as Podman, Buildah and skopeo have it (containers-registries.conf(5), version 2).
//!
//! ```toml
//! [[registry]]
//! prefix = "docker.io/library"            # or `*.corp.example`; default: the location
//! location = "mirror.corp.example/hub"    # where that really is
//! blocked = false
//! insecure = false                        # TLS without verification
//! [[registry.mirror]]                     # asked first, for pulls
//! location = "127.0.0.1:5000"
//! pull-from-mirror = "digest-only"        # `all`, `tag-only`
//! ```
//!
//! Files beside it (`registries.conf.d/*.conf`) are read after it, and the last entry for a prefix
//! counts. Short names and the registries that are searched for them mean nothing here: as with
//! Docker, a name without a registry is one of Docker Hub.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use registry::config::MirrorError;
use registry::{HostConfig, Mirror, RegistryConfig, Route, Serves, Transport};
use serde::Deserialize;

use super::{ConfigError, Location, read};

#[derive(Debug, Default, Deserialize)]
struct File {
    #[serde(default)]
    registry: Vec<Entry>,
}

/// `[[registry]]`. Other keys are other programs' business.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default)]
    mirror: Vec<MirrorEntry>,
}

/// `[[registry.mirror]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorEntry {
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    pull_from_mirror: Option<PullFrom>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

/// Adds what the files say; where `config` has mirrors for a host already, it keeps them.
pub(super) fn add(config: &mut RegistryConfig, files: &[Location]) -> Result<(), ConfigError> {
    let mut entries: BTreeMap<String, (PathBuf, Entry)> = BTreeMap::new();
    for location in files {
        let Some((path, text)) = read(location)? else {
            continue;
        };
        let file: File = toml::from_str(&text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        for entry in file.registry {
            let name = match entry.prefix.as_str() {
                "" => entry.location.clone(),
                prefix => prefix.to_owned(),
            };
            entries.insert(name, (path.to_owned(), entry));
        }
    }
    for (prefix, (path, entry)) in entries {
        let route = route(config, &prefix, entry).map_err(|source| ConfigError::Mirror {
            path,
            host: prefix,
            source,
        })?;
        config.routes.push(route);
    }
    Ok(())
}

fn route(config: &mut RegistryConfig, prefix: &str, entry: Entry) -> Result<Route, MirrorError> {
    let location = match entry.location.as_str() {
        "" => None,
        location => Some(location.parse::<Mirror>()?),
    };
    if entry.insecure {
        let own_host = || prefix.split('/').next().unwrap_or(prefix);
        unverified(
            config,
            location.as_ref().map_or_else(own_host, Mirror::host),
        );
    }
    let mut mirrors = Vec::new();
    for mirror in &entry.mirror {
        let place: Mirror = mirror.location.parse()?;
        if mirror.insecure {
            unverified(config, place.host());
        }
        let serves = match mirror.pull_from_mirror {
            Some(PullFrom::DigestOnly) => Serves::Digests,
            Some(PullFrom::TagOnly) => Serves::Tags,
            None if entry.mirror_by_digest_only => Serves::Digests,
            Some(PullFrom::All) | None => Serves::All,
        };
        mirrors.push(place.serving(serves));
    }
    Ok(Route {
        // A location that only repeats the prefix says nothing.
        location: location.filter(|_| entry.location != prefix),
        prefix: prefix.parse()?,
        mirrors,
        is_blocked: entry.blocked,
    })
}

/// Has a host not be verified, unless rbuild's own file says how it is reached.
fn unverified(config: &mut RegistryConfig, host: &str) {
    let by_default = || HostConfig {
        transport: Transport::Unverified,
        ..HostConfig::default()
    };
    config
        .hosts
        .entry(host.to_owned())
        .or_insert_with(by_default);
}

/// Returns the files of a machine and of a user, in the order in which they count. The user's
/// `registries.conf` replaces the machine's.
pub(crate) fn files(system: &Path, own: Option<&Path>) -> Vec<Location> {
    let main = |folder: &Path| folder.join("registries.conf");
    let main = own.map(main).filter(|path| path.exists());
    let main = main.unwrap_or_else(|| system.join("registries.conf"));
    let mut files = vec![Location::Usual(main)];
    for folder in [Some(system), own].into_iter().flatten() {
        files.extend(files_in(&folder.join("registries.conf.d")));
    }
    files
}

/// Returns the files of a directory, in the order of their names.
fn files_in(directory: &Path) -> Vec<Location> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort();
    files.into_iter().map(Location::Usual).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(texts: &[&str]) -> Result<RegistryConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let mut config = RegistryConfig::default();
        let own = HostConfig {
            transport: Transport::PlainHttp,
            ..HostConfig::default()
        };
        config.hosts.insert("own.example".to_owned(), own);
        for (number, text) in texts.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{number}.conf")), text).unwrap();
        }
        let files = files_in(folder.path());
        assert_eq!(files.len(), texts.len());
        let added = add(&mut config, &files);
        let hide = folder.path().display().to_string();
        added.map_err(|error| error.to_string().replace(&hide, "/etc"))?;
        Ok(config)
    }

    #[test]
    fn an_entry_becomes_a_route() {
        let config = parsed(&[
            r#"
            unqualified-search-registries = ["docker.io", "quay.io"]
            short-name-mode = "enforcing"
            [[registry]]
            prefix = "docker.io/library"
            location = "m.example:5000/hub"
            insecure = true
            mirror-by-digest-only = true
            [[registry.mirror]]
            location = "a.example"
            [[registry.mirror]]
            location = "b.example/x"
            pull-from-mirror = "tag-only"
            insecure = true
            [[registry]]
            location = "own.example"
            insecure = true
            [aliases]
            "alpine" = "docker.io/library/alpine"
            "#,
            "[[registry]]\nprefix = \"*.evil.example\"\nblocked = true",
        ])
        .unwrap();
        let transport = |host: &str| config.hosts[host].transport;
        assert_eq!(transport("m.example:5000"), Transport::Unverified);
        assert_eq!(transport("b.example"), Transport::Unverified);
        assert!(!config.hosts.contains_key("docker.io"));
        // rbuild's own file has the last word.
        assert_eq!(transport("own.example"), Transport::PlainHttp);
        let [blocked, hub, own] = config.routes.as_slice() else {
            panic!("{:?}", config.routes);
        };
        assert!(blocked.is_blocked && !hub.is_blocked);
        assert_eq!(hub.prefix, "docker.io/library".parse().unwrap());
        assert_eq!(hub.location, Some("m.example:5000/hub".parse().unwrap()));
        let mirror = |text: &str| text.parse::<Mirror>().unwrap();
        assert_eq!(
            hub.mirrors,
            [
                mirror("a.example").serving(Serves::Digests),
                mirror("b.example/x").serving(Serves::Tags)
            ]
        );
        assert_eq!(own.location, None);
    }

    #[test]
    fn of_two_entries_the_later_counts() {
        let config = parsed(&[
            "[[registry]]\nlocation = \"a.example\"\nblocked = true",
            "[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example\"",
        ])
        .unwrap();
        assert_eq!(config.routes.len(), 1);
        assert!(!config.routes[0].is_blocked);
        assert!(config.routes[0].location.is_some());
    }

    #[test]
    fn the_users_file_replaces_the_machines() {
        let folder = tempfile::tempdir().unwrap();
        let [system, own] = ["system", "own"].map(|name| folder.path().join(name));
        for file in [
            "system/registries.conf.d/b.conf",
            "own/registries.conf.d/a.conf",
        ] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names = |own: Option<&Path>| -> Vec<String> {
            let files = files(&system, own).into_iter();
            let paths = files.map(|location| {
                let (Location::Named(path) | Location::Usual(path)) = location;
                let path = path.strip_prefix(folder.path()).unwrap().to_owned();
                path.display().to_string()
            });
            paths.collect()
        };
        let dropped = [
            "system/registries.conf.d/b.conf",
            "own/registries.conf.d/a.conf",
        ];
        assert_eq!(names(None), ["system/registries.conf", dropped[0]]);
        assert_eq!(
            names(Some(&own)),
            ["system/registries.conf", dropped[0], dropped[1]]
        );
        std::fs::write(own.join("registries.conf"), "").unwrap();
        assert_eq!(names(Some(&own))[0], "own/registries.conf");
    }

    #[test]
    fn a_bad_file_is_named() {
        insta::assert_snapshot!(
            parsed(&["[[registry]]\nlocation = \"a b\""]).unwrap_err(),
            @"configuration file /etc/0.conf: registry `a b`: mirror `a b` is not of the form [https://]host[:port][/path]"
        );
        insta::assert_snapshot!(
            parsed(&["[[registry]]\ninsecure = 1"]).unwrap_err(),
            @r"
        configuration file /etc/0.conf: TOML parse error at line 2, column 12
          |
        2 | insecure = 1
          |            ^
        invalid type: integer `1`, expected a boolean
        "
        );
    }
}
