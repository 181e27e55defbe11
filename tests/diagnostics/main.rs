//! What rbuild says of Dockerfiles, word for word: `--call` and errors.
//!
//! `BLESS=1` writes what was found over what was expected; the difference is to be reviewed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "panics and prints are how a test reports"
)]

mod bases;
mod check;
mod command;
mod completion;
mod coverage;
mod errors;
mod threats;
