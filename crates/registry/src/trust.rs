//! Certificates of authorities that are trusted besides the system's: those of a company whose proxy
//! opens all TLS, or whose registry has a certificate of its own.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Certificates that have been read and can be trusted; at least one.
#[derive(Clone, PartialEq, Eq)]
pub struct CaBundle {
    pem: Arc<Vec<u8>>,
}

/// Why some bytes are no [`CaBundle`].
#[derive(Debug, thiserror::Error)]
pub enum CaBundleError {
    /// There is no certificate in it.
    #[error("it holds no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")]
    Empty,
    /// The text around or in a certificate is damaged.
    #[error("certificate {number} in it is not PEM: {reason}")]
    Pem {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
    /// Nobody can trust it.
    #[error("certificate {number} in it is not one that can be trusted: {source}")]
    Certificate {
        /// Which one, counted from 1.
        number: usize,
        /// What is wrong.
        source: rustls::Error,
    },
}

impl CaBundle {
    /// Reads certificates. What else is in `text`, such as a key, is left out.
    ///
    /// # Errors
    ///
    /// There is none, or one that is damaged.
    pub fn parse(text: &[u8]) -> Result<Self, CaBundleError> {
        let mut roots = RootCertStore::empty();
        let mut pem = Vec::new();
        for (index, certificate) in CertificateDer::pem_slice_iter(text).enumerate() {
            let number = index + 1;
            let certificate = certificate.map_err(|error| CaBundleError::Pem {
                number,
                reason: error.to_string(),
            })?;
            pem.extend(encode(&certificate));
            roots
                .add(certificate)
                .map_err(|source| CaBundleError::Certificate { number, source })?;
        }
        match roots.is_empty() {
            true => Err(CaBundleError::Empty),
            false => Ok(Self { pem: Arc::new(pem) }),
        }
    }

    /// Returns the certificates in PEM, with nothing around them.
    pub fn pem(&self) -> &[u8] {
        &self.pem
    }
}

impl fmt::Debug for CaBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaBundle({} bytes)", self.pem.len())
    }
}

fn encode(der: &[u8]) -> Vec<u8> {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in text.as_bytes().chunks(LINE) {
        pem.extend(line);
        pem.push(b'\n');
    }
    pem.extend(b"-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for text in [
            "",
            "hello",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            let refused = CaBundle::parse(text.as_bytes());
            assert!(matches!(refused, Err(CaBundleError::Empty)), "{text}");
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let refused = CaBundle::parse(damaged.as_bytes());
        assert!(matches!(
            refused,
            Err(CaBundleError::Certificate { number: 1, .. })
        ));
        let open = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(CaBundle::parse(open.as_bytes()).is_err());
    }

    #[test]
    fn certificates_are_written_as_they_were_read() {
        let pem = encode(&[7; 100]);
        let text = String::from_utf8(pem.clone()).unwrap();
        assert!(text.lines().all(|line| line.len() <= 64));
        let read: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect();
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].as_ref().unwrap().as_ref(), [7; 100]);
    }
}
