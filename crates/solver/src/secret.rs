//! Secrets: values that a step gets and nothing else ever shows.

use std::fmt;

/// The value of a secret. It is no part of a key, a record, an event or a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The largest value that is passed on.
    pub const MAX_BYTES: usize = 500 * 1024;

    /// Takes a value.
    ///
    /// # Errors
    ///
    /// It is larger than [`Self::MAX_BYTES`].
    pub fn new(value: Vec<u8>) -> Result<Self, SecretTooLarge> {
        if value.len() > Self::MAX_BYTES {
            return Err(SecretTooLarge);
        }
        Ok(Self(value))
    }

    /// Returns the value, for the step that it is for.
    pub(crate) fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A value that is no secret but a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("larger than 500 KiB, the most that a secret may have")]
pub struct SecretTooLarge;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_their_values() {
        let secret = Secret::new(b"hunter2".to_vec()).unwrap();
        assert_eq!(format!("{secret:?}"), "[redacted]");
    }

    #[test]
    fn d01_secrets_have_a_largest_size() {
        assert!(Secret::new(vec![0; 512_000]).is_ok());
        assert_eq!(Secret::new(vec![0; 512_001]), Err(SecretTooLarge));
    }
}
