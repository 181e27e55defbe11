//! What a stage has come to, instruction by instruction.

use oci::{BaseImage, ImageConfig, Platform};

use crate::op::{ContextName, Tree};
use crate::scope::StageScope;
use crate::vertex::{HistoryLine, VertexId};

/// The state of a stage; what a stage that starts from it inherits.
#[derive(Clone, Debug)]
pub(super) struct StageState<'a> {
    /// The vertex whose file system it has; `None` is an empty one.
    pub(super) root: Option<VertexId>,
    /// Set where the stage is a directory of the user and nothing else.
    pub(super) directory: Option<String>,
    /// The config, without layers and history.
    pub(super) config: ImageConfig,
    /// The image at the bottom.
    pub(super) base: Option<&'a BaseImage>,
    /// What was added to the history.
    pub(super) history: Vec<HistoryLine>,
    /// The variables.
    pub(super) scope: StageScope,
    /// Whose programs RUN starts.
    pub(super) platform: Platform,
    /// Whether a WORKDIR of this file has been seen.
    pub(super) has_workdir: bool,
}

impl StageState<'_> {
    /// The state of `FROM scratch`.
    pub(super) fn empty(platform: &Platform) -> Self {
        let mut config = ImageConfig::default();
        config.set_platform(platform);
        config.config.working_dir = "/".to_owned();
        Self {
            root: None,
            directory: None,
            config,
            base: None,
            history: Vec::new(),
            scope: StageScope::default(),
            platform: platform.clone(),
            has_workdir: false,
        }
    }

    /// Returns the files, for others to copy from.
    pub(super) fn tree(&self) -> Tree {
        match (&self.directory, self.root) {
            (Some(name), _) => Tree::Context(ContextName::Named(name.clone())),
            (None, Some(root)) => Tree::Vertex(root),
            (None, None) => Tree::Empty,
        }
    }

    /// Returns the working directory; absolute.
    pub(super) fn cwd(&self) -> &str {
        match self.config.config.working_dir.as_str() {
            "" => "/",
            cwd => cwd,
        }
    }
}
