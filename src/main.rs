//! `rbuild`: builds container images from Dockerfiles, without a daemon and without root.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod config;
mod environment;
mod ui;

fn main() {}
