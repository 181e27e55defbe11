//! Manifests, indexes and configs that are not what they should be.

use std::sync::Arc;

use oci::{Descriptor, Digest, Family, Index, MediaType};
use rbuild_registry::{Client, ResolveError, ResolveErrorKind, ResolvedImage};

use crate::client;
use crate::images::{Parts, parts, parts_of};
use crate::server::{Asked, Reply, Server, blob_path};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Answers as a good registry would that has `parts` at any tag.
fn serve(parts: &Parts, asked: &Asked) -> Reply {
    let manifest = parts.manifest.clone();
    if asked.path() == blob_path(&parts.config) {
        Reply::ok(parts.config.clone())
    } else if asked.path().starts_with("/v2/x/manifests/") {
        Reply::ok(manifest).header("Content-Type", MANIFEST)
    } else {
        Reply::new(404)
    }
}

async fn resolve_with(
    client: &Client,
    server: &Server,
    rest: &str,
) -> Result<ResolvedImage, ResolveError> {
    let wanted = "linux/arm64".parse().unwrap();
    client.resolve(&server.source(rest), &wanted).await
}

async fn resolve(server: &Server, rest: &str) -> Result<ResolvedImage, ResolveError> {
    resolve_with(&client(), server, rest).await
}

fn sometimes(
    parts: Parts,
    change: impl Fn(&Asked, Reply, &Parts) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static {
    move |asked, _| change(asked, serve(&parts, asked), &parts)
}

#[tokio::test]
async fn a_single_manifest_is_used_whatever_its_platform() {
    let server = Server::start(sometimes(parts("linux/amd64"), |_, reply, _| reply)).await;
    let resolved = resolve(&server, "x:1").await.unwrap();
    assert_eq!(resolved.platform, "linux/amd64".parse().unwrap());
    assert_eq!(resolved.image.layers.len(), 1);
}

#[tokio::test]
async fn a_name_leads_to_one_image_while_the_client_lives() {
    let (one, two) = (parts("linux/amd64"), parts("linux/arm64"));
    let expected = Digest::of(&one.manifest);
    let server = Server::start(move |asked, before| {
        let parts = if before == 0 { &one } else { &two };
        if asked.path() == blob_path(&one.config) {
            return Reply::ok(one.config.clone());
        }
        serve(parts, asked)
    })
    .await;
    let client = client();
    for _ in 0..2 {
        let resolved = resolve_with(&client, &server, "x:1").await.unwrap();
        assert_eq!(resolved.image.resolved, expected);
    }
    assert_eq!(server.count("GET", "/v2/x/manifests/1"), 1);
}

#[tokio::test]
async fn whether_a_name_leads_to_something_known_is_asked_without_fetching_it() {
    let parts = parts("linux/arm64");
    let digest = Digest::of(&parts.manifest);
    let server = Server::start(sometimes(parts, move |_, reply, _| {
        reply.header("Docker-Content-Digest", digest)
    }))
    .await;
    let source = server.source("x:1");
    let client = client();
    assert!(client.leads_to(&source, digest).await.unwrap());
    let other = Digest::of(b"what it was");
    assert!(!client.leads_to(&source, other).await.unwrap());
    assert_eq!(server.count("HEAD", "/v2/x/manifests/1"), 1);
    assert_eq!(server.count("GET", "/v2/x/manifests/1"), 0);
    // And it is that one which is fetched, even if the tag moves meanwhile.
    resolve_with(&client, &server, "x:1").await.unwrap();
    assert_eq!(server.count("GET", "/v2/x/manifests/1"), 0);
    assert_eq!(server.count("GET", &format!("/v2/x/manifests/{digest}")), 1);
}

#[tokio::test]
async fn a_registry_that_tells_nothing_without_is_asked_for_the_document() {
    for status in [200, 404, 405] {
        let parts = parts("linux/arm64");
        let digest = Digest::of(&parts.manifest);
        let server = Server::start(sometimes(parts, move |asked, reply, _| {
            match asked.method.as_str() {
                "HEAD" => Reply::new(status),
                _ => reply,
            }
        }))
        .await;
        let source = server.source("x:1");
        let client = client();
        assert!(client.leads_to(&source, digest).await.unwrap(), "{status}");
        resolve_with(&client, &server, "x:1").await.unwrap();
        assert_eq!(server.count("GET", "/v2/x/manifests/1"), 1, "{status}");
    }
    let silent = Server::start(|_, _| Reply::new(503)).await;
    let source = silent.source("x:1");
    let told = client().leads_to(&source, Digest::of(b"")).await;
    assert!(told.unwrap_err().is_unreachable());
    assert_eq!(silent.count("GET", "/v2/x/manifests/1"), 0);
}

#[tokio::test]
async fn r07_a_pinned_digest_holds_though_there_is_a_tag() {
    let server = Server::start(sometimes(parts("linux/arm64"), |_, reply, _| reply)).await;
    let other = Digest::of(b"another manifest");
    let error = resolve(&server, &format!("x:1@{other}")).await.unwrap_err();
    assert!(
        matches!(error.kind, ResolveErrorKind::Digest { expected, .. } if expected == other),
        "{error}"
    );
}

#[tokio::test]
async fn r08_documents_of_two_minds_are_refused() {
    let server = Server::start(sometimes(
        parts("linux/arm64"),
        |asked, reply, parts| match asked.path() {
            "/v2/x/manifests/both" => {
                let text = String::from_utf8(parts.manifest.clone()).unwrap();
                Reply::ok(text.replacen('{', r#"{"manifests":[],"#, 1))
            }
            "/v2/x/manifests/announced" => Reply::ok(parts.manifest.clone())
                .header("Content-Type", "application/vnd.oci.image.index.v1+json"),
            "/v2/x/manifests/lying" => {
                let mut entry = parts.descriptor();
                entry.media_type = MediaType::Index(Family::Oci);
                entry.platform = Some("linux/arm64".parse().unwrap());
                let index = Index::new(Family::Oci, vec![entry]);
                Reply::ok(serde_json::to_vec(&index).unwrap())
            }
            _ => reply,
        },
    ))
    .await;
    for tag in ["both", "announced", "lying"] {
        let error = resolve(&server, &format!("x:{tag}")).await.unwrap_err();
        let is_document = matches!(error.kind, ResolveErrorKind::Document { .. });
        assert!(is_document, "{tag}: {error}");
    }
}

#[tokio::test]
async fn r09_a_manifest_or_config_with_a_flipped_byte_is_refused() {
    let flipped = |mut bytes: Vec<u8>| {
        bytes[5] ^= 1;
        bytes
    };
    let server = Server::start(sometimes(
        parts("linux/arm64"),
        move |asked, reply, parts| {
            let digest = Digest::of(&parts.manifest);
            match asked.path() {
                "/v2/x/manifests/claimed" => Reply::ok(flipped(parts.manifest.clone()))
                    .header("Docker-Content-Digest", digest),
                path if path == blob_path(&parts.config) => {
                    Reply::ok(flipped(parts.config.clone()))
                }
                _ => reply,
            }
        },
    ))
    .await;
    for tag in ["claimed", "config"] {
        let error = resolve(&server, &format!("x:{tag}")).await.unwrap_err();
        let is_digest = matches!(error.kind, ResolveErrorKind::Digest { .. });
        assert!(is_digest, "{tag}: {error}");
    }
}

#[tokio::test]
async fn r09_a_wrong_size_in_the_index_is_refused() {
    let server = Server::start(sometimes(parts("linux/arm64"), |asked, reply, parts| {
        if asked.path() != "/v2/x/manifests/index" {
            return reply;
        }
        let mut entry = parts.descriptor();
        entry.size += 1;
        let index = Index::new(Family::Oci, vec![entry]);
        Reply::ok(serde_json::to_vec(&index).unwrap())
    }))
    .await;
    let error = resolve(&server, "x:index").await.unwrap_err();
    assert!(
        matches!(error.kind, ResolveErrorKind::Size { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn d01_a_manifest_has_a_limit_whether_announced_or_not() {
    let huge = Arc::new(vec![b' '; (4 << 20) + 1]);
    let server = Server::start(move |asked, _| {
        let reply = Reply::ok(huge.to_vec());
        match asked.path().ends_with("chunked") {
            true => reply.chunked(),
            false => reply,
        }
    })
    .await;
    for tag in ["chunked", "announced"] {
        let error = resolve(&server, &format!("x:{tag}")).await.unwrap_err();
        assert!(
            error.to_string().contains("larger than 4194304 bytes"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn layers_and_diff_ids_must_agree_in_number() {
    let broken = parts_of("linux/arm64", b"layer".to_vec(), Vec::new());
    let server = Server::start(sometimes(broken, |_, reply, _| reply)).await;
    let error = resolve(&server, "x:1").await.unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the manifest has 1 layers, but its config has 0 diff IDs"),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_not_an_image_is_named() {
    let server = Server::start(|_, _| {
        let config = Descriptor::of(
            MediaType::Unknown("application/vnd.cncf.helm".into()),
            b"{}",
        );
        let manifest = oci::Manifest::new(Family::Oci, config, Vec::new());
        Reply::ok(serde_json::to_vec(&manifest).unwrap())
    })
    .await;
    let error = resolve(&server, "x:1").await.unwrap_err();
    assert!(
        error.to_string().contains("not an image: its config"),
        "{error}"
    );
}

#[tokio::test]
async fn c37_an_entry_without_a_platform_must_fit_by_its_config() {
    for (platform, fits) in [("linux/arm64", true), ("linux/amd64", false)] {
        let server = Server::start(sometimes(parts(platform), |asked, reply, parts| {
            if asked.path() != "/v2/x/manifests/index" {
                return reply;
            }
            let index = Index::new(Family::Oci, vec![parts.descriptor()]);
            Reply::ok(serde_json::to_vec(&index).unwrap())
        }))
        .await;
        match resolve(&server, "x:index").await {
            Ok(resolved) => assert!(fits, "{:?}", resolved.platform),
            Err(error) => {
                assert!(!fits, "{error}");
                assert!(error.to_string().contains("in manifest sha256:"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn an_index_that_contains_itself_in_effect_comes_to_an_end() {
    // Each index holds one more; the digests of a true circle cannot be made.
    let server = Server::start(|asked, _| {
        let mut document = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
        let mut nested = vec![document.clone()];
        for _ in 0..8 {
            let entry = Descriptor::of(MediaType::Index(Family::Oci), &document);
            document = serde_json::to_vec(&Index::new(Family::Oci, vec![entry])).unwrap();
            nested.push(document.clone());
        }
        let by_digest = |bytes: &&Vec<u8>| asked.path().ends_with(&Digest::of(bytes).to_string());
        Reply::ok(nested.iter().find(by_digest).unwrap_or(&document).clone())
    })
    .await;
    let error = resolve(&server, "x:deep").await.unwrap_err();
    assert!(matches!(error.kind, ResolveErrorKind::TooDeep), "{error}");
}
