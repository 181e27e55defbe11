//! What the user asked for, before any Dockerfile is read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci::{ImageSource, Platform};

use crate::git::GitSource;
use crate::op::{Entitlement, NetworkMode, Provisions};

/// The options of a build that decide what it makes. Where the result goes is not among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The platforms to build for.
    pub platforms: TargetPlatforms,
    /// The platform that rbuild itself runs on: `BUILDPLATFORM`.
    pub build_platform: Platform,
    /// `--target` as typed.
    pub target: Option<String>,
    /// `--build-arg`; those without a value in the environment are left out.
    pub build_args: BTreeMap<String, String>,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--build-context`, by name as typed.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--network`: the network of steps that do not choose one.
    pub network: NetworkMode,
    /// `--allow`: what steps may ask for beyond the usual.
    pub entitlements: BTreeSet<Entitlement>,
    /// `--add-host`, `--shm-size`, `--ulimit`, `--cap-add`, `--strict`: what every step is given.
    pub provisions: Provisions,
    /// `SOURCE_DATE_EPOCH` of the environment, which counts where `build_args` have none.
    pub source_date_epoch: Option<String>,
}

/// For which platforms images are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPlatforms {
    /// None was named: the native one, unless a base image exists for another only (§15.4).
    Native,
    /// Named by the user: in this order, at least one, without duplicates.
    Explicit(Vec<Platform>),
}

/// What `--build-context NAME=…` puts in the place of an image or a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// Nothing: `docker-image://scratch`.
    Empty,
    /// An image with its config.
    Image(ImageSource),
    /// The files of a directory.
    Directory(PathBuf),
    /// The tree of a repository.
    Git(GitSource),
    /// A directory with one file, `context`, which is downloaded from this address.
    Download(String),
}
