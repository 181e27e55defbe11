//! A registry on a bad day: a proxy on loopback that spoils what passes between rbuild and a real
//! one, and remembers what passed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context;

/// What a proxy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it only remembers.
    None,
    /// Changes one byte of every layer and config.
    WrongBlob,
    /// Changes one byte of every manifest that is asked for by digest.
    WrongManifest,
    /// Ends the connection in the middle of every layer and config.
    TornBlob,
    /// Ends every connection once so many bytes of content have passed, in either direction.
    CutEvery(u64),
    /// Takes every authorization for outdated once so many bytes of content have been sent with it.
    Outdate(u64),
    /// Answers with this status, and perhaps `Retry-After` in seconds, to every so many-th request.
    Busy(u16, Option<u32>, usize),
    /// Lets content through in small pieces with a pause after each.
    Slow(Duration),
    /// Says to those who say who they are that layers and configs are to be had at another host.
    RedirectBlobs(String),
}

/// What passed on one connection.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The `Authorization` that was sent.
    pub authorization: Option<String>,
    /// How much of the body of the request passed.
    pub sent_bytes: u64,
    /// The status that was answered; `None` where the connection was cut before.
    pub status: Option<u16>,
}

/// A proxy. It answers for as long as the test process lives.
#[derive(Debug)]
pub struct Proxy {
    host: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    fault: Fault,
    exchanges: Mutex<Vec<Exchange>>,
    /// Connections that are not answered yet, or answered and not noted.
    open: (Mutex<usize>, Condvar),
    /// How much was sent with each authorization.
    sent_with: Mutex<BTreeMap<String, u64>>,
    outdated: Mutex<BTreeSet<String>>,
    asked: Mutex<usize>,
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
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault,
            exchanges: Mutex::default(),
            open: <(Mutex<usize>, Condvar)>::default(),
            sent_with: Mutex::default(),
            outdated: Mutex::default(),
            asked: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                *locked(&shared.open.0) += 1;
                thread::spawn(move || {
                    if let Err(error) = shared.answer(client) {
                        eprintln!("proxy of {}: {error:#}", shared.upstream);
                    }
                    *locked(&shared.open.0) -= 1;
                    shared.open.1.notify_all();
                });
            }
        });
        Ok(Self { host, shared })
    }

    /// `host:port`, as it stands in references.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What has passed so far, in the order of the answers. What somebody has read the answer of is
    /// among it: connections that are open are waited for, a while.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let (open, closed) = &self.shared.open;
        let a_while = Duration::from_secs(5);
        drop(closed.wait_timeout_while(locked(open), a_while, |open| *open > 0));
        locked(&self.shared.exchanges).clone()
    }
}

/// The head of a request.
struct Head {
    lines: Vec<String>,
    method: String,
    target: String,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.lines, name)
    }

    /// The head with another host, and its connection ending with it.
    fn text(&self, without_authorization: bool) -> String {
        let dropped = |line: &&String| {
            let line = line.to_ascii_lowercase();
            line.starts_with("connection:")
                || (without_authorization && line.starts_with("authorization:"))
        };
        let kept = self.lines.iter().filter(|line| !dropped(line));
        kept.map(String::as_str).collect::<String>() + "Connection: close\r\n\r\n"
    }
}

