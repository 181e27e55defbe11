//! Private keys: what they are called in public, and how they sign (RFC 4253, 5656, 8332, 8709).

mod file;
mod rsa;

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512};

use super::wire::Writer;

/// Flags of a request to sign (draft-ietf-sshm-ssh-agent).
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A private key that is not encrypted.
pub struct SshKey {
    pair: Pair,
    /// How SSH writes the public key.
    public: Vec<u8>,
    comment: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(ring::rsa::KeyPair),
}

/// The curves of ECDSA that there are keys of.
#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

/// Why a file is no key that can be used. No variant holds anything of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SshKeyError {
    /// Something else.
    #[error("it is not a private key")]
    NotKey,
    /// The other half of a key.
    #[error("it is a public key; the private one is needed")]
    Public,
    /// It wants a passphrase.
    #[error("it is encrypted with a passphrase")]
    Encrypted,
    /// A kind of key that is not known here.
    #[error("it is {kind}, which is not supported")]
    Unsupported {
        /// Which kind.
        kind: &'static str,
    },
    /// It says that it is a key, and makes no sense.
    #[error("the key in it is damaged, or not of 2048 to 4096 bits (RSA)")]
    Damaged,
}

impl SshKeyError {
    /// Returns the user's next step.
    pub fn help(self) -> Option<&'static str> {
        match self {
            Self::Encrypted | Self::Unsupported { .. } | Self::Damaged => Some(
                "load it into an agent with ssh-add, and pass that on: --ssh ID, or --ssh ID=SOCKET",
            ),
            Self::NotKey | Self::Public => None,
        }
    }
}

impl SshKey {
    /// More than any file with a key holds.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Reads what `ssh-keygen` or `openssl` has written.
    ///
    /// # Errors
    ///
    /// It is no private key, or one that cannot be used as it is.
    pub fn parse(text: &[u8]) -> Result<Self, SshKeyError> {
        file::parse(text)
    }

    fn new(pair: Pair, comment: String) -> Self {
        let mut public = Writer::default();
        match &pair {
            Pair::Ed25519(pair) => {
                public.string(b"ssh-ed25519");
                public.string(pair.public_key().as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                public.string(curve.algorithm().as_bytes());
                public.string(curve.name().as_bytes());
                public.string(pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                public.string(b"ssh-rsa");
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                public.integer(&e);
                public.integer(&n);
            }
        }
        Self {
            pair,
            public: public.into_bytes(),
            comment,
        }
    }

    /// How SSH writes the public key.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// What its file calls it.
    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// Signs; `None` with RSA and SHA-1, which nobody accepts any more.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let mut signature = Writer::default();
        match &self.pair {
            Pair::Ed25519(pair) => {
                signature.string(b"ssh-ed25519");
                signature.string(pair.sign(data).as_ref());
            }
            Pair::Ecdsa(curve, pair) => {
                let signed = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signed.as_ref().split_at_checked(curve.length_bytes())?;
                let mut numbers = Writer::default();
                numbers.integer(r);
                numbers.integer(s);
                signature.string(curve.algorithm().as_bytes());
                signature.string(&numbers.into_bytes());
            }
            Pair::Rsa(pair) => {
                let (name, padding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signed = vec![0; pair.public().modulus_len()];
                let random = SystemRandom::new();
                pair.sign(padding, &random, data, &mut signed).ok()?;
                signature.string(name.as_bytes());
                signature.string(&signed);
            }
        }
        Some(signature.into_bytes())
    }
}

impl Curve {
    fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
        }
    }

    fn algorithm(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
        }
    }

    fn length_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

impl fmt::Debug for SshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests;
