//! The rules of `dockerfile.md` §13 on plain directories; names are those of its traps.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use graph::ignore::Patterns;
use oci::Digest;

use super::mode::ModeChange;
use super::place::Destination;
use super::select::{Selected, Source};
use super::*;
use crate::solver::Owners;

/// Two directories: what is copied from, and the stage that is copied to.
struct Case {
    directory: tempfile::TempDir,
    ignored: Option<Patterns>,
    owners: Owners,
    exclude: Vec<String>,
    chmod: Option<&'static str>,
    chown: Option<Owner>,
    parents: bool,
}

impl Case {
    fn new(files: &[&str]) -> Self {
        let case = Self {
            directory: tempfile::tempdir().unwrap(),
            ignored: None,
            owners: Owners::Root,
            exclude: Vec::new(),
            chmod: None,
            chown: None,
            parents: false,
        };
        for directory in ["source", "stage"] {
            fs::create_dir(case.path(directory)).unwrap();
        }
        for file in files {
            case.write(&format!("source/{file}"), file);
        }
        case
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn select(&self, pattern: &str) -> Result<(Root, Vec<Selected>), SelectError> {
        self.select_with(pattern, NonZeroUsize::MIN)
    }

    fn select_with(
        &self,
        pattern: &str,
        threads: NonZeroUsize,
    ) -> Result<(Root, Vec<Selected>), SelectError> {
        let root = Root::open_host(&self.path("source")).unwrap();
        let exclude = Patterns::new(&self.exclude).unwrap();
        let source = Source {
            root: &root,
            ignored: self.ignored.as_ref(),
            owners: self.owners,
            threads,
        };
        let selected = source.select(&select::Request {
            path: pattern,
            parents: self.parents,
            exclude: (!exclude.is_empty()).then_some(&exclude),
        })?;
        Ok((root, selected))
    }

    fn digest(&self, pattern: &str) -> Digest {
        let (root, selected) = self.select(pattern).unwrap();
        let contents = digest::digest(&root, &selected, None, NonZeroUsize::MIN);
        contents.unwrap().digest
    }

    fn copy(&self, sources: &[&str], destination: &str) -> Result<(), PlaceError> {
        let stage = Root::open_host(&self.path("stage")).unwrap();
        let mode: Option<ModeChange> = self.chmod.map(|mode| mode.parse().unwrap());
        for pattern in sources {
            let (root, selected) = self.select(pattern).unwrap();
            let mut surface = Mounted::new(&stage);
            let destination = Destination::new(&surface, destination, self.chown, mode.as_ref())?;
            for selected in &selected {
                destination.place(&mut surface, &root, self.owners, selected)?;
            }
        }
        Ok(())
    }

    /// Everything in the stage: `path` of directories with `/`, links with ` -> target`.
    fn stage(&self) -> Vec<String> {
        fn list(at: &Path, below: &str, into: &mut Vec<String>) {
            let mut entries: Vec<_> = fs::read_dir(at).unwrap().map(Result::unwrap).collect();
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let name = format!("{below}{}", entry.file_name().to_str().unwrap());
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    into.push(format!("{name}/"));
                    list(&entry.path(), &format!("{name}/"), into);
                } else if kind.is_symlink() {
                    into.push(format!(
                        "{name} -> {}",
                        fs::read_link(entry.path()).unwrap().display()
                    ));
                } else {
                    into.push(name);
                }
            }
        }
        let mut all = Vec::new();
        list(&self.path("stage"), "", &mut all);
        all
    }

    fn content(&self, path: &str) -> String {
        fs::read_to_string(self.path("stage").join(path)).unwrap()
    }

    fn stat(&self, path: &str) -> fs::Metadata {
        fs::symlink_metadata(self.path("stage").join(path)).unwrap()
    }

    fn permissions(&self, path: &str) -> u32 {
        self.stat(path).mode() & 0o7777
    }
}

#[test]
fn t51_the_contents_of_a_directory_are_copied_not_the_directory() {
    for destination in ["/e", "/e/"] {
        let case = Case::new(&["d/x", "d/s/y"]);
        case.copy(&["d"], destination).unwrap();
        assert_eq!(case.stage(), ["e/", "e/s/", "e/s/y", "e/x"]);
    }
}

#[test]
fn t52_the_new_directory_has_its_own_mode_and_the_sources_time() {
    let case = Case::new(&["d/s/f"]);
    case.mode("source/d", 0o700);
    case.mode("source/d/s", 0o711);
    case.copy(&["d"], "/e").unwrap();
    assert_eq!(
        (case.permissions("e"), case.permissions("e/s")),
        (0o755, 0o711)
    );
    let source = fs::metadata(case.path("source/d")).unwrap();
    assert_eq!(
        case.stat("e").modified().unwrap(),
        source.modified().unwrap()
    );
    let source = fs::metadata(case.path("source/d/s")).unwrap();
    assert_eq!(
        case.stat("e/s").modified().unwrap(),
        source.modified().unwrap()
    );
}

