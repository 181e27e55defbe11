//! A real registry, as these tests speak of it.

use testkit::skip::{self, Skip};

pub(crate) struct Registry(testkit::Registry);

impl Registry {
    /// Starts a registry; `None`, and a word about it, where none is installed.
    pub(crate) fn start() -> Option<Self> {
        match testkit::Registry::start() {
            Ok(registry) => Some(Self(registry)),
            Err(error) if error.is::<Skip>() && !skip::is_strict() => {
                crate::skipped(&error.to_string());
                None
            }
            Err(error) => panic!("{error:#}"),
        }
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.0.host())
    }

    pub(crate) fn has_tag(&self, repository: &str, tag: &str) -> bool {
        self.0.has_tag(repository, tag)
    }

    pub(crate) fn has_blob(&self, repository: &str, digest: &oci::Digest) -> bool {
        self.0.has_blob(repository, &digest.hex())
    }
}
