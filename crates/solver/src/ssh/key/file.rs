//! Files with private keys: OpenSSH's own format, and the PEM of PKCS#1 and PKCS#8.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair,
};

use super::{Curve, Pair, SshKey, SshKeyError, rsa};
use crate::ssh::wire::Reader;

pub(super) fn parse(text: &[u8]) -> Result<SshKey, SshKeyError> {
    let text = str::from_utf8(text).map_err(|_| SshKeyError::NotKey)?;
    if ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|kind| text.starts_with(kind))
    {
        return Err(SshKeyError::Public);
    }
    let (kind, body) = armoured(text).ok_or(SshKeyError::NotKey)?;
    if body.contains("ENCRYPTED") {
        return Err(SshKeyError::Encrypted);
    }
    let base64: String = body.split_whitespace().collect();
    let bytes = BASE64.decode(base64).map_err(|_| SshKeyError::Damaged);
    let unsupported = |kind| Err(SshKeyError::Unsupported { kind });
    match kind {
        "OPENSSH PRIVATE KEY" => openssh(&bytes?),
        "RSA PRIVATE KEY" => {
            let pair = ring::rsa::KeyPair::from_der(&bytes?);
            let pair = pair.map_err(|_| SshKeyError::Damaged)?;
            Ok(SshKey::new(Pair::Rsa(pair), String::new()))
        }
        "PRIVATE KEY" => pkcs8(&bytes?),
        "ENCRYPTED PRIVATE KEY" => Err(SshKeyError::Encrypted),
        "EC PRIVATE KEY" => unsupported("an ECDSA key in the old form"),
        "DSA PRIVATE KEY" => unsupported("a DSA key"),
        kind if kind.ends_with("PUBLIC KEY") => Err(SshKeyError::Public),
        _ => Err(SshKeyError::NotKey),
    }
}

/// Returns what is between the two lines around a key, and what these call it.
fn armoured(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (kind, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    rest.starts_with(kind).then_some((kind, body))
}

fn pkcs8(bytes: &[u8]) -> Result<SshKey, SshKeyError> {
    let ecdsa = |curve| {
        let pair = EcdsaKeyPair::from_pkcs8(signing(curve), bytes, &SystemRandom::new());
        pair.ok().map(|pair| Pair::Ecdsa(curve, pair))
    };
    // Each refuses the keys of the others.
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes)
        .ok()
        .map(Pair::Ed25519)
        .or_else(|| ecdsa(Curve::P256))
        .or_else(|| ecdsa(Curve::P384))
        .or_else(|| ring::rsa::KeyPair::from_pkcs8(bytes).ok().map(Pair::Rsa));
    let pair = pair.ok_or(SshKeyError::Damaged)?;
    Ok(SshKey::new(pair, String::new()))
}

/// OpenSSH's own format (PROTOCOL.key).
fn openssh(bytes: &[u8]) -> Result<SshKey, SshKeyError> {
    let bytes = bytes.strip_prefix(b"openssh-key-v1\0");
    let mut outer = Reader::new(bytes.ok_or(SshKeyError::Damaged)?);
    let mut header = || {
        let cipher = outer.string()?;
        let (_key_derivation, _its_options) = (outer.string()?, outer.string()?);
        let count = outer.number()?;
        let _public = outer.string()?;
        Some((cipher, count, outer.string()?))
    };
    let (cipher, count, private) = header().ok_or(SshKeyError::Damaged)?;
    if cipher != b"none" {
        return Err(SshKeyError::Encrypted);
    }
    if count != 1 {
        return Err(SshKeyError::Damaged);
    }
    let mut inner = Reader::new(private);
    let (first, second) = (inner.number(), inner.number());
    if first.is_none() || first != second {
        return Err(SshKeyError::Damaged);
    }
    let kind = inner.string().ok_or(SshKeyError::Damaged)?;
    let pair = match kind {
        b"ssh-ed25519" => ed25519(&mut inner),
        b"ssh-rsa" => rsa::read(&mut inner).map(Pair::Rsa),
        b"ecdsa-sha2-nistp256" => ecdsa(&mut inner, Curve::P256),
        b"ecdsa-sha2-nistp384" => ecdsa(&mut inner, Curve::P384),
        b"ecdsa-sha2-nistp521" => {
            let kind = "an ECDSA key of 521 bits";
            return Err(SshKeyError::Unsupported { kind });
        }
        kind if kind.starts_with(b"sk-") => {
            let kind = "a key on a security token";
            return Err(SshKeyError::Unsupported { kind });
        }
        _ => {
            let kind = "a key of an unknown kind";
            return Err(SshKeyError::Unsupported { kind });
        }
    };
    let pair = pair.ok_or(SshKeyError::Damaged)?;
    let comment = inner.string().ok_or(SshKeyError::Damaged)?;
    let is_padding = inner
        .rest()
        .iter()
        .zip(1_u8..)
        .all(|(byte, place)| *byte == place);
    if !is_padding || inner.rest().len() > 255 {
        return Err(SshKeyError::Damaged);
    }
    let comment = String::from_utf8_lossy(comment).into_owned();
    Ok(SshKey::new(pair, comment))
}

fn ed25519(from: &mut Reader<'_>) -> Option<Pair> {
    let (public, private) = (from.string()?, from.string()?);
    let (seed, _public) = private.split_at_checked(32)?;
    let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public);
    pair.ok().map(Pair::Ed25519)
}

fn ecdsa(from: &mut Reader<'_>, curve: Curve) -> Option<Pair> {
    let (_name, public, private) = (from.string()?, from.string()?, from.integer()?);
    let zeroes = curve.length_bytes().checked_sub(private.len())?;
    let private = [&vec![0; zeroes], private].concat();
    let pair = EcdsaKeyPair::from_private_key_and_public_key(
        signing(curve),
        &private,
        public,
        &SystemRandom::new(),
    );
    pair.ok().map(|pair| Pair::Ecdsa(curve, pair))
}

fn signing(curve: Curve) -> &'static EcdsaSigningAlgorithm {
    match curve {
        Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
    }
}
