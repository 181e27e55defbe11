//! What is tried again, how often, and what is not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use oci::{Descriptor, ImageSource, MediaType, Platform};
use rbuild_registry::{Client, Credentials, FetchError, Network, Patience, RegistryConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::PATIENCE;
use crate::client;
use crate::server::{Reply, Server};

const CONTENT: &[u8] = b"some blob";

async fn fetch_with(client: &Client, source: &ImageSource) -> Result<Vec<u8>, FetchError> {
    let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT);
    client.fetch_blob(source, &blob, Vec::new()).await
}

fn client_of(patience: Patience) -> Client {
    let hosts = BTreeMap::new();
    Client::new(
        RegistryConfig {
            hosts,
            routes: Vec::new(),
            patience,
            ..RegistryConfig::default()
        },
        Credentials::anonymous(),
    )
}

#[tokio::test]
async fn accidents_are_forgiven_a_few_times() {
    for status in [500, 502, 503, 408, 429] {
        let server = Server::start(move |_, before| match before {
            0..3 => Reply::new(status),
            _ => Reply::ok(CONTENT),
        })
        .await;
        let fetched = fetch_with(&client(), &server.source("x:1")).await;
        assert_eq!(fetched.unwrap(), CONTENT, "{status}");
    }
}

#[tokio::test]
async fn a_server_that_stays_broken_is_given_up_and_quoted() {
    let body = r#"{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}"#;
    let server = Server::start(move |_, _| Reply::new(500).body(body)).await;
    let error = fetch_with(&client(), &server.source("x:1"))
        .await
        .unwrap_err();
    assert_eq!(server.asked().len(), 5);
    let text = error.to_string();
    assert!(
        text.contains("500 Internal Server Error: UNKNOWN: disk on fire"),
        "{text}"
    );
    assert!(
        text.contains(&server.host()) && text.contains("fetch blob"),
        "{text}"
    );
}

