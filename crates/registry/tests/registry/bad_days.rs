//! Real registries on bad days: what passes between them and us is cut, refused and held up.

use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use oci::{Descriptor, ImageSource, MediaType, Reference};
use rbuild_registry::{Client, PushError, PushErrorKind, Pushed};
use testkit::proxy::{Exchange, Fault, Proxy};
use testkit::registry::Options;
use testkit::tokens::Tokens;

use crate::server::{Reply, Server};
use crate::{Names as _, available, client, client_as, login, started};

const MIB: u64 = 1 << 20;

/// A file with content that does not repeat, and its descriptor.
struct Blob {
    file: tempfile::NamedTempFile,
    content: Vec<u8>,
    descriptor: Descriptor,
}

impl Blob {
    fn new(seed: u32, size_bytes: u64) -> Self {
        let mut state = seed;
        let content: Vec<u8> = (0..size_bytes)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &content).unwrap();
        let descriptor = Descriptor::of(MediaType::Unknown("x".to_owned()), &content);
        Self {
            file,
            content,
            descriptor,
        }
    }

    async fn push(&self, client: &Client, target: &Reference) -> Result<Pushed, PushError> {
        let path = self.file.path().to_owned();
        let open = move || File::open(&path);
        client.push_blob(target, &self.descriptor, open, None).await
    }

    async fn check(&self, client: &Client, target: &Reference) {
        let source = ImageSource::Registry(target.clone());
        let fetched = client.fetch_blob(&source, &self.descriptor, Vec::new());
        assert!(fetched.await.unwrap() == self.content);
    }
}

fn sent_bytes(exchanges: &[Exchange]) -> u64 {
    exchanges.iter().map(|exchange| exchange.sent_bytes).sum()
}

#[tokio::test]
async fn an_upload_that_is_cut_every_mebibyte_gets_through_in_parts() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let proxy = Proxy::start(registry.host(), Fault::CutEvery(MIB)).unwrap();
    let blob = Blob::new(1, 8 * MIB + 12_345);
    let client = client();
    let target = proxy.reference("a:1");
    assert_eq!(blob.push(&client, &target).await.unwrap(), Pushed::Uploaded);
    let sent = sent_bytes(&proxy.exchanges());
    // This registry cannot go on with what was cut. So smaller parts are tried, until they get through.
    assert!(sent <= 12 * MIB, "{sent}");
    assert_eq!(blob.push(&client, &target).await.unwrap(), Pushed::Existed);
    assert_eq!(sent_bytes(&proxy.exchanges()), sent);
    // And back again through the same proxy.
    blob.check(&client, &target).await;
}

