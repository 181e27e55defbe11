//! `RUN --mount` (`dockerfile.md` §12.3).

use dockerfile::Span;
use dockerfile::directive::Escape;
use dockerfile::expand::Expander;
use dockerfile::mount::{self, BindMount, CacheMount, MountFlag, Owner, SshMount, TmpfsMount};

use super::instruction::{Site, StageLowering};
use crate::error::{LowerError, LowerErrorKind};
use crate::op::{
    Access, CacheSharing, ContextName, FileAttributes, Mount, MountKind, SecretMount, Tree,
};
use crate::path;

/// The mounts of a RUN.
#[derive(Default)]
pub(super) struct Mounts {
    /// In order of target path.
    pub(super) mounts: Vec<Mount>,
    /// Where the first agent listens.
    pub(super) ssh_socket: Option<String>,
    /// Variables that hold secrets.
    pub(super) secret_variables: Vec<String>,
}

impl StageLowering<'_, '_> {
    pub(super) fn mounts(
        &mut self,
        site: &Site<'_>,
        flags: &[MountFlag],
    ) -> Result<Mounts, LowerError> {
        let mut mounts = Mounts::default();
        let mut agents = 0;
        for flag in flags {
            let mount = self.mount(site, flag, &mut agents)?;
            match &mount.kind {
                MountKind::Ssh { .. } if mounts.ssh_socket.is_none() => {
                    mounts.ssh_socket = Some(mount.target.clone());
                }
                MountKind::Secret(secret) => mounts.secret_variables.extend(secret.env.clone()),
                MountKind::Bind { .. }
                | MountKind::Cache { .. }
                | MountKind::Tmpfs { .. }
                | MountKind::Ssh { .. } => {}
            }
            mounts.mounts.push(mount);
        }
        mounts.mounts.sort_by(|a, b| a.target.cmp(&b.target));
        Ok(mounts)
    }

    fn mount(
        &mut self,
        site: &Site<'_>,
        flag: &MountFlag,
        agents: &mut usize,
    ) -> Result<Mount, LowerError> {
        let span = flag.text.span;
        match self.resolved(site, flag)? {
            mount::Mount::Bind(mount) => self.bind(site, span, mount),
            mount::Mount::Cache(mount) => self.cache(site, span, mount),
            mount::Mount::Tmpfs(TmpfsMount {
                target,
                size_bytes,
                access: _,
            }) => Ok(Mount {
                target: self.mount_target(site, span, target.as_deref())?,
                kind: MountKind::Tmpfs { size_bytes },
            }),
            mount::Mount::Secret(mount) => self.secret(site, span, mount),
            mount::Mount::Ssh(mount) => {
                let agent = *agents;
                *agents += 1;
                self.ssh(site, span, mount, agent)
            }
        }
    }

    fn resolved(&mut self, site: &Site<'_>, flag: &MountFlag) -> Result<mount::Mount, LowerError> {
        let mut unset = Vec::new();
        let variables = self.state.scope.variables();
        let lookup = |name: &str| variables.get(name);
        let escape: Escape = self.target.build.escape();
        let expander = Expander::new(escape, &lookup);
        let resolved = flag.resolve(&mut |value| {
            let expansion = expander.word(value)?;
            unset.extend(expansion.unset);
            Ok(expansion.value)
        });
        self.note_unset(site, unset);
        resolved.map_err(|error| site.error(flag.blamed(&error), error))
    }

    fn bind(&mut self, site: &Site<'_>, span: Span, mount: BindMount) -> Result<Mount, LowerError> {
        let target = self.mount_target(site, span, mount.target.as_deref())?;
        let tree = match &mount.from {
            None => Tree::Context(ContextName::Main),
            Some(from) => self.mount_tree(site, span, from, &target)?,
        };
        let kind = MountKind::Bind {
            tree,
            source: path::join("/", mount.source.as_deref().unwrap_or_default()),
            access: access(mount.access),
        };
        Ok(Mount { target, kind })
    }

