//! What rbuild takes from its environment. No other module reads it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use solver::remote::GitEnvironment;

use crate::config::Location;

/// Variables with proxies, which the client of registries reads by itself.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// The variables that mean something to rbuild. Empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `RBUILD_ROOT`
    pub(crate) root: Option<PathBuf>,
    /// `RBUILD_CONFIG`
    pub(crate) config: Option<PathBuf>,
    /// `RBUILD_CA_BUNDLE`, or `--ca-bundle`
    pub(crate) ca_bundle: Option<PathBuf>,
    /// `RBUILD_LOG`
    pub(crate) log: Option<String>,
    /// `DOCKER_DEFAULT_PLATFORM`
    pub(crate) default_platform: Option<String>,
    /// `BUILDKIT_PROGRESS`
    pub(crate) progress: Option<String>,
    /// `BUILDKIT_COLORS`
    pub(crate) colors: Option<String>,
    /// `BUILDKIT_TTY_LOG_LINES`
    pub(crate) tty_log_lines: Option<String>,
    /// `TTY_DISPLAY_RATE`, in milliseconds
    pub(crate) tty_display_rate: Option<String>,
    /// `BUILDX_BUILDER`
    pub(crate) builder: Option<String>,
    /// What standard error is.
    pub(crate) stderr: Stderr,
    /// `DOCKER_CONFIG`
    pub(crate) docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`
    registry_auth_file: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`
    registries_conf: Option<PathBuf>,
    /// `DOCKER_AUTH_CONFIG`
    pub(crate) docker_auth_config: Option<String>,
    /// `PATH`: where credential helpers are.
    pub(crate) path: Option<OsString>,
    /// `HTTPS_PROXY` and its kin, as they are set: what registries are reached through.
    pub(crate) proxies: Vec<(String, String)>,
    /// `SOURCE_DATE_EPOCH`
    pub(crate) source_date_epoch: Option<String>,
    /// `BUILDX_METADATA_WARNINGS`: whether the metadata file tells what is unwise in the Dockerfile.
    pub(crate) metadata_warnings: bool,
    /// `NO_COLOR`
    pub(crate) no_color: bool,
    /// What the git program gets to see.
    pub(crate) git: GitEnvironment,
    home: Option<PathBuf>,
    xdg_data_home: Option<PathBuf>,
    xdg_config_home: Option<PathBuf>,
    xdg_runtime_dir: Option<PathBuf>,
}

/// What standard error is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stderr {
    /// A terminal on which the cursor can be moved.
    Terminal,
    /// A terminal that can only go on, by `TERM`.
    DumbTerminal,
    /// A file or a pipe.
    #[default]
    Other,
}

