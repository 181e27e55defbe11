//! R11: a public server does not send us into private networks.
//!
//! The test needs a server with a public address and may not use the network, so it runs itself
//! again in a network namespace of its own, where that address is this machine's.

use std::env;
use std::process::Command;

use oci::{Descriptor, ImageSource, MediaType};
use rbuild_registry::{HostConfig, Transport};

use crate::server::{Asked, Reply, Server};
use testkit::skip::Skip;

use crate::{available, client_with};

/// Of the range for documentation, which nobody has.
const PUBLIC: &str = "203.0.113.1";
const INSIDE: &str = "RBUILD_TEST_INSIDE";

const CONTENT: &[u8] = b"some blob";

#[test]
fn r11_a_public_registry_does_not_lead_to_private_addresses() {
    if env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(inside());
        return;
    }
    let script = format!(
        "ip link set lo up && ip address add {PUBLIC}/32 dev lo || exit 77; exec \"$0\" \"$@\""
    );
    let mut command = Command::new("unshare");
    for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(proxy).env_remove(proxy.to_lowercase());
    }
    let output = command
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "private::r11_a_public_registry_does_not_lead_to_private_addresses",
        ])
        .args(["--nocapture"])
        .env(INSIDE, "1")
        .output();
    let Ok(output) = output else {
        return skipped("unshare is not installed");
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {}
        Some(1 | 77) if !text.contains("panicked") => skipped("no network namespace to be had"),
        _ => panic!("{text}"),
    }
}

async fn inside() {
    unverified_is_not_in_clear().await;
    let private = Server::start(|_, _| Reply::ok(CONTENT)).await;
    let public = Server::start_at(PUBLIC, |_, _| Reply::ok(CONTENT)).await;
    let port = private.port;
    for (location, allowed) in [
        (format!("http://127.0.0.1:{port}/blob"), false),
        (format!("http://[::ffff:127.0.0.1]:{port}/blob"), false),
        (format!("http://2130706433:{port}/blob"), false),
        (format!("http://localhost:{port}/blob"), false),
        ("http://169.254.169.254/latest/meta-data".to_owned(), false),
        ("http://10.0.0.1/blob".to_owned(), false),
        (format!("http://{PUBLIC}:{}/blob", public.port), true),
    ] {
        let told = location.clone();
        let answer = move |asked: &Asked, _| match asked.path().contains("/blobs/") {
            true => Reply::new(307).header("Location", &told),
            false => {
                let challenge = format!("Bearer realm=\"{told}\"");
                Reply::new(401).header("WWW-Authenticate", challenge)
            }
        };
        let registry = Server::start_at(PUBLIC, answer).await;
        let host = format!("{PUBLIC}:{}", registry.port);
        let plain = HostConfig {
            transport: Transport::PlainHttp,
            ..HostConfig::default()
        };
        let hosts = [(host.clone(), plain)].into();
        let client = client_with(hosts, rbuild_registry::Credentials::anonymous());
        let source = ImageSource::Registry(format!("{host}/x:1").parse().unwrap());
        let blob = Descriptor::of(MediaType::Unknown("x".to_owned()), CONTENT);
        let document = client.fetch_document(&source).await.unwrap_err();
        assert_eq!(
            !document.to_string().contains("private address"),
            allowed,
            "{document}"
        );
        match client.fetch_blob(&source, &blob, Vec::new()).await {
            Ok(_) => assert!(allowed, "{location} was followed"),
            Err(error) => {
                assert!(!allowed, "{location}: {error}");
                assert!(error.to_string().contains("private address"), "{error}");
                assert!(error.help().is_some());
            }
        }
    }
    assert!(private.asked().is_empty());
}

/// R1: an insecure registry on the network is spoken to over TLS or not at all.
async fn unverified_is_not_in_clear() {
    let server = Server::start_at(PUBLIC, |_, _| Reply::new(200)).await;
    let host = format!("{PUBLIC}:{}", server.port);
    let insecure = HostConfig {
        transport: Transport::Unverified,
        ..HostConfig::default()
    };
    let hosts = [(host.clone(), insecure)].into();
    let client = client_with(hosts, rbuild_registry::Credentials::anonymous());
    let target = format!("{host}/x:1").parse().unwrap();
    let error = client.check_push(&target).await.unwrap_err();
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(server.asked().is_empty());
}

fn skipped(reason: &str) {
    available::<()>(Err(Skip(reason.to_owned()).into()));
}
