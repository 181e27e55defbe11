//! COPY and ADD (`dockerfile.md` §13).

use dockerfile::Span;
use dockerfile::ast::{Add, Copy, CopyFlags, CopySource, Heredoc, Word};

use super::config::first_name;
use super::instruction::{Site, StageLowering};
use crate::error::{LowerError, LowerErrorKind, NoUsers};
use crate::git::{self, CheckoutTimes, GitSource, GitUrlError};
use crate::history;
use crate::lint::{ContextSource, Verb};
use crate::op::{ContextName, CopyItem, CopyOp, Op, Placement, Tree, Unpack};
use crate::path;

/// What COPY and ADD have in common, expanded.
struct Request<'i> {
    verb: Verb,
    tree: Tree,
    flags: &'i CopyFlags,
    parents: bool,
    unpack: Unpack,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    sources: &'i [CopySource],
    destination: &'i Word,
}

/// What a source of COPY or ADD is by its looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceKind {
    Path,
    Url,
    Git,
}

impl StageLowering<'_, '_> {
    pub(super) fn copy(&mut self, site: &Site<'_>, copy: &Copy) -> Result<(), LowerError> {
        let tree = match &copy.from {
            None => Tree::Context(ContextName::Main),
            Some(from) => self.copy_tree(site, from)?,
        };
        self.put(
            site,
            Request {
                verb: Verb::Copy,
                tree,
                flags: &copy.flags,
                parents: copy.parents,
                unpack: Unpack::Never,
                checksum: None,
                keep_git_dir: None,
                sources: &copy.sources,
                destination: &copy.destination,
            },
        )
    }

    pub(super) fn add(&mut self, site: &Site<'_>, add: &Add) -> Result<(), LowerError> {
        let checksum = match &add.checksum {
            None => None,
            Some(word) => Some(self.checksum(site, add, word)?),
        };
        let unpack = match add.unpack.map(|unpack| unpack.value) {
            None => Unpack::LocalArchives,
            Some(true) => Unpack::AllArchives,
            Some(false) => Unpack::Never,
        };
        self.put(
            site,
            Request {
                verb: Verb::Add,
                tree: Tree::Context(ContextName::Main),
                flags: &add.flags,
                parents: false,
                unpack,
                checksum,
                keep_git_dir: add.keep_git_dir.map(|keep| keep.value),
                sources: &add.sources,
                destination: &add.destination,
            },
        )
    }

    fn copy_tree(&mut self, site: &Site<'_>, from: &Word) -> Result<Tree, LowerError> {
        let used = self
            .target
            .stages
            .copied_from(&from.text)
            .map_err(|kind| site.error(from.span, kind))?;
        match self.tree(site, &used)? {
            Some(tree) => Ok(tree),
            None => {
                let kind = LowerErrorKind::CopyFromLaterStage {
                    from: from.text.clone(),
                    stage: self.target.stages.display_name(self.index),
                };
                Err(site.error(from.span, kind))
            }
        }
    }

    fn checksum(&mut self, site: &Site<'_>, add: &Add, word: &Word) -> Result<String, LowerError> {
        let checksum = self.expand(site, word)?;
        let error = |kind| Err(site.error(word.span, kind));
        let paths = add.sources.iter().filter_map(|source| match source {
            CopySource::Path(path) => Some(path),
            CopySource::Heredoc(_) => None,
        });
        let [source] = paths.collect::<Vec<_>>()[..] else {
            return error(LowerErrorKind::ChecksumSources);
        };
        match source_kind(&self.expand(site, source)?) {
            SourceKind::Path => error(LowerErrorKind::ChecksumSource),
            SourceKind::Url if !is_checksum(&checksum) => {
                error(LowerErrorKind::Checksum { checksum })
            }
            SourceKind::Url | SourceKind::Git => Ok(checksum),
        }
    }