#[tokio::test]
async fn a_token_that_becomes_invalid_in_the_middle_is_replaced() {
    let Some(tokens) = available(Tokens::start()) else {
        return;
    };
    let options = Options {
        tokens: Some(tokens.realm()),
        ..Options::default()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let blobs = [Blob::new(1, 3 * MIB), Blob::new(2, 3 * MIB)];
    let proxy = Proxy::start(registry.host(), Fault::Outdate(MIB)).unwrap();
    let client = client_as(proxy.host(), &login());
    let target = proxy.reference("a:1");
    client.check_push(&target).await.unwrap();
    for blob in &blobs {
        assert_eq!(blob.push(&client, &target).await.unwrap(), Pushed::Uploaded);
        blob.check(&client, &target).await;
    }
    let refused: Vec<Exchange> = proxy
        .exchanges()
        .into_iter()
        .filter(|exchange| exchange.status == Some(401))
        .collect();
    // The end of each upload came with a token that had become invalid during it.
    let ends = |exchange: &&Exchange| exchange.method == "PUT" && exchange.authorization.is_some();
    assert_eq!(refused.iter().filter(ends).count(), 2, "{refused:?}");
    // The content of each went once.
    assert!(sent_bytes(&proxy.exchanges()) <= 6 * MIB + 10_000);
    let expected = "repository:a:pull,push";
    assert!(
        tokens
            .asked()
            .iter()
            .filter(|scope| *scope == expected)
            .count()
            >= 3
    );
}

#[tokio::test]
async fn a_token_server_that_does_not_know_us_is_final() {
    let Some(tokens) = available(Tokens::start()) else {
        return;
    };
    let options = Options {
        tokens: Some(tokens.realm()),
        ..Options::default()
    };
    let Some(registry) = started(&options) else {
        return;
    };
    let target = registry.reference("a:1");
    // A token for reading is to be had by anybody, but it does not let us push.
    for client in [
        client(),
        client_as(registry.host(), r#"{"username":"builder","password":"x"}"#),
    ] {
        let error = client.check_push(&target).await.unwrap_err();
        assert!(
            matches!(error.kind, PushErrorKind::Denied { .. }),
            "{error}"
        );
        assert!(error.help().unwrap().contains("log in"), "{error}");
    }
}

#[tokio::test]
async fn a_busy_registry_is_waited_for() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let blob = Blob::new(1, 2 * MIB);
    for (status, retry_after) in [(429, Some(0)), (500, None), (503, None)] {
        let proxy = Proxy::start(registry.host(), Fault::Busy(status, retry_after, 4)).unwrap();
        let target = proxy.reference(&format!("busy{status}:1"));
        let client = client();
        client.check_push(&target).await.unwrap();
        assert_eq!(blob.push(&client, &target).await.unwrap(), Pushed::Uploaded);
        blob.check(&client, &target).await;
    }
}

#[tokio::test]
async fn a_slow_registry_is_not_a_dead_one() {
    let Some(registry) = started(&Options::default()) else {
        return;
    };
    let pause = Duration::from_millis(2);
    let proxy = Proxy::start(registry.host(), Fault::Slow(pause)).unwrap();
    let blob = Blob::new(1, MIB);
    let start = Instant::now();
    let target = proxy.reference("a:1");
    blob.push(&client(), &target).await.unwrap();
    assert!(start.elapsed() >= pause * 64);
    blob.check(&client(), &target).await;
}

#[tokio::test]
async fn c34_storage_elsewhere_does_not_get_the_password() {
    let options = Options {
        login: true,
        ..Options::default()
    };
    let (Some(guarded), Some(storage)) = (started(&options), started(&Options::default())) else {
        return;
    };
    let blob = Blob::new(1, 1000);
    blob.push(&client(), &storage.reference("a:1"))
        .await
        .unwrap();
    let elsewhere = Proxy::start(storage.host(), Fault::None).unwrap();
    let redirect = Fault::RedirectBlobs(elsewhere.host().to_owned());
    let proxy = Proxy::start(guarded.host(), redirect).unwrap();
    let known = client_as(proxy.host(), &login());
    let target = proxy.reference("a:1");
    known.check_push(&target).await.unwrap();
    blob.check(&known, &target).await;
    let asked = elsewhere.exchanges();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].authorization, None);
    assert!(
        proxy
            .exchanges()
            .iter()
            .any(|exchange| exchange.method == "GET" && exchange.authorization.is_some())
    );
}

#[tokio::test]
async fn an_upload_that_was_cut_goes_on_where_it_was_cut() {
    // A registry that can say what it has. It loses the connection after each further half.
    let blob = Blob::new(1, 4 * MIB);
    let (size, digest) = (blob.content.len(), blob.descriptor.digest.to_string());
    let have = Arc::new(Mutex::new(Vec::new()));
    let had = Arc::clone(&have);
    let server = Server::start(move |asked, _| {
        let mut have = had.lock().unwrap();
        let range = |have: &Vec<u8>| format!("0-{}", have.len().saturating_sub(1));
        match asked.method.as_str() {
            "HEAD" => Reply::new(404),
            "POST" => Reply::new(202).header("Location", "/up/0"),
            "GET" => Reply::new(204)
                .header("Location", "/up/again")
                .header("Range", range(&have)),
            "PATCH" => {
                let start = have.len();
                let expected = format!("{start}-{}", size - 1);
                assert!(start == 0 || asked.header("content-range") == Some(&expected));
                let taken = asked.body.len() / 2;
                have.extend_from_slice(&asked.body[..taken.max(asked.body.len().min(1 << 18))]);
                if have.len() < size {
                    return Reply::new(202).gone();
                }
                Reply::new(202)
                    .header("Location", "/up/end?s=1")
                    .header("Range", range(&have))
            }
            _ => Reply::new(201).header("Docker-Content-Digest", &digest),
        }
    })
    .await;
    // More breaks than tries: those that bring it on do not count.
    blob.push(&client(), &server.reference("x:1"))
        .await
        .unwrap();
    assert!(*have.lock().unwrap() == blob.content);
    assert_eq!(server.count("POST", "/v2/x/blobs/uploads/"), 1);
    assert_eq!(server.count("PATCH", "/up/0"), 1);
    assert_eq!(server.count("PATCH", "/up/again"), 4);
    let sent: usize = server.asked().iter().map(|asked| asked.body.len()).sum();
    assert!(sent < 9 << 20, "{sent}");
}

