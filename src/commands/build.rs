//! `rbuild build`: from a Dockerfile to images.

pub(crate) mod args;

pub(crate) use args::{BuildArgs, Isolation, ProgressMode};
