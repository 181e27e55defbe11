//! A server that answers as a test tells it to, and remembers what it was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oci::{Digest, ImageSource, Reference};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What arrived.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path() == path
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    length: Option<usize>,
    chunked: bool,
    delay: Duration,
    trickle: Option<Duration>,
    gone: bool,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
            length: None,
            chunked: false,
            delay: Duration::ZERO,
            trickle: None,
            gone: false,
        }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200).body(body)
    }

    pub(crate) fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Announces the whole body, and breaks off after `bytes` of it.
    pub(crate) fn cut_at(mut self, bytes: usize) -> Self {
        self.length = Some(self.body.len());
        self.body.truncate(bytes);
        self
    }

    /// Announces nothing, so that only the end of the body tells its length.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Says nothing, and ends the connection.
    pub(crate) fn gone(mut self) -> Self {
        self.gone = true;
        self
    }

    /// Sends one byte after another, each so much later.
    pub(crate) fn trickling(mut self, pause: Duration) -> Self {
        self.trickle = Some(pause);
        self
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", self.status);
        bytes += &self.headers;
        let mut body = self.body.clone();
        if self.chunked {
            bytes += "Transfer-Encoding: chunked\r\n";
            let size = format!("{:x}\r\n", body.len());
            body.splice(0..0, size.into_bytes());
            body.extend_from_slice(b"\r\n0\r\n\r\n");
        } else if !self.headers.contains("Content-Length") {
            let length = self.length.unwrap_or(body.len());
            bytes += &format!("Content-Length: {length}\r\n");
        }
        let mut bytes = (bytes + "\r\n").into_bytes();
        if !head_only {
            bytes.extend_from_slice(&body);
        }
        bytes
    }
}

pub(crate) struct Server {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1; `answer` gets the request and how many there
    /// were before it. What finds out whether TLS is spoken is answered by itself and not counted.
    pub(crate) async fn start(
        answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1", answer).await
    }

    pub(crate) async fn start_at(
        host: &str,
        answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((host, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen) = (Arc::new(answer), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, answer.clone(), seen.clone()));
            }
        });
        Self { port, asked, task }
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host())
    }

    pub(crate) fn reference(&self, rest: &str) -> Reference {
        format!("{}/{rest}", self.host()).parse().unwrap()
    }

    pub(crate) fn source(&self, rest: &str) -> ImageSource {
        ImageSource::Registry(self.reference(rest))
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.is(method, path))
            .count()
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&Asked, usize) -> Reply>,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    let Some(asked) = read(&mut stream).await else {
        return;
    };
    let reply = if asked.is("GET", "/v2/") {
        Reply::new(200)
    } else {
        let before = {
            let mut seen = seen.lock().unwrap();
            seen.push(asked.clone());
            seen.len() - 1
        };
        answer(&asked, before)
    };
    tokio::time::sleep(reply.delay).await;
    if reply.gone {
        return;
    }
    let bytes = reply.bytes(asked.method == "HEAD");
    // The client may have gone: that is what some tests are about.
    match reply.trickle {
        None => drop(stream.write_all(&bytes).await),
        Some(pause) => {
            for byte in bytes {
                tokio::time::sleep(pause).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
    }
    drop(stream.shutdown().await);
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        // 0x16 begins a TLS connection, which is not spoken here.
        if stream.read_buf(&mut bytes).await.ok()? == 0 || bytes[0] == 0x16 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut words = head.split(' ');
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        target: words.next()?.to_owned(),
        head: head.clone(),
        body: bytes[end..].to_vec(),
    };
    let length: usize = asked
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    while asked.body.len() < length {
        if stream.read_buf(&mut asked.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(asked)
}

/// The path of a blob of repository `x`.
pub(crate) fn blob_path(content: &[u8]) -> String {
    format!("/v2/x/blobs/{}", Digest::of(content))
}
