//! Templates of `--format`: the part of Go's template language that people use on their command lines.
//!
//! ```text
//! {{.Name}}  {{json .Manifest}}  {{index .Image "linux/amd64"}}  {{(index .Image "linux/amd64").Config.Env}}
//! {{range .Manifest.Manifests}}{{.Digest}} {{.Platform.OS}}{{println}}{{else}}none{{end}}
//! {{range $platform, $image := .Image}}…{{end}}  {{with .Annotations}}…{{end}}  {{if and .A (not .B)}}…{{end}}
//! {{$x := .Name}}{{$x}}  {{.Size | printf "%d"}}  {{- .Name -}}  {{/* nothing */}}
//! ```
//!
//! Data are JSON documents. Go's programs name fields as their source does, `.Config.WorkingDir` or
//! `.MediaType`, where JSON says `workingDir` or `mediaType`; so letters' case and punctuation do not
//! count where a key is looked up.

mod evaluate;
mod functions;
mod parse;

use serde_json::Value;

use crate::ui::report::Failure;
use parse::Node;

/// A template, ready to be filled in.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
}

/// Why a text is no template, or cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: {problem}, at `{at}`")]
pub(crate) struct TemplateError {
    /// What is wrong.
    pub(crate) problem: String,
    /// The part of the template that is to blame.
    pub(crate) at: String,
}

impl Template {
    /// Reads the value of `--format`; none for the usual form, JSON.
    pub(crate) fn asked(format: Option<&str>) -> Result<Option<Self>, Failure> {
        let template = format.filter(|format| *format != "json");
        let template = template.map(str::parse).transpose();
        template.map_err(|error: TemplateError| Failure::of_usage(&error, None))
    }

    /// Fills the template in.
    pub(crate) fn fill(&self, data: &Value) -> Result<String, TemplateError> {
        evaluate::fill(&self.nodes, data)
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        Ok(Self {
            text: text.to_owned(),
            nodes: parse::parse(text)?,
        })
    }
}

#[cfg(test)]
mod tests;
