//! Image layouts: directories that hold what a registry would serve.

/// Why a directory does not give what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {}
