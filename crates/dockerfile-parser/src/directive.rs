//! Parser directives: the `# key = value` comments at the very top.
//!
//! Recognition stops for good at the first line that is not a directive of a known key. `syntax`
//! and `check` are looked up more leniently than `escape`: below a `#!` line, in `//` comments,
//! and in a file that is one JSON object.

use crate::ast::Word;
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::json;
use crate::source::{Source, Span};

/// The character that protects the next one and continues lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escape {
    /// `\`, unless the file says otherwise.
    #[default]
    Backslash,
    /// `` ` ``, for files that are full of Windows paths.
    Backtick,
}

impl Escape {
    /// The character itself.
    pub const fn char(self) -> char {
        match self {
            Self::Backslash => '\\',
            Self::Backtick => '`',
        }
    }
}

/// The directives of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// Value of `syntax`: the frontend asked for, and its command line if any.
    pub syntax: Option<Word>,
    /// Value of `escape`.
    pub escape: Escape,
    /// Value of `check`, for [`crate::lint::CheckConfig`].
    pub check: Option<Word>,
}

/// The value of the `syntax` directive, which is found even in files that are no Dockerfiles.
pub fn syntax(source: &Source) -> Option<Word> {
    lenient(source, Key::Syntax)
}

/// Whether the value of a `syntax` directive names the frontend that is built in: any tag or
/// digest of `docker/dockerfile` or `docker/dockerfile-upstream` on Docker Hub, or
/// `dockerfile.v0`.
pub fn is_builtin_frontend(syntax: &str) -> bool {
    let Some(reference) = syntax.split_whitespace().next() else {
        return false;
    };
    let without_digest = reference.split('@').next().unwrap_or(reference);
    let repository = ["docker.io/", "index.docker.io/", "registry-1.docker.io/"]
        .iter()
        .find_map(|registry| without_digest.strip_prefix(registry))
        .unwrap_or(without_digest);
    let name = repository.split(':').next().unwrap_or(repository);
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
        || reference == "dockerfile.v0"
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Check,
    Escape,
    Syntax,
}

impl Key {
    fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Escape => "escape",
            Self::Syntax => "syntax",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Check, Self::Escape, Self::Syntax]
            .into_iter()
            .find(|key| key.name().eq_ignore_ascii_case(name))
    }
}

/// What stands at the top of a file.
pub(crate) struct Head {
    pub(crate) directives: Directives,
    /// Where the last directive line ends.
    pub(crate) end: usize,
    pub(crate) errors: Vec<DockerfileError>,
}

/// Reads the directives.
pub(crate) fn read(source: &Source) -> Head {
    let mut head = Head {
        directives: Directives::default(),
        end: 0,
        errors: Vec::new(),
    };
    let mut seen = Vec::new();
    for line in 1..=source.line_count() {
        let Some((key, value)) = directive_at(source, line, "#") else {
            break;
        };
        let mut refuse = |kind| {
            // The reference points one line too high, where there is one.
            let above = line.saturating_sub(1).max(1);
            let instruction = source.line_span(above);
            head.errors.push(DockerfileError {
                span: source.line_span(line),
                instruction,
                kind,
            });
        };
        if seen.contains(&key) {
            refuse(DockerfileErrorKind::DuplicateDirective { key: key.name() });
        } else if key == Key::Escape {
            match value.text.as_str() {
                "\\" => head.directives.escape = Escape::Backslash,
                "`" => head.directives.escape = Escape::Backtick,
                _ => refuse(DockerfileErrorKind::InvalidEscape { value: value.text }),
            }
        }
        seen.push(key);
        head.end = source.line_span(line).end;
    }
    head.directives.syntax = lenient(source, Key::Syntax);
    head.directives.check = lenient(source, Key::Check);
    head
}

/// The value of `key`, wherever the lenient lookup finds it.
fn lenient(source: &Source, key: Key) -> Option<Word> {
    let first = if source.text().starts_with("#!") {
        2
    } else {
        1
    };
    let in_comments = |prefix| {
        (first..=source.line_count())
            .map_while(|line| directive_at(source, line, prefix))
            .find_map(|(found, value)| (found == key).then_some(value))
    };
    in_comments("#").or_else(|| in_comments("//")).or_else(|| {
        let text = json::member(source.text(), key.name())?;
        Some(Word {
            text,
            span: Span::new(0, source.text().len()),
        })
    })
}

/// The directive on line `line`, in comments that start with `prefix`.
fn directive_at(source: &Source, line: usize, prefix: &str) -> Option<(Key, Word)> {
    let text = source.line(line)?;
    let comment = text.trim().strip_prefix(prefix)?;
    let (key, value) = comment.split_once('=')?;
    let key = Key::named(key.trim())?;
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let end = source.line_span(line).start + text.trim_end().len();
    Some((
        key,
        Word {
            text: value.to_owned(),
            span: Span::new(end - value.len(), end),
        },
    ))
}
