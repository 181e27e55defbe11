//! `--call=targets`: the stages that can be built.

use dockerfile::ast::{Dockerfile, Stage};

use super::super::options::Options;
use super::{Contexts, Failure, Told, json};
use crate::ui::report;

/// A stage that can be built.
pub(super) struct Target<'a> {
    /// Its name; the last stage may have none.
    pub(super) name: Option<&'a str>,
    /// Whether it is built where none is named.
    pub(super) is_default: bool,
    /// What the comment above its FROM says.
    pub(super) description: Option<&'a str>,
    /// The stage itself.
    pub(super) stage: &'a Stage,
}

/// Lists the stages.
pub(super) fn run(options: &Options, contexts: &Contexts) -> Result<Told, Failure> {
    let source = &contexts.dockerfile;
    let parsed = super::super::parse(source)?;
    let targets = targets(&parsed, options.definition.target.as_deref());
    let rows: Vec<[String; 2]> = targets.iter().map(row).collect();
    let mut table = vec![["TARGET", "DESCRIPTION"]];
    table.extend(
        rows.iter()
            .map(|[name, description]| [name.as_str(), description.as_str()]),
    );
    Ok(Told {
        text: report::columns(&table, 3),
        json: json::targets(source, &targets)?,
        error: None,
        clean: true,
    })
}

fn targets<'a>(parsed: &'a Dockerfile, wanted: Option<&str>) -> Vec<Target<'a>> {
    let last = parsed.stages.len().saturating_sub(1);
    let wanted = wanted.map(str::to_lowercase);
    let target = |(index, stage): (usize, &'a Stage)| {
        let name = stage.name();
        let is_default = match &wanted {
            Some(wanted) => name == Some(wanted),
            None => index == last,
        };
        (name.is_some() || index == last).then(|| Target {
            name,
            is_default,
            description: name.and_then(|name| stage.from.description(name)),
            stage,
        })
    };
    parsed
        .stages
        .iter()
        .enumerate()
        .filter_map(target)
        .collect()
}

fn row(target: &Target<'_>) -> [String; 2] {
    let name = match (target.name, target.is_default) {
        (Some(name), true) => format!("{name} (default)"),
        (Some(name), false) => name.to_owned(),
        (None, true) => "(default)".to_owned(),
        (None, false) => String::new(),
    };
    [name, target.description.unwrap_or_default().to_owned()]
}
