//! git repositories as sources: `https://host/repo.git#ref:subdir` and its relatives (`dockerfile.md`
//! §13.12).
//!
//! Everything in such an address ends up in the arguments of a program. So an address is taken apart
//! here, before any process starts, and what could be read as an option, a helper or a second line
//! is refused (`threats.md` G1).

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;

use crate::path;

/// A tree of a repository, as an ADD or a build context names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GitSource {
    /// Where the repository is.
    pub remote: GitRemote,
    /// Branch, tag, commit or `refs/…`; `None` is what the remote's HEAD leads to.
    pub reference: Option<String>,
    /// Directory below the repository's root, cleaned; empty is the root.
    pub subdirectory: String,
    /// How the commit's id has to begin.
    pub checksum: Option<String>,
    /// Whether `.git` stays; `None` where the address does not say.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched, too.
    pub submodules: Submodules,
    /// What the files' modification times are.
    pub times: CheckoutTimes,
}

/// Whether submodules are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Submodules {
    /// All of them, and theirs.
    Recursive,
    /// None: their directories stay empty.
    Omitted,
}

/// What the modification times of a checked-out tree are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CheckoutTimes {
    /// When it was checked out.
    Checkout,
    /// When the commit was made.
    Commit,
}

/// Where a repository is.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct GitRemote {
    scheme: GitScheme,
    user: Option<String>,
    #[serde(skip)]
    password: Option<String>,
    host: String,
    port: Option<u16>,
    path: String,
}

/// How a repository is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum GitScheme {
    /// `http://`
    Http,
    /// `https://`
    Https,
    /// `git://`
    Git,
    /// `ssh://`
    Ssh,
    /// `user@host:path`: ssh, the path relative to the user's home.
    Scp,
}

/// Why some text is no address of a repository. The texts are the reference's where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitUrlError {
    /// None of the known forms.
    #[error("it is not the address of a git repository")]
    Form,
    /// A part that a program could misread.
    #[error("the {part} of the git address is malformed or unsafe")]
    Part {
        /// Which part: user, host, port, path, reference, subdirectory or checksum.
        part: &'static str,
    },
    /// A key of the query that means nothing.
    #[error("unexpected query \"{key}\"")]
    Query {
        /// The key.
        key: String,
    },
    /// A key of the query whose value means nothing.
    #[error("invalid value \"{value}\" of query \"{key}\"")]
    QueryValue {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// Two parts of the address say different things.
    #[error("{what} conflicts: \"{one}\" vs \"{other}\"")]
    Conflict {
        /// What about.
        what: &'static str,
        /// What one of them says.
        one: String,
        /// And the other.
        other: String,
    },
}

impl GitSource {
    /// Returns whether `text` looks like the address of a repository: in an ADD.
    pub fn is_address(text: &str) -> bool {
        GitScheme::of(text).is_some()
    }

    /// Reads the address that a build context names: `github.com/org/repo` is one, too.
    ///
    /// Returns `None` for what is no such address.
    ///
    /// # Errors
    ///
    /// As for [`GitSource::parse`].
    pub fn parse_context(text: &str) -> Option<Result<Self, GitUrlError>> {
        if text.starts_with("github.com/") {
            return Some(Self::parse_rest(&format!("https://{text}")));
        }
        Self::is_address(text).then(|| Self::parse(text))
    }

    /// Reads an address.
    ///
    /// # Errors
    ///
    /// It has an unknown form, a part that is malformed or unsafe, an unknown key in its query, or
    /// contradicts itself.
    pub fn parse(text: &str) -> Result<Self, GitUrlError> {
        if !Self::is_address(text) {
            return Err(GitUrlError::Form);
        }
        Self::parse_rest(text)
    }

    fn parse_rest(text: &str) -> Result<Self, GitUrlError> {
        let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
        let remote = GitRemote::parse(address)?;
        let is_url = remote.scheme != GitScheme::Scp;
        let decoded = |text: &str, part| match is_url {
            true => percent_decoded(text).ok_or(GitUrlError::Part { part }),
            false => Ok(text.to_owned()),
        };
        let (reference, subdirectory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut wishes = Wishes::default();
        wishes.set_reference(decoded(reference, "reference")?)?;
        wishes.set_subdirectory(decoded(subdirectory, "subdirectory")?)?;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            wishes.set(key, decoded(&value.replace('+', " "), "query")?)?;
        }
        wishes.source(remote)
    }
}

