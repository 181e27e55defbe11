//! Digests: the names of content.
//!
//! The image specification allows several algorithms; in practice there is one, and a second
//! spelling of the same content would only split caches. So a digest *is* a SHA-256 here, and
//! everything else is refused where it enters.

use std::fmt;
use std::io;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

/// The SHA-256 of some bytes, written `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Digest of a layer's *uncompressed* tar; a registry knows the layer by another digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

/// Why some text is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no colon.
    #[error("a digest is written algorithm:hex, for example sha256:e3b0…")]
    NoAlgorithm,
    /// Another algorithm than SHA-256.
    #[error("digest algorithm `{found}` is not supported, only sha256 is")]
    Algorithm {
        /// What stands before the colon.
        found: String,
    },
    /// Not 64 lower-case hex digits.
    #[error("a sha256 digest has 64 lower-case hex digits")]
    Hex,
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Returns the 64 hex digits without the algorithm: the name of the blob's file.
    pub fn hex(&self) -> String {
        encode_hex(&self.0)
    }

    /// Returns the digest that was written as these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads the 64 hex digits of [`Digest::hex`].
    ///
    /// # Errors
    ///
    /// [`DigestError::Hex`] for any other text.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        decode_hex(hex).map(Self).ok_or(DigestError::Hex)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm);
        };
        if algorithm != "sha256" {
            return Err(DigestError::Algorithm {
                found: algorithm.to_owned(),
            });
        }
        Self::from_hex(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for DiffId {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        text.parse().map(Self)
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes a [`Digest`] over bytes that arrive piece by piece, and counts them.
#[derive(Clone, Default)]
pub struct Hasher {
    state: sha2::Sha256,
    size_bytes: u64,
}

impl Hasher {
    /// Returns a hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size_bytes += bytes.len() as u64;
    }

    /// Returns how many bytes were added so far.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encode_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = (hex_value(pair[0])? << 4) | hex_value(pair[1])?;
    }
    Some(bytes)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let digest: Digest = EMPTY.parse().unwrap();
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(digest, Digest::of(b""));
        assert_eq!(Digest::from_hex(&digest.hex()), Ok(digest));
    }

    #[test]
    fn a_hasher_agrees_with_the_digest_of_the_whole_and_counts() {
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.size_bytes(), 3);
        assert_eq!(hasher.finish(), Digest::of(b"abc"));
    }

    #[test]
    fn u03_anything_but_64_lower_case_hex_digits_of_sha256_is_refused() {
        let hex = &EMPTY[7..];
        for text in [
            "".to_owned(),
            "sha256".to_owned(),
            "sha256:".to_owned(),
            "sha256:../../x".to_owned(),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha256:{hex}0"),
            format!("sha512:{hex}"),
            format!("sha256:{}é", &hex[2..]),
            hex.to_owned(),
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text} was accepted");
        }
    }
}
