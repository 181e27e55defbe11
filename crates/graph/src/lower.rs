//! From the syntax tree to the graph.

use std::collections::BTreeSet;

use dockerfile::Source;
use dockerfile::ast::Dockerfile;

use crate::base::{BaseRequest, Bases};
use crate::definition::Definition;
use crate::error::{LowerError, LowerErrorKind};
use crate::vertex::Graph;

/// How far a round of lowering came.
#[derive(Clone, Debug)]
pub enum Lowering {
    /// These images have to be known first; at least one.
    Missing(BTreeSet<BaseRequest>),
    /// Everything that has to be done.
    Graph(Graph),
}

/// Lowers `dockerfile`, as far as `bases` allow.
///
/// [`Graph::warnings`] holds what variables and base images reveal, for the stages that the target
/// needs; what the text alone shows is [`dockerfile::lint::check`]'s to say. Neither is filtered
/// by the file's check directive.
///
/// # Errors
///
/// Anything the specification refuses in a file that parses: unknown targets and stages, cycles,
/// malformed image names and platforms anywhere in the file; wrong values in what the target
/// needs; a base image that is not for a platform somebody asked for explicitly.
pub fn lower(
    definition: &Definition,
    dockerfile: &Dockerfile,
    source: &Source,
    bases: &Bases,
) -> Result<Lowering, LowerError> {
    let _ = (definition, dockerfile, source, bases);
    Err(LowerError {
        span: None,
        kind: Box::new(LowerErrorKind::Target {
            target: String::new(),
        }),
        warnings: Vec::new(),
    })
}
