//! Base images: what lowering has to know of them, and how it asks.

use std::collections::BTreeMap;

use oci::{BaseImage, ImageSource, Platform};

/// An image whose config lowering has to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BaseRequest {
    /// Where it is.
    pub source: ImageSource,
    /// For which platform, normalised.
    pub platform: Platform,
}

/// The answer to a [`BaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedBase {
    /// The image.
    pub image: BaseImage,
    /// What the image is for, normalised. An image that is no index is the answer whatever its
    /// platform: whether that is acceptable is for lowering to say (`dockerfile.md` §15.3).
    pub platform: Platform,
}

/// What is known of base images so far.
pub type Bases = BTreeMap<BaseRequest, ResolvedBase>;