    fn cache(
        &mut self,
        site: &Site<'_>,
        span: Span,
        mount: CacheMount,
    ) -> Result<Mount, LowerError> {
        let target = self.mount_target(site, span, mount.target.as_deref())?;
        let tree = match &mount.from {
            None => Tree::Empty,
            Some(from) => self.mount_tree(site, span, from, &target)?,
        };
        let source = path::join("/", mount.source.as_deref().unwrap_or_default());
        // A sub-path brings its own mode and owner.
        let owner = match source.as_str() {
            "/" => mount.owner,
            _ => Owner::default(),
        };
        let written = mount.target.as_deref().unwrap_or_default();
        let id = mount.id.unwrap_or_else(|| cleaned(written));
        let kind = MountKind::Cache {
            id: match self.target.build.args.get("BUILDKIT_CACHE_MOUNT_NS") {
                Some(name_space) => format!("{name_space}/{id}"),
                None => id,
            },
            sharing: match mount.sharing {
                mount::Sharing::Shared => CacheSharing::Shared,
                mount::Sharing::Private => CacheSharing::Private,
                mount::Sharing::Locked => CacheSharing::Locked,
            },
            tree,
            source,
            access: access(mount.access),
            attributes: attributes(owner, 0o755),
        };
        Ok(Mount { target, kind })
    }

    fn secret(
        &mut self,
        site: &Site<'_>,
        span: Span,
        mount: mount::SecretMount,
    ) -> Result<Mount, LowerError> {
        let as_file = mount.target.is_some() || mount.env.is_none();
        let default = format!("/run/secrets/{}", path::base_name(&mount.id));
        let target = mount.target.as_deref().unwrap_or(&default);
        let target = self.mount_target(site, span, Some(target))?;
        let kind = MountKind::Secret(SecretMount {
            id: mount.id,
            as_file,
            env: mount.env,
            required: mount.required,
            attributes: attributes(mount.owner, 0o400),
        });
        Ok(Mount { target, kind })
    }

    fn ssh(
        &mut self,
        site: &Site<'_>,
        span: Span,
        mount: SshMount,
        agent: usize,
    ) -> Result<Mount, LowerError> {
        let default = format!("/run/buildkit/ssh_agent.{agent}");
        let target = mount.target.as_deref().unwrap_or(&default);
        let target = self.mount_target(site, span, Some(target))?;
        let kind = MountKind::Ssh {
            id: mount.id.unwrap_or_else(|| "default".to_owned()),
            required: mount.required,
            attributes: attributes(mount.owner, 0o600),
        };
        Ok(Mount { target, kind })
    }

    /// Returns where the mount goes: the working directory, if nothing is said.
    fn mount_target(
        &self,
        site: &Site<'_>,
        span: Span,
        target: Option<&str>,
    ) -> Result<String, LowerError> {
        let target = path::join(self.state.cwd(), target.unwrap_or_default());
        if target == "/" {
            return Err(site.error(span, LowerErrorKind::MountTarget { target }));
        }
        Ok(target)
    }

    fn mount_tree(
        &mut self,
        site: &Site<'_>,
        span: Span,
        from: &str,
        target: &str,
    ) -> Result<Tree, LowerError> {
        let used = self
            .target
            .stages
            .mounted_from(from)
            .map_err(|kind| site.error(span, kind))?;
        self.tree(site, &used)?.ok_or_else(|| {
            let from = from.to_owned();
            let target = target.to_owned();
            site.error(span, LowerErrorKind::MountFromLaterStage { from, target })
        })
    }
}

/// The id of a cache that has none: its target as written, cleaned.
fn cleaned(target: &str) -> String {
    let joined = path::join("/", target);
    match (target.starts_with('/'), joined.as_str()) {
        (true, _) => joined,
        (false, "/") => ".".to_owned(),
        (false, relative) => relative[1..].to_owned(),
    }
}

fn access(access: mount::Access) -> Access {
    match access {
        mount::Access::ReadOnly => Access::ReadOnly,
        mount::Access::ReadWrite => Access::ReadWrite,
    }
}

fn attributes(owner: Owner, mode: u32) -> FileAttributes {
    FileAttributes {
        mode: owner.mode.unwrap_or(mode),
        uid: owner.uid.unwrap_or(0),
        gid: owner.gid.unwrap_or(0),
    }
}