impl Environment {
    /// Reads the variables of this process.
    pub(crate) fn read() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let stderr = match (io::stderr().is_terminal(), dumb) {
            (false, _) => Stderr::Other,
            (true, true) => Stderr::DumbTerminal,
            (true, false) => Stderr::Terminal,
        };
        Self {
            stderr,
            ..Self::from(|name| std::env::var_os(name))
        }
    }

    /// Reads the variables that `variable` knows.
    pub(crate) fn from(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let text = |name: &str| set(name).map(|value| value.to_string_lossy().into_owned());
        // The base directory specification says to ignore relative paths.
        let base = |name: &str| path(name).filter(|path| path.is_absolute());
        Self {
            root: path("RBUILD_ROOT"),
            config: path("RBUILD_CONFIG"),
            ca_bundle: path("RBUILD_CA_BUNDLE"),
            log: text("RBUILD_LOG"),
            default_platform: text("DOCKER_DEFAULT_PLATFORM"),
            progress: text("BUILDKIT_PROGRESS"),
            colors: text("BUILDKIT_COLORS"),
            tty_log_lines: text("BUILDKIT_TTY_LOG_LINES"),
            tty_display_rate: text("TTY_DISPLAY_RATE"),
            builder: text("BUILDX_BUILDER"),
            stderr: Stderr::default(),
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            docker_auth_config: text("DOCKER_AUTH_CONFIG"),
            path: set("PATH"),
            proxies: PROXIES
                .into_iter()
                .filter_map(|name| Some((name.to_owned(), text(name)?)))
                .collect(),
            source_date_epoch: text("SOURCE_DATE_EPOCH"),
            metadata_warnings: matches!(
                text("BUILDX_METADATA_WARNINGS").as_deref(),
                Some("1" | "true")
            ),
            no_color: set("NO_COLOR").is_some(),
            git: GitEnvironment(
                GitEnvironment::NAMES
                    .into_iter()
                    .filter_map(|name| Some((name, set(name)?)))
                    .collect(),
            ),
            home: path("HOME"),
            xdg_data_home: base("XDG_DATA_HOME"),
            xdg_config_home: base("XDG_CONFIG_HOME"),
            xdg_runtime_dir: base("XDG_RUNTIME_DIR"),
        }
    }

    /// Where the store is, unless the command line says so; `None` where there is no home either.
    pub(crate) fn store_root(&self) -> Option<PathBuf> {
        let usual = || {
            let home = || self.home.as_ref().map(|home| home.join(".local/share"));
            let data = self.xdg_data_home.clone().or_else(home)?;
            Some(data.join("rbuild"))
        };
        self.root.clone().or_else(usual)
    }

    /// Where the configuration file is; `None` where there is no home and none is named.
    pub(crate) fn config_file(&self) -> Option<Location> {
        if let Some(named) = &self.config {
            return Some(Location::Named(named.clone()));
        }
        let config = self.config_home()?;
        Some(Location::Usual(config.join("rbuild/config.toml")))
    }

    fn config_home(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        self.xdg_config_home.clone().or_else(home)
    }

    /// The file in which the user keeps the keys of SSH servers.
    pub(crate) fn known_hosts(&self) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(".ssh/known_hosts"))
    }

    /// The `registries.conf` that somebody named; without that, the directories that may have one.
    pub(crate) fn registries_conf(&self) -> RegistriesConf {
        if let Some(named) = &self.registries_conf {
            return RegistriesConf::Named(named.clone());
        }
        RegistriesConf::Usual {
            system: PathBuf::from("/etc/containers"),
            own: self.config_home().map(|config| config.join("containers")),
        }
    }

    /// Directories of certificates for hosts, the user's before the machine's.
    pub(crate) fn certificate_directories(&self) -> Vec<PathBuf> {
        let own = self.config_home().map(|config| {
            ["rbuild", "containers", "docker"].map(|tool| config.join(tool).join("certs.d"))
        });
        let machine = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
        let own = own.into_iter().flatten();
        own.chain(machine.map(PathBuf::from)).collect()
    }

    /// Docker's configuration: credentials, where `rbuild login` keeps them, and proxies of steps.
    pub(crate) fn docker_config_file(&self) -> Option<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".docker"));
        let docker = self.docker_config.clone().or_else(home)?;
        Some(docker.join("config.json"))
    }

    /// The files that may hold credentials, the most important first: the one that Podman's variable
    /// names, Docker's, then Podman's.
    pub(crate) fn credential_files(&self) -> Vec<PathBuf> {
        let runtime = self.xdg_runtime_dir.clone();
        let podman = [runtime, self.config_home()].into_iter().flatten();
        let podman = podman.map(|folder| folder.join("containers/auth.json"));
        let named = self.registry_auth_file.clone();
        let first = named.into_iter().chain(self.docker_config_file());
        first.chain(podman).collect()
    }
}

/// Where `registries.conf` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RegistriesConf {
    /// This file alone.
    Named(PathBuf),
    /// The user's in place of the machine's, and the files of `registries.conf.d` of both.
    Usual {
        system: PathBuf,
        own: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::from(|name| {
            let found = variables.iter().find(|(key, _)| *key == name)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn the_store_is_where_the_first_of_three_variables_says() {
        let all = [
            ("RBUILD_ROOT", "/r"),
            ("XDG_DATA_HOME", "/d"),
            ("HOME", "/h"),
        ];
        for (variables, expected) in [
            (&all[..], Some("/r")),
            (&all[1..], Some("/d/rbuild")),
            (&all[2..], Some("/h/.local/share/rbuild")),
            (
                &[
                    ("RBUILD_ROOT", ""),
                    ("XDG_DATA_HOME", "rel"),
                    ("HOME", "/h"),
                ][..],
                Some("/h/.local/share/rbuild"),
            ),
            (&[], None),
        ] {
            assert_eq!(
                environment(variables).store_root(),
                expected.map(PathBuf::from)
            );
        }
    }

    #[test]
    fn a_named_configuration_file_has_to_exist() {
        assert_eq!(
            environment(&[("RBUILD_CONFIG", "/c"), ("HOME", "/h")]).config_file(),
            Some(Location::Named("/c".into()))
        );
        assert_eq!(
            environment(&[("HOME", "/h")]).config_file(),
            Some(Location::Usual("/h/.config/rbuild/config.toml".into()))
        );
    }
}