#[test]
fn t53_several_files_without_a_slash_overwrite_each_other() {
    let case = Case::new(&["a", "b"]);
    case.copy(&["a", "b"], "/x").unwrap();
    assert_eq!(case.stage(), ["x"]);
    assert_eq!(case.content("x"), "b");
}

#[test]
fn t54_a_file_goes_into_an_existing_directory() {
    let case = Case::new(&["a"]);
    fs::create_dir(case.path("stage/x")).unwrap();
    case.copy(&["a"], "/x").unwrap();
    assert_eq!(case.stage(), ["x/", "x/a"]);
}

#[test]
fn t56_owners_are_kept_from_a_stage_and_root_from_a_context() {
    let mut case = Case::new(&["d/f"]);
    std::os::unix::fs::chown(case.path("source/d/f"), Some(5), Some(6)).unwrap();
    std::os::unix::fs::chown(case.path("source/d"), Some(5), Some(6)).unwrap();
    case.copy(&["d"], "/context").unwrap();
    case.owners = Owners::Kept;
    case.copy(&["d"], "/stage").unwrap();
    case.chown = Some(Owner { uid: 7, gid: 8 });
    case.copy(&["d"], "/new/chown").unwrap();
    let ids = |path| (case.stat(path).uid(), case.stat(path).gid());
    assert_eq!(ids("context/f"), (0, 0));
    assert_eq!((ids("stage"), ids("stage/f")), ((0, 0), (5, 6)));
    assert_eq!(
        (ids("new"), ids("new/chown"), ids("new/chown/f")),
        ((7, 8), (7, 8), (7, 8))
    );
}

#[test]
fn t59_a_wildcard_without_a_match_makes_nothing() {
    let case = Case::new(&["a"]);
    case.copy(&["nothing*"], "/x/").unwrap();
    assert!(case.stage().is_empty());
}

#[test]
fn t60_a_star_matches_dotfiles() {
    let case = Case::new(&[".env", "a"]);
    case.copy(&["*"], "/x/").unwrap();
    assert_eq!(case.stage(), ["x/", "x/.env", "x/a"]);
}

#[test]
fn t61_a_star_over_directories_merges_their_contents() {
    let case = Case::new(&["d/x", "e/y", "f"]);
    case.copy(&["*"], "/o/").unwrap();
    assert_eq!(case.stage(), ["o/", "o/f", "o/x", "o/y"]);
}

#[test]
fn t62_dots_stop_at_the_root() {
    let case = Case::new(&["f"]);
    case.copy(&["../../f"], "/").unwrap();
    assert_eq!(case.stage(), ["f"]);
}

#[test]
fn t63_a_link_is_followed_as_a_source_and_kept_inside_a_directory() {
    let case = Case::new(&["f"]);
    symlink("f", case.path("source/l")).unwrap();
    case.copy(&["l"], "/x/").unwrap();
    case.copy(&["."], "/y/").unwrap();
    assert_eq!(case.stage(), ["x/", "x/l", "y/", "y/f", "y/l -> f"]);
}

#[test]
fn t64_a_directory_does_not_go_through_a_nested_link() {
    let case = Case::new(&["t/d/f"]);
    fs::create_dir_all(case.path("stage/x")).unwrap();
    fs::create_dir_all(case.path("stage/y")).unwrap();
    symlink("/y", case.path("stage/x/d")).unwrap();
    let error = case.copy(&["t"], "/x/").unwrap_err();
    assert_eq!(error.to_string(), "cannot copy to non-directory: /x/d");
    symlink("/y", case.path("stage/link")).unwrap();
    case.copy(&["t/d"], "/link/").unwrap();
    assert_eq!(case.content("y/f"), "t/d/f");
}

#[test]
fn t65_the_destination_itself_is_followed_what_is_in_it_is_not() {
    let case = Case::new(&["f"]);
    symlink("/y", case.path("stage/x")).unwrap();
    case.copy(&["f"], "/x").unwrap();
    assert_eq!(case.stage(), ["x -> /y", "y"]);
    fs::create_dir(case.path("stage/d")).unwrap();
    symlink("/y", case.path("stage/d/f")).unwrap();
    case.write("stage/y", "untouched");
    case.copy(&["f"], "/d/").unwrap();
    assert_eq!(
        (case.content("d/f"), case.content("y")),
        ("f".into(), "untouched".into())
    );
    assert!(case.stat("d/f").is_file());
}

#[test]
fn a_directory_is_not_replaced_by_a_file_nor_the_other_way() {
    let case = Case::new(&["f", "d/x"]);
    fs::create_dir_all(case.path("stage/e/f")).unwrap();
    let error = case.copy(&["f"], "/e/").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot replace to directory /e/f with file"
    );
    case.write("stage/file", "");
    let error = case.copy(&["d"], "/file").unwrap_err();
    assert_eq!(error.to_string(), "cannot copy to non-directory: /file");
    assert!(case.copy(&["f"], "/file/x").is_err());
}

