//! Which calls the supervisor of the one-id rung answers (`crate::supervisor`).

use super::Rule;

/// The flags of `open` that may create a file: `O_CREAT` and the bit of `O_TMPFILE` that is its own.
pub(crate) const CREATING: u32 = libc::O_CREAT as u32 | 0o20_000_000;

/// The limit that carries the identity of a process from fork to fork: the one on file locks, which no
/// kernel since Linux 2.4.25 has enforced.
pub(crate) const IDENTITY_LIMIT: u32 = 10;

/// What is to be done with a call because of the supervisor, if anything.
pub(super) fn rule(name: &str) -> Option<Rule> {
    Some(match name {
        "chown" | "chown32" | "lchown" | "lchown32" | "fchown" | "fchown32" | "fchownat" => {
            Rule::Ask
        }
        "stat" | "lstat" | "fstat" | "newfstatat" | "statx" | "stat64" | "lstat64" | "fstat64"
        | "fstatat64" => Rule::Ask,
        "setuid" | "setgid" | "setreuid" | "setregid" | "setresuid" | "setresgid" | "setfsuid"
        | "setfsgid" | "setgroups" | "setuid32" | "setgid32" | "setreuid32" | "setregid32"
        | "setresuid32" | "setresgid32" | "setfsuid32" | "setfsgid32" | "setgroups32" => Rule::Ask,
        "getuid" | "geteuid" | "getgid" | "getegid" | "getresuid" | "getresgid" | "getgroups"
        | "getuid32" | "geteuid32" | "getgid32" | "getegid32" | "getresuid32" | "getresgid32"
        | "getgroups32" => Rule::Ask,
        "open" => Rule::AskIfCreating(1),
        "openat" => Rule::AskIfCreating(2),
        "creat" | "openat2" | "mkdir" | "mkdirat" | "mknod" | "mknodat" | "symlink"
        | "symlinkat" => Rule::Ask,
        // They set the time that holds the owner of a link.
        "utimensat" | "utimensat_time64" => Rule::Ask,
        "listxattr" | "llistxattr" | "flistxattr" => Rule::Ask,
        "execve" | "execveat" => Rule::Ask,
        "prctl" => Rule::AskIf(libc::PR_SET_KEEPCAPS as u32),
        "setrlimit" => Rule::Limit(0),
        "prlimit64" => Rule::Limit(1),
        _ => return None,
    })
}
