//! The calls, and how their arguments lie.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Answer;
use super::create::{self, New, Opening};
use super::identity::{Identities, Ids, Kind};
use super::layout::Layout;
use super::owner;
use super::target::{Follow, Place, Target};

/// How an id lies in an argument or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// As today.
    Wide,
    /// 16 bits, in the oldest calls of 32-bit programs.
    Narrow,
}

/// A call that is supervised.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call {
    Chown(Follow, Width),
    Fchown(Width),
    Fchownat,
    Stat(Follow, Layout),
    Fstat(Layout),
    Fstatat(Layout),
    Statx,
    Set(Ids, Kind, Width),
    SetGroups(Width),
    Get(Ids, Kind, Width),
    GetGroups(Width),
    Open,
    Openat,
    Openat2,
    Creat,
    Mkdir,
    Mkdirat,
    Mknod,
    Mknodat,
    Symlink,
    Symlinkat,
    Utimensat {
        seconds_bytes: usize,
    },
    Listxattr(Follow),
    Flistxattr,
    Execve,
    Execveat,
    /// The only `prctl` that is asked about.
    KeepCapabilities,
}

impl Call {
    /// Returns the call of that name in the machine's own instruction set, or in its 32-bit one.
    pub(super) fn named(name: &str, is_native: bool) -> Option<Self> {
        let width = match is_native || name.ends_with("32") {
            true => Width::Wide,
            false => Width::Narrow,
        };
        let layout = Layout::of_stat(is_native, name.ends_with("64"));
        Some(match name.trim_end_matches("32") {
            "chown" => Self::Chown(Follow::Yes, width),
            "lchown" => Self::Chown(Follow::No, width),
            "fchown" => Self::Fchown(width),
            "fchownat" => Self::Fchownat,
            "stat" | "stat64" => Self::Stat(Follow::Yes, layout?),
            "lstat" | "lstat64" => Self::Stat(Follow::No, layout?),
            "fstat" | "fstat64" => Self::Fstat(layout?),
            "newfstatat" | "fstatat64" => Self::Fstatat(layout?),
            "statx" => Self::Statx,
            "setuid" => Self::Set(Ids::Effective, Kind::User, width),
            "setgid" => Self::Set(Ids::Effective, Kind::Group, width),
            "setreuid" => Self::Set(Ids::RealAndEffective, Kind::User, width),
            "setregid" => Self::Set(Ids::RealAndEffective, Kind::Group, width),
            "setresuid" => Self::Set(Ids::All, Kind::User, width),
            "setresgid" => Self::Set(Ids::All, Kind::Group, width),
            "setfsuid" => Self::Set(Ids::FileSystem, Kind::User, width),
            "setfsgid" => Self::Set(Ids::FileSystem, Kind::Group, width),
            "setgroups" => Self::SetGroups(width),
            "getuid" => Self::Get(Ids::Real, Kind::User, width),
            "getgid" => Self::Get(Ids::Real, Kind::Group, width),
            "geteuid" => Self::Get(Ids::Effective, Kind::User, width),
            "getegid" => Self::Get(Ids::Effective, Kind::Group, width),
            "getresuid" => Self::Get(Ids::All, Kind::User, width),
            "getresgid" => Self::Get(Ids::All, Kind::Group, width),
            "getgroups" => Self::GetGroups(width),
            "open" => Self::Open,
            "openat" => Self::Openat,
            "openat2" => Self::Openat2,
            "creat" => Self::Creat,
            "mkdir" => Self::Mkdir,
            "mkdirat" => Self::Mkdirat,
            "mknod" => Self::Mknod,
            "mknodat" => Self::Mknodat,
            "symlink" => Self::Symlink,
            "symlinkat" => Self::Symlinkat,
            "utimensat" => Self::Utimensat {
                seconds_bytes: if is_native { 8 } else { 4 },
            },
            "utimensat_time64" => Self::Utimensat { seconds_bytes: 8 },
            "listxattr" => Self::Listxattr(Follow::Yes),
            "llistxattr" => Self::Listxattr(Follow::No),
            "flistxattr" => Self::Flistxattr,
            "execve" => Self::Execve,
            "execveat" => Self::Execveat,
            "prctl" => Self::KeepCapabilities,
            _ => return None,
        })
    }

