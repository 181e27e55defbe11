//! Whole deliveries, read back by our validator and by the tools that users have.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

// Under the short name that the workspace knows it by.
extern crate rbuild_exporter as exporter;

mod archives;
mod attributes;
mod directories;
mod failures;
mod files;
mod fixture;
mod kept;
mod pushing;
mod readers;
mod registry_process;
mod schemas;
mod validation;

/// Says that a test did not run; an error where every test has to.
#[expect(clippy::print_stderr, reason = "who runs the tests has to know")]
fn skipped(reason: &str) {
    assert_ne!(
        std::env::var("RBUILD_TEST_STRICT").as_deref(),
        Ok("1"),
        "SKIPPED: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
}
