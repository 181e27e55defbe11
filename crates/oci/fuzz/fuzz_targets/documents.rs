//! Any bytes are a manifest, an index, a config, or refused; what is written again means the same.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use oci::{Descriptor, Document, ImageConfig, Index, Manifest, Platform, Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads `bytes`, and what is written of that.
fn again<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let raw: Raw<T> = Raw::parse(bytes.to_vec()).ok()?;
    assert_eq!(raw.bytes(), bytes);
    let written = serde_json::to_vec(raw.value()).expect("what was read can be written");
    let read: T = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(raw.value(), &read);
    Some(read)
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Document::parse(bytes.to_vec(), None) {
        assert_eq!(document.bytes(), bytes);
        let descriptor = document.descriptor();
        assert_eq!(descriptor.size, bytes.len() as u64);
        // Announced as the other kind, it is refused.
        let other = match document {
            Document::Manifest(_) => {
                assert!(again::<Manifest>(bytes).is_some());
                "application/vnd.oci.image.index.v1+json"
            }
            Document::Index(_) => {
                assert!(again::<Index>(bytes).is_some());
                "application/vnd.oci.image.manifest.v1+json"
            }
        };
        let Ok(other) = other.parse();
        assert!(Document::parse(bytes.to_vec(), Some(&other)).is_err());
    }
    if let Some(config) = again::<ImageConfig>(bytes) {
        assert_eq!(config.platform().normalized(), config.platform().normalized().normalized());
    }
    again::<Descriptor>(bytes);
    again::<Platform>(bytes);
});
