//! The language, section by section of the specification: mostly its own tables.

mod language {
    mod arguments;
    mod bytes;
    mod comments;
    mod directives;
    mod expansion;
    mod flags;
    mod heredocs;
    mod ignoring;
    mod lines;
    mod mounts;
    mod support;
}
