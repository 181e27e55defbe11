//! The files of an image, in memory: its layers applied by the letter of the image specification.
//!
//! For the small images of tests only. It shares no code with what rbuild unpacks layers with.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use anyhow::{Context, bail};
use tar::EntryType;

/// All files of an image, by path: `/etc/passwd`. The root itself is not among them.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, File>,
    next_inode: usize,
}

/// A file of an image.
#[derive(Clone, Debug)]
pub struct File {
    /// What kind of file it is, and what is in it.
    pub kind: Kind,
    /// Permissions with the set-id and sticky bits.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// In seconds since 1970.
    pub modified: u64,
    /// Two paths with the same number are one file.
    pub inode: usize,
}

/// What a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, with its content.
    Regular(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link, with its target.
    Symlink(String),
    /// A named pipe.
    Fifo,
    /// A device.
    Device,
}

impl Tree {
    /// The file at `path`, which no symbolic links lead to.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// The paths below `directory`, in order, relative to it.
    pub fn below<'t>(&'t self, directory: &str) -> impl Iterator<Item = &'t str> {
        let prefix = format!("{}/", directory.trim_end_matches('/'));
        self.files
            .keys()
            .filter_map(move |path| path.strip_prefix(&prefix))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Applies a layer, given as the bytes of its uncompressed tar.
    ///
    /// # Errors
    ///
    /// It is no tar, or holds something that the image specification does not allow.
    pub fn apply(&mut self, layer: impl Read) -> anyhow::Result<()> {
        let mut made = BTreeSet::new();
        for entry in tar::Archive::new(layer).entries()? {
            let mut entry = entry?;
            let name =
                String::from_utf8(entry.path_bytes().into_owned()).context("a file's name")?;
            let path = absolute(&name)?;
            let (directory, name) = path.rsplit_once('/').unwrap_or_default();
            if name == ".wh..wh..opq" {
                self.remove_below(directory, &made);
            } else if let Some(gone) = name.strip_prefix(".wh.") {
                self.remove(&format!("{directory}/{gone}"), &made);
            } else if !name.is_empty() {
                let file = self.read(&mut entry).with_context(|| path.clone())?;
                if file.kind != Kind::Directory {
                    self.remove_below(&path, &BTreeSet::new());
                }
                if !made.insert(path.clone()) {
                    bail!("{path} is in the layer twice");
                }
                self.files.insert(path, file);
            }
        }
        Ok(())
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a foreign enum that may grow"
    )]
    fn read(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> anyhow::Result<File> {
        let target = match entry.link_name_bytes() {
            Some(target) => String::from_utf8(target.into_owned()).context("a link's target")?,
            None => String::new(),
        };
        let header = entry.header();
        let (mode, uid, gid) = (header.mode()?, header.uid()?, header.gid()?);
        let modified = header.mtime()?;
        let kind = match header.entry_type() {
            EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Kind::Regular(content)
            }
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink(target),
            EntryType::Fifo => Kind::Fifo,
            EntryType::Block | EntryType::Char => Kind::Device,
            EntryType::Link => {
                let target = absolute(&target)?;
                let file = self.files.get(&target);
                return file
                    .cloned()
                    .with_context(|| format!("hard link to {target}, which is missing"));
            }
            other => bail!("entry of type {other:?}"),
        };
        self.next_inode += 1;
        Ok(File {
            kind,
            mode,
            uid,
            gid,
            modified,
            inode: self.next_inode,
        })
    }

    /// Removes a path with what is below it, but nothing that `kept` names.
    fn remove(&mut self, path: &str, kept: &BTreeSet<String>) {
        if !kept.contains(path) {
            self.files.remove(path);
        }
        self.remove_below(path, kept);
    }

    fn remove_below(&mut self, directory: &str, kept: &BTreeSet<String>) {
        let prefix = format!("{directory}/");
        self.files
            .retain(|path, _| !path.starts_with(&prefix) || kept.contains(path));
    }
}

/// `a/b/` as `/a/b`, and the root as the empty string.
fn absolute(name: &str) -> anyhow::Result<String> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.trim_matches('/');
    if name.is_empty() || name == "." {
        return Ok(String::new());
    }
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        bail!("a file is called {name:?}");
    }
    Ok(format!("/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer of files with their contents; names that end with a slash are directories.
    fn layer(files: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(content.len() as u64);
            header.set_entry_type(match name.ends_with('/') {
                true => EntryType::Directory,
                false => EntryType::Regular,
            });
            tar.append_data(&mut header, name, content.as_bytes())
                .unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn tree(layers: &[&[(&str, &str)]]) -> anyhow::Result<Vec<String>> {
        let mut tree = Tree::default();
        for files in layers {
            tree.apply(&layer(files)[..])?;
        }
        Ok(tree.below("").map(str::to_owned).collect())
    }

    #[test]
    fn a_whiteout_removes_what_lower_layers_have_and_no_more() {
        let lower: &[(&str, &str)] = &[("d/", ""), ("d/a", "1"), ("d/b", "1"), ("dd", "1")];
        assert_eq!(
            tree(&[lower, &[("d/.wh.a", "")]]).unwrap(),
            ["d", "d/b", "dd"]
        );
        assert_eq!(tree(&[lower, &[(".wh.d", "")]]).unwrap(), ["dd"]);
        assert_eq!(
            tree(&[lower, &[("d/c", "2"), ("d/.wh..wh..opq", "")]]).unwrap(),
            ["d", "d/c", "dd"]
        );
        assert_eq!(tree(&[lower, &[("d", "now a file")]]).unwrap(), ["d", "dd"]);
    }

    #[test]
    fn a_layer_with_a_strange_name_is_refused() {
        assert!(absolute("a/../b").is_err());
        assert!(tree(&[&[("a", "1"), ("a", "2")]]).is_err());
    }
}
