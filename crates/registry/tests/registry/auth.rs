//! Challenges, tokens, and who is told what.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use oci::{Descriptor, MediaType};
use rbuild_registry::{Client, FetchError};

use crate::server::{Asked, Reply, Server};
use crate::{client, client_as};

const CONTENT: &[u8] = b"some blob";
const PASSWORD: &str = r#"{"auth":"dXNlcjpodW50ZXIy"}"#; // user:hunter2
const IDENTITY: &str = r#"{"identitytoken":"refresh hunter2"}"#;

fn blob() -> Descriptor {
    Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT)
}

async fn fetch(client: &Client, server: &Server) -> Result<Vec<u8>, FetchError> {
    client
        .fetch_blob(&server.source("x:1"), &blob(), Vec::new())
        .await
}

fn challenge(realm: &str) -> Reply {
    let scope = "repository:x:pull";
    Reply::new(401).header(
        "WWW-Authenticate",
        format!("Bearer realm=\"{realm}\",service=\"s v\",scope=\"{scope}\""),
    )
}

/// A registry that takes the token `good` only and sends others to `realm`.
async fn registry(realm: String) -> Server {
    Server::start(move |asked, _| match asked.header("authorization") {
        Some("Bearer good") => Reply::ok(CONTENT),
        _ => challenge(&realm),
    })
    .await
}

fn form(asked: &Asked) -> BTreeMap<String, String> {
    let text = match asked.method.as_str() {
        "POST" => String::from_utf8(asked.body.clone()).unwrap(),
        _ => asked.target.split_once('?').unwrap().1.to_owned(),
    };
    let url = reqwest::Url::parse(&format!("http://x/?{text}")).unwrap();
    url.query_pairs().into_owned().collect()
}