impl Shared {
    /// Answers the one request of a connection.
    fn answer(&self, mut client: TcpStream) -> anyhow::Result<()> {
        let mut from_client = BufReader::new(client.try_clone()?);
        let lines = head(&mut from_client)?;
        let Some(first) = lines.first() else {
            return Ok(());
        };
        let mut words = first.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next());
        let request = Head {
            method: method.to_owned(),
            target: target.context("a request without a path")?.to_owned(),
            lines,
        };
        let mut exchange = Exchange {
            method: request.method.clone(),
            target: request.target.clone(),
            authorization: request.header("authorization").map(str::to_owned),
            sent_bytes: 0,
            status: None,
        };
        let answered = match self.reply(&request) {
            Some((status, headers)) => {
                exchange.status = Some(status);
                // All that comes is read first: else what is answered might be lost with the rest.
                let length = length(&request.lines);
                std::io::copy(&mut from_client.take(length), &mut std::io::sink())?;
                let text = format!(
                    "HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n"
                );
                client.write_all(text.as_bytes()).map_err(Into::into)
            }
            None => self.pass(&mut client, from_client, &request, &mut exchange),
        };
        locked(&self.exchanges).push(exchange);
        answered?;
        // The client may have gone first.
        drop(client.shutdown(Shutdown::Both));
        Ok(())
    }

    /// What the proxy answers by itself.
    fn reply(&self, request: &Head) -> Option<(u16, String)> {
        let path = request.target.split('?').next().unwrap_or_default();
        match &self.fault {
            Fault::Busy(status, retry_after, every) if path != "/v2/" => {
                let mut asked = locked(&self.asked);
                *asked += 1;
                let header = retry_after.map(|s| format!("Retry-After: {s}\r\n"));
                asked
                    .is_multiple_of(*every)
                    .then(|| (*status, header.unwrap_or_default()))
            }
            Fault::RedirectBlobs(host)
                if request.method == "GET"
                    && path.contains("/blobs/sha256:")
                    && request.header("authorization").is_some() =>
            {
                let location = format!("Location: http://{host}{}\r\n", request.target);
                Some((307, location))
            }
            Fault::None
            | Fault::WrongBlob
            | Fault::WrongManifest
            | Fault::TornBlob
            | Fault::CutEvery(_)
            | Fault::Outdate(_)
            | Fault::Busy(..)
            | Fault::Slow(_)
            | Fault::RedirectBlobs(_) => None,
        }
    }

    fn pass(
        &self,
        client: &mut TcpStream,
        mut from_client: impl Read,
        request: &Head,
        exchange: &mut Exchange,
    ) -> anyhow::Result<()> {
        let authorization = exchange.authorization.clone().unwrap_or_default();
        let is_outdated = locked(&self.outdated).contains(&authorization);
        let mut server = TcpStream::connect(&self.upstream)?;
        server.write_all(request.text(is_outdated).as_bytes())?;
        let mut left = length(&request.lines);
        let mut budget = u64::MAX;
        if let Fault::CutEvery(bytes) = self.fault {
            budget = bytes;
        }
        let mut piece = vec![0; 16 << 10];
        while left > 0 {
            let room = left.min(budget).min(piece.len() as u64);
            if room == 0 {
                // The registry gets what has passed, and then the end.
                return Ok(());
            }
            let read = from_client.read(&mut piece[..usize::try_from(room)?])?;
            if read == 0 {
                return Ok(());
            }
            // The registry may have answered already.
            if server.write_all(&piece[..read]).is_err() {
                break;
            }
            let bytes = read as u64;
            (left, budget) = (left - bytes, budget - bytes);
            exchange.sent_bytes += bytes;
            self.count(&authorization, bytes);
            if let Fault::Slow(pause) = self.fault {
                thread::sleep(pause);
            }
        }
        let mut from_server = BufReader::new(server);
        let lines = head(&mut from_server)?;
        let mut body = Vec::new();
        from_server.read_to_end(&mut body)?;
        let status = lines.first().and_then(|line| line.split(' ').nth(1));
        exchange.status = status.and_then(|status| status.parse().ok());
        let mut answer = lines.concat().into_bytes();
        answer.extend_from_slice(b"\r\n");
        client.write_all(&answer)?;
        self.spoil(&request.target, &mut body);
        body.truncate(usize::try_from(budget).unwrap_or(usize::MAX));
        // A client that has read enough goes.
        drop(client.write_all(&body));
        Ok(())
    }

    fn count(&self, authorization: &str, bytes: u64) {
        if let Fault::Outdate(after) = self.fault {
            let mut sent_with = locked(&self.sent_with);
            let sent = sent_with.entry(authorization.to_owned()).or_default();
            *sent += bytes;
            if *sent >= after {
                locked(&self.outdated).insert(authorization.to_owned());
            }
        }
    }

    fn spoil(&self, target: &str, body: &mut Vec<u8>) {
        let middle = body.len() / 2;
        if body.is_empty() {
            return;
        }
        let is_blob = target.contains("/blobs/sha256:");
        let is_manifest = target.contains("/manifests/sha256:");
        if (is_blob && self.fault == Fault::WrongBlob)
            || (is_manifest && self.fault == Fault::WrongManifest)
        {
            body[middle] ^= 1;
        }
        if is_blob && self.fault == Fault::TornBlob {
            body.truncate(middle);
        }
    }
}

/// Reads the head of a message, without the empty line after it.
fn head(from: &mut impl BufRead) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line)?;
        if line.trim_end().is_empty() {
            return Ok(lines);
        }
        lines.push(line);
    }
}

fn header<'l>(lines: &'l [String], name: &str) -> Option<&'l str> {
    lines.iter().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn length(lines: &[String]) -> u64 {
    header(lines, "content-length")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