/// What fragment and query ask for, before it is known to fit together.
#[derive(Default)]
struct Wishes {
    reference: Option<String>,
    subdirectory: Option<String>,
    checksum: Option<String>,
    keep_git_dir: Option<bool>,
    omit_submodules: bool,
    of_commit: bool,
    fetch_by_commit: bool,
}

impl Wishes {
    fn set(&mut self, key: &str, value: String) -> Result<(), GitUrlError> {
        let invalid = |value: &str| GitUrlError::QueryValue {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        let boolean = |value: &str| match value {
            "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(invalid(value)),
        };
        match key {
            "ref" | "branch" | "tag" | "subdir" | "checksum" | "commit" if value.is_empty() => {
                return Err(invalid(&value));
            }
            "ref" => self.set_reference(value)?,
            "branch" => self.set_reference(format!("refs/heads/{value}"))?,
            "tag" => self.set_reference(format!("refs/tags/{value}"))?,
            "subdir" => self.set_subdirectory(value)?,
            "checksum" | "commit" => set("checksum", &mut self.checksum, value)?,
            "keep-git-dir" => self.keep_git_dir = Some(boolean(&value)?),
            "submodules" => self.omit_submodules = !boolean(&value)?,
            "fetch-by-commit" => self.fetch_by_commit = boolean(&value)?,
            "mtime" => match value.as_str() {
                "checkout" => self.of_commit = false,
                "commit" => self.of_commit = true,
                _ => return Err(invalid(&value)),
            },
            _ => {
                let key = key.to_owned();
                return Err(GitUrlError::Query { key });
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, value: String) -> Result<(), GitUrlError> {
        set("ref", &mut self.reference, value)
    }

    fn set_subdirectory(&mut self, value: String) -> Result<(), GitUrlError> {
        set("subdir", &mut self.subdirectory, value)
    }

    fn source(self, remote: GitRemote) -> Result<GitSource, GitUrlError> {
        let refused = |part| Err(GitUrlError::Part { part });
        if let Some(reference) = &self.reference
            && !is_reference(reference)
        {
            return refused("reference");
        }
        if let Some(checksum) = &self.checksum
            && !is_commit_prefix(checksum)
        {
            return refused("checksum");
        }
        let subdirectory = path::source(self.subdirectory.as_deref().unwrap_or_default());
        if subdirectory.chars().any(char::is_control) {
            return refused("subdirectory");
        }
        let reference = match (self.fetch_by_commit, &self.checksum) {
            (true, Some(commit)) => Some(commit.clone()),
            (true, None) => return refused("checksum"),
            (false, _) => self.reference,
        };
        Ok(GitSource {
            remote,
            reference,
            subdirectory,
            checksum: self.checksum,
            keep_git_dir: self.keep_git_dir,
            submodules: match self.omit_submodules {
                true => Submodules::Omitted,
                false => Submodules::Recursive,
            },
            times: match self.of_commit {
                true => CheckoutTimes::Commit,
                false => CheckoutTimes::Checkout,
            },
        })
    }
}

fn set(what: &'static str, place: &mut Option<String>, value: String) -> Result<(), GitUrlError> {
    if value.is_empty() {
        return Ok(());
    }
    match place {
        Some(one) if *one != value => Err(GitUrlError::Conflict {
            what,
            one: one.clone(),
            other: value,
        }),
        Some(_) | None => {
            *place = Some(value);
            Ok(())
        }
    }
}

impl GitScheme {
    /// Tells by its looks how the repository at an address is spoken to.
    fn of(text: &str) -> Option<Self> {
        let rest = text.split(['#', '?']).next().unwrap_or(text);
        if rest.starts_with("git://") {
            Some(Self::Git)
        } else if rest.starts_with("ssh://") {
            Some(Self::Ssh)
        } else if rest.starts_with("https://") && rest.ends_with(".git") {
            Some(Self::Https)
        } else if rest.starts_with("http://") && rest.ends_with(".git") {
            Some(Self::Http)
        } else {
            is_scp(rest).then_some(Self::Scp)
        }
    }

    /// Returns whether it is HTTP, with TLS or without.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Returns whether it is ssh, in one of its two spellings.
    pub fn is_ssh(self) -> bool {
        matches!(self, Self::Ssh | Self::Scp)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::Http => "http://",
            Self::Https => "https://",
            Self::Git => "git://",
            Self::Ssh => "ssh://",
            Self::Scp => "",
        }
    }
}

impl GitRemote {
    /// Reads an address without query and fragment.
    ///
    /// # Errors
    ///
    /// It has an unknown form, or a part that is malformed or unsafe.
    pub fn parse(address: &str) -> Result<Self, GitUrlError> {
        let schemes = [
            GitScheme::Http,
            GitScheme::Https,
            GitScheme::Git,
            GitScheme::Ssh,
        ];
        let found = schemes.into_iter().find_map(|scheme| {
            let rest = address.strip_prefix(scheme.prefix())?;
            Some((scheme, rest))
        });
        let Some((scheme, rest)) = found else {
            return Self::parse_scp(address);
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (login, server) = match authority.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, authority),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, "")))
        {
            Some((user, password)) => (decoded_part(user)?, decoded_part(password)?),
            None => (None, None),
        };
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse();
                (host, Some(port.map_err(|_| part("port"))?))
            }
            Some(_) | None => (server, None),
        };
        let remote = Self {
            scheme,
            user,
            password,
            host: host.to_ascii_lowercase(),
            port,
            path: path.to_owned(),
        };
        remote.checked()
    }

    fn parse_scp(address: &str) -> Result<Self, GitUrlError> {
        if !is_scp(address) {
            return Err(GitUrlError::Form);
        }
        let (login, path) = address.split_once(':').ok_or(GitUrlError::Form)?;
        let (user, host) = login.split_once('@').ok_or(GitUrlError::Form)?;
        let remote = Self {
            scheme: GitScheme::Scp,
            user: Some(user.to_owned()),
            password: None,
            host: host.to_ascii_lowercase(),
            port: None,
            path: path.to_owned(),
        };
        remote.checked()
    }

    fn checked(self) -> Result<Self, GitUrlError> {
        let is_unsafe = |text: &str| {
            text.starts_with('-')
                || text
                    .chars()
                    .any(|c| c.is_control() || c.is_whitespace() || "\"'`\\$;|&<>".contains(c))
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_address = |host: &str| {
            host.strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
        };
        let host = &self.host;
        if host.is_empty() || is_unsafe(host) || !(host.chars().all(is_name) || is_address(host)) {
            return Err(part("host"));
        }
        // With HTTP it is not handed to a program; ssh gets it as an argument.
        if !self.scheme.is_http() && self.user.as_deref().is_some_and(is_unsafe) {
            return Err(part("user"));
        }
        let name = self.path.trim_start_matches('/');
        if name.is_empty() || is_unsafe(name) {
            return Err(part("path"));
        }
        Ok(self)
    }

    /// Returns the address of a submodule as seen from here: `../other.git` is relative.
    ///
    /// # Errors
    ///
    /// As for [`GitRemote::parse`]; a relative address that leads out of the server.
    pub fn relative(&self, address: &str) -> Result<Self, GitUrlError> {
        if !address.starts_with("./") && !address.starts_with("../") {
            return Self::parse(address);
        }
        let mut parts: Vec<&str> = self.path.split('/').collect();
        if parts.last().is_some_and(|last| last.is_empty()) {
            parts.pop();
        }
        for step in address.split('/') {
            match step {
                "" | "." => {}
                ".." => {
                    let is_first = parts.len() <= 1;
                    if parts.pop().is_none_or(str::is_empty) || is_first {
                        return Err(part("path"));
                    }
                }
                step => parts.push(step),
            }
        }
        let path = parts.join("/");
        Self {
            path,
            ..self.clone()
        }
        .checked()
    }

    /// Returns how the repository is spoken to.
    pub fn scheme(&self) -> GitScheme {
        self.scheme
    }

    /// Returns the host, in lower case.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the host and, where the address has one, the port.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Returns the user's name and password, where the address of an HTTP server has them.
    pub fn login(&self) -> Option<(&str, &str)> {
        let user = self.user.as_deref().filter(|_| self.scheme.is_http())?;
        Some((user, self.password.as_deref().unwrap_or_default()))
    }

    /// Returns the address for the git program. It has no password in it.
    pub fn address(&self) -> String {
        let user = match &self.user {
            Some(user) if !self.scheme.is_http() => format!("{user}@"),
            Some(_) | None => String::new(),
        };
        let port = match self.port {
            Some(port) => format!(":{port}"),
            None => String::new(),
        };
        let separator = match self.scheme {
            GitScheme::Scp => ":",
            GitScheme::Http | GitScheme::Https | GitScheme::Git | GitScheme::Ssh => "",
        };
        let Self {
            scheme, host, path, ..
        } = self;
        format!("{}{user}{host}{port}{separator}{path}", scheme.prefix())
    }
}

