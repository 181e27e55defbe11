//! Tests that this machine cannot run.

/// Why a test cannot run here. As an error it ends the test, which then counts as ignored, or, where
/// `RBUILD_TEST_STRICT` is `1`, as failed.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this machine cannot run it: {}", self.0)
    }
}

impl std::error::Error for Skip {}

/// Whether a test that cannot run is a failure.
#[must_use]
pub fn is_strict() -> bool {
    std::env::var_os("RBUILD_TEST_STRICT").is_some_and(|value| value == "1")
}
