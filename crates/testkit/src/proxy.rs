//! A registry that misbehaves: a proxy on loopback that spoils some answers of a real one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use anyhow::Context;

/// What a proxy does to answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Changes one byte of every layer and config.
    WrongBlob,
    /// Changes one byte of every manifest that is asked for by digest.
    WrongManifest,
    /// Ends the connection in the middle of every layer and config.
    TornBlob,
}

/// A proxy. It answers for as long as the test process lives.
#[derive(Debug)]
pub struct Proxy {
    host: String,
}

impl Proxy {
    /// Starts a proxy for the registry at `upstream`.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub fn start(upstream: &str, fault: Fault) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let host = listener.local_addr()?.to_string();
        let upstream = upstream.to_owned();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let upstream = upstream.clone();
                thread::spawn(move || {
                    if let Err(error) = answer(client, &upstream, fault) {
                        eprintln!("proxy of {upstream}: {error:#}");
                    }
                });
            }
        });
        Ok(Self { host })
    }

    /// `host:port`, as it stands in references.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// Answers the one request of a connection.
fn answer(mut client: TcpStream, upstream: &str, fault: Fault) -> anyhow::Result<()> {
    let mut server = TcpStream::connect(upstream)?;
    let mut from_client = BufReader::new(client.try_clone()?);
    let request = head(&mut from_client)?;
    server.write_all(request.as_bytes())?;

    let mut from_server = BufReader::new(server);
    let response = head(&mut from_server)?;
    let mut body = Vec::new();
    from_server.read_to_end(&mut body)?;
    let path = request
        .split(' ')
        .nth(1)
        .context("a request without a path")?;
    let is_spoilt = match fault {
        Fault::WrongBlob | Fault::TornBlob => path.contains("/blobs/sha256:"),
        Fault::WrongManifest => path.contains("/manifests/sha256:"),
    };
    if is_spoilt && !body.is_empty() {
        let middle = body.len() / 2;
        match fault {
            Fault::WrongBlob | Fault::WrongManifest => body[middle] ^= 1,
            Fault::TornBlob => body.truncate(middle),
        }
    }
    client.write_all(response.as_bytes())?;
    client.write_all(&body)?;
    client.shutdown(Shutdown::Both)?;
    Ok(())
}

/// Reads the head of a message, and has its connection end with it. Pulls have no body to pass on.
fn head(from: &mut impl BufRead) -> anyhow::Result<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            return Ok(head + "Connection: close\r\n\r\n");
        }
        if !line.to_ascii_lowercase().starts_with("connection:") {
            head.push_str(&line);
        }
    }
}
