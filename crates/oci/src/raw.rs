//! Fetched JSON: its exact bytes beside the parsed value.
//!
//! A document is known by the digest of its bytes, and parsing loses what we do not know of. So
//! what came from elsewhere is handed on as bytes and only read through the parsed view.

use serde::de::DeserializeOwned;

use crate::digest::Digest;

/// A JSON document as it was received, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    value: T,
}

impl<T: DeserializeOwned> Raw<T> {
    /// Parses `bytes` and keeps them.
    ///
    /// # Errors
    ///
    /// The bytes are not JSON, or not of the shape that `T` asks for.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, serde_json::Error> {
        let value = serde_json::from_slice(&bytes)?;
        Ok(Self { bytes, value })
    }
}

impl<T> Raw<T> {
    /// Returns the document as received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns what the document says.
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Returns the digest of the bytes: the document's name.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Returns the parsed value and gives up the bytes.
    pub fn into_value(self) -> T {
        self.value
    }
}
