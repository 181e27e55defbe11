//! One request, and what can be wrong with it.

/// Why a registry did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {}

impl RequestError {
    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        None
    }
}
