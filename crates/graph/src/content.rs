//! What a name leads to that is no stage: nothing, a directory or an image (`dockerfile.md` §8.4).

use std::collections::BTreeMap;

use oci::reference::ReferenceError;
use oci::{ImageSource, Platform, Reference};

use crate::base::BaseRequest;
use crate::definition::NamedContext;

/// The files behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// `scratch`
    Empty,
    /// The directory of the named context with this key.
    Directory(String),
    /// An image.
    Image {
        /// The name as the file has it, variables expanded.
        name: String,
        /// Where the image is.
        request: Box<BaseRequest>,
    },
}

/// Returns what `name`, which is no stage, leads to for `platform`.
///
/// # Errors
///
/// Malformed image names.
pub(crate) fn find(
    contexts: &BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Result<Content, ReferenceError> {
    if name == "scratch" {
        return Ok(Content::Empty);
    }
    let reference: Reference = name.parse()?;
    if let Some(content) = named(contexts, name, platform) {
        return Ok(content);
    }
    let source = ImageSource::Registry(reference);
    Ok(image(name, source, platform))
}

/// Returns the named context that stands in the place of the stage `name`.
pub(crate) fn replacing_stage(
    contexts: &BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Option<Content> {
    if matches!(name, "scratch" | "context") {
        return None;
    }
    named(contexts, name, platform)
}

fn named(
    contexts: &BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Option<Content> {
    let wanted = familiar(name);
    let for_platform = |platform: Option<&Platform>| {
        contexts.iter().find(|(key, _)| {
            let (name, suffix) = split_platform(key);
            suffix.as_ref() == platform && familiar(name) == wanted
        })
    };
    let (key, context) = for_platform(Some(platform)).or_else(|| for_platform(None))?;
    Some(match context {
        NamedContext::Empty => Content::Empty,
        NamedContext::Image(source) => image(name, source.clone(), platform),
        NamedContext::Directory(_) | NamedContext::Git(_) | NamedContext::Download(_) => {
            Content::Directory(key.clone())
        }
    })
}

fn image(name: &str, source: ImageSource, platform: &Platform) -> Content {
    Content::Image {
        name: name.to_owned(),
        request: Box::new(BaseRequest {
            source,
            platform: platform.normalized(),
        }),
    }
}

/// `NAME::linux/arm64` is meant for that platform alone.
fn split_platform(key: &str) -> (&str, Option<Platform>) {
    match key.split_once("::") {
        Some((name, platform)) => match platform.parse() {
            Ok(platform) => (name, Some(platform)),
            Err(_) => (key, None),
        },
        None => (key, None),
    }
}

/// The one spelling of all those that mean the same image. A stage's name need not be one.
fn familiar(name: &str) -> String {
    match name.parse::<Reference>() {
        Ok(reference) => {
            let familiar = reference.familiar();
            let short = familiar.strip_suffix(":latest").map(str::to_owned);
            short.unwrap_or(familiar)
        }
        Err(_) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn found(keys: &[&str], name: &str) -> Option<String> {
        let contexts = keys
            .iter()
            .map(|key| {
                let directory = NamedContext::Directory(PathBuf::from("/d"));
                ((*key).to_owned(), directory)
            })
            .collect();
        match find(&contexts, name, &"linux/arm64".parse().unwrap()).unwrap() {
            Content::Directory(key) => Some(key),
            Content::Empty | Content::Image { .. } => None,
        }
    }

    #[test]
    fn spellings_of_one_image_find_the_same_context() {
        for name in [
            "alpine",
            "alpine:latest",
            "docker.io/library/alpine",
            "library/alpine",
        ] {
            assert_eq!(found(&["alpine"], name).as_deref(), Some("alpine"));
            assert_eq!(
                found(&["docker.io/library/alpine:latest"], name).as_deref(),
                Some("docker.io/library/alpine:latest")
            );
        }
        assert_eq!(found(&["alpine"], "alpine:3"), None);
        assert_eq!(found(&["scratch"], "scratch"), None);
    }

    #[test]
    fn a_context_for_the_platform_comes_first() {
        assert_eq!(
            found(&["a", "a::linux/arm64"], "a").as_deref(),
            Some("a::linux/arm64")
        );
        assert_eq!(found(&["a", "a::linux/amd64"], "a").as_deref(), Some("a"));
        assert_eq!(found(&["a::linux/amd64"], "a"), None);
    }
}
