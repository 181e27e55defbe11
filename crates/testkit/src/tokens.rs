//! A token server, as the distribution project describes them: small, but `docker-registry` checks
//! what it signs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peer;
use crate::registry::{PASSWORD, USER};

/// A server that gives tokens for everything to [`USER`], and for reading to everybody. It answers
/// for as long as the test process lives.
#[derive(Debug)]
pub struct Tokens {
    host: String,
    key: Arc<Key>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug)]
struct Key {
    directory: TempDir,
    /// The certificate in the form that tokens carry.
    certificate: String,
}

impl Tokens {
    /// Starts a server on a free port.
    ///
    /// # Errors
    ///
    /// There is no `openssl`, or no free port.
    pub fn start() -> anyhow::Result<Self> {
        let key = Arc::new(Key::new()?);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let host = listener.local_addr()?.to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (own_key, seen) = (Arc::clone(&key), Arc::clone(&asked));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if let Err(error) = answer(client, &own_key, &seen) {
                    eprintln!("token server: {error:#}");
                }
            }
        });
        Ok(Self { host, key, asked })
    }

    /// What a registry has to know of it: its address, and the file of its certificate.
    #[must_use]
    pub fn realm(&self) -> (String, PathBuf) {
        let realm = format!("http://{}/token", self.host);
        (realm, self.key.directory.path().join("crt"))
    }

    /// The scopes that tokens were asked for, in order.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

impl Key {
    fn new() -> anyhow::Result<Self> {
        let directory = TempDir::new()?;
        peer::run(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-subj",
                    "/CN=tokens",
                    "-days",
                    "2",
                    "-nodes",
                ])
                .args(["-newkey", "rsa:2048", "-keyout", "key", "-out", "crt"])
                .current_dir(directory.path()),
        )?;
        let pem = std::fs::read_to_string(directory.path().join("crt"))?;
        let certificate = pem.lines().filter(|line| !line.starts_with('-')).collect();
        Ok(Self {
            directory,
            certificate,
        })
    }

    fn sign(&self, text: &str) -> anyhow::Result<Vec<u8>> {
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.directory.path().join("key"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = openssl.stdin.take().context("a pipe")?;
        stdin.write_all(text.as_bytes())?;
        drop(stdin);
        let output = openssl.wait_with_output()?;
        ensure!(output.status.success(), "openssl dgst: {}", output.status);
        Ok(output.stdout)
    }

    /// A token that allows `scopes`, or of them only reading.
    fn token(&self, scopes: &[String], may_write: bool, number: usize) -> anyhow::Result<String> {
        let access: Vec<Value> = scopes
            .iter()
            .filter_map(|scope| {
                let (resource, actions) = scope.rsplit_once(':')?;
                let (kind, name) = resource.split_once(':')?;
                let allowed = |action: &&str| may_write || *action == "pull";
                let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
                Some(json!({ "type": kind, "name": name, "actions": actions }))
            })
            .collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let head = json!({ "typ": "JWT", "alg": "RS256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": "tests", "aud": "tests", "sub": "", "jti": number.to_string(),
            "iat": now, "nbf": now - 10, "exp": now + 600, "access": access,
        });
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&head), part(&claims));
        let signature = BASE64_URL_SAFE_NO_PAD.encode(self.sign(&text)?);
        Ok(format!("{text}.{signature}"))
    }
}

fn answer(mut client: TcpStream, key: &Key, asked: &Mutex<Vec<String>>) -> anyhow::Result<()> {
    let mut from_client = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        from_client.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            break;
        }
        head.push(line);
    }
    let header = |name: &str| {
        head.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").map_or(Ok(0), |text| text.parse())?;
    let mut body = vec![0; length];
    from_client.read_exact(&mut body)?;
    let target = head.first().and_then(|line| line.split(' ').nth(1));
    let target = target.context("a request without a path")?.to_owned();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let fields = match body.is_empty() {
        true => fields(query.as_bytes()),
        false => fields(&body),
    };
    let field = |name: &str| {
        let mut found = fields.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    };
    let basic = format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
    );
    let is_user = match header("authorization") {
        Some(authorization) => authorization == basic,
        None => field("username") == Some(USER) && field("password") == Some(PASSWORD),
    };
    let claims_to_be = header("authorization").is_some() || field("username").is_some();
    let (status, text) = if claims_to_be && !is_user {
        ("401 Unauthorized", json!({ "error": "invalid_grant" }))
    } else {
        let scopes: Vec<String> = fields
            .iter()
            .filter(|(key, _)| key == "scope")
            .flat_map(|(_, value)| value.split(' '))
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        let number = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.push(scopes.join(" "));
            asked.len()
        };
        let token = key.token(&scopes, is_user, number)?;
        ("200 OK", json!({ "token": token, "expires_in": 600 }))
    };
    let text = text.to_string();
    write!(
        client,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    Ok(())
}

/// Reads a query or a form.
fn fields(text: &[u8]) -> Vec<(String, String)> {
    let decode = |text: &[u8]| {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let [first, after @ ..] = rest {
            let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            rest = after;
            match (first, byte) {
                (b'%', Some(byte)) => {
                    bytes.push(byte);
                    rest = &after[2..];
                }
                (b'+', _) => bytes.push(b' '),
                (other, _) => bytes.push(*other),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    text.split(|byte| *byte == b'&')
        .map(|pair| {
            let mut parts = pair.splitn(2, |byte| *byte == b'=').map(decode);
            let key = parts.next().unwrap_or_default();
            (key, parts.next().unwrap_or_default())
        })
        .collect()
}
