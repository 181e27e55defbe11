//! Who the processes of a step take themselves for, by the kernel's rules.

use std::collections::HashMap;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::Pid;

use super::call::Width;
use super::target::{Follow, Place, Target};
use super::{Answer, RECORDS, left_to_kernel};
use crate::Gaining;
use crate::identity::Identity;
use crate::seccomp::supervised::IDENTITY_LIMIT;
use crate::sys;

/// What an identity's number is added to in the limit: so large that nobody lacks anything by it.
const MARK: u64 = 1 << 62;

/// Most groups that a process may have.
const MAX_GROUPS: u32 = 65_536;

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Group,
}

/// Which ids a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    Real,
    Effective,
    RealAndEffective,
    All,
    FileSystem,
}

/// The three ids of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Triple {
    real: u32,
    pub(super) effective: u32,
    saved: u32,
}

impl Triple {
    fn all(id: u32) -> Self {
        Self {
            real: id,
            effective: id,
            saved: id,
        }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }
}

/// Who a process is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Credentials {
    pub(super) user: Triple,
    pub(super) group: Triple,
    groups: Vec<u32>,
    /// `PR_SET_KEEPCAPS`: what root may do outlives its becoming somebody else.
    keeps_rights: bool,
    /// It has.
    kept_rights: bool,
}

impl Credentials {
    /// Whether it may do what root may.
    pub(super) fn is_privileged(&self) -> bool {
        self.user.effective == 0 || self.kept_rights
    }

    pub(super) fn is_in_group(&self, gid: u32) -> bool {
        self.group.effective == gid || self.groups.contains(&gid)
    }

    fn triple(&mut self, kind: Kind) -> &mut Triple {
        match kind {
            Kind::User => &mut self.user,
            Kind::Group => &mut self.group,
        }
    }
}

/// The identities of a step's processes.
pub(super) struct Identities {
    known: Vec<Credentials>,
    numbers: HashMap<Credentials, u64>,
    gaining: Gaining,
}

impl Identities {
    /// Everybody begins as `identity`.
    pub(super) fn new(identity: &Identity, gaining: Gaining) -> Self {
        let first = Credentials {
            user: Triple::all(identity.uid),
            group: Triple::all(identity.gid),
            groups: identity.groups.clone(),
            keeps_rights: false,
            kept_rights: false,
        };
        Self {
            numbers: HashMap::from([(first.clone(), 0)]),
            known: vec![first],
            gaining,
        }
    }

    /// Returns who a process is.
    pub(super) fn of(&self, target: &Target<'_>) -> Result<&Credentials, Errno> {
        let limit = sys::limit_of(target.thread()?, IDENTITY_LIMIT);
        let limit = limit.map_err(|_| Errno::SRCH)?;
        let number = limit
            .checked_sub(MARK)
            .and_then(|number| usize::try_from(number).ok());
        // A limit that is none of ours: nothing has been changed yet.
        Ok(number
            .and_then(|number| self.known.get(number))
            .unwrap_or(&self.known[0]))
    }

    fn change(&mut self, process: Pid, to: Credentials) -> Result<(), Errno> {
        let next = self.known.len() as u64;
        let number = *self.numbers.entry(to.clone()).or_insert(next);
        if number == next {
            self.known.push(to);
        }
        sys::set_limit_of(process, IDENTITY_LIMIT, MARK + number).map_err(|_| Errno::AGAIN)
    }

