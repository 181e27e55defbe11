//! Comments, and what a source knows of its lines.

use dockerfile::Span;

use super::support::{parsed, source};

#[test]
fn comments_above_describe() {
    let file = parsed(
        "# syntax=docker/dockerfile:1\n# V the version\nARG V\n# dropped\n#\n\n# a  builds\nFROM x AS A\n",
    );
    assert_eq!(file.global_args[0].description("V"), Some("the version"));
    let from = &file.stages[0].from;
    assert_eq!(from.comments.len(), 1);
    assert_eq!(from.description("a"), Some("builds"));
    assert_eq!(from.description("b"), None);
}

#[test]
fn the_source_knows_its_lines() {
    let source = source("FROM é\nRUN x\n");
    assert_eq!(source.line_count(), 3);
    assert_eq!(
        (source.line(1), source.line(3), source.line(4)),
        (Some("FROM é"), Some(""), None)
    );
    assert_eq!(source.position(7).column, 7);
    assert_eq!(source.line_range(Span::new(0, 8)), (1, 1));
    assert_eq!(source.line_range(Span::new(8, 8)), (2, 2));
    assert_eq!(source.line_range(Span::new(100, 200)), (3, 3));
}
