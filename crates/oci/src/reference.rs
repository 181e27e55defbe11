//! References: how people name images.
//!
//! `alpine` means `docker.io/library/alpine:latest` to everybody, so the short form is completed
//! when it is parsed and the long form is what is compared, looked up and pushed to
//! (`cli-and-outputs.md` §16.1).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

/// The registry that short names belong to.
pub const DOCKER_HUB: &str = "docker.io";

/// A registry and repository with a tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why some text is not a [`Reference`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing at all.
    #[error("invalid reference format")]
    Empty,
    /// Repositories have no capitals.
    #[error("invalid reference format: repository name ({repository}) must be lowercase")]
    UpperCase {
        /// The repository as it would be.
        repository: String,
    },
    /// A component, the registry or the tag holds a character that it may not hold.
    #[error("invalid reference format: `{part}` in `{text}`")]
    Part {
        /// The whole text.
        text: String,
        /// The part that is wrong.
        part: String,
    },
    /// 64 hex digits alone could also be an image id.
    #[error(
        "invalid reference format: a name of 64 hex digits could be an image id; write sha256:… or give a tag"
    )]
    LooksLikeId,
    /// Longer than registries accept.
    #[error("invalid reference format: repository name must not be longer than 255 characters")]
    TooLong,
    /// What follows `@` is no digest.
    #[error("invalid reference format: {source}")]
    Digest {
        /// What is wrong with it.
        #[from]
        source: crate::digest::DigestError,
    },
}

impl Reference {
    /// Returns the registry's host and, if not the default one, its port.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository's path within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; `latest` where neither a tag nor a digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that the content must have.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns the same repository, pinned to `digest`; the tag, if any, is kept for people to read.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns the same repository with only `digest`.
    #[must_use]
    pub fn at_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns the name without tag and digest, completed: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the reference as people write it: without Docker Hub's host and `library/`, unless it
    /// would mean something else then, as `docker.io/a.b/c` would.
    pub fn familiar(&self) -> String {
        let short = self.repository.strip_prefix("library/");
        let short = short.unwrap_or(&self.repository);
        let (registry, repository) = completed(short);
        let name = match registry == self.registry && repository == self.repository {
            true => short.to_owned(),
            false => self.name(),
        };
        format!("{name}{}", Suffix(self))
    }
}

struct Suffix<'a>(&'a Reference);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tag) = &self.0.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.0.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        if rest.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if digest.is_none() && rest.len() == 64 && Digest::from_hex(rest).is_ok() {
            return Err(ReferenceError::LooksLikeId);
        }
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag {
            check(is_tag(tag), text, tag)?;
        }
        let (registry, repository) = completed(name);
        if repository.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase { repository });
        }
        for component in repository.split('/') {
            check(is_component(component), text, component)?;
        }
        check(is_registry(registry), text, registry)?;
        if registry.len() + 1 + repository.len() > 255 {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some("latest".to_owned()),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

/// Splits a name into registry and repository, and adds what people leave out of it.
fn completed(name: &str) -> (&str, String) {
    let (registry, path) = split_registry(name);
    let repository = match registry {
        DOCKER_HUB if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    (registry, repository)
}

fn check(legal: bool, text: &str, part: &str) -> Result<(), ReferenceError> {
    if legal {
        Ok(())
    } else {
        Err(ReferenceError::Part {
            text: text.to_owned(),
            part: part.to_owned(),
        })
    }
}

/// A colon after the last slash starts the tag; one before it belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first part is a host if it could not be a part of a repository on Docker Hub.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some(("index.docker.io", path)) => (DOCKER_HUB, path),
        Some((host, path))
            if host == "localhost"
                || host.contains(['.', ':'])
                || host.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (host, path)
        }
        _ => (DOCKER_HUB, name),
    }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_is_legal =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let host_is_legal = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        }),
    };
    port_is_legal && host_is_legal
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    alphanumeric(first)
        && alphanumeric(last)
        && bytes
            .split(|&b| alphanumeric(b))
            .filter(|separator| !separator.is_empty())
            .all(|separator| {
                matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-')
            })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= 128
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}{}", self.registry, self.repository, Suffix(self))
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn short_names_are_completed_and_shortened_again() {
        for (text, full, familiar) in [
            ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
            ("user/app", "docker.io/user/app:latest", "user/app:latest"),
            // Found by fuzzing: without its host it would be on another one.
            (
                "docker.io/a.b/c",
                "docker.io/a.b/c:latest",
                "docker.io/a.b/c:latest",
            ),
            (
                "docker.io/library/library/a",
                "docker.io/library/library/a:latest",
                "docker.io/library/library/a:latest",
            ),
            (
                "index.docker.io/x",
                "docker.io/library/x:latest",
                "x:latest",
            ),
            ("docker.io/a/b:1", "docker.io/a/b:1", "a/b:1"),
            ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
            ("h:5000/x", "h:5000/x:latest", "h:5000/x:latest"),
            (
                "127.0.0.1:5000/team/hello:1.0",
                "127.0.0.1:5000/team/hello:1.0",
                "127.0.0.1:5000/team/hello:1.0",
            ),
            ("[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"),
            ("A/b", "A/b:latest", "A/b:latest"),
            (
                "a__b/c--d/e.f_g:T.1-x",
                "docker.io/a__b/c--d/e.f_g:T.1-x",
                "a__b/c--d/e.f_g:T.1-x",
            ),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{full}");
        }
    }

    #[test]
    fn a_digest_replaces_the_default_tag() {
        let reference: Reference = format!("alpine@{DIGEST}").parse().unwrap();
        assert_eq!(reference.tag(), None);
        assert_eq!(
            reference.to_string(),
            format!("docker.io/library/alpine@{DIGEST}")
        );
        let both: Reference = format!("alpine:3@{DIGEST}").parse().unwrap();
        assert_eq!(
            (both.tag(), both.digest()),
            (Some("3"), Some(DIGEST.parse().unwrap()))
        );
    }

    #[test]
    fn capitals_in_a_repository_are_named_as_the_fault() {
        for (text, repository) in [("Ab", "library/Ab"), ("a/B", "a/B"), ("foo/Bar", "foo/Bar")] {
            assert_eq!(
                text.parse::<Reference>().unwrap_err().to_string(),
                format!(
                    "invalid reference format: repository name ({repository}) must be lowercase"
                )
            );
        }
    }

    #[test]
    fn malformed_names_are_refused() {
        let id = &DIGEST[7..];
        for text in [
            "",
            ":tag",
            "@",
            "a/",
            "/a",
            "a//b",
            "a:",
            "a:-x",
            "a b",
            "a@sha256:00",
            "-a",
            "a-",
            "a___b",
            "a..b",
            "h:port/x",
            "../x",
            "a/../b",
            "$x",
            "é",
            id,
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text} was accepted");
        }
        assert!(
            format!("{}/x", "a".repeat(255))
                .parse::<Reference>()
                .is_err()
        );
        assert!(
            format!("a:{}", "t".repeat(129))
                .parse::<Reference>()
                .is_err()
        );
    }
}
