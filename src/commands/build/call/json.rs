//! The answers as JSON, in the reference's form.

use dockerfile::lint::Warning;
use dockerfile::{Source, Span};
use serde::Serialize;

use super::Failure;
use super::outline::{Asked, Outline};
use super::targets::Target;
use crate::ui::report::Finding;

#[derive(Serialize)]
struct Location {
    #[serde(rename = "sourceIndex")]
    source_index: usize,
    ranges: Vec<Range>,
}

#[derive(Serialize)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize)]
struct Position {
    line: usize,
}

impl Location {
    fn new(source: &Source, spans: impl IntoIterator<Item = Span>) -> Self {
        let range = |span| {
            let (first, last) = source.line_range(span);
            Range {
                start: Position { line: first },
                end: Position { line: last },
            }
        };
        Self {
            source_index: 0,
            ranges: spans.into_iter().map(range).collect(),
        }
    }
}

#[derive(Serialize)]
struct CheckAnswer<'a> {
    warnings: Vec<WarningAnswer<'a>>,
    sources: [SourceAnswer<'a>; 1],
    #[serde(rename = "buildError", skip_serializing_if = "Option::is_none")]
    build_error: Option<BuildError>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WarningAnswer<'a> {
    rule_name: &'static str,
    description: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    detail: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct SourceAnswer<'a> {
    filename: &'a str,
    language: &'static str,
    data: String,
}

#[derive(Serialize)]
struct BuildError {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<Location>,
}

/// The answer to `--check`.
pub(super) fn check(
    source: &Source,
    warnings: &[Warning],
    error: Option<&Failure>,
) -> Result<String, Failure> {
    let warnings = warnings.iter().map(|warning| WarningAnswer {
        rule_name: warning.rule.name(),
        description: warning.rule.description(),
        url: warning.rule.url(),
        detail: &warning.detail,
        location: Location::new(source, [warning.span]),
    });
    text(&CheckAnswer {
        warnings: warnings.collect(),
        sources: [SourceAnswer {
            filename: source.name(),
            language: "Dockerfile",
            data: base64(source.text().as_bytes()),
        }],
        build_error: error.map(|failure| build_error(source, failure)),
    })
}

/// Everything that is wrong in one message, a line for each, with the places in the same order.
fn build_error(source: &Source, failure: &Failure) -> BuildError {
    let reasons: Vec<&str> = failure.findings.iter().map(Finding::reason).collect();
    let excerpts = failure
        .findings
        .iter()
        .filter_map(|finding| finding.excerpt.as_ref());
    let spans: Vec<Span> = excerpts.map(|excerpt| excerpt.instruction).collect();
    BuildError {
        message: reasons.join("\n"),
        location: (!spans.is_empty()).then(|| Location::new(source, spans)),
    }
}

#[derive(Serialize)]
struct OutlineAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<ArgAnswer<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<AskedAnswer<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<AskedAnswer<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct ArgAnswer<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct AskedAnswer<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

/// The answer to `--call=outline`.
pub(super) fn outline(source: &Source, outline: &Outline<'_>) -> Result<String, Failure> {
    let Outline {
        name,
        description,
        args,
        secrets,
        agents,
    } = outline;
    let args = args.iter().map(|arg| ArgAnswer {
        name: &arg.name,
        description: arg.description.as_deref(),
        value: &arg.value,
        location: Location::new(source, [arg.span]),
    });
    text(&OutlineAnswer {
        name: *name,
        description: *description,
        args: args.collect(),
        secrets: asked(source, secrets),
        ssh: asked(source, agents),
        sources: [base64(source.text().as_bytes())],
    })
}

fn asked<'a>(source: &Source, asked: &'a [Asked]) -> Vec<AskedAnswer<'a>> {
    let answer = |asked: &'a Asked| AskedAnswer {
        name: &asked.id,
        required: asked.required,
        location: Location::new(source, [asked.span]),
    };
    asked.iter().map(answer).collect()
}

#[derive(Serialize)]
struct TargetsAnswer<'a> {
    targets: Vec<TargetAnswer<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct TargetAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(rename = "default", skip_serializing_if = "std::ops::Not::not")]
    is_default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    location: Location,
}

/// The answer to `--call=targets`.
pub(super) fn targets(source: &Source, targets: &[Target<'_>]) -> Result<String, Failure> {
    let answers = targets.iter().map(|target| {
        let from = &target.stage.from;
        TargetAnswer {
            name: target.name,
            is_default: target.is_default,
            description: target.description,
            base: &from.kind.image.text,
            platform: from.kind.platform.as_ref().map(|word| word.text.as_str()),
            location: Location::new(source, [from.span]),
        }
    });
    text(&TargetsAnswer {
        targets: answers.collect(),
        sources: [base64(source.text().as_bytes())],
    })
}

fn text(answer: &impl Serialize) -> Result<String, Failure> {
    let json = serde_json::to_string_pretty(answer);
    Ok(json.map_err(|error| Failure::new(&error, None))? + "\n")
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
