//! A real registry, `docker-registry`, on a port of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use oci::Reference;

use crate::images::{path, run};

pub(crate) struct Registry {
    child: Child,
    pub(crate) host: String,
    pub(crate) directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a registry asks of its clients.
#[derive(Default)]
pub(crate) struct Options {
    /// `user` with `password`, and nobody else.
    pub(crate) login: bool,
    /// TLS with a certificate that its own directory's `ca.crt` vouches for.
    pub(crate) tls: bool,
    /// Clients have to show a certificate that `ca.crt` vouches for; as `tls.crt` is.
    pub(crate) client_certificate: bool,
    /// The address that it believes to be at.
    pub(crate) claimed_host: Option<String>,
    /// The token server that it sends clients to.
    pub(crate) realm: Option<String>,
}

impl Registry {
    /// Starts a registry; `None`, and a word about it, where none is installed.
    pub(crate) fn start(options: &Options) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http:\n  addr: 127.0.0.1:0\n",
            path(&at("storage"))
        );
        if let Some(host) = &options.claimed_host {
            writeln!(config, "  host: {host}").unwrap();
        }
        if options.tls || options.realm.is_some() {
            make_certificate(directory.path().to_owned());
        }
        if options.tls {
            let (certificate, key, roots) = (at("tls.crt"), at("tls.key"), at("ca.crt"));
            let (certificate, key) = (path(&certificate), path(&key));
            let clients = match options.client_certificate {
                true => format!(", clientcas: [{}]", path(&roots)),
                false => String::new(),
            };
            writeln!(
                config,
                "  tls: {{certificate: {certificate}, key: {key}{clients}}}"
            )
            .unwrap();
        }
        if options.login {
            fs::write(at("htpasswd"), HTPASSWD).unwrap();
            let file = at("htpasswd");
            writeln!(
                config,
                "auth: {{htpasswd: {{realm: r, path: {}}}}}",
                path(&file)
            )
            .unwrap();
        }
        if let Some(realm) = &options.realm {
            let roots = at("ca.crt");
            writeln!(
                config,
                "auth: {{token: {{realm: \"{realm}\", service: s, issuer: i, rootcertbundle: {}}}}}",
                path(&roots)
            )
            .unwrap();
        }
        fs::write(at("config.yml"), config).unwrap();
        let started = Command::new("docker-registry")
            .args(["serve", path(&at("config.yml"))])
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

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host).parse().unwrap()
    }

    /// Returns a certificate and its key.
    pub(crate) fn identity(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.directory.path().join(name)).unwrap();
        read("tls.crt") + &read("tls.key")
    }

    pub(crate) fn ca_certificate(&self) -> Vec<u8> {
        fs::read(self.directory.path().join("ca.crt")).unwrap()
    }
}

/// `user:password`, hashed as `htpasswd -B` does.
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu\n";

/// Makes `ca.crt`, and `tls.crt` for 127.0.0.1 with `tls.key`, signed by it.
fn make_certificate(directory: PathBuf) {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let key = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
    ];
    let ca = (at("ca.key"), at("ca.crt"));
    let tls = (at("tls.key"), at("tls.csr"), at("tls.crt"));
    let mut make_ca = vec!["req", "-x509", "-subj", "/CN=test ca", "-days", "2"];
    make_ca.extend(key);
    make_ca.extend(["-keyout", &ca.0, "-out", &ca.1]);
    run("openssl", &make_ca);
    let mut make_request = vec![
        "req",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
    ];
    make_request.extend(key);
    make_request.extend(["-keyout", &tls.0, "-out", &tls.1]);
    run("openssl", &make_request);
    run(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &tls.1,
            "-CA",
            &ca.1,
            "-CAkey",
            &ca.0,
            "-CAcreateserial",
            "-days",
            "2",
            "-copy_extensions",
            "copy",
            "-out",
            &tls.2,
        ],
    );
}