    fn put(&mut self, site: &Site<'_>, request: Request<'_>) -> Result<(), LowerError> {
        let chown = self.optional(site, request.flags.chown.as_ref())?;
        let chmod = self.optional(site, request.flags.chmod.as_ref())?;
        let written = self.expand(site, request.destination)?;
        let keyword = match request.verb {
            Verb::Copy => "COPY",
            Verb::Add => "ADD",
        };
        let mut line = vec![keyword.to_owned()];
        if request.parents {
            line.push("--parents".to_owned());
        }
        line.extend(chown.iter().map(|chown| format!("--chown={chown}")));
        line.extend(chmod.iter().map(|chmod| format!("--chmod={chmod}")));
        let items = self.items(site, &request, &mut line)?;
        line.extend([written.clone(), "# buildkit".to_owned()]);

        // What has a mode is not laid over: a quirk of the reference that results depend on.
        let placement = match request.flags.link && chmod.is_none() {
            true => Placement::Over,
            false => Placement::Into,
        };
        if let (Some(chmod), Some(word)) = (&chmod, &request.flags.chmod) {
            check_mode(chmod).map_err(|kind| site.error(word.span, kind))?;
        }
        if let (Some(chown), Some(word)) = (&chown, &request.flags.chown) {
            self.check_owner(chown, placement)
                .map_err(|kind| site.error(word.span, kind))?;
        }
        let op = CopyOp {
            root: self.state.root,
            items,
            destination: path::destination(self.state.cwd(), &written),
            chown,
            chmod,
            placement,
            parents: request.parents,
            exclude: super::config::texts(&request.flags.exclude),
            unpack: request.unpack,
        };
        self.step(site, Op::Copy(op), &[], "");
        self.note(history::with_layer(line.join(" ")));
        Ok(())
    }

    fn optional(
        &mut self,
        site: &Site<'_>,
        word: Option<&Word>,
    ) -> Result<Option<String>, LowerError> {
        match word {
            None => Ok(None),
            Some(word) => {
                let value = self.expand(site, word)?;
                Ok((!value.is_empty()).then_some(value))
            }
        }
    }

    /// Returns what is copied, and adds it to the history line: heredocs come last.
    fn items(
        &mut self,
        site: &Site<'_>,
        request: &Request<'_>,
        line: &mut Vec<String>,
    ) -> Result<Vec<CopyItem>, LowerError> {
        let mut items = Vec::new();
        let mut inline = Vec::new();
        for source in request.sources {
            match source {
                CopySource::Path(word) => {
                    let path = self.expand(site, word)?;
                    items.push(self.item(site, request, word.span, &path)?);
                    line.push(git::without_password(&path));
                }
                CopySource::Heredoc(heredoc) => inline.push(heredoc),
            }
        }
        for heredoc in inline {
            line.push(format!("<<{}", heredoc.delimiter));
            items.push(self.inline(site, heredoc)?);
        }
        Ok(items)
    }

    fn item(
        &mut self,
        site: &Site<'_>,
        request: &Request<'_>,
        span: Span,
        path: &str,
    ) -> Result<CopyItem, LowerError> {
        let refused = match (source_kind(path), request.verb) {
            (SourceKind::Path, verb) => {
                if request.tree == Tree::Context(ContextName::Main) {
                    let source = ContextSource {
                        span: site.whole(),
                        path: path::source(path),
                        verb,
                    };
                    self.warnings.add_source(site.instruction, source);
                }
                let tree = request.tree.clone();
                let path = if request.parents {
                    path::source_with_parents(path)
                } else {
                    path::source(path)
                };
                return Ok(CopyItem::Path { tree, path });
            }
            (SourceKind::Url, Verb::Add) => {
                let url = path.to_owned();
                let checksum = request.checksum.clone();
                return Ok(CopyItem::Url { url, checksum });
            }
            (SourceKind::Url, Verb::Copy) => LowerErrorKind::UrlInCopy,
            (SourceKind::Git, Verb::Add) => match repository(request, path) {
                Ok(source) => return Ok(CopyItem::Git(source)),
                Err(kind) => kind,
            },
            (SourceKind::Git, Verb::Copy) => LowerErrorKind::GitInCopy,
        };
        Err(site.error(span, refused))
    }

    fn inline(&mut self, site: &Site<'_>, heredoc: &Heredoc) -> Result<CopyItem, LowerError> {
        let mut content = heredoc.content();
        if heredoc.expand {
            let span = heredoc.body.span;
            content = self.expand_with(site, span, |expander| expander.heredoc(&content))?;
        }
        let name = heredoc.delimiter.clone();
        Ok(CopyItem::Inline { name, content })
    }

    /// Names are looked up in the file system that is copied into; see that there is one.
    fn check_owner(&self, chown: &str, placement: Placement) -> Result<(), LowerErrorKind> {
        let cause = match (placement, self.state.root) {
            (Placement::Over, _) => NoUsers::Link,
            (Placement::Into, None) => NoUsers::EmptyStage,
            (Placement::Into, Some(_)) => return Ok(()),
        };
        match first_name(chown) {
            None => Ok(()),
            Some(name) => Err(LowerErrorKind::UserName {
                name: name.to_owned(),
                cause,
            }),
        }
    }
}

