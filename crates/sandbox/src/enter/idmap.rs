//! Maps of ids: what the kernel has in force, and what the files of subordinate ids grant.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::EnterError;

/// Which of the two kinds of id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdKind {
    /// User ids.
    User,
    /// Group ids.
    Group,
}

/// A run of ids inside the namespace and the ids outside that they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

impl IdKind {
    /// Name of the map below `/proc/<pid>`.
    pub(super) fn map_file(self) -> &'static str {
        match self {
            Self::User => "uid_map",
            Self::Group => "gid_map",
        }
    }

    /// The file that grants ranges.
    pub(super) fn range_file(self) -> &'static str {
        match self {
            Self::User => "/etc/subuid",
            Self::Group => "/etc/subgid",
        }
    }

    /// What adds a range to that file.
    pub(super) fn usermod_option(self) -> &'static str {
        match self {
            Self::User => "--add-subuids",
            Self::Group => "--add-subgids",
        }
    }
}

impl fmt::Display for IdKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

/// Who started rbuild.
pub(super) struct Caller {
    uid: u32,
    gid: u32,
    /// From `/etc/passwd`; absent for accounts of a directory service.
    name: Option<String>,
}

impl Caller {
    pub(super) fn current() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let name = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        Self {
            uid,
            gid: rustix::process::getegid().as_raw(),
            name,
        }
    }

    /// Whether a line of a range file begins with this user.
    fn is(&self, field: &str) -> bool {
        self.name.as_deref() == Some(field) || field.parse() == Ok(self.uid)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.uid),
        }
    }
}

/// Returns the map the kernel uses for this process.
pub(super) fn in_force(kind: IdKind) -> Result<Vec<IdRange>, EnterError> {
    in_force_for("self", kind)
}

/// Returns the map the kernel uses for a process, with the ids outside as this process sees them.
pub(super) fn in_force_for(process: &str, kind: IdKind) -> Result<Vec<IdRange>, EnterError> {
    let path = Path::new("/proc").join(process).join(kind.map_file());
    let read = |source| EnterError::Read {
        path: path.clone(),
        source,
    };
    let text = fs::read_to_string(&path).map_err(read)?;
    text.lines()
        .map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            match (numbers.next(), numbers.next(), numbers.next()) {
                (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(count))) => Ok(IdRange {
                    inside,
                    outside,
                    count,
                }),
                _ => Err(read(io::ErrorKind::InvalidData.into())),
            }
        })
        .collect()
}

/// Returns the maps of an ordinary user: 0 is the caller, 1 and up are all ranges granted to it.
pub(super) fn subordinate(caller: &Caller) -> Result<(Vec<IdRange>, Vec<IdRange>), EnterError> {
    let (users, free_user) = granted(caller, IdKind::User)?;
    let (groups, free_group) = granted(caller, IdKind::Group)?;
    let missing: Vec<IdKind> = [(IdKind::User, &users), (IdKind::Group, &groups)]
        .into_iter()
        .filter(|(_, ranges)| ranges.is_empty())
        .map(|(kind, _)| kind)
        .collect();
    if !missing.is_empty() {
        return Err(EnterError::NoRange {
            user: caller.to_string(),
            missing,
            free: free_user.max(free_group),
        });
    }
    Ok((stack(caller.uid, &users), stack(caller.gid, &groups)))
}

/// Returns the maps of somebody who has one id: 0 is the caller.
pub(super) fn own(caller: &Caller) -> (Vec<IdRange>, Vec<IdRange>) {
    (stack(caller.uid, &[]), stack(caller.gid, &[]))
}

/// The (first, count) ranges of `caller`, and the first id above all ranges of everybody.
fn granted(caller: &Caller, kind: IdKind) -> Result<(Vec<(u32, u32)>, u32), EnterError> {
    let path = Path::new(kind.range_file());
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => {
            return Err(EnterError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    Ok(parse_ranges(&text, |owner| caller.is(owner)))
}

/// Reads `owner:first:count` lines; a malformed one grants nothing, as with `newuidmap`.
fn parse_ranges(text: &str, is_ours: impl Fn(&str) -> bool) -> (Vec<(u32, u32)>, u32) {
    /// Where distributions begin to hand out ranges.
    const FIRST: u32 = 100_000;
    let mut ours = Vec::new();
    let mut free = FIRST;
    for line in text.lines() {
        let mut fields = line.trim().splitn(3, ':');
        let (Some(owner), Some(Ok(first)), Some(Ok(count))) = (
            fields.next(),
            fields.next().map(str::parse::<u32>),
            fields.next().map(str::parse::<u32>),
        ) else {
            continue;
        };
        let Some(end) = first.checked_add(count) else {
            continue;
        };
        free = free.max(end);
        if count > 0 && is_ours(owner) {
            ours.push((first, count));
        }
    }
    (ours, free)
}

/// Puts `own` at 0 and the ranges one after the other from 1.
fn stack(own: u32, ranges: &[(u32, u32)]) -> Vec<IdRange> {
    let mut map = vec![IdRange {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside = 1u32;
    for &(outside, count) in ranges {
        // The last id, 2³²-1, means "no id" to the kernel.
        let Some(end) = inside.checked_add(count) else {
            break;
        };
        map.push(IdRange {
            inside,
            outside,
            count,
        });
        inside = end;
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_summed() {
        let text = "root:100000:65536\nalice:165536:65536\n1001:300000:10\nbad:x:1\nalice:9\n\n";
        let (ours, free) = parse_ranges(text, |owner| owner == "alice" || owner == "1001");
        assert_eq!(ours, [(165_536, 65_536), (300_000, 10)]);
        assert_eq!(free, 300_010);
        let map = stack(1001, &ours);
        assert_eq!(map.len(), 3);
        assert_eq!((map[2].inside, map[2].outside), (65_537, 300_000));
    }

    #[test]
    fn a_range_past_the_last_id_grants_nothing() {
        let (ours, free) = parse_ranges("a:4294967295:2\n", |_| true);
        assert_eq!((ours.len(), free), (0, 100_000));
        assert_eq!(stack(0, &[(5, u32::MAX)]).len(), 1);
    }
}
