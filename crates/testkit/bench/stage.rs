//! What all contenders share: a registry with the base images, directories, the built program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Registry, peer};

/// Everything that stands before the first contender runs.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Serves the base images, and takes what is pushed.
    pub(crate) registry: Registry,
    /// Where contexts, stores and outputs are.
    pub(crate) directory: PathBuf,
    /// The program that is measured.
    pub(crate) rbuild: PathBuf,
}

impl Stage {
    pub(crate) fn set_up(directory: &Path) -> anyhow::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let bases = repository.join("target/bases");
        peer::run(Command::new(repository.join("scripts/make-bases.sh")).arg(&bases))?;
        fs::create_dir_all(directory)?;
        let directory = directory.canonicalize()?;
        let stage = Self {
            registry: Registry::start()?,
            rbuild: env!("CARGO_BIN_EXE_rbuild").into(),
            directory,
        };
        for base in ["busybox", "golang"] {
            let from = format!("oci:{}:latest", bases.join(base).display());
            let to = format!("docker://{}", stage.base(base));
            peer::run(&mut peer::skopeo(&[
                "copy",
                "--quiet",
                "--all",
                "--dest-tls-verify=false",
                &from,
                &to,
            ]))?;
        }
        Ok(stage)
    }

    /// The reference of a base image.
    pub(crate) fn base(&self, name: &str) -> String {
        format!("{}/library/{name}:latest", self.registry.host())
    }

    /// A directory of the given contender.
    pub(crate) fn own(&self, contender: &str) -> PathBuf {
        self.directory.join("stores").join(contender)
    }

    /// Where outputs go.
    pub(crate) fn outputs(&self) -> PathBuf {
        self.directory.join("outputs")
    }

    /// Removes what a contender keeps, whoever owns it, and its outputs.
    pub(crate) fn clean(&self, contender: &str) -> anyhow::Result<()> {
        for directory in [self.own(contender), self.outputs()] {
            unmount_below(&directory)?;
            peer::run(Command::new("rm").arg("-rf").arg(&directory))?;
            fs::create_dir_all(&directory)?;
        }
        Ok(())
    }
}

/// Takes away the mounts that a builder leaves in its storage.
fn unmount_below(directory: &Path) -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    // The last one mounted goes first.
    for point in points.collect::<Vec<_>>().into_iter().rev() {
        if Path::new(point).starts_with(directory) {
            peer::run(Command::new("umount").args(["--lazy", point]))?;
        }
    }
    Ok(())
}