/// A registry that keeps uploads in memory, as far as `answer` does not say otherwise.
async fn uploads(
    answer: impl Fn(&crate::server::Asked, usize) -> Option<Reply> + Send + Sync + 'static,
) -> Server {
    Server::start(move |asked, before| {
        answer(asked, before).unwrap_or_else(|| match asked.method.as_str() {
            "POST" => Reply::new(202).header("Location", "/up"),
            "PATCH" => Reply::new(202).header("Location", "/up"),
            "PUT" => Reply::new(201),
            _ => Reply::new(404),
        })
    })
    .await
}

#[tokio::test]
async fn large_bodies_that_are_refused_are_sent_in_parts() {
    let server = uploads(|asked, _| {
        let is_large = asked.method == "PATCH" && asked.body.len() as u64 > 2 * MIB;
        is_large.then(|| Reply::new(413))
    })
    .await;
    let blob = Blob::new(1, 7 * MIB);
    blob.push(&client(), &server.reference("x:1"))
        .await
        .unwrap();
    let asked = server.asked();
    let patches = asked.iter().filter(|asked| asked.method == "PATCH");
    let patches: Vec<_> = patches
        .filter(|asked| asked.body.len() as u64 <= 2 * MIB)
        .collect();
    let together: Vec<u8> = patches
        .iter()
        .flat_map(|patch| patch.body.clone())
        .collect();
    assert!(together == blob.content);
    let range = patches[1].header("content-range").unwrap();
    let (start, end) = (
        patches[0].body.len(),
        patches[0].body.len() + patches[1].body.len(),
    );
    assert_eq!(range, format!("{start}-{}", end - 1));
}

#[tokio::test]
async fn a_registry_that_knows_no_patch_gets_it_with_the_put() {
    let server = uploads(|asked, _| (asked.method == "PATCH").then(|| Reply::new(405))).await;
    let blob = Blob::new(1, MIB);
    blob.push(&client(), &server.reference("x:1"))
        .await
        .unwrap();
    let asked = server.asked();
    let put = asked.iter().find(|asked| asked.method == "PUT").unwrap();
    assert!(put.body == blob.content);
}

#[tokio::test]
async fn an_upload_that_the_registry_has_forgotten_is_begun_anew() {
    let server = uploads(|asked, _| {
        let is_first = asked.method == "PATCH" && asked.path() == "/up";
        is_first.then(|| Reply::new(404))
    })
    .await;
    let blob = Blob::new(1, MIB);
    let error = blob.push(&client(), &server.reference("x:1")).await;
    // It forgets all of them, which ends some time.
    assert!(error.unwrap_err().to_string().contains("404"));
    assert_eq!(server.count("POST", "/v2/x/blobs/uploads/"), 5);
}

#[tokio::test]
async fn an_upload_whose_last_answer_was_lost_is_not_made_again() {
    let blob = Blob::new(1, MIB);
    let length = blob.content.len();
    let server = Server::start(move |asked, before| match asked.method.as_str() {
        "HEAD" if before == 0 => Reply::new(404),
        "HEAD" => Reply::new(200).header("Content-Length", length),
        "POST" | "PATCH" => Reply::new(202).header("Location", "/up"),
        _ => Reply::new(500),
    })
    .await;
    let pushed = blob.push(&client(), &server.reference("x:1")).await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert_eq!(server.count("PATCH", "/up"), 1);
}

#[tokio::test]
async fn parts_that_do_not_fit_together_are_sent_again_as_a_whole() {
    // It says to have half of it, and finds out at the end that this is not so.
    let server = uploads(|asked, before| match asked.method.as_str() {
        "PATCH" if before == 2 => Some(Reply::new(500)),
        "GET" => Some(Reply::new(204).header("Range", "0-524287")),
        "PUT" if before < 7 => Some(Reply::new(400)),
        _ => None,
    })
    .await;
    let blob = Blob::new(1, MIB);
    blob.push(&client(), &server.reference("x:1"))
        .await
        .unwrap();
    let asked = server.asked();
    let patches = asked.iter().filter(|asked| asked.method == "PATCH");
    let lengths: Vec<usize> = patches.map(|asked| asked.body.len()).collect();
    assert_eq!(lengths, [1 << 20, 1 << 19, 1 << 20]);
}
