//! Why the value of `-o` or `--annotation` is refused, and what would do.

use store::layer::compress::LevelError;

/// Why the value of `-o` is not an [`Output`](super::Output).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// Quotes that do not match or stand inside a field.
    #[error("invalid output `{text}`: misplaced `\"`")]
    Quote {
        /// The whole value.
        text: String,
    },
    /// A field without `=`.
    #[error("invalid output: `{field}` is not of the form key=value")]
    Field {
        /// The field.
        field: String,
    },
    /// No `type=`.
    #[error("type is required for output")]
    NoType,
    /// A type that no builder knows.
    #[error("unknown output type `{found}`")]
    UnknownType {
        /// The type as typed.
        found: String,
        /// The type that was probably meant.
        nearest: Option<&'static str>,
    },
    /// An attribute that no output of this type has.
    #[error("unknown attribute `{found}` of output type `{kind}`")]
    UnknownAttribute {
        /// The attribute as typed.
        found: String,
        /// The output's type.
        kind: &'static str,
        /// The attribute that was probably meant.
        nearest: Option<&'static str>,
    },
    /// An attribute, or its value, that rbuild does not have yet.
    #[error("`{attribute}={value}` of output type `{kind}` is not supported yet")]
    AttributeNotYet {
        /// The attribute.
        attribute: String,
        /// Its value.
        value: String,
        /// The output's type.
        kind: &'static str,
    },
    /// A value of the wrong kind.
    #[error("invalid value `{value}` of output attribute `{attribute}`: expected {expected}")]
    Value {
        /// The attribute.
        attribute: &'static str,
        /// Its value.
        value: String,
        /// What would be legal.
        expected: &'static str,
    },
    /// Two attributes that exclude each other.
    #[error("exporter option \"{one}\" conflicts with \"{other}\"")]
    Conflict {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// The compression has no such level.
    #[error("invalid `compression-level`: {0}")]
    Level(#[from] LevelError),
    /// `name=` holds no image name.
    #[error("invalid output name `{name}`: {source}")]
    Name {
        /// The name as typed.
        name: String,
        /// What is wrong with it.
        source: oci::reference::ReferenceError,
    },
    /// `name=` holds a digest, which only the result can say.
    #[error("invalid output name `{name}`: a name to be given must not have a digest")]
    NameWithDigest {
        /// The name as typed.
        name: String,
    },
    /// The output needs a file or directory.
    #[error("dest is required for {kind} exporter{when}")]
    NoDirectory {
        /// The output's type.
        kind: &'static str,
        /// Under which circumstances, with a space before.
        when: &'static str,
    },
    /// A directory cannot be a stream.
    #[error("dest cannot be stdout for local exporter")]
    LocalToStdout,
    /// An annotation that cannot be understood.
    #[error(transparent)]
    Annotation(#[from] AnnotationError),
}

/// Why text is not an annotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// No `=`, or nothing before it.
    #[error("invalid annotation \"{text}\", expected key=value")]
    Field {
        /// The whole value.
        text: String,
    },
    /// `--annotation` with a level that there is not.
    #[error("unknown annotation type \"{found}\"")]
    UnknownLevel {
        /// The level as typed.
        found: String,
    },
    /// `-o …,annotation-x` with a level that there is not.
    #[error("unrecognized annotation type {found}")]
    UnrecognizedLevel {
        /// The level as typed.
        found: String,
    },
    /// What stands in brackets is no platform.
    #[error("invalid annotation \"{text}\": {source}")]
    Platform {
        /// The whole value.
        text: String,
        /// What is wrong with it.
        source: oci::platform::PlatformError,
    },
}

impl AnnotationError {
    /// Returns the user's next step.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Field { .. } => Some(
                "for example --annotation 'manifest[linux/arm64]:org.example.key=value'".to_owned(),
            ),
            Self::UnknownLevel { .. } | Self::UnrecognizedLevel { .. } => Some(
                "it is one of manifest, manifest-descriptor, index and index-descriptor".to_owned(),
            ),
            Self::Platform { .. } => None,
        }
    }
}

impl OutputError {
    /// Returns the user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Quote { .. } => {
                Some("quote a whole field to give it commas, for example '\"name=a,b\"'".to_owned())
            }
            Self::NoType | Self::Field { .. } => {
                Some("for example -o type=oci,dest=image.tar".to_owned())
            }
            Self::UnknownType { nearest, .. } | Self::UnknownAttribute { nearest, .. } => {
                nearest.map(|nearest| format!("did you mean `{nearest}`?"))
            }
            Self::LocalToStdout => Some("-o - or type=tar write to standard output".to_owned()),
            Self::Annotation(error) => error.help(),
            Self::AttributeNotYet { .. }
            | Self::Value { .. }
            | Self::Conflict { .. }
            | Self::Level(_)
            | Self::Name { .. }
            | Self::NameWithDigest { .. }
            | Self::NoDirectory { .. } => None,
        }
    }
}
