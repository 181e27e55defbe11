//! Early cut-off: a step that had to run and made what an earlier one had made.
//!
//! The earlier layer takes the place of the new one then, so that everything that is built on it is
//! found again. Which layers were made on a stack of layers is remembered; the last few of them are
//! candidates.

use oci::Digest;
use serde::{Deserialize, Serialize};
use store::Kind;
use tracing::info;

use super::{Execution, ResultRecord};
use crate::error::SolveErrorKind;
use crate::filesystem::{FileSystem, SolvedLayer};

/// Records of the layers that were made on a stack of layers.
const ONTO: Kind = Kind::new("onto");

/// How many layers are remembered for each.
const CANDIDATES: usize = 8;

/// The layers made on a stack, the latest first.
#[derive(Default, Serialize, Deserialize)]
struct Onto {
    results: Vec<ResultRecord>,
}

impl Execution {
    /// Whether no step has ever kept a layer on `root`: whatever is to run on it has to.
    pub(super) fn is_untrodden(&self, root: &FileSystem) -> bool {
        let onto: Option<Onto> = self.solver.store.records().get(ONTO, &root.identity());
        onto.is_none()
    }

    /// Returns the earlier result that `made`, a layer on `root`, is the same as; else `made`. Blocks.
    pub(super) fn cut_off(
        &self,
        made: ResultRecord,
        root: &FileSystem,
    ) -> Result<ResultRecord, SolveErrorKind> {
        let store = &self.solver.store;
        let layers = store.layers();
        if !layers.contains(&made.layer) {
            // It is packed, and nothing is built on it.
            return Ok(made);
        }
        let key: Digest = root.identity();
        let mut onto: Onto = store.records().get(ONTO, &key).unwrap_or_default();
        let candidates: Vec<_> = onto.results.iter().map(|result| result.layer).collect();
        let lowers: Vec<_> = root.layers().iter().map(SolvedLayer::id).collect();
        let same = layers.same(&made.layer, &candidates, &lowers, self.solver.latest_mtime);
        let earlier = same.and_then(|same| {
            let at = onto
                .results
                .iter()
                .position(|result| result.layer == same)?;
            Some(onto.results.remove(at))
        });
        let result = match earlier {
            Some(earlier) => {
                info!(layer = %earlier.layer, "made again what there was");
                layers.take_back(&made.layer)?;
                let programs = made.programs;
                ResultRecord {
                    programs,
                    ..earlier
                }
            }
            None => made,
        };
        onto.results.insert(0, result.clone());
        onto.results.truncate(CANDIDATES);
        store.records().put(ONTO, &key, &onto)?;
        Ok(result)
    }
}
