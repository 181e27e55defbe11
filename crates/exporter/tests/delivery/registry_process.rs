//! A real registry, `docker-registry`, on a port of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Registry {
    /// Starts a registry; `None`, and a word about it, where none is installed.
    pub(crate) fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:0}}\n",
            storage.display()
        );
        fs::write(&config, text).unwrap();
        let started = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = started else {
            crate::skipped("docker-registry is not installed");
            return None;
        };
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = log
            .by_ref()
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("listening on ")?;
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                Some(rest[..end.unwrap_or(rest.len())].to_owned())
            })
            .expect("the registry says where it listens");
        // It must be able to go on talking.
        std::thread::spawn(move || log.for_each(drop));
        Some(Self {
            child,
            host,
            directory,
        })
    }

    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Returns whether the repository has any tag.
    pub(crate) fn has_tag(&self, repository: &str, tag: &str) -> bool {
        self.repository(repository)
            .join("_manifests/tags")
            .join(tag)
            .exists()
    }

    /// Returns whether the repository has the blob.
    pub(crate) fn has_blob(&self, repository: &str, digest: &oci::Digest) -> bool {
        self.repository(repository)
            .join("_layers/sha256")
            .join(digest.hex())
            .exists()
    }

    fn repository(&self, repository: &str) -> std::path::PathBuf {
        let storage = Path::new("storage/docker/registry/v2/repositories");
        self.directory.path().join(storage).join(repository)
    }
}
