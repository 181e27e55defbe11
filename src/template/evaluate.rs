//! From nodes and data to text.

use serde_json::Value;

use super::TemplateError;
use super::functions;
use super::parse::{Base, Node, Operand, Pipeline};

/// Fills `nodes` in with `data`.
pub(super) fn fill(nodes: &[Node], data: &Value) -> Result<String, TemplateError> {
    let mut state = State {
        variables: vec![(String::new(), data.clone())],
        text: String::new(),
    };
    state.nodes(nodes, data)?;
    Ok(state.text)
}

struct State {
    /// Innermost last; the first, without a name, is what the whole template is about.
    variables: Vec<(String, Value)>,
    text: String,
}

impl State {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), TemplateError> {
        let known = self.variables.len();
        for node in nodes {
            match node {
                Node::Text(text) => self.text += text,
                Node::Action(pipeline) => {
                    let value = self.value(pipeline, dot)?;
                    match pipeline.names.as_slice() {
                        [] => self.text += &functions::shown(&value),
                        names => self.name(names, [value]),
                    }
                }
                Node::If(condition, then, otherwise) => {
                    let value = self.value(condition, dot)?;
                    let scope = self.variables.len();
                    self.name(&condition.names, [value.clone()]);
                    let branch = if functions::is_true(&value) {
                        then
                    } else {
                        otherwise
                    };
                    self.nodes(branch, dot)?;
                    self.variables.truncate(scope);
                }
                Node::With(condition, then, otherwise) => {
                    let value = self.value(condition, dot)?;
                    let scope = self.variables.len();
                    self.name(&condition.names, [value.clone()]);
                    if functions::is_true(&value) {
                        self.nodes(then, &value)?;
                    } else {
                        self.nodes(otherwise, dot)?;
                    }
                    self.variables.truncate(scope);
                }
                Node::Range(over, each, otherwise) => self.range(over, each, otherwise, dot)?,
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn range(
        &mut self,
        over: &Pipeline,
        each: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), TemplateError> {
        let items: Vec<(Value, Value)> = match self.value(over, dot)? {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                items.map(|(n, item)| (Value::from(n), item)).collect()
            }
            Value::Object(entries) => {
                // As Go does, in the order of the keys.
                let mut entries: Vec<_> = entries.into_iter().collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                let entries = entries.into_iter();
                entries
                    .map(|(key, item)| (Value::String(key), item))
                    .collect()
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                return Err(TemplateError {
                    problem: format!("range can't iterate over {}", functions::shown(&other)),
                    at: over.text.clone(),
                });
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let scope = self.variables.len();
            match over.names.len() {
                0 => {}
                1 => self.name(&over.names, [item.clone()]),
                _ => self.name(&over.names, [key, item.clone()]),
            }
            self.nodes(each, &item)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    fn name(&mut self, names: &[String], values: impl IntoIterator<Item = Value>) {
        let names = names.iter().cloned();
        self.variables.extend(names.zip(values));
    }

    fn value(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, TemplateError> {
        let mut value = None;
        for command in &pipeline.commands {
            value = Some(self.command(command, value, dot, &pipeline.text)?);
        }
        Ok(value.unwrap_or_default())
    }

    fn command(
        &self,
        words: &[Operand],
        piped: Option<Value>,
        dot: &Value,
        text: &str,
    ) -> Result<Value, TemplateError> {
        let error = |problem: String| TemplateError {
            problem,
            at: text.to_owned(),
        };
        let Some((first, rest)) = words.split_first() else {
            return Ok(Value::Null);
        };
        if let Base::Function(name) = &first.base {
            let mut arguments = rest
                .iter()
                .map(|operand| self.operand(operand, dot, text))
                .collect::<Result<Vec<_>, _>>()?;
            arguments.extend(piped);
            let value = functions::call(name, &arguments).map_err(error)?;
            return fields(value, &first.fields).map_err(error);
        }
        if !rest.is_empty() || piped.is_some() {
            return Err(error("only functions take arguments".to_owned()));
        }
        self.operand(first, dot, text)
    }

    fn operand(&self, operand: &Operand, dot: &Value, text: &str) -> Result<Value, TemplateError> {
        let error = |problem: String| TemplateError {
            problem,
            at: text.to_owned(),
        };
        let base = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Variable(name) => {
                let mut variables = self.variables.iter().rev();
                let found = variables.find(|(known, _)| known == name);
                let found = found.ok_or_else(|| error(format!("undefined variable ${name}")))?;
                found.1.clone()
            }
            Base::Function(name) => functions::call(name, &[]).map_err(error)?,
            Base::Literal(value) => value.clone(),
            Base::Group(pipeline) => self.value(pipeline, dot)?,
        };
        fields(base, &operand.fields).map_err(error)
    }
}

/// Returns a field of a field.
fn fields(mut value: Value, names: &[String]) -> Result<Value, String> {
    for name in names {
        value = match value {
            Value::Object(entries) => functions::entry(&entries, name)
                .cloned()
                .unwrap_or_default(),
            // What a document does not say is nothing, and so is what that would say.
            Value::Null => Value::Null,
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                return Err(format!(
                    "can't evaluate field {name} in {}",
                    functions::shown(&value)
                ));
            }
        };
    }
    Ok(value)
}
