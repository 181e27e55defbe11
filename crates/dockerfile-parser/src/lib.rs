//! Dockerfile text to a spanned syntax tree, without meaning; no I/O.