fn token(text: &str) -> Reply {
    Reply::ok(format!(r#"{{"token":"{text}","expires_in":300}}"#))
}

#[tokio::test]
async fn strangers_get_a_token_once_for_all_that_wait() {
    let tokens = Server::start(|_, _| token("good").after(Duration::from_millis(50))).await;
    let server = registry(tokens.url("/token")).await;
    let client = client();
    let fetched = join_all((0..8).map(|_| fetch(&client, &server))).await;
    assert!(
        fetched
            .iter()
            .all(|fetched| fetched.as_ref().unwrap() == CONTENT)
    );
    assert_eq!(tokens.asked().len(), 1);
    let asked = &tokens.asked()[0];
    assert!(asked.is("GET", "/token"));
    assert_eq!(asked.header("authorization"), None);
    let agent = asked.header("user-agent").unwrap();
    assert!(agent.starts_with("rbuild/"), "{agent}");
    let form = form(asked);
    assert_eq!(form["service"], "s v");
    assert_eq!(form["scope"], "repository:x:pull");
    // From now on without a challenge.
    let before = server.asked().len();
    fetch(&client, &server).await.unwrap();
    assert_eq!(server.asked().len(), before + 1);
}

#[tokio::test]
async fn a_password_goes_to_the_token_server_and_nowhere_else() {
    let tokens = Server::start(|_, _| token("good")).await;
    let server = registry(tokens.url("/token")).await;
    let client = client_as(&server.host(), PASSWORD);
    fetch(&client, &server).await.unwrap();
    let asked = &tokens.asked()[0];
    assert!(asked.is("POST", "/token"));
    let form = form(asked);
    assert_eq!(form["grant_type"], "password");
    assert_eq!(form["username"], "user");
    assert_eq!(form["password"], "hunter2");
    assert_eq!(form["scope"], "repository:x:pull");
    assert_eq!(form["client_id"], "rbuild");
    for asked in server.asked() {
        let authorization = asked.header("authorization").unwrap_or_default();
        assert!(!authorization.starts_with("Basic"), "{authorization}");
    }
}

#[tokio::test]
async fn an_older_token_server_is_asked_in_its_way() {
    for status in [404, 405, 401] {
        let tokens = Server::start(move |asked, _| match asked.method.as_str() {
            "POST" => Reply::new(status),
            _ => Reply::ok(r#"{"access_token":"good"}"#),
        })
        .await;
        let server = registry(tokens.url("/token")).await;
        let client = client_as(&server.host(), PASSWORD);
        fetch(&client, &server).await.unwrap();
        let asked = &tokens.asked()[1];
        assert_eq!(
            asked.header("authorization"),
            Some("Basic dXNlcjpodW50ZXIy")
        );
        assert_eq!(form(asked)["account"], "user");
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged() {
    let tokens = Server::start(|_, _| token("good")).await;
    let server = registry(tokens.url("/token")).await;
    fetch(&client_as(&server.host(), IDENTITY), &server)
        .await
        .unwrap();
    let form = form(&tokens.asked()[0]);
    assert_eq!(form["grant_type"], "refresh_token");
    assert_eq!(form["refresh_token"], "refresh hunter2");
}

#[tokio::test]
async fn a_registry_token_needs_no_token_server() {
    let server = registry("http://127.0.0.1:1/nobody".to_owned()).await;
    let client = client_as(&server.host(), r#"{"registrytoken":"good"}"#);
    fetch(&client, &server).await.unwrap();
}

#[tokio::test]
async fn a_token_that_ends_before_its_time_is_replaced() {
    let (given, tokens_given) = (
        AtomicUsize::new(0),
        std::sync::Arc::new(AtomicUsize::new(0)),
    );
    let current = tokens_given.clone();
    let tokens = Server::start(move |_, _| {
        let number = given.fetch_add(1, Ordering::SeqCst);
        tokens_given.store(number, Ordering::SeqCst);
        token(&format!("t{number}"))
    })
    .await;
    let (realm, revoked) = (tokens.url("/token"), AtomicUsize::new(0));
    let server = Server::start(move |asked, before| {
        if before == 3 {
            revoked.store(1, Ordering::SeqCst);
        }
        let good = format!("Bearer t{}", current.load(Ordering::SeqCst));
        let fresh = revoked.load(Ordering::SeqCst) == 0 || !good.ends_with("t0");
        match asked.header("authorization") == Some(&good) && fresh {
            true => Reply::ok(CONTENT),
            false => challenge(&realm),
        }
    })
    .await;
    let client = client();
    for _ in 0..4 {
        fetch(&client, &server).await.unwrap();
    }
    assert_eq!(tokens.asked().len(), 2);
}

#[tokio::test]
async fn a_second_refusal_is_final() {
    let tokens = Server::start(|_, before| token(&format!("bad{before}"))).await;
    let server = registry(tokens.url("/token")).await;
    let error = fetch(&client(), &server).await.unwrap_err();
    assert_eq!(server.asked().len(), 2);
    assert!(error.to_string().contains("401"), "{error}");
    assert!(error.help().unwrap().contains("rbuild login"));
}

#[tokio::test]
async fn insufficient_scope_is_final() {
    let tokens = Server::start(|_, _| token("weak")).await;
    let realm = tokens.url("/token");
    let server = Server::start(move |asked, _| match asked.header("authorization") {
        None => challenge(&realm),
        Some(_) if asked.method == "GET" && asked.header("range").is_none() => {
            let text = format!("Bearer realm=\"{realm}\",error=\"insufficient_scope\"");
            Reply::new(401).header("WWW-Authenticate", text)
        }
        Some(_) => Reply::new(500),
    })
    .await;
    let client = client();
    for _ in 0..2 {
        let error = fetch(&client, &server).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("401") || text.contains("insufficient scope"),
            "{text}"
        );
    }
    assert_eq!(tokens.asked().len(), 1);
}

#[tokio::test]
async fn a_token_server_that_refuses_the_password_is_quoted() {
    let tokens = Server::start(|_, _| {
        Reply::new(401).body(r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#)
    })
    .await;
    let server = registry(tokens.url("/token")).await;
    let error = fetch(&client_as(&server.host(), PASSWORD), &server)
        .await
        .unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("UNAUTHORIZED: wrong password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn r04_a_token_server_elsewhere_gets_no_credential_over_plain_http() {
    let tokens = Server::start(|_, _| token("good")).await;
    // The same machine, but another name for it.
    let realm = format!("http://localhost:{}/token", tokens.port);
    let server = registry(realm).await;
    for entry in [PASSWORD, IDENTITY] {
        let error = fetch(&client_as(&server.host(), entry), &server)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("another host"), "{error}");
        assert!(error.help().is_some());
    }
    assert!(tokens.asked().is_empty());
    // Who has nothing to lose may ask.
    fetch(&client(), &server).await.unwrap();
}

#[tokio::test]
async fn r05_a_token_server_that_redirects_is_not_followed() {
    let thief = Server::start(|_, _| token("good")).await;
    let to = thief.url("/token");
    let tokens = Server::start(move |_, _| Reply::new(307).header("Location", &to)).await;
    let server = registry(tokens.url("/token")).await;
    for entry in [PASSWORD, IDENTITY, "{}"] {
        let client = client_as(&server.host(), entry);
        fetch(&client, &server).await.unwrap_err();
    }
    assert!(thief.asked().is_empty());
}

#[tokio::test]
async fn r06_another_port_gets_no_password() {
    let server =
        Server::start(|_, _| Reply::new(401).header("WWW-Authenticate", "Basic realm=\"x\"")).await;
    let client = client_as(&format!("127.0.0.1:{}", server.port ^ 1), PASSWORD);
    fetch(&client, &server).await.unwrap_err();
    assert!(
        server
            .asked()
            .iter()
            .all(|asked| asked.header("authorization").is_none())
    );
}

#[tokio::test]
async fn a_token_that_is_no_header_is_an_error() {
    let tokens = Server::start(|_, _| token("a\\nb")).await;
    let server = registry(tokens.url("/token")).await;
    let error = fetch(&client(), &server).await.unwrap_err();
    assert!(error.to_string().contains("characters"), "{error}");
}

#[tokio::test]
async fn an_endless_token_is_an_error() {
    let tokens = Server::start(|_, _| token(&"x".repeat(300 << 10)).chunked()).await;
    let server = registry(tokens.url("/token")).await;
    let error = fetch(&client(), &server).await.unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}
