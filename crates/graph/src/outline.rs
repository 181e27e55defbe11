//! What a target takes from the command line, for listings (`dockerfile.md` §17.4).

use std::collections::{BTreeMap, BTreeSet};

use dockerfile::Span;
use dockerfile::ast::{self, Arg, Dockerfile, Instruction, Kind};

use crate::scope::{StageScope, Variables};

/// A build argument that the target's stages declare or that their FROMs use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildArg {
    /// Its name.
    pub name: String,
    /// Its value in this build; empty where it has none.
    pub value: String,
    /// What the comment above its first declaration that has one says of it.
    pub description: Option<String>,
    /// The instruction that declares it first.
    pub span: Span,
}

/// Returns the arguments of `stages`, which come with what their scopes were in the end, in the
/// order of their declarations.
pub(crate) fn build_args<'s>(
    dockerfile: &Dockerfile,
    globals: &Variables,
    stages: impl Iterator<Item = (&'s ast::Stage, Option<&'s StageScope>)>,
) -> Vec<BuildArg> {
    let mut used = BTreeSet::new();
    let mut values = BTreeMap::new();
    let mut declarations = Vec::new();
    for (stage, scope) in stages {
        let from = &stage.from.kind;
        for word in [Some(&from.image), from.platform.as_ref()] {
            used.extend(
                word.map(|word| names_in(&word.text, globals, dockerfile))
                    .unwrap_or_default(),
            );
        }
        for (name, value) in scope.into_iter().flat_map(StageScope::args) {
            values.insert(name.to_owned(), value.to_owned());
        }
        for instruction in &stage.instructions {
            if let Kind::Arg(arg) = &instruction.kind {
                declarations.extend(declared(arg, instruction));
            }
        }
    }
    used.extend(declarations.iter().map(|arg| arg.name.clone()));
    // From the last to the first, as defaults use what stands above them.
    for declaration in dockerfile
        .global_args
        .iter()
        .rev()
        .flat_map(|arg| arg.kind.declarations.iter().rev())
    {
        if let (true, Some(default)) = (used.contains(&declaration.name.text), &declaration.default)
        {
            used.extend(names_in(&default.text, globals, dockerfile));
        }
    }
    let in_globals = dockerfile
        .global_args
        .iter()
        .flat_map(|arg| declared(&arg.kind, arg));
    let mut args: Vec<BuildArg> = Vec::new();
    for mut arg in in_globals
        .chain(declarations)
        .filter(|arg| used.contains(&arg.name))
    {
        if let Some(known) = args.iter_mut().find(|known| known.name == arg.name) {
            known.description = known.description.take().or(arg.description);
            continue;
        }
        let value = values.remove(&arg.name);
        let global = || globals.get(&arg.name).map(str::to_owned);
        arg.value = value.or_else(global).unwrap_or_default();
        args.push(arg);
    }
    args
}

/// The variables that a word reads.
fn names_in(text: &str, globals: &Variables, dockerfile: &Dockerfile) -> BTreeSet<String> {
    match globals.expand(text, dockerfile.directives.escape) {
        Ok(expansion) => expansion.used.into_iter().chain(expansion.unset).collect(),
        // Such a word is an error, which is told elsewhere.
        Err(_) => BTreeSet::new(),
    }
}

fn declared<'i, K>(
    arg: &'i Arg,
    instruction: &'i Instruction<K>,
) -> impl Iterator<Item = BuildArg> + 'i {
    arg.declarations.iter().map(|declaration| {
        let name = &declaration.name.text;
        BuildArg {
            name: name.clone(),
            value: String::new(),
            description: instruction.description(name).map(str::to_owned),
            span: instruction.span,
        }
    })
}
