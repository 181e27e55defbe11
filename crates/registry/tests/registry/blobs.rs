//! Blobs that break off, come wrong, or not at all.

use std::io::{self, Write};
use std::time::Duration;

use oci::{Compression, Descriptor, Family, MediaType};
use rbuild_registry::FetchError;

use crate::client;
use crate::server::{Asked, Reply, Server, blob_path};

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|n| (n ^ (n >> 8)) as u8).collect()
}

fn blob() -> Descriptor {
    Descriptor::of(MediaType::Layer(Family::Oci, Compression::Gzip), &content())
}

async fn fetch(
    answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
) -> (Server, Result<Vec<u8>, FetchError>) {
    let server = Server::start(answer).await;
    let fetched = client()
        .fetch_blob(&server.source("x:1"), &blob(), Vec::new())
        .await;
    (server, fetched)
}

fn range_start(asked: &Asked) -> Option<usize> {
    let range = asked.header("range")?;
    let start = range.strip_prefix("bytes=")?.strip_suffix('-')?;
    start.parse().ok()
}

fn rest_from(start: usize) -> Reply {
    let content = content();
    let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
    Reply::new(206)
        .header("Content-Range", range)
        .body(&content[start..])
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_taken_up_where_it_broke() {
    let (server, fetched) = fetch(|asked, before| match (before, range_start(asked)) {
        (0, None) => Reply::ok(content()).cut_at(100_000),
        (1, Some(start)) => rest_from(start).cut_at(50_000),
        (_, Some(start)) => rest_from(start),
        (_, None) => Reply::new(500),
    })
    .await;
    assert_eq!(fetched.unwrap(), content());
    assert_eq!(server.count("GET", &blob_path(&content())), 3);
    let second = range_start(&server.asked()[1]).unwrap();
    let third = range_start(&server.asked()[2]).unwrap();
    assert!(
        0 < second && second <= 100_000 && second < third,
        "{second} {third}"
    );
}

#[tokio::test]
async fn a_server_without_ranges_sends_it_again_and_what_is_there_is_skipped() {
    let (_, fetched) = fetch(|_, before| match before {
        0 => Reply::ok(content()).cut_at(100_000),
        1 => Reply::ok(content()).cut_at(200_000),
        _ => Reply::ok(content()),
    })
    .await;
    assert_eq!(fetched.unwrap(), content());
}

#[tokio::test]
async fn r09_another_range_than_asked_for_is_refused() {
    let (_, fetched) = fetch(|asked, before| match (before, range_start(asked)) {
        (0, _) => Reply::ok(content()).cut_at(100_000),
        (_, start) => rest_from(start.unwrap() - 1),
    })
    .await;
    let error = fetched.unwrap_err().to_string();
    assert!(error.contains("another range"), "{error}");
}

#[tokio::test]
async fn r09_a_flipped_byte_is_refused() {
    let (server, fetched) = fetch(|_, _| {
        let mut wrong = content();
        wrong[12345] ^= 1;
        Reply::ok(wrong)
    })
    .await;
    let error = fetched.unwrap_err();
    assert!(matches!(&error, FetchError::Digest { expected, .. } if *expected == blob().digest));
    assert!(error.to_string().contains(&server.host()), "{error}");
    assert!(error.help().is_some());
}

#[tokio::test]
async fn r09_a_body_of_another_size_is_refused() {
    let longer = [content(), vec![0]].concat();
    let shorter = content()[1..].to_vec();
    for body in [longer.clone(), shorter] {
        let (_, fetched) = fetch(move |_, _| Reply::ok(body.clone())).await;
        assert!(matches!(fetched.unwrap_err(), FetchError::Size { .. }));
    }
    let (_, fetched) = fetch(move |_, _| Reply::ok(longer.clone()).chunked()).await;
    assert!(matches!(fetched.unwrap_err(), FetchError::Size { .. }));
}

#[tokio::test]
async fn r09_a_body_that_always_ends_early_is_given_up() {
    let (server, fetched) = fetch(|_, _| Reply::ok(&content()[..1000]).chunked()).await;
    let error = fetched.unwrap_err();
    assert!(error.to_string().contains("ended too early"), "{error}");
    assert_eq!(server.asked().len(), 5);
}

#[tokio::test]
async fn r09_swapped_blobs_are_refused() {
    let (_, fetched) = fetch(|_, _| Reply::ok(vec![7; content().len()])).await;
    assert!(matches!(fetched.unwrap_err(), FetchError::Digest { .. }));
}

#[tokio::test]
async fn an_empty_blob_is_a_blob() {
    let server = Server::start(|_, _| Reply::ok("")).await;
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), b"");
    let fetched = client()
        .fetch_blob(&server.source("x:1"), &blob, Vec::new())
        .await;
    assert_eq!(fetched.unwrap(), b"");
}

#[tokio::test]
async fn r03_a_foreign_layers_own_addresses_are_not_contacted() {
    let elsewhere = Server::start(|_, _| Reply::ok(content())).await;
    let server = Server::start(|_, _| Reply::new(404)).await;
    let mut blob = blob();
    blob.media_type = MediaType::ForeignLayer(Family::Docker, Compression::Gzip);
    blob.urls = vec![elsewhere.url("/layer")];
    let fetched = client()
        .fetch_blob(&server.source("x:1"), &blob, Vec::new())
        .await;
    assert!(matches!(
        fetched.unwrap_err(),
        FetchError::ForeignLayer { .. }
    ));
    assert!(elsewhere.asked().is_empty());
}

struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tells when it is dropped.
struct Watched(tokio::sync::mpsc::UnboundedSender<()>);

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.send(()).unwrap();
    }
}

#[tokio::test]
async fn a_fetch_that_is_dropped_drops_its_sink() {
    let (started, mut has_started) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |_, _| {
        started.send(()).unwrap();
        Reply::ok(content()).after(Duration::from_secs(60))
    })
    .await;
    let (dropped, mut is_dropped) = tokio::sync::mpsc::unbounded_channel();
    let (client, source, blob) = (client(), server.source("x:1"), blob());
    tokio::select! {
        _ = client.fetch_blob(&source, &blob, Watched(dropped)) => panic!("nothing has come"),
        _ = has_started.recv() => {}
    }
    assert_eq!(is_dropped.recv().await, Some(()));
}

#[tokio::test]
async fn a_sink_that_fails_is_the_error() {
    let server = Server::start(|_, _| Reply::ok(content())).await;
    let fetched = client()
        .fetch_blob(&server.source("x:1"), &blob(), Full(1000))
        .await;
    let Err(FetchError::Sink { source, .. }) = fetched else {
        panic!("the sink was full");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
}
