//! Dockerfile text to a spanned syntax tree, without meaning; no I/O.
//!
//! ```text
//! bytes ─► Source ─► lex: logical lines ─► parse: Dockerfile (ast) ─► lint
//!                                              └ expand, when the caller knows the variables
//! ```
//!
//! - [`source`] holds the text and turns byte ranges into lines and columns.
//! - [`parse`](parse()) gives the tree of [`ast`], or every error of the file, in order.
//! - Words of the tree keep their quotes, escapes and variables; [`expand`] removes them once
//!   the caller can say what the variables are.
//! - [`ignore`] reads ignore files and matches paths, [`glob`] matches one path component.
//! - [`lint`] finds what is legal but unwise, as far as the text alone can tell.
#![forbid(unsafe_code)]

pub mod ast;
pub mod directive;
pub mod error;
pub mod expand;
pub mod glob;
mod heredoc;
pub mod ignore;
pub mod instructions;
mod json;
mod lex;
pub mod lint;
pub mod mount;
pub mod node;
pub mod parse;
pub mod quote;
pub mod source;

pub use error::{DockerfileError, DockerfileErrorKind};
pub use parse::{parse, parse_onbuild_trigger};
pub use source::{Source, Span};