/// Octal up to 7777, or clauses `[ugoa]*[-+=][rwxXst]*` between commas (§13.6).
fn check_mode(mode: &str) -> Result<(), LowerErrorKind> {
    let is_octal =
        !mode.starts_with('+') && u32::from_str_radix(mode, 8).is_ok_and(|mode| mode <= 0o7777);
    let is_clause = |clause: &str| {
        let rest = clause.trim_start_matches(['u', 'g', 'o', 'a']);
        rest.strip_prefix(['-', '+', '='])
            .is_some_and(|bits| bits.bytes().all(|bit| b"rwxXst".contains(&bit)))
    };
    if is_octal || mode.split(',').all(is_clause) {
        return Ok(());
    }
    let mode = mode.to_owned();
    Err(LowerErrorKind::Chmod { mode })
}

fn is_checksum(checksum: &str) -> bool {
    let Some((algorithm, hex)) = checksum.split_once(':') else {
        return false;
    };
    let digits = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    let is_hex = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    hex.len() == digits && hex.bytes().all(is_hex)
}

/// Reads the address of a repository, and what the flags say besides.
fn repository(request: &Request<'_>, address: &str) -> Result<GitSource, LowerErrorKind> {
    let refused = |source| LowerErrorKind::Git {
        address: git::without_password(address),
        source,
    };
    let mut source = GitSource::parse(address).map_err(refused)?;
    match (source.keep_git_dir, request.keep_git_dir) {
        (Some(one), Some(other)) if one != other => return Err(LowerErrorKind::KeepGitDir),
        (one, other) => source.keep_git_dir = Some(one.or(other).unwrap_or(false)),
    }
    match (&source.checksum, &request.checksum) {
        (Some(one), Some(other)) if one != other => {
            return Err(refused(GitUrlError::Conflict {
                what: "checksum",
                one: other.clone(),
                other: one.clone(),
            }));
        }
        (None, Some(checksum)) if !git::is_commit_prefix(checksum) => {
            return Err(refused(GitUrlError::Part { part: "checksum" }));
        }
        (None, Some(checksum)) => source.checksum = Some(checksum.clone()),
        (_, _) => {}
    }
    // A quirk of the reference: ADD reads `mtime` and does nothing about it.
    source.times = CheckoutTimes::Checkout;
    Ok(source)
}

/// Tells URLs and git repositories from paths (§13.11, §13.12).
fn source_kind(source: &str) -> SourceKind {
    if GitSource::is_address(source) {
        SourceKind::Git
    } else if source.starts_with("http://") || source.starts_with("https://") {
        SourceKind::Url
    } else {
        SourceKind::Path
    }
}

#[cfg(test)]
mod tests {
    use super::{SourceKind, check_mode, is_checksum, source_kind};

    #[test]
    fn urls_and_repositories_are_told_from_paths() {
        for (source, kind) in [
            ("a/b", SourceKind::Path),
            ("github.com/org/repo", SourceKind::Path),
            ("a:b", SourceKind::Path),
            ("HTTP://h/x", SourceKind::Path),
            ("http://h/p/a.tar.gz", SourceKind::Url),
            ("https://h/repo.git", SourceKind::Git),
            ("https://h/repo.git#main:sub", SourceKind::Git),
            ("https://h/repo.git?ref=v1", SourceKind::Git),
            ("https://h/repo.gitx", SourceKind::Url),
            ("git://h/repo", SourceKind::Git),
            ("ssh://git@h:22/repo", SourceKind::Git),
            ("git@h:org/repo", SourceKind::Git),
        ] {
            assert_eq!(source_kind(source), kind, "{source}");
        }
    }

    #[test]
    fn t69_modes_are_octal_or_symbolic() {
        for mode in ["0", "755", "7777", "u=rwX,go=rX", "+x", "a-w", "="] {
            assert!(check_mode(mode).is_ok(), "{mode}");
        }
        for mode in ["8888", "10000", "-1", "u", "rwx", "u+z", "u+x,", "+755"] {
            assert!(check_mode(mode).is_err(), "{mode}");
        }
    }

    #[test]
    fn checksums_name_their_algorithm() {
        assert!(is_checksum(&format!("sha256:{}", "0".repeat(64))));
        assert!(is_checksum(&format!("sha512:{}", "f".repeat(128))));
        for text in ["", "sha256:", "sha256:00", "md5:00"] {
            assert!(!is_checksum(text), "{text}");
        }
        assert!(!is_checksum(&format!("sha256:{}", "F".repeat(64))));
    }
}