impl fmt::Display for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address())
    }
}

impl fmt::Debug for GitRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GitRemote({self})")
    }
}

impl fmt::Display for GitSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        let reference = self.reference.as_deref().unwrap_or_default();
        match (reference, self.subdirectory.as_str()) {
            ("", "") => Ok(()),
            (reference, "") => write!(f, "#{reference}"),
            (reference, subdirectory) => write!(f, "#{reference}:{subdirectory}"),
        }
    }
}

/// Returns whether `text` is a complete commit id, of SHA-1 or of SHA-256.
pub fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_lower_hex(text)
}

/// Returns whether `text` can be the beginning of a commit id.
pub fn is_commit_prefix(text: &str) -> bool {
    (7..=64).contains(&text.len()) && is_lower_hex(text)
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Hides the password of an address, as history and messages show it.
pub(crate) fn without_password(address: &str) -> String {
    let hidden = || {
        let (scheme, rest) = address.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let (login, _) = authority.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        let behind = &rest[login.len()..];
        Some(format!("{scheme}://{user}:xxxxx{behind}"))
    };
    hidden().unwrap_or_else(|| address.to_owned())
}

fn part(part: &'static str) -> GitUrlError {
    GitUrlError::Part { part }
}

/// The rules of `git check-ref-format`, and no option.
fn is_reference(text: &str) -> bool {
    let is_legal =
        |c: char| !c.is_control() && !c.is_whitespace() && !"~^:?*[\\\"'`$;|&<>".contains(c);
    text.chars().all(is_legal)
        && text.len() <= 1024
        && !text.contains("..")
        && !text.contains("@{")
        && !text.ends_with('.')
        && text.split('/').all(|part| {
            !part.is_empty() && !part.starts_with(['-', '.']) && !part.ends_with(".lock")
        })
}

fn decoded_part(text: &str) -> Result<Option<String>, GitUrlError> {
    if text.is_empty() {
        return Ok(None);
    }
    match percent_decoded(text) {
        Some(text) if !text.chars().any(char::is_control) => Ok(Some(text)),
        Some(_) | None => Err(part("user")),
    }
}

/// `None` for a `%` that is not followed by two digits, and for what is no text.
fn percent_decoded(text: &str) -> Option<String> {
    let is_escape = |rest: &str| {
        rest.as_bytes()
            .first_chunk::<2>()
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(Cow::into_owned)
}

/// `git@host:path`
fn is_scp(source: &str) -> bool {
    let Some((login, _)) = source.split_once(':') else {
        return false;
    };
    let Some((user, host)) = login.split_once('@') else {
        return false;
    };
    let is_word = |text: &str, others: &[u8]| {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
        !text.is_empty() && text.bytes().all(is_legal)
    };
    is_word(user, b"-_") && is_word(host, b"-.")
}

#[cfg(test)]
mod tests;
