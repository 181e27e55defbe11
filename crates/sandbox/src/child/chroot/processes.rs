//! The processes of a step, told from all others by whose children they are.
//!
//! This process adopts whatever of the step loses its parent, so everything of the step descends from it
//! for as long as it lives, and nothing else does.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions};

use super::super::open_procfs;
use crate::step::{SettingUp, StepError};
use crate::sys;

/// Longer than any line of ancestors.
const MAX_GENERATIONS: usize = 1 << 16;

/// All that descend from one process, which does not count itself.
pub(super) struct Processes {
    ancestor: i32,
    /// The machine's own, opened before anything of the step could stand in its place.
    procfs: OwnedFd,
}

/// What the kernel says of a process.
#[derive(Clone, Copy)]
struct Process {
    parent: i32,
    group: i32,
}

impl Processes {
    pub(super) fn below(ancestor: Pid) -> Result<Self, StepError> {
        Ok(Self {
            ancestor: ancestor.as_raw_pid(),
            procfs: open_procfs().setting_up("open /proc")?,
        })
    }

    /// Whether a process, named by any of its threads, is one of them.
    pub(super) fn has(&self, thread: i32) -> bool {
        let mut at = thread;
        for _ in 0..MAX_GENERATIONS {
            match self.process(at) {
                Some(process) if process.parent == self.ancestor => return true,
                Some(process) if process.parent > 0 => at = process.parent,
                _ => return false,
            }
        }
        false
    }

    /// Whether a process group is one of theirs: a group never reaches beyond a session, and a session
    /// never beyond the descendants of who began it.
    pub(super) fn has_group(&self, group: i32) -> bool {
        let all = self.all();
        let members = all.iter().filter(|(_, process)| process.group == group);
        members.take(1).any(|(&member, _)| self.has(member))
    }

    /// The ids of all of them.
    pub(super) fn ids(&self) -> Vec<i32> {
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (id, process) in self.all() {
            children.entry(process.parent).or_default().push(id);
        }
        let mut found = Vec::new();
        let mut ahead = vec![self.ancestor];
        while let Some(parent) = ahead.pop() {
            let born = children.remove(&parent).unwrap_or_default();
            found.extend_from_slice(&born);
            ahead.extend(born);
        }
        found
    }

    /// Sends a signal to all of them but one; returns to how many.
    pub(super) fn signal(&self, signal: i32, except: i32) -> usize {
        let others = self.ids().into_iter().filter(|&id| id != except);
        others
            .filter_map(Pid::from_raw)
            // It may have ended just now.
            .filter(|&process| sys::kill(process, signal).is_ok())
            .count()
    }

    /// Kills all of them, and waits until they are gone; for their ancestor itself.
    ///
    /// Whoever loses its parent by that is a child of the ancestor next. So only children are looked for,
    /// in one short list: that is faster than anybody can fork and end to get away.
    pub(super) fn kill_all(&self) -> Result<(), StepError> {
        loop {
            for child in self.children().into_iter().filter_map(Pid::from_raw) {
                // It may have ended just now.
                let _ = sys::kill(child, libc::SIGKILL);
            }
            // A child has been killed, or there is none.
            let mut options = WaitOptions::empty();
            loop {
                match rustix::process::wait(options) {
                    Ok(Some(_)) => options = WaitOptions::NOHANG,
                    Ok(None) => break,
                    Err(Errno::INTR) => {}
                    Err(Errno::CHILD) => return Ok(()),
                    Err(errno) => return Err(errno).setting_up("wait for the step's processes"),
                }
            }
        }
    }

    /// The children of the ancestor, which has one thread.
    fn children(&self) -> Vec<i32> {
        let path = format!("{0}/task/{0}/children", self.ancestor);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.procfs, path, flags, Mode::empty()) {
            Ok(file) => {
                let mut text = String::new();
                // A list cut short is completed in the next round.
                let _ = File::from(file).read_to_string(&mut text);
                text.split_ascii_whitespace()
                    .filter_map(|id| id.parse().ok())
                    .collect()
            }
            // A kernel without such lists.
            Err(_) => self.ids(),
        }
    }

    fn all(&self) -> HashMap<i32, Process> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(&self.procfs, ".", flags, Mode::empty()) else {
            return HashMap::new();
        };
        let Ok(entries) = Dir::new(directory) else {
            return HashMap::new();
        };
        let ids = entries.filter_map(|entry| number(entry.ok()?.file_name()));
        ids.filter_map(|id| Some((id, self.process(id)?))).collect()
    }

    fn process(&self, thread: i32) -> Option<Process> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let path = format!("{thread}/stat");
        let file = rustix::fs::openat(&self.procfs, path, flags, Mode::empty()).ok()?;
        let mut line = [0; 4096];
        let length = rustix::io::read(file, &mut line).ok()?;
        parse(&line[..length])
    }
}

fn number(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// Reads `id (name) state parent group …`; the name is the process's own choice.
fn parse(line: &[u8]) -> Option<Process> {
    let end_of_name = line.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&line[end_of_name + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(1);
    Some(Process {
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_feign_a_parent() {
        let process = parse(b"12 (x) S 1 1 ( ) R 7 8 9 0").unwrap();
        assert_eq!((process.parent, process.group), (7, 8));
        assert!(parse(b"12 (x").is_none());
    }

    #[test]
    fn a_child_and_its_group_are_found_and_others_are_not() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let id = child.id().cast_signed();
        let processes = Processes::below(rustix::process::getpid()).unwrap();
        assert!(processes.has(id) && processes.ids().contains(&id));
        let own = rustix::process::getpid().as_raw_pid();
        assert!(!processes.has(own) && !processes.has(1) && !processes.has(i32::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!processes.has(id));
    }
}
