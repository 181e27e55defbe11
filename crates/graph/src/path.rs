//! Paths of images and contexts, as text: nothing here looks at a file system.

/// Returns `path` as seen from `directory`, absolute and without `.`, `..` and doubled slashes.
/// `..` cannot leave the root.
pub(crate) fn join(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let base = if path.starts_with('/') { "" } else { directory };
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns where COPY puts files: a trailing slash says that it must be a directory (§13.1).
pub(crate) fn destination(directory: &str, path: &str) -> String {
    let must_be_directory = matches!(path, "" | ".") || path.ends_with('/') || path.ends_with("/.");
    let mut joined = join(directory, path);
    if must_be_directory && joined != "/" {
        joined.push('/');
    }
    joined
}

/// Returns what COPY takes: a path below the root of its tree, without the leading slash.
pub(crate) fn source(path: &str) -> String {
    join("/", path).split_off(1)
}

/// Returns the source of COPY `--parents`, where the first `/./` divides what is kept of the path
/// from what is not.
pub(crate) fn source_with_parents(path: &str) -> String {
    let Some((pivot, rest)) = path.split_once("/./") else {
        return source(path);
    };
    match (source(pivot).as_str(), source(rest).as_str()) {
        ("", rest) => rest.to_owned(),
        (pivot, rest) => format!("{pivot}/./{rest}"),
    }
}

/// Returns the last component; empty for the root.
pub(crate) fn base_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

#[cfg(test)]
mod tests {
    use super::{destination, join, source, source_with_parents};

    #[test]
    fn working_directories_are_absolute_and_clean() {
        for (directory, path, result) in [
            ("", "a", "/a"),
            ("/a/b", "../c", "/a/c"),
            ("/a", "/x//y/.", "/x/y"),
            ("/a", "../../..", "/"),
        ] {
            assert_eq!(join(directory, path), result, "{path}");
        }
    }

    #[test]
    fn a_destination_keeps_its_directory_marker() {
        for (path, result) in [
            ("", "/w/"),
            (".", "/w/"),
            ("x", "/w/x"),
            ("x/", "/w/x/"),
            ("x/.", "/w/x/"),
            ("/", "/"),
            ("/x/..", "/"),
        ] {
            assert_eq!(destination("/w", path), result, "{path}");
        }
    }

    #[test]
    fn t62_a_source_cannot_leave_its_root() {
        for (path, result) in [("../../f", "f"), (".", ""), ("/a//b/", "a/b"), ("*", "*")] {
            assert_eq!(source(path), result, "{path}");
        }
    }

    #[test]
    fn t67_the_first_dot_component_is_the_pivot() {
        for (path, result) in [
            ("p/./q/r", "p/./q/r"),
            ("/p/../s/./q/./r", "s/./q/r"),
            ("./q", "q"),
            ("/./q", "q"),
            ("a/**/*.txt", "a/**/*.txt"),
        ] {
            assert_eq!(source_with_parents(path), result, "{path}");
        }
    }
}
