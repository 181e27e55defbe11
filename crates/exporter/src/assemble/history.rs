//! The history of an image: one line for each instruction, one layer for each line that made one.

use oci::History;

use crate::image::Image;

/// Who writes the lines of layers that no instruction accounts for.
const COMMENT: &str = "buildkit.exporter.image.v0";

/// Returns the whole history of `image`, whose base has `base_layers` layers (`dockerfile.md` §10.4).
///
/// The lines of the base stay as they are. After it, as many lines as there are layers are not empty:
/// lines are added for layers that have none, and lines that have no layer are made empty.
pub(super) fn of(image: &Image, base_layers: usize, epoch: Option<&str>) -> Vec<History> {
    let base = image.base.iter();
    let mut history: Vec<History> = base
        .flat_map(|base| base.config.value().history.clone())
        .collect();
    let last_of_base = history.iter().rev().find_map(|line| line.created.clone());
    match_to_layers(
        &mut history,
        &vec![last_of_base.clone(); base_layers],
        "layer of the base image",
    );

    let times: Vec<Option<String>> = image
        .layers
        .iter()
        .map(|layer| Some(layer.created.clone()))
        .collect();
    let mut added = image.history.clone();
    match_to_layers(&mut added, &times, "layer without an instruction");
    date(&mut added, &times, last_of_base, epoch);
    history.append(&mut added);
    history
}

/// Makes as many lines not empty as there are layers; `times` has one time for each layer.
fn match_to_layers(history: &mut Vec<History>, times: &[Option<String>], created_by: &str) {
    let mut matched = 0;
    for line in &mut *history {
        if !line.empty_layer {
            line.empty_layer = matched == times.len();
            matched += usize::from(!line.empty_layer);
        }
    }
    history.extend(times[matched..].iter().map(|created| History {
        created: created.clone(),
        created_by: Some(created_by.to_owned()),
        comment: Some(COMMENT.to_owned()),
        ..History::default()
    }));
}

/// Gives a time to every line that has none: its layer's, else that of the last new layer above,
/// else of the first new layer, else of the base. With an epoch, all lines get the epoch.
fn date(
    history: &mut [History],
    times: &[Option<String>],
    last_of_base: Option<String>,
    epoch: Option<&str>,
) {
    let mut latest = times.first().cloned().unwrap_or(last_of_base);
    let mut of_layers = times.iter();
    for line in history {
        if !line.empty_layer
            && let Some(time) = of_layers.next()
        {
            latest.clone_from(time);
        }
        line.created = match epoch {
            Some(epoch) => Some(epoch.to_owned()),
            None => line.created.take().or_else(|| latest.clone()),
        };
    }
}