    pub(super) fn set(
        &mut self,
        target: &Target<'_>,
        ids: Ids,
        kind: Kind,
        width: Width,
    ) -> Result<Answer, Errno> {
        let wanted = [0, 1, 2].map(|index| target.id(index, width));
        let mut credentials = self.of(target)?.clone();
        if ids == Ids::FileSystem {
            // It always follows the effective one here; asking is what it is called for.
            return Ok(Answer::Value(credentials.triple(kind).effective));
        }
        let is_privileged = credentials.is_privileged();
        let was_root = credentials.user.has(0);
        let triple = credentials.triple(kind);
        *triple = changed(*triple, ids, wanted, is_privileged)?;
        if was_root && !credentials.user.has(0) {
            credentials.kept_rights = credentials.keeps_rights;
        }
        self.change(target.thread()?, credentials)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn get(
        &self,
        target: &Target<'_>,
        ids: Ids,
        kind: Kind,
        width: Width,
    ) -> Result<Answer, Errno> {
        let mut credentials = self.of(target)?.clone();
        let Triple {
            real,
            effective,
            saved,
        } = *credentials.triple(kind);
        match ids {
            Ids::Real => Ok(Answer::Value(narrowed(real, width))),
            Ids::Effective | Ids::FileSystem => Ok(Answer::Value(narrowed(effective, width))),
            Ids::RealAndEffective | Ids::All => {
                for (index, id) in [real, effective, saved].into_iter().enumerate() {
                    target.write(target.address(index), &encoded(&[id], width))?;
                }
                Ok(Answer::Value(0))
            }
        }
    }

    pub(super) fn set_groups(
        &mut self,
        target: &Target<'_>,
        width: Width,
    ) -> Result<Answer, Errno> {
        let mut credentials = self.of(target)?.clone();
        if !credentials.is_privileged() {
            return Err(Errno::PERM);
        }
        let count = target.argument(0);
        if count > MAX_GROUPS {
            return Err(Errno::INVAL);
        }
        let size = match width {
            Width::Wide => 4,
            Width::Narrow => 2,
        };
        let mut bytes = vec![0; count as usize * size];
        target.read(target.address(1), &mut bytes)?;
        credentials.groups = bytes
            .chunks_exact(size)
            .map(|id| {
                id.iter()
                    .rev()
                    .fold(0, |id, &byte| id << 8 | u32::from(byte))
            })
            .collect();
        self.change(target.thread()?, credentials)?;
        Ok(Answer::Value(0))
    }

    pub(super) fn get_groups(&self, target: &Target<'_>, width: Width) -> Result<Answer, Errno> {
        let groups = &self.of(target)?.groups;
        let count = groups.len() as u32;
        match target.argument(0) {
            0 => {}
            room if room < count || room > i32::MAX as u32 => return Err(Errno::INVAL),
            _ => target.write(target.address(1), &encoded(groups, width))?,
        }
        Ok(Answer::Value(count))
    }

    pub(super) fn keep_capabilities(&mut self, target: &Target<'_>) -> Result<Answer, Errno> {
        let mut credentials = self.of(target)?.clone();
        credentials.keeps_rights = target.argument(1) == 1;
        self.change(target.thread()?, credentials)?;
        Ok(Answer::Continue)
    }

    /// A program with a set-id bit gives its owner's id to whoever executes it.
    pub(super) fn execute(&mut self, target: &Target<'_>, place: Place) -> Result<Answer, Errno> {
        let credentials = self.of(target)?;
        if credentials.user == Triple::all(0) && credentials.group == Triple::all(0) {
            return Ok(Answer::Continue);
        }
        let mut credentials = credentials.clone();
        let Some(program) = left_to_kernel(target.resolve(place, Follow::Yes)) else {
            return Ok(Answer::Continue);
        };
        let stat = rustix::fs::fstat(&program)?;
        let is_program = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_mode & 0o111 != 0;
        if !is_program {
            return Ok(Answer::Continue);
        }
        let owner = RECORDS.read(std::os::fd::AsFd::as_fd(&program), &stat)?;
        let gains = |bits: u32| self.gaining == Gaining::Allowed && stat.st_mode & bits == bits;
        if gains(0o4000) {
            credentials.user.effective = owner.uid;
        }
        if gains(0o2010) {
            credentials.group.effective = owner.gid;
        }
        credentials.keeps_rights = false;
        credentials.kept_rights = false;
        credentials.user.saved = credentials.user.effective;
        credentials.group.saved = credentials.group.effective;
        self.change(target.thread()?, credentials)?;
        Ok(Answer::Continue)
    }
}

/// What the kernel makes of a request to change ids.
fn changed(
    old: Triple,
    ids: Ids,
    wanted: [Option<u32>; 3],
    is_privileged: bool,
) -> Result<Triple, Errno> {
    let mut new = old;
    match ids {
        Ids::Effective => {
            let id = wanted[0].ok_or(Errno::INVAL)?;
            if is_privileged {
                new = Triple::all(id);
            } else if id == old.real || id == old.saved {
                new.effective = id;
            } else {
                return Err(Errno::PERM);
            }
        }
        Ids::RealAndEffective => {
            let [real, effective, _] = wanted;
            let may_be_real = |id| is_privileged || id == old.real || id == old.effective;
            let may_be_effective = |id| is_privileged || old.has(id);
            if real.is_some_and(|id| !may_be_real(id))
                || effective.is_some_and(|id| !may_be_effective(id))
            {
                return Err(Errno::PERM);
            }
            new.real = real.unwrap_or(old.real);
            new.effective = effective.unwrap_or(old.effective);
            if real.is_some() || effective.is_some_and(|id| id != old.real) {
                new.saved = new.effective;
            }
        }
        Ids::All | Ids::Real | Ids::FileSystem => {
            let may_be = |id: &u32| is_privileged || old.has(*id);
            if !wanted.iter().flatten().all(may_be) {
                return Err(Errno::PERM);
            }
            new = Triple {
                real: wanted[0].unwrap_or(old.real),
                effective: wanted[1].unwrap_or(old.effective),
                saved: wanted[2].unwrap_or(old.saved),
            };
        }
    }
    Ok(new)
}

/// 16 bits show a larger id as nobody's.
fn narrowed(id: u32, width: Width) -> u32 {
    match width {
        Width::Narrow if id > 0xffff => 65_534,
        Width::Narrow | Width::Wide => id,
    }
}

fn encoded(ids: &[u32], width: Width) -> Vec<u8> {
    let bytes = ids.iter().flat_map(|&id| {
        let size = match width {
            Width::Wide => 4,
            Width::Narrow => 2,
        };
        narrowed(id, width).to_le_bytes().into_iter().take(size)
    });
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: Triple = Triple {
        real: 0,
        effective: 0,
        saved: 0,
    };

    #[test]
    fn root_becomes_anybody_and_nobody_becomes_root_again() {
        let user = changed(ROOT, Ids::Effective, [Some(5), None, None], true).unwrap();
        assert_eq!(user, Triple::all(5));
        let back = changed(user, Ids::Effective, [Some(0), None, None], false);
        assert_eq!(back, Err(Errno::PERM));
        let back = changed(user, Ids::All, [None, Some(0), None], false);
        assert_eq!(back, Err(Errno::PERM));
    }

    #[test]
    fn a_saved_id_is_a_way_back() {
        let away = changed(ROOT, Ids::All, [None, Some(5), None], true).unwrap();
        assert_eq!((away.real, away.effective, away.saved), (0, 5, 0));
        let back = changed(away, Ids::Effective, [Some(0), None, None], false).unwrap();
        assert_eq!(back, ROOT);
    }

    #[test]
    fn the_saved_id_follows_as_the_kernel_has_it() {
        let swapped = Triple {
            real: 1,
            effective: 2,
            saved: 2,
        };
        let ids = [Some(2), Some(1), None];
        let new = changed(swapped, Ids::RealAndEffective, ids, false).unwrap();
        assert_eq!((new.real, new.effective, new.saved), (2, 1, 1));
        let ids = [None, Some(1), None];
        let new = changed(swapped, Ids::RealAndEffective, ids, false).unwrap();
        assert_eq!((new.real, new.effective, new.saved), (1, 1, 2));
        let ids = [Some(9), None, None];
        let refused = changed(swapped, Ids::RealAndEffective, ids, false);
        assert_eq!(refused, Err(Errno::PERM));
    }

    #[test]
    fn ids_are_encoded_in_their_width() {
        assert_eq!(encoded(&[1, 70_000], Width::Narrow), [1, 0, 0xfe, 0xff]);
        assert_eq!(encoded(&[258], Width::Wide), [2, 1, 0, 0]);
    }
}
