//! A real registry: Debian's `docker-registry` on a free loopback port.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::peer;
use crate::skip::Skip;

/// The only user that a registry with a login, and a token server, know.
pub const USER: &str = "builder";
/// Her password there.
pub const PASSWORD: &str = "a secret";
/// As the registry wants them: name and bcrypt hash.
const HTPASSWD: &str = "builder:$2b$04$hZTKpDXTv0djQKRVL/keUONLCxIfdm8KHmkJBPt6knJvbYErgXAsW\n";

/// What a registry asks of its clients.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// [`USER`] with [`PASSWORD`], and nobody else.
    pub login: bool,
    /// TLS with a certificate that [`Registry::ca_certificate`] vouches for.
    pub tls: bool,
    /// Clients have to show a certificate of the same CA, as [`Registry::identity`] is.
    pub client_certificate: bool,
    /// The address that it believes to be at.
    pub claimed_host: Option<String>,
    /// Tokens of the server at this address, whose certificate is in the file.
    pub tokens: Option<(String, PathBuf)>,
    /// Tokens of the server at this address, which make no sense to it.
    pub realm: Option<String>,
}

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    host: String,
    data: PathBuf,
    /// Configuration, and the data unless they are elsewhere.
    directory: TempDir,
}

impl Registry {
    /// Starts an empty registry that anybody may read and write.
    ///
    /// # Errors
    ///
    /// It is not installed, or does not start; what it said is in the message.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_as(&Options::default())
    }

    /// Starts an empty registry that asks for [`USER`] and [`PASSWORD`].
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_guarded() -> anyhow::Result<Self> {
        Self::start_as(&Options {
            login: true,
            ..Options::default()
        })
    }

    /// Starts an empty registry.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_as(options: &Options) -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        let data = directory.path().join("data");
        Self::start_in(directory, data, options)
    }

    /// Starts a registry with the data in `data`.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_on(data: &Path) -> anyhow::Result<Self> {
        Self::start_in(TempDir::new()?, data.to_owned(), &Options::default())
    }

    fn start_in(directory: TempDir, data: PathBuf, options: &Options) -> anyhow::Result<Self> {
        let config = directory.path().join("config.yml");
        fs::write(&config, configuration(directory.path(), &data, options)?)?;
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Skip("docker-registry is not installed".to_owned()).into());
            }
            Err(error) => return Err(error).context("docker-registry"),
        };
        let host = match process.stderr.take() {
            Some(log) => address(log)?,
            None => bail!("docker-registry has no standard error"),
        };
        Ok(Self {
            process,
            host,
            data,
            directory,
        })
    }

    /// `host:port`, as it stands in references.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The certificate of the CA that vouches for it, if it speaks TLS.
    #[must_use]
    pub fn ca_certificate(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// A certificate of that CA, and its key.
    #[must_use]
    pub fn identity(&self) -> (PathBuf, PathBuf) {
        let at = |name| self.directory.path().join(name);
        (at("tls.crt"), at("tls.key"))
    }

    /// Returns whether the repository has the tag.
    #[must_use]
    pub fn has_tag(&self, repository: &str, tag: &str) -> bool {
        let tags = self.repository(repository).join("_manifests/tags");
        tags.join(tag).exists()
    }

    /// Returns whether the repository has the blob with these hexadecimal digits.
    #[must_use]
    pub fn has_blob(&self, repository: &str, hex: &str) -> bool {
        let layers = self.repository(repository).join("_layers/sha256");
        layers.join(hex).exists()
    }

    fn repository(&self, repository: &str) -> PathBuf {
        let repositories = self.data.join("docker/registry/v2/repositories");
        repositories.join(repository)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to kill, and `wait` has its status.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn configuration(directory: &Path, data: &Path, options: &Options) -> anyhow::Result<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    let mut text = format!(
        "version: 0.1\n\
         log: {{accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         validation: {{manifests: {{urls: {{allow: [\"^https://owner\\\\.example/\"]}}}}}}\n\
         http:\n  addr: \"127.0.0.1:0\"\n  secret: tests\n",
        data.display()
    );
    if let Some(host) = &options.claimed_host {
        writeln!(text, "  host: {host}")?;
    }
    if options.tls || options.realm.is_some() {
        make_certificate(directory)?;
    }
    if options.tls {
        let clients = match options.client_certificate {
            true => format!(", clientcas: [{}]", at("ca.crt")),
            false => String::new(),
        };
        let (certificate, key) = (at("tls.crt"), at("tls.key"));
        writeln!(
            text,
            "  tls: {{certificate: {certificate}, key: {key}{clients}}}"
        )?;
    }
    if options.login {
        fs::write(directory.join("htpasswd"), HTPASSWD)?;
        let path = at("htpasswd");
        writeln!(text, "auth: {{htpasswd: {{realm: tests, path: {path}}}}}")?;
    }
    let nonsense = options
        .realm
        .clone()
        .map(|realm| (realm, directory.join("ca.crt")));
    if let Some((realm, roots)) = options.tokens.clone().or(nonsense) {
        writeln!(
            text,
            "auth: {{token: {{realm: \"{realm}\", service: tests, issuer: tests, rootcertbundle: {}}}}}",
            roots.display()
        )?;
    }
    Ok(text)
}

/// Makes `ca.crt`, and `tls.crt` for 127.0.0.1 with `tls.key`, signed by it.
fn make_certificate(directory: &Path) -> anyhow::Result<()> {
    const SCRIPT: &str = "\
        key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 -subj '/CN=test ca' -days 2 $key -keyout ca.key -out ca.crt
        openssl req -subj /CN=test -addext subjectAltName=IP:127.0.0.1 $key -keyout tls.key -out tls.csr
        openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
            -copy_extensions copy -out tls.crt";
    peer::run(
        Command::new("sh")
            .args(["-ec", SCRIPT])
            .current_dir(directory),
    )?;
    Ok(())
}

/// Reads the log up to the line that tells where the registry listens; a thread drains the rest.
fn address(log: impl Read + Send + 'static) -> anyhow::Result<String> {
    let mut log = BufReader::new(log);
    let mut said = String::new();
    loop {
        let start = said.len();
        if log.read_line(&mut said)? == 0 {
            bail!("docker-registry ended at once:\n{said}");
        }
        if let Some((_, after)) = said[start..].split_once("listening on ") {
            let end = after.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
            let host = after[..end.unwrap_or(after.len())].to_owned();
            thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
            return Ok(host);
        }
    }
}
