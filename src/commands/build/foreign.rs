//! Programs in an image that its machines cannot run: somebody copied the wrong ones.

use dockerfile::Span;
use graph::Graph;
use sandbox::Architecture;
use solver::{Several, Solution};

/// Programs of another platform than the image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Foreign {
    pub(super) text: String,
    /// The instruction that copied them.
    pub(super) span: Span,
}

/// Finds what was copied right into the images; what other stages work with is their business.
pub(super) fn find(graph: &Graph, solution: &Solution) -> Vec<Foreign> {
    let vertices = graph.by_id();
    let mut found = Vec::new();
    for image in &graph.images {
        let platform = image.platform.normalized();
        let known = platform.architecture.parse::<Architecture>().ok();
        let Some(architecture) = known.filter(|_| platform.os == "linux") else {
            continue;
        };
        let mut next = image.root;
        while let Some(vertex) = next.and_then(|id| vertices.get(&id)) {
            next = vertex.op.root();
            let programs = solution.programs(vertex.id).into_iter();
            for (of, Several { path, count }) in
                programs.flat_map(|programs| programs.foreign_to(architecture))
            {
                let others = match count {
                    1 => String::new(),
                    2 => ", as is another file that is copied with it".to_owned(),
                    count => format!(", as are {} others that are copied with it", count - 1),
                };
                let path = path.display();
                let text = format!(
                    "{path} is a program for linux/{of}, but the image is for {platform}{others}"
                );
                found.push(Foreign {
                    text,
                    span: vertex.span,
                });
            }
        }
    }
    found
}
