//! What on this machine stands between an ordinary user and a user namespace.

use std::fmt;
use std::fs;

/// A setting that forbids user namespaces, with the value it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Debian's and Arch's switch, `kernel.unprivileged_userns_clone`, is off.
    UnprivilegedClone,
    /// `user.max_user_namespaces` is zero, as on hardened systems.
    NoneAllowed,
    /// AppArmor takes the privileges out of the namespace (Ubuntu 23.10 and later).
    AppArmor,
    /// A system-call filter, usually that of a surrounding container.
    Filter,
}

impl Obstacle {
    /// Looks for the obstacle; the settings explain a refusal, they are never asked in advance.
    pub(super) fn find() -> Option<Self> {
        let setting = |path: &str| {
            let text = fs::read_to_string(path).ok()?;
            text.trim().parse::<u64>().ok()
        };
        if setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
            return Some(Self::UnprivilegedClone);
        }
        if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
            return Some(Self::NoneAllowed);
        }
        if setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
            return Some(Self::AppArmor);
        }
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let filtered = status
            .lines()
            .any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
        filtered.then_some(Self::Filter)
    }

    /// The command or option that removes it.
    pub(super) fn help(&self) -> String {
        match self {
            Self::UnprivilegedClone => {
                "run: sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
            }
            Self::NoneAllowed => "run: sudo sysctl -w user.max_user_namespaces=28633".to_owned(),
            Self::AppArmor => {
                "run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or give \
                 rbuild an AppArmor profile with `userns,`"
                    .to_owned()
            }
            Self::Filter => "start the surrounding container with --security-opt \
                             seccomp=unconfined --security-opt apparmor=unconfined"
                .to_owned(),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnprivilegedClone => "kernel.unprivileged_userns_clone is 0",
            Self::NoneAllowed => "user.max_user_namespaces is 0",
            Self::AppArmor => "kernel.apparmor_restrict_unprivileged_userns is 1",
            Self::Filter => "a system-call filter is in force",
        })
    }
}
