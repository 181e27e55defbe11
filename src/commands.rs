//! The commands: each one's options beside what it does.

pub(crate) mod build;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod images;
pub(crate) mod imagetools;
pub(crate) mod inspect;
pub(crate) mod join;
pub(crate) mod load;
pub(crate) mod login;
pub(crate) mod manifest;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod rmi;
pub(crate) mod run;
pub(crate) mod save;
pub(crate) mod tag;

pub(crate) use build::BuildArgs;
pub(crate) use copy::CopyArgs;
pub(crate) use diff::DiffArgs;
pub(crate) use images::ImagesArgs;
pub(crate) use imagetools::ImagetoolsArgs;
pub(crate) use inspect::InspectArgs;
pub(crate) use join::JoinArgs;
pub(crate) use load::LoadArgs;
pub(crate) use login::{LoginArgs, LogoutArgs};
pub(crate) use manifest::ManifestArgs;
pub(crate) use pull::PullArgs;
pub(crate) use push::PushArgs;
pub(crate) use rmi::RmiArgs;
pub(crate) use run::RunArgs;
pub(crate) use save::SaveArgs;
pub(crate) use tag::TagArgs;
