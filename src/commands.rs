//! The commands: each one's options beside what it does.

pub(crate) mod build;
pub(crate) mod images;
pub(crate) mod run;

pub(crate) use build::BuildArgs;
pub(crate) use images::ImagesArgs;
pub(crate) use run::RunArgs;
