//! Annotations: free key-value metadata on manifests, indexes and the descriptors of both
//! (`cli-and-outputs.md` §2.4).

use oci::Platform;

use super::error::AnnotationError;

/// One annotation that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Annotation {
    /// On which documents.
    pub level: AnnotationLevel,
    /// Of which platform; `None` is all of them.
    pub platform: Option<Platform>,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What an annotation is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnnotationLevel {
    /// The image manifests.
    Manifest,
    /// Their descriptors in the index.
    ManifestDescriptor,
    /// The index.
    Index,
    /// Its descriptor in the `index.json` of a layout.
    IndexDescriptor,
}

impl AnnotationLevel {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "manifest" => Some(Self::Manifest),
            "manifest-descriptor" => Some(Self::ManifestDescriptor),
            "index" => Some(Self::Index),
            "index-descriptor" => Some(Self::IndexDescriptor),
            _ => None,
        }
    }
}

impl Annotation {
    /// Reads the value of one `--annotation`: `[LEVEL[,LEVEL…]:]KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// It is not of that form, or names a level or platform that there is not.
    pub fn parse(text: &str) -> Result<Vec<Self>, AnnotationError> {
        let field = || AnnotationError::Field {
            text: text.to_owned(),
        };
        let (name, value) = text.split_once('=').ok_or_else(field)?;
        let (levels, key) = name.split_once(':').unwrap_or(("manifest", name));
        if key.is_empty() {
            return Err(field());
        }
        let annotation = |level: &str| {
            let (level, platform) = split_platform(level, text)?;
            let level =
                AnnotationLevel::parse(level).ok_or_else(|| AnnotationError::UnknownLevel {
                    found: level.to_owned(),
                })?;
            Ok(Self {
                level,
                platform,
                key: key.to_owned(),
                value: value.to_owned(),
            })
        };
        levels.split(',').map(annotation).collect()
    }

    /// Reads an attribute of an output, `annotation[-LEVEL][[PLATFORM]].KEY`; `None` if it is none.
    pub(super) fn of_attribute(
        attribute: &str,
        value: &str,
    ) -> Option<Result<Self, AnnotationError>> {
        let rest = attribute
            .get(.."annotation".len())
            .filter(|start| start.eq_ignore_ascii_case("annotation"))
            .map(|start| &attribute[start.len()..])?;
        if !rest.is_empty() && !rest.starts_with(['.', '-', '[']) {
            return None;
        }
        Some(Self::of_rest(rest, attribute, value))
    }

    fn of_rest(rest: &str, attribute: &str, value: &str) -> Result<Self, AnnotationError> {
        // A platform has no dot, so the first one ends the level.
        let (level, key) = rest
            .split_once('.')
            .filter(|(_, key)| !key.is_empty())
            .ok_or_else(|| AnnotationError::Field {
                text: format!("{attribute}={value}"),
            })?;
        let (level, platform) = split_platform(level, attribute)?;
        let level = level.strip_prefix('-').unwrap_or("manifest");
        let level = level.to_ascii_lowercase();
        let level = AnnotationLevel::parse(&level)
            .ok_or(AnnotationError::UnrecognizedLevel { found: level })?;
        Ok(Self {
            level,
            platform,
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    /// Returns whether the annotation is for this platform's image.
    pub(crate) fn is_for(&self, platform: &Platform) -> bool {
        let wanted = self.platform.as_ref().map(Platform::normalized);
        wanted.is_none_or(|wanted| wanted == platform.normalized())
    }
}

/// Splits `level[platform]`; errors show `text`.
fn split_platform<'a>(
    level: &'a str,
    text: &str,
) -> Result<(&'a str, Option<Platform>), AnnotationError> {
    let Some((level, platform)) = level
        .strip_suffix(']')
        .and_then(|level| level.split_once('['))
    else {
        return Ok((level, None));
    };
    let platform = platform
        .parse()
        .map_err(|source| AnnotationError::Platform {
            text: text.to_owned(),
            source,
        })?;
    Ok((level, Some(platform)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(AnnotationLevel, Option<String>, String, String)> {
        let annotations = Annotation::parse(text).unwrap();
        let fields = |a: Annotation| (a.level, a.platform.map(|p| p.to_string()), a.key, a.value);
        annotations.into_iter().map(fields).collect()
    }

    #[test]
    fn levels_and_platforms_are_read() {
        use AnnotationLevel::{Index, IndexDescriptor, Manifest, ManifestDescriptor};
        let plain = |level| (level, None, "k".to_owned(), "v=w".to_owned());
        assert_eq!(read("k=v=w"), [plain(Manifest)]);
        assert_eq!(
            read("index,manifest:k=v=w"),
            [plain(Index), plain(Manifest)]
        );
        assert_eq!(read("index-descriptor:k=v=w"), [plain(IndexDescriptor)]);
        let arm = Some("linux/arm64".to_owned());
        assert_eq!(
            read("manifest-descriptor[linux/arm64]:a:b="),
            [(ManifestDescriptor, arm, "a:b".to_owned(), String::new())]
        );
    }

    #[test]
    fn what_is_wrong_is_said_as_the_reference_says_it() {
        for (text, message) in [
            ("k", "invalid annotation \"k\", expected key=value"),
            ("=v", "invalid annotation \"=v\", expected key=value"),
            ("indexes:k=v", "unknown annotation type \"indexes\""),
        ] {
            assert_eq!(Annotation::parse(text).unwrap_err().to_string(), message);
        }
        assert!(Annotation::parse("manifest[not a platform]:k=v").is_err());
        let attribute = Annotation::of_attribute("annotation-x.k", "v").unwrap();
        let message = attribute.unwrap_err().to_string();
        assert_eq!(message, "unrecognized annotation type x");
        assert!(Annotation::of_attribute("annotations", "v").is_none());
    }
}
