//! `--annotation [LEVEL[,LEVEL…]:]KEY=VALUE` of an index that is put together (§2.4, §12.1).

use oci::Platform;

/// An annotation, once for each level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) levels: Vec<Level>,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// Where an annotation goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Into the index.
    Index,
    /// To the descriptor of the index, which is told in the metadata file.
    IndexDescriptor,
    /// To the descriptors of the images within the index, or of the one for a platform.
    ManifestDescriptor(Option<Platform>),
}

/// Why a text is no annotation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnnotationError {
    #[error("invalid annotation \"{text}\", expected key=value")]
    Form { text: String },
    #[error("unknown annotation type \"{level}\"")]
    Level { level: String },
    #[error(
        "manifest annotations are not possible here, the manifests exist already; \
         use manifest-descriptor: or index:"
    )]
    Manifest,
    #[error("invalid annotation \"{text}\": {source}")]
    Platform {
        text: String,
        source: oci::platform::PlatformError,
    },
}

impl std::str::FromStr for Annotation {
    type Err = AnnotationError;

    fn from_str(text: &str) -> Result<Self, AnnotationError> {
        let form = || AnnotationError::Form {
            text: text.to_owned(),
        };
        let (name, value) = text.split_once('=').ok_or_else(form)?;
        let (levels, key) = match name.rsplit_once(':') {
            Some((levels, key)) => {
                let levels = levels.split(',').map(|level| self::level(level, text));
                (levels.collect::<Result<_, _>>()?, key)
            }
            // What exists cannot be annotated, so that is the level that is meant.
            None => (vec![Level::Index], name),
        };
        match key.is_empty() {
            true => Err(form()),
            false => Ok(Self {
                levels,
                key: key.to_owned(),
                value: value.to_owned(),
            }),
        }
    }
}

fn level(level: &str, text: &str) -> Result<Level, AnnotationError> {
    let (word, platform) = match level.strip_suffix(']').and_then(|l| l.split_once('[')) {
        Some((word, platform)) => {
            let platform = platform.parse();
            let platform = platform.map_err(|source| AnnotationError::Platform {
                text: text.to_owned(),
                source,
            })?;
            (word, Some(platform))
        }
        None => (level, None),
    };
    match (word, platform) {
        ("index", None) => Ok(Level::Index),
        ("index-descriptor", None) => Ok(Level::IndexDescriptor),
        ("manifest-descriptor", platform) => Ok(Level::ManifestDescriptor(platform)),
        ("manifest", _) => Err(AnnotationError::Manifest),
        _ => Err(AnnotationError::Level {
            level: level.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_stand_before_the_colon() {
        let read = |text: &str| {
            text.parse::<Annotation>()
                .map(|a| (a.levels, a.key, a.value))
        };
        let of = |levels, key: &str, value: &str| Ok((levels, key.to_owned(), value.to_owned()));
        assert_eq!(read("a=b=c"), of(vec![Level::Index], "a", "b=c"));
        assert_eq!(
            read("index,manifest-descriptor[linux/arm64]:a.b=http://c"),
            of(
                vec![
                    Level::Index,
                    Level::ManifestDescriptor(Some("linux/arm64".parse().unwrap()))
                ],
                "a.b",
                "http://c"
            )
        );
        assert_eq!(read("manifest:a=b"), Err(AnnotationError::Manifest));
        let unknown = AnnotationError::Level {
            level: "x".to_owned(),
        };
        assert_eq!(read("x:a=b"), Err(unknown));
        assert!(matches!(read("a"), Err(AnnotationError::Form { .. })));
        assert!(matches!(
            read("index:=b"),
            Err(AnnotationError::Form { .. })
        ));
    }
}