#[test]
fn t66_excludes_are_anchored_at_each_source_directory() {
    let mut case = Case::new(&["d/a.md", "d/s/b.md"]);
    case.exclude = vec!["*.md".into()];
    case.copy(&["d"], "/x").unwrap();
    assert_eq!(case.stage(), ["x/", "x/s/", "x/s/b.md"]);
    case.exclude = vec!["**/*.md".into()];
    case.copy(&["d"], "/y").unwrap();
    assert_eq!(case.stage()[3..], ["y/", "y/s/"]);
}

#[test]
fn t67_parents_are_kept_below_the_pivot() {
    for (pattern, made) in [
        ("a/b/c.txt", vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt"]),
        ("a/./b/c.txt", vec!["x/", "x/b/", "x/b/c.txt"]),
        (
            "a/**/*.txt",
            vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt", "x/a/d.txt"],
        ),
        (
            "a",
            vec!["x/", "x/a/", "x/a/b/", "x/a/b/c.txt", "x/a/d.txt"],
        ),
        ("nope*", vec!["x/"]),
    ] {
        let mut case = Case::new(&["a/b/c.txt", "a/d.txt", "other"]);
        case.parents = true;
        case.copy(&[pattern], "/x/").unwrap();
        assert_eq!(case.stage(), made, "{pattern}");
    }
    let mut case = Case::new(&["a"]);
    case.parents = true;
    assert!(matches!(
        case.select("nope"),
        Err(SelectError::NotFound { .. })
    ));
}

#[test]
fn t68_modes_apply_to_directories_too() {
    let mut case = Case::new(&["d/f"]);
    case.chmod = Some("600");
    case.copy(&["d"], "/e").unwrap();
    assert_eq!(
        (case.permissions("e"), case.permissions("e/f")),
        (0o600, 0o600)
    );
    case.chmod = Some("u=rwX,go=rX");
    case.copy(&["d"], "/s").unwrap();
    assert_eq!(
        (case.permissions("s"), case.permissions("s/f")),
        (0o755, 0o644)
    );
}

#[test]
fn t86_a_hidden_file_is_not_found() {
    let mut case = Case::new(&["keep", "docs/api.md", "docs/b"]);
    case.ignored = Some(Patterns::new(["*", "!docs/api.md"]).unwrap());
    assert!(matches!(
        case.select("keep"),
        Err(SelectError::NotFound { .. })
    ));
    case.copy(&["."], "/x/").unwrap();
    assert_eq!(case.stage(), ["x/", "x/docs/", "x/docs/api.md"]);
}

#[test]
fn t89_times_do_not_count_and_modes_do() {
    let case = Case::new(&["d/f", "e/f"]);
    case.write("source/e/f", "d/f");
    let before = case.digest("d");
    let past = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options()
        .write(true)
        .open(case.path("source/d/f"))
        .unwrap()
        .set_modified(past)
        .unwrap();
    assert_eq!(case.digest("d"), before);
    assert_eq!(
        case.digest("d/f"),
        case.digest("e/f"),
        "only the base name counts"
    );
    case.mode("source/d/f", 0o600);
    assert_ne!(case.digest("d"), before);
}

#[test]
fn digests_do_not_depend_on_the_number_of_threads() {
    let names: Vec<String> = (0..100).map(|n| format!("d/{n}")).collect();
    let case = Case::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (root, selected) = case.select("d").unwrap();
    let of = |threads| {
        let threads = NonZeroUsize::new(threads).unwrap();
        let contents = digest::digest(&root, &selected, None, threads);
        contents.unwrap().digest
    };
    assert_eq!(of(1), of(8));
}

#[test]
fn selections_do_not_depend_on_the_number_of_threads() {
    let names = |n| [format!("d/{n}/a/x"), format!("d/{n}/b"), format!("d/{n}.c")];
    let names: Vec<String> = (0..40).flat_map(names).collect();
    let mut case = Case::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
    case.exclude = vec!["7*".to_owned(), "**/b".to_owned()];
    let paths = |threads| -> Vec<PathBuf> {
        let threads = NonZeroUsize::new(threads).unwrap();
        let (_, selected) = case.select_with("d", threads).unwrap();
        let entries = selected.into_iter().flat_map(|selected| selected.entries);
        entries.map(|entry| entry.below).collect()
    };
    let one = paths(1);
    assert_eq!(one.len(), 39 * 4);
    assert!(one.is_sorted(), "parents first, names in byte order");
    assert_eq!(one, paths(8));
}

#[test]
fn hard_links_within_a_tree_are_kept() {
    let case = Case::new(&["d/a"]);
    fs::hard_link(case.path("source/d/a"), case.path("source/d/b")).unwrap();
    case.copy(&["d"], "/x").unwrap();
    assert_eq!(case.stat("x/a").ino(), case.stat("x/b").ino());
}

#[test]
fn u15_links_of_the_context_do_not_lead_out_of_it() {
    let case = Case::new(&["in"]);
    case.write("canary", "secret");
    symlink("../canary", case.path("source/up")).unwrap();
    symlink(case.path("canary"), case.path("source/absolute")).unwrap();
    symlink("..", case.path("source/dir")).unwrap();
    for name in ["up", "absolute", "dir/canary"] {
        assert!(
            matches!(case.select(name), Err(SelectError::NotFound { .. })),
            "{name}"
        );
    }
}
