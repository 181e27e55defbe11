//! What all tests share, and what each has to itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use crate::skip::Skip;
use crate::{Account, Rbuild, Registry};
use crate::{account, peer};

/// When every image of the tests was made, in seconds since 1970.
pub const EPOCH: &str = "1700000000";

/// The program, the base images and two registries. Everything in it may be read by every account.
#[derive(Debug)]
pub struct Suite {
    /// Where the tests push to.
    pub registry: Registry,
    /// Stands in for Docker's registry: has the base images.
    pub mirror: Registry,
    binary: PathBuf,
    repository: PathBuf,
    bases: PathBuf,
    directory: TempDir,
}

impl Suite {
    /// Prepares a suite for the rbuild in `binary`; the base images are made if need be.
    ///
    /// # Errors
    ///
    /// A base image cannot be made, or a registry does not start.
    pub fn start(binary: &Path) -> anyhow::Result<Self> {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .canonicalize()?;
        let bases = repository.join("target/bases");
        peer::run(Command::new(repository.join("scripts/make-bases.sh")).arg(&bases))?;

        let directory = tempfile::Builder::new().prefix("rbuild-e2e-").tempdir()?;
        open_to_all(directory.path())?;
        // Where the repository is, an ordinary user may have no access.
        let copy = directory.path().join("rbuild");
        fs::copy(binary, &copy).with_context(|| format!("{}", binary.display()))?;
        copy_tree(&bases.join("busybox"), &directory.path().join("busybox"))?;

        let suite = Self {
            registry: Registry::start()?,
            mirror: Registry::start_on(&bases.join("registry/data"))?,
            binary: copy,
            repository,
            bases,
            directory,
        };
        fs::write(suite.config(), mirror_config(suite.mirror.host()))?;
        Ok(suite)
    }

    /// The directory of the repository.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.repository
    }

    /// The OCI layout of the base image `busybox`, tag `latest`, where every account can read it.
    #[must_use]
    pub fn busybox(&self) -> PathBuf {
        self.directory.path().join("busybox")
    }

    /// The OCI layout of a Debian with apt and a repository of its own; it is made if need be.
    ///
    /// # Errors
    ///
    /// It cannot be made: its packages cannot be had.
    pub fn debian(&self) -> anyhow::Result<PathBuf> {
        let script = self.repository.join("crates/testkit/debian.sh");
        peer::run(Command::new(script).arg(&self.bases))?;
        let copy = self.directory.path().join("debian");
        copy_tree(&self.bases.join("debian"), &copy)?;
        Ok(copy)
    }

    /// The base images, where `make-bases.sh` keeps them.
    #[must_use]
    pub fn bases(&self) -> &Path {
        &self.bases
    }

    /// The program, where every account can execute it.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Makes a place for one test, run by `account`.
    ///
    /// # Errors
    ///
    /// It cannot be made, or this process cannot become the account.
    pub fn workspace(&self, account: Account) -> anyhow::Result<Workspace<'_>> {
        let directory = tempfile::Builder::new().tempdir_in(self.directory.path())?;
        account.own(directory.path())?;
        Ok(Workspace {
            suite: self,
            account,
            directory: Some(directory),
        })
    }

    /// The configuration file of all tests.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }
}

/// A configuration file that makes `host` the mirror of Docker's registry.
#[must_use]
pub fn mirror_config(host: &str) -> String {
    format!("[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\n")
}

/// One test's account, store and files. It goes with everything in it.
#[derive(Debug)]
pub struct Workspace<'s> {
    /// What is shared.
    pub suite: &'s Suite,
    /// Who runs rbuild.
    pub account: Account,
    /// `Some` until it is removed.
    directory: Option<TempDir>,
}

