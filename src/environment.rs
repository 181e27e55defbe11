//! What rbuild takes from its environment. No other module reads it.

use std::ffi::OsString;
use std::path::PathBuf;

use solver::remote::GitEnvironment;

use crate::config::Location;

/// The variables that mean something to rbuild. Empty ones count as unset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `RBUILD_ROOT`
    pub(crate) root: Option<PathBuf>,
    /// `RBUILD_CONFIG`
    pub(crate) config: Option<PathBuf>,
    /// `RBUILD_LOG`
    pub(crate) log: Option<String>,
    /// `DOCKER_DEFAULT_PLATFORM`
    pub(crate) default_platform: Option<String>,
    /// `BUILDKIT_PROGRESS`
    pub(crate) progress: Option<String>,
    /// `DOCKER_CONFIG`
    pub(crate) docker_config: Option<PathBuf>,
    /// `DOCKER_AUTH_CONFIG`
    pub(crate) docker_auth_config: Option<String>,
    /// `PATH`: where credential helpers are.
    pub(crate) path: Option<OsString>,
    /// `SOURCE_DATE_EPOCH`
    pub(crate) source_date_epoch: Option<String>,
    /// `NO_COLOR`
    pub(crate) no_color: bool,
    /// What the git program gets to see.
    pub(crate) git: GitEnvironment,
    home: Option<PathBuf>,
    xdg_data_home: Option<PathBuf>,
    xdg_config_home: Option<PathBuf>,
    xdg_runtime_dir: Option<PathBuf>,
}

impl Environment {
    /// Reads the variables of this process.
    pub(crate) fn read() -> Self {
        Self::from(|name| std::env::var_os(name))
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
            log: text("RBUILD_LOG"),
            default_platform: text("DOCKER_DEFAULT_PLATFORM"),
            progress: text("BUILDKIT_PROGRESS"),
            docker_config: path("DOCKER_CONFIG"),
            docker_auth_config: text("DOCKER_AUTH_CONFIG"),
            path: set("PATH"),
            source_date_epoch: text("SOURCE_DATE_EPOCH"),
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
        let home = || self.home.as_ref().map(|home| home.join(".config"));
        let config = self.xdg_config_home.clone().or_else(home)?;
        Some(Location::Usual(config.join("rbuild/config.toml")))
    }

    /// The file in which the user keeps the keys of SSH servers.
    pub(crate) fn known_hosts(&self) -> Option<PathBuf> {
        Some(self.home.as_ref()?.join(".ssh/known_hosts"))
    }

    /// The files that may hold credentials, the most important first: Docker's, then Podman's.
    pub(crate) fn credential_files(&self) -> Vec<PathBuf> {
        let home = || self.home.as_ref().map(|home| home.join(".docker"));
        let docker = self.docker_config.clone().or_else(home);
        let docker = docker.map(|folder| folder.join("config.json"));
        let podman = self.xdg_runtime_dir.as_ref();
        let podman = podman.map(|folder| folder.join("containers/auth.json"));
        docker.into_iter().chain(podman).collect()
    }
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
