//! Image layouts in directories.

use std::fs;
use std::os::unix::fs::symlink;

use oci::{Digest, ImageSource, LayoutImage};
use rbuild_registry::{FetchError, LayoutError, ResolveErrorKind};

use crate::client;
use crate::images::layout;

#[tokio::test]
async fn an_image_of_a_layout_is_found_by_tag_and_by_digest() {
    let layout = layout(&["linux/amd64", "linux/arm64"]);
    let directory = layout.directory.path().to_owned();
    let by_digest = |digest| ImageSource::Layout {
        directory: directory.clone(),
        image: LayoutImage::Digest(digest),
    };
    let client = client();
    let index = Digest::of(&layout.index);
    let member = Digest::of(&layout.parts[1].manifest);
    for (source, resolved) in [
        (layout.source("t"), index),
        (by_digest(index), index),
        (by_digest(member), member),
    ] {
        let wanted = "linux/arm64".parse().unwrap();
        let found = client.resolve(&source, &wanted).await.unwrap();
        assert_eq!(found.platform, wanted);
        assert_eq!(found.image.resolved, resolved);
        assert_eq!(found.image.source, by_digest(resolved));
        let layer = &found.image.layers[0];
        let bytes = client
            .fetch_blob(&layer.source, &layer.descriptor, Vec::new())
            .await
            .unwrap();
        assert_eq!(bytes, layout.parts[1].layer);
    }
}

#[tokio::test]
async fn c26_another_name_is_not_found_and_those_there_are_listed() {
    let layout = layout(&["linux/amd64"]);
    let wanted = "linux/amd64".parse().unwrap();
    let error = client()
        .resolve(&layout.source("latest"), &wanted)
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("no image is called `latest`; it has t"),
        "{text}"
    );
}

#[tokio::test]
async fn a_directory_that_is_no_layout_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let source = ImageSource::Layout {
        directory: empty.path().to_owned(),
        image: LayoutImage::Tag("latest".to_owned()),
    };
    let wanted = "linux/amd64".parse().unwrap();
    let error = client().resolve(&source, &wanted).await.unwrap_err();
    assert!(
        error.to_string().contains("index.json: No such file"),
        "{error}"
    );
}

#[tokio::test]
async fn r09_a_blob_that_is_not_what_its_name_says_is_refused() {
    let layout = layout(&["linux/amd64"]);
    let parts = &layout.parts[0];
    let blobs = layout.directory.path().join("blobs/sha256");
    let layer = blobs.join(parts.layer_descriptor.digest.hex());
    let client = client();
    let mut flipped = parts.layer.clone();
    flipped[3] ^= 1;
    let longer = [parts.layer.clone(), vec![0]].concat();
    let shorter = parts.layer[1..].to_vec();
    for wrong in [flipped, longer, shorter] {
        fs::write(&layer, wrong).unwrap();
        let fetched = client
            .fetch_blob(&layout.source("t"), &parts.layer_descriptor, Vec::new())
            .await;
        let error = fetched.unwrap_err();
        assert!(
            matches!(error, FetchError::Layout(LayoutError::Content { .. })),
            "{error}"
        );
    }
    fs::write(blobs.join(Digest::of(&parts.config).hex()), b"{}").unwrap();
    let wanted = "linux/amd64".parse().unwrap();
    let error = client
        .resolve(&layout.source("t"), &wanted)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error.kind,
            ResolveErrorKind::Layout(LayoutError::Content { .. })
        ),
        "{error}"
    );
}

#[tokio::test]
async fn links_and_pipes_in_place_of_blobs_are_refused() {
    let layout = layout(&["linux/amd64"]);
    let blob = &layout.parts[0].layer_descriptor;
    let path = layout
        .directory
        .path()
        .join("blobs/sha256")
        .join(blob.digest.hex());
    let outside = tempfile::NamedTempFile::new().unwrap();
    fs::write(outside.path(), &layout.parts[0].layer).unwrap();
    let put_link = || symlink(outside.path(), &path).unwrap();
    let put_pipe = || {
        crate::images::run("mkfifo", &[crate::images::path(&path)]);
    };
    let put: [&dyn Fn(); 2] = [&put_link, &put_pipe];
    for put in put {
        fs::remove_file(&path).unwrap();
        put();
        let fetched = client()
            .fetch_blob(&layout.source("t"), blob, Vec::new())
            .await;
        assert!(matches!(fetched, Err(FetchError::Layout(_))));
    }
}