impl Workspace<'_> {
    /// The account's home directory, which is also where commands run.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory
            .as_ref()
            .map_or(Path::new("/nonexistent"), TempDir::path)
    }

    /// The store that the account's builds use.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.path().join("store")
    }

    /// Copies a directory of the repository, as the account's own, with the modes of a checkout under
    /// the usual umask, in a directory that does not pass its group on.
    ///
    /// # Errors
    ///
    /// It cannot be read or written.
    pub fn copy(&self, from: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let to = self.path().join(name);
        copy_tree(from, &to)?;
        peer::run(Command::new("chmod").args(["-R", "go=u,go-w,g-s"]).arg(&to))?;
        self.own(&to)?;
        Ok(to)
    }

    /// Writes a file, as the account's own; directories above it are made.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<PathBuf> {
        let path = self.path().join(name);
        let mut directory = self.path().to_owned();
        for part in Path::new(name)
            .parent()
            .into_iter()
            .flat_map(Path::components)
        {
            directory.push(part);
            if !directory.is_dir() {
                fs::create_dir(&directory)?;
                self.account.own(&directory)?;
            }
        }
        fs::write(&path, content).with_context(|| format!("{}", path.display()))?;
        self.account.own(&path)?;
        Ok(path)
    }

    /// A command with these words.
    ///
    /// # Errors
    ///
    /// This process cannot become the account.
    pub fn rbuild(&self, words: &[&str]) -> anyhow::Result<Rbuild> {
        let mut command = self.account.command(&self.suite.binary);
        command.args(words);
        self.prepare(command)
    }

    /// A command with these words, started after the script `world` has mounted things for it alone. The
    /// script runs as root, in the account's home directory, with `$OWNER` the account.
    ///
    /// # Errors
    ///
    /// The tests do not run as root.
    pub fn rbuild_after(&self, world: &str, words: &[&str]) -> anyhow::Result<Rbuild> {
        if !account::is_root() {
            return Err(Skip("the tests do not run as root".to_owned()).into());
        }
        let (uid, gid) = self.account.ids()?;
        let script =
            format!("{world}\nexec setpriv --reuid={uid} --regid={gid} --clear-groups -- \"$@\"");
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-euc",
                &script,
                "sh",
            ])
            .arg(&self.suite.binary)
            .args(words);
        let mut command = self.surround(command);
        command.env("OWNER", format!("{uid}:{gid}"));
        Ok(Rbuild::new(command))
    }

    /// A script of the shell that ends with the first command that fails. `rbuild` is the program, and
    /// `$REGISTRY` the host of the registry.
    ///
    /// # Errors
    ///
    /// As [`Self::rbuild`].
    pub fn script(&self, script: &str) -> anyhow::Result<Rbuild> {
        let mut command = self.account.command(Path::new("/bin/sh"));
        command.args(["-euc", script]);
        let program = self.suite.binary.parent().unwrap_or(Path::new("/"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(
            std::iter::once(program.to_owned()).chain(std::env::split_paths(&path)),
        )?;
        let prepared = self.prepare(command)?;
        Ok(prepared
            .env("PATH", path)
            .env("REGISTRY", self.suite.registry.host()))
    }

    /// A command with these words on a terminal of `columns` and `rows`, which standard output and
    /// standard error are. What it shows is the standard output of what is returned.
    ///
    /// # Errors
    ///
    /// As [`Self::rbuild`].
    pub fn on_a_terminal(
        &self,
        (columns, rows): (u16, u16),
        words: &[&str],
    ) -> anyhow::Result<Rbuild> {
        let quoted = |word: &&str| format!("'{}'", word.replace('\'', r"'\''"));
        let words: Vec<String> = words.iter().map(quoted).collect();
        let binary = self.suite.binary.display();
        let line = format!(
            "stty cols {columns} rows {rows} && exec '{binary}' {}",
            words.join(" ")
        );
        let mut command = self.account.command(Path::new("script"));
        command.args(["-qec", &line, "/dev/null"]);
        Ok(self.prepare(command)?.env("TERM", "xterm"))
    }

    /// The command as on a machine of its own, with a network and services that `elsewhere.py`
    /// describes; when it says a text, something is done to it.
    ///
    /// # Errors
    ///
    /// The tests do not run as root, or the account does not exist.
    pub fn elsewhere(&self, when: Option<[&str; 2]>, words: &[&str]) -> anyhow::Result<Rbuild> {
        if !account::is_root() {
            return Err(Skip("the tests do not run as root".to_owned()).into());
        }
        if !Path::new("/dev/net").is_dir() {
            return Err(Skip("there is no /dev/net".to_owned()).into());
        }
        let (uid, gid) = self.account.ids()?;
        let mut command = Command::new("/usr/bin/unshare");
        command
            .args(["--net", "--mount"])
            .arg(self.suite.repository.join("crates/testkit/elsewhere.py"));
        if let Some(when) = when {
            command.arg("--when").args(when);
        }
        command
            .args([uid.to_string(), gid.to_string()])
            .arg(&self.suite.binary)
            .args(words);
        Ok(Rbuild::new(self.surround(command)))
    }

    /// Gives a command the environment of all, and the account's rights.
    fn prepare(&self, command: Command) -> anyhow::Result<Rbuild> {
        let mut command = self.surround(command);
        self.account.apply(&mut command)?;
        Ok(Rbuild::new(command))
    }

    /// Gives a command the environment of all.
    fn surround(&self, mut command: Command) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path())
            .env("RBUILD_ROOT", self.store())
            .env("RBUILD_CONFIG", self.suite.config())
            // What the machine's says of registries is no business of the tests.
            .env("CONTAINERS_REGISTRIES_CONF", "/dev/null")
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("NO_COLOR", "1")
            // Nothing may leave loopback; what tries to is refused at once.
            .env("HTTPS_PROXY", "http://127.0.0.1:1")
            .current_dir(self.path());
        command
    }

    fn own(&self, path: &Path) -> anyhow::Result<()> {
        self.account.own(path)?;
        if path.is_dir() && !path.is_symlink() {
            for entry in fs::read_dir(path)? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        let Some(directory) = self.directory.take() else {
            return;
        };
        let path = directory.keep();
        if fs::remove_dir_all(&path).is_err() {
            // What belongs to subordinate ids, only their namespace can remove.
            let mut remove = Command::new("unshare");
            remove
                .args(["--map-root-user", "--map-auto", "rm", "-rf", "--"])
                .arg(&path);
            if let Err(error) = peer::run(&mut remove) {
                eprintln!("{} stays behind: {error:#}", path.display());
            }
        }
    }
}

/// Lets every account go into `directory` and read it.
fn open_to_all(directory: &Path) -> anyhow::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Copies files with modes, links as they are.
fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    peer::run(
        Command::new("cp")
            .args(["-dR", "--preserve=mode,links,timestamps", "--"])
            .arg(from)
            .arg(to),
    )?;
    Ok(())
}
