//! What a stage has come to, instruction by instruction.

use std::collections::BTreeMap;

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
    /// The stage whose history comes before its own.
    pub(super) parent: Option<usize>,
    /// What it added to the history itself.
    pub(super) history: Vec<HistoryLine>,
    /// Where each variable stands in the config's environment.
    pub(super) env_places: BTreeMap<String, usize>,
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
            parent: None,
            history: Vec::new(),
            env_places: BTreeMap::new(),
            scope: StageScope::default(),
            platform: platform.clone(),
            has_workdir: false,
        }
    }

    /// Makes the config's environment that of the scope: what a stage starts with.
    pub(super) fn inherit_env(&mut self) {
        self.env_places.clear();
        for (place, pair) in self.config.config.env.iter().enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.scope.set_env(name, value);
            self.env_places.entry(name.to_owned()).or_insert(place);
        }
    }

    /// Defines a variable in scope and config; there it keeps its place.
    pub(super) fn set_env(&mut self, name: &str, value: &str) {
        self.scope.set_env(name, value);
        let env = &mut self.config.config.env;
        let pair = format!("{name}={value}");
        match self
            .env_places
            .get(name)
            .and_then(|&place| env.get_mut(place))
        {
            Some(known) => *known = pair,
            None => {
                self.env_places.insert(name.to_owned(), env.len());
                env.push(pair);
            }
        }
    }

    /// Returns the state that a stage on top of this one, which is at `index`, starts with.
    pub(super) fn child(&self, index: usize) -> Self {
        Self {
            directory: None,
            parent: Some(index),
            history: Vec::new(),
            config: self.config.clone(),
            scope: self.scope.clone(),
            env_places: BTreeMap::new(),
            platform: self.platform.clone(),
            ..*self
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
