//! Downloads, from servers good and bad.

use std::time::Duration;

use rbuild_registry::{DownloadError, DownloadLimits, Downloaded, Validators};

use crate::client;
use crate::server::{Reply, Server};

const CONTENT: &[u8] = b"some file";

async fn download(
    url: &str,
    known: &Validators,
    limits: &DownloadLimits,
) -> Result<Downloaded<Vec<u8>>, DownloadError> {
    client()
        .download(url, known, limits, || Ok(Vec::new()))
        .await
}

async fn simply(url: &str) -> Result<Vec<u8>, DownloadError> {
    match download(url, &Validators::default(), &DownloadLimits::STANDARD).await? {
        Downloaded::File { sink, .. } => Ok(sink),
        Downloaded::Unchanged => panic!("nothing was known"),
    }
}

async fn refused(server: &Server, limits: &DownloadLimits) -> String {
    let url = server.url("/endless");
    let result = download(&url, &Validators::default(), limits).await;
    result.unwrap_err().to_string()
}

#[tokio::test]
async fn a_file_that_is_known_is_not_sent_again() {
    let server = Server::start(|asked, _| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::new(304),
        _ => Reply::ok(CONTENT)
            .header("ETag", "\"v1\"")
            .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
    })
    .await;
    let url = server.url("/file");
    let limits = DownloadLimits::STANDARD;
    let first = download(&url, &Validators::default(), &limits).await;
    let Downloaded::File { sink, validators } = first.unwrap() else {
        panic!("nothing was known");
    };
    assert_eq!(sink, CONTENT);
    assert_eq!(validators.modified(), Some(784_111_777));
    let second = download(&url, &validators, &limits).await.unwrap();
    assert!(matches!(second, Downloaded::Unchanged));
    assert!(server.asked()[1].header("if-modified-since").is_some());
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again() {
    let server = Server::start(|_, nth| match nth {
        0 => Reply::ok(CONTENT).cut_at(3),
        _ => Reply::ok(CONTENT),
    })
    .await;
    assert_eq!(simply(&server.url("/x")).await.unwrap(), CONTENT);
}

#[tokio::test]
async fn another_status_is_an_error_that_names_it() {
    let server = Server::start(|_, _| Reply::new(404)).await;
    let url = server
        .url("/gone")
        .replace("http://", "http://user:secret@");
    let error = simply(&url).await.unwrap_err().to_string();
    assert!(error.contains("404"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(server.asked().len(), 1);
    let server = Server::start(|_, _| Reply::new(304)).await;
    assert!(simply(&server.url("/")).await.is_err());
}

#[tokio::test]
async fn r05_a_password_in_the_address_stays_with_its_host() {
    let other = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let there = other.url("/there");
    let server = Server::start(move |_, _| Reply::new(302).header("Location", &there)).await;
    let url = server.url("/").replace("http://", "http://user:secret@");
    assert_eq!(simply(&url).await.unwrap(), CONTENT);
    assert!(server.asked()[0].header("authorization").is_some());
    assert_eq!(other.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn redirects_lead_to_http_only() {
    let server =
        Server::start(|_, _| Reply::new(302).header("Location", "file:///etc/passwd")).await;
    let error = simply(&server.url("/")).await.unwrap_err().to_string();
    assert!(error.contains("not an http address"), "{error}");
}

#[tokio::test]
async fn d03_a_file_over_the_limit_is_refused() {
    let limits = DownloadLimits {
        size_bytes: 8,
        ..DownloadLimits::STANDARD
    };
    let server = Server::start(|_, _| Reply::ok(CONTENT)).await;
    assert!(
        refused(&server, &limits)
            .await
            .contains("larger than 8 bytes")
    );
    let server = Server::start(|_, _| Reply::ok(CONTENT).chunked()).await;
    assert!(
        refused(&server, &limits)
            .await
            .contains("larger than 8 bytes")
    );
}

#[tokio::test]
async fn d03_a_body_that_trickles_or_does_not_end_is_given_up() {
    let start =
        || Server::start(|_, _| Reply::ok(vec![b'x'; 600]).trickling(Duration::from_millis(10)));
    let slow = DownloadLimits {
        floor_bytes_per_second: 1 << 20,
        grace: Duration::from_secs(1),
        ..DownloadLimits::STANDARD
    };
    let error = refused(&start().await, &slow).await;
    assert!(error.contains("more slowly"), "{error}");
    let endless = DownloadLimits {
        timeout: Duration::from_millis(200),
        ..DownloadLimits::STANDARD
    };
    let error = refused(&start().await, &endless).await;
    assert!(error.contains("not complete after"), "{error}");
}