    pub(super) fn answer(
        self,
        target: &Target<'_>,
        identities: &mut Identities,
    ) -> Result<Answer, Errno> {
        let at = |directory, path| Place::at(target, directory, path);
        let here = |path| Place::here(target, path);
        let mode = |argument| target.argument(argument);
        match self {
            Self::Chown(follow, width) => {
                let ids = [target.id(1, width), target.id(2, width)];
                owner::change(target, identities, here(0), follow, ids)
            }
            Self::Fchown(width) => {
                let ids = [target.id(1, width), target.id(2, width)];
                owner::change_open(target, identities, target.descriptor(0), ids)
            }
            Self::Fchownat => {
                let ids = [target.id(2, Width::Wide), target.id(3, Width::Wide)];
                let flags = target.argument(4);
                match target.names_descriptor(1, flags) {
                    true => owner::change_open(target, identities, target.descriptor(0), ids),
                    false => {
                        owner::change(target, identities, at(0, 1), Follow::unless(flags), ids)
                    }
                }
            }
            Self::Stat(follow, layout) => owner::show(target, here(0), follow, layout, 1),
            Self::Fstat(layout) => owner::show_open(target, target.descriptor(0), layout, 1),
            Self::Fstatat(layout) => {
                let flags = target.argument(3);
                match target.names_descriptor(1, flags) {
                    true => owner::show_open(target, target.descriptor(0), layout, 2),
                    false => owner::show(target, at(0, 1), Follow::unless(flags), layout, 2),
                }
            }
            Self::Statx => {
                let flags = target.argument(2);
                let layout = Layout::Statx {
                    mask: target.argument(3),
                };
                match target.names_descriptor(1, flags) {
                    true => owner::show_open(target, target.descriptor(0), layout, 4),
                    false => owner::show(target, at(0, 1), Follow::unless(flags), layout, 4),
                }
            }
            Self::Set(ids, kind, width) => identities.set(target, ids, kind, width),
            Self::SetGroups(width) => identities.set_groups(target, width),
            Self::Get(ids, kind, width) => identities.get(target, ids, kind, width),
            Self::GetGroups(width) => identities.get_groups(target, width),
            Self::Open => {
                let flags = target.argument(1);
                create::open(target, identities, here(0), Opening::new(flags, mode(2)))
            }
            Self::Openat => {
                let flags = target.argument(2);
                create::open(target, identities, at(0, 1), Opening::new(flags, mode(3)))
            }
            Self::Openat2 => match Opening::read(target, 2, 3) {
                Some(opening) => create::open(target, identities, at(0, 1), opening),
                None => Ok(Answer::Continue),
            },
            Self::Creat => {
                let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::TRUNC;
                let opening = Opening::new(flags.bits(), mode(1));
                create::open(target, identities, here(0), opening)
            }
            Self::Mkdir => create::make(target, identities, here(0), New::Directory(mode(1))),
            Self::Mkdirat => create::make(target, identities, at(0, 1), New::Directory(mode(2))),
            Self::Mknod => create::make(target, identities, here(0), New::Node(mode(1))),
            Self::Mknodat => create::make(target, identities, at(0, 1), New::Node(mode(2))),
            Self::Symlink => create::make(target, identities, here(1), New::Link(0)),
            Self::Symlinkat => create::make(target, identities, at(1, 2), New::Link(0)),
            Self::Utimensat { seconds_bytes } => {
                owner::set_times(target, at(0, 1), target.argument(3), seconds_bytes)
            }
            Self::Listxattr(follow) => {
                owner::list_attributes(target, target.resolve(here(0), follow))
            }
            Self::Flistxattr => owner::list_attributes(target, target.descriptor(0)),
            Self::KeepCapabilities => identities.keep_capabilities(target),
            Self::Execve => identities.execute(target, here(0)),
            Self::Execveat => match target.names_descriptor(1, target.argument(4)) {
                true => Ok(Answer::Continue),
                false => identities.execute(target, at(0, 1)),
            },
        }
    }
}