#[tokio::test]
async fn what_will_not_change_is_not_asked_again() {
    for status in [400, 403, 404, 405, 410] {
        let server = Server::start(move |_, _| Reply::new(status)).await;
        fetch_with(&client(), &server.source("x:1"))
            .await
            .unwrap_err();
        assert_eq!(server.asked().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed_within_reason() {
    let server = Server::start(|_, before| match before {
        0 => Reply::new(429).header("Retry-After", 1),
        _ => Reply::ok(CONTENT),
    })
    .await;
    let start = Instant::now();
    fetch_with(&client(), &server.source("x:1")).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));

    let server = Server::start(|_, _| Reply::new(429).header("Retry-After", 3600)).await;
    let error = fetch_with(&client(), &server.source("x:1"))
        .await
        .unwrap_err();
    assert_eq!(server.asked().len(), 1);
    assert!(
        error.to_string().contains("429 Too Many Requests"),
        "{error}"
    );
    assert!(error.to_string().contains("for 3600 s"), "{error}");
    assert!(error.help().unwrap().contains("mirror"));
}

#[tokio::test]
async fn retry_after_may_be_a_time_of_the_servers_clock() {
    let server = Server::start(|_, _| {
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}"#;
        Reply::new(429)
            .header("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Retry-After", "Sun, 06 Nov 1994 09:49:37 GMT")
            .body(body)
    })
    .await;
    let error = fetch_with(&client(), &server.source("x:1")).await;
    let text = error.unwrap_err().to_string();
    let expected = "TOOMANYREQUESTS: pull rate limit (it asks to be left alone for 3600 s)";
    assert!(text.contains(expected), "{text}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_registry_that_is_down_is_reported_soon() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let source = ImageSource::Registry(format!("127.0.0.1:{port}/x:1").parse().unwrap());
    let start = Instant::now();
    let error = fetch_with(&client_of(Patience::STANDARD), &source)
        .await
        .unwrap_err();
    assert!(
        start.elapsed() < Duration::from_secs(4),
        "{:?}",
        start.elapsed()
    );
    let text = error.to_string();
    assert!(text.contains("Connection refused"), "{text}");
    assert!(text.contains(&port.to_string()), "{text}");
    assert!(error.help().is_some());
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_reported_soon() {
    let source = ImageSource::Registry("no-such-host.invalid/x:1".parse().unwrap());
    let error = fetch_with(&client(), &source).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cannot connect"), "{text}");
    assert!(text.contains("no-such-host.invalid"), "{text}");
}

#[tokio::test]
async fn d09_nothing_waits_forever() {
    let patience = Patience {
        idle_timeout: Duration::from_millis(200),
        attempts: 2,
        ..PATIENCE
    };
    let late = Server::start(|_, _| Reply::ok(CONTENT).after(Duration::from_secs(60))).await;
    let start = Instant::now();
    let error = fetch_with(&client_of(patience), &late.source("x:1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(late.asked().len(), 2);
}

#[tokio::test]
async fn d09_a_long_error_text_is_not_read_to_its_end() {
    let server = Server::start(|_, _| Reply::new(404).body(vec![b'x'; 1 << 20])).await;
    let error = fetch_with(&client(), &server.source("x:1"))
        .await
        .unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[tokio::test]
async fn d09_a_server_that_sends_byte_by_byte_does_not_keep_us() {
    let patience = Patience {
        idle_timeout: Duration::from_millis(200),
        attempts: 1,
        ..PATIENCE
    };
    let slow =
        Server::start(|_, _| Reply::ok(vec![b' '; 100_000]).trickling(Duration::from_millis(1)))
            .await;
    let start = Instant::now();
    let error = client_of(patience)
        .fetch_document(&slow.source("x:1"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn only_who_answers_is_reachable() {
    for (status, is_reachable) in [
        (401, true),
        (403, true),
        (404, true),
        (410, true),
        (429, false),
        (500, false),
        (503, false),
    ] {
        let server = Server::start(move |_, _| Reply::new(status)).await;
        let (client, source) = (client(), server.source("x:1"));
        let resolved = client.resolve(&source, &Platform::native()).await;
        let error = resolved.unwrap_err();
        assert_eq!(error.is_unreachable(), !is_reachable, "{status}: {error}");
    }
    let nobody = ImageSource::Registry("127.0.0.1:1/x:1".parse().unwrap());
    let resolved = client().resolve(&nobody, &Platform::native()).await;
    assert!(resolved.unwrap_err().is_unreachable());
}

#[tokio::test]
async fn a_client_that_is_offline_connects_to_nobody() {
    let server = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let config = RegistryConfig {
        patience: PATIENCE,
        network: Network::Closed,
        ..RegistryConfig::default()
    };
    let client = Client::new(config, Credentials::anonymous());
    let source = server.source("x:1");
    let resolved = client.resolve(&source, &Platform::native()).await;
    let error = resolved.unwrap_err();
    assert!(!error.is_unreachable(), "{error}");
    assert!(
        error.to_string().contains("the build is offline"),
        "{error}"
    );
    fetch_with(&client, &source).await.unwrap_err();
    client.check_login(&server.host()).await.unwrap_err();
    assert!(server.asked().is_empty());
}

/// Servers that do not keep to the protocol: one says ever more headers, one hears without speaking.
#[tokio::test]
async fn d09_floods_of_headers_and_half_closed_connections_end() {
    for is_flood in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut head = [0; 4096];
                    drop(stream.read(&mut head).await);
                    if is_flood {
                        let mut sent = stream.write_all(b"HTTP/1.1 200 X\r\n").await;
                        while sent.is_ok() {
                            sent = stream.write_all(b"X-Flood: 0123456789\r\n").await;
                        }
                    } else {
                        drop(stream.shutdown().await);
                        while stream.read(&mut head).await.is_ok_and(|read| read > 0) {}
                    }
                });
            }
        });
        let patience = Patience {
            idle_timeout: Duration::from_secs(2),
            attempts: 2,
            ..PATIENCE
        };
        let name = format!("127.0.0.1:{port}/x:1").parse().unwrap();
        let start = Instant::now();
        let fetched = client_of(patience)
            .fetch_document(&ImageSource::Registry(name))
            .await;
        assert!(fetched.is_err(), "{is_flood}");
        assert!(start.elapsed() < Duration::from_secs(20), "{is_flood}");
        serving.abort();
    }
}
