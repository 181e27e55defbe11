//! From nodes to the tree: flags and arguments are checked and typed.

mod copy;
mod flags;
mod healthcheck;
mod run;

use crate::ast::{
    Arg, Command, Dockerfile, From, Instruction, Kind, Onbuild, Pair, PairForm, Pairs, Stage,
    StageName, Trivia, TriviaKind, Word,
};
use crate::directive::Escape;
use crate::error::{DockerfileError, DockerfileErrorKind};
use crate::instructions::{INSTRUCTIONS, Keyword};
use crate::lex::Lexer;
use crate::lint::suggestion;
use crate::mount;
use crate::node::{self, Arguments, Node};
use crate::parse::flags::Flags;
use crate::source::{Source, Span};

/// Parses a file.
///
/// # Errors
///
/// At least one, in the order of the file: one for each instruction that is wrong, and those of
/// the file as a whole. (The reference stops at its first, and looks for errors of the text, those
/// without a line number, before any other.)
pub fn parse(source: &Source) -> Result<Dockerfile, Vec<DockerfileError>> {
    let nodes = node::read(source);
    let mut errors = nodes.errors;
    let mut global_args = Vec::new();
    let mut stages: Vec<Stage> = Vec::new();
    let mut spans = Vec::with_capacity(nodes.nodes.len());
    for node in nodes.nodes {
        spans.push(node.span);
        match (item(&node), stages.last_mut()) {
            (Err(error), _) => {
                // Below a FROM that could not be read, the rest is still in a stage.
                if node.known == Some(Keyword::From) && stages.is_empty() {
                    stages.push(Stage {
                        from: unread_from(node),
                        instructions: Vec::new(),
                    });
                }
                errors.push(error);
            }
            (Ok(Item::From(from)), _) => {
                let from = instruction(node, from);
                stages.push(Stage {
                    from,
                    instructions: Vec::new(),
                });
            }
            (Ok(Item::Other(kind)), Some(stage)) => {
                stage.instructions.push(instruction(node, kind))
            }
            (Ok(Item::Other(Kind::Arg(arg))), None) => global_args.push(instruction(node, arg)),
            // Said once, and not where the FROM may be missing because of another error.
            (Ok(Item::Other(_)), None) if !errors.is_empty() => {}
            (Ok(Item::Other(_)), None) => {
                errors.push(error(
                    &node,
                    node.keyword.span,
                    DockerfileErrorKind::BeforeFirstStage,
                ));
            }
        }
    }
    if stages.is_empty() && errors.is_empty() {
        let end = source.line_span(source.line_count());
        let kind = DockerfileErrorKind::NoStages;
        errors.push(DockerfileError {
            span: end,
            instruction: end,
            kind,
        });
    }
    if errors.is_empty() {
        let trivia = trivia(source, &spans);
        Ok(Dockerfile {
            directives: nodes.directives,
            global_args,
            stages,
            trivia,
        })
    } else {
        // These keep only a build from going on that needs the step; but there will be none.
        errors.extend(mount::faults(&stages));
        errors.sort_by_key(|error| error.instruction.start);
        Err(errors)
    }
}

/// Parses a trigger from the `OnBuild` list of an image; the text may hold heredoc bodies below
/// its first line. Spans are those of `source`, which is made of that text alone.
///
/// # Errors
///
/// Anything that makes the text something else than one instruction, and the instructions that
/// cannot be triggers.
pub fn parse_onbuild_trigger(
    source: &Source,
    escape: Escape,
) -> Result<Instruction, DockerfileError> {
    let read = node::read_from(Lexer::without_directives(source, escape), source);
    if let Some(error) = read.errors.into_iter().next() {
        return Err(error);
    }
    let mut nodes = read.nodes.into_iter();
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => trigger(node),
        (first, second) => {
            let whole = Span::new(0, source.text().len());
            let span = second.or(first).map_or(whole, |node| node.span);
            let kind = DockerfileErrorKind::TriggerCount;
            Err(DockerfileError {
                span,
                instruction: span,
                kind,
            })
        }
    }
}

/// An instruction by where it may stand.
enum Item {
    From(From),
    Other(Kind),
}

fn error(node: &Node, span: Span, kind: DockerfileErrorKind) -> DockerfileError {
    DockerfileError {
        span,
        instruction: node.span,
        kind,
    }
}

fn instruction<K>(node: Node, kind: K) -> Instruction<K> {
    Instruction {
        span: node.span,
        keyword: node.keyword,
        text: node.text,
        comments: node.comments,
        empty_continuation: node.empty_continuation,
        kind,
    }
}

/// A place for a FROM with an error in it; never seen, as the file is refused.
fn unread_from(node: Node) -> Instruction<From> {
    let image = node.rest.clone();
    instruction(
        node,
        From {
            platform: None,
            image,
            name: None,
        },
    )
}

fn item(node: &Node) -> Result<Item, DockerfileError> {
    let Some(keyword) = node.known else {
        let nearest = suggestion(
            &node.keyword.text.to_ascii_uppercase(),
            INSTRUCTIONS.iter().map(|row| row.name),
        );
        let keyword = node.keyword.text.clone();
        let kind = DockerfileErrorKind::UnknownInstruction { keyword, nearest };
        return Err(error(node, node.keyword.span, kind));
    };
    let spec = keyword.spec();
    let flags = || Flags::read(node, spec);
    let kind = match keyword {
        Keyword::From => return Ok(Item::From(from(node)?)),
        Keyword::Add => Kind::Add(copy::add(node)?),
        Keyword::Copy => Kind::Copy(copy::copy(node)?),
        Keyword::Run => Kind::Run(run::run(node, &flags()?)?),
        Keyword::Healthcheck => Kind::Healthcheck(healthcheck::healthcheck(node)?),
        Keyword::Onbuild => Kind::Onbuild(onbuild(node)?),
        Keyword::Arg => flags().and_then(|_| arg(node)).map(Kind::Arg)?,
        Keyword::Env => flags()
            .and_then(|_| pairs(node, spec.name))
            .map(Kind::Env)?,
        Keyword::Label => flags()
            .and_then(|_| pairs(node, spec.name))
            .map(Kind::Label)?,
        Keyword::Cmd => flags().map(|_| Kind::Cmd(command(node)))?,
        Keyword::Entrypoint => flags().map(|_| Kind::Entrypoint(command(node)))?,
        Keyword::Shell => flags().and_then(|_| shell(node)).map(Kind::Shell)?,
        Keyword::Expose => {
            let ports = at_least_one(node, spec.name)?;
            flags().map(|_| Kind::Expose(ports))?
        }
        Keyword::Volume => {
            volume(node, spec.name).and_then(|paths| flags().map(|_| Kind::Volume(paths)))?
        }
        Keyword::Workdir => single(node, spec.name).map(Kind::Workdir)?,
        Keyword::User => single(node, spec.name).map(Kind::User)?,
        Keyword::StopSignal => single(node, spec.name).map(Kind::StopSignal)?,
        Keyword::Maintainer => single(node, spec.name).map(Kind::Maintainer)?,
    };
    Ok(Item::Other(kind))
}

fn from(node: &Node) -> Result<From, DockerfileError> {
    let words = node.arguments.words();
    let (image, name) = match words {
        [image] => (image, None),
        [image, as_keyword, name] if as_keyword.text.eq_ignore_ascii_case("as") => {
            (image, Some(stage_name(node, as_keyword, name)?))
        }
        _ => {
            let span = if words.is_empty() {
                node.keyword.span
            } else {
                node.rest.span
            };
            return Err(error(node, span, DockerfileErrorKind::FromArguments));
        }
    };
    let flags = Flags::read(node, Keyword::From.spec())?;
    Ok(From {
        platform: flags.value("platform"),
        image: image.clone(),
        name,
    })
}

fn stage_name(node: &Node, as_keyword: &Word, typed: &Word) -> Result<StageName, DockerfileError> {
    let name = typed.text.to_lowercase();
    let is_valid = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if !is_valid {
        let kind = DockerfileErrorKind::StageName {
            name: typed.text.clone(),
        };
        return Err(error(node, typed.span, kind));
    }
    Ok(StageName {
        as_keyword: as_keyword.clone(),
        typed: typed.clone(),
        name,
    })
}

fn arg(node: &Node) -> Result<Arg, DockerfileError> {
    let instruction = "ARG";
    let Arguments::Declarations(declarations) = &node.arguments else {
        let kind = DockerfileErrorKind::AtLeastOneArgument { instruction };
        return Err(error(node, node.keyword.span, kind));
    };
    if let Some(blank) = declarations
        .iter()
        .find(|declared| declared.name.text.is_empty())
    {
        let kind = DockerfileErrorKind::BlankName { instruction };
        return Err(error(node, blank.span, kind));
    }
    Ok(Arg {
        declarations: declarations.clone(),
    })
}

fn pairs(node: &Node, instruction: &'static str) -> Result<Pairs, DockerfileError> {
    let Arguments::Pairs(form, words) = &node.arguments else {
        let kind = DockerfileErrorKind::AtLeastOneArgument { instruction };
        return Err(error(node, node.keyword.span, kind));
    };
    let mut pairs = Vec::with_capacity(words.len());
    for (key, value) in words {
        let span = key.span.to(value.span);
        if key.text.is_empty() {
            let kind = DockerfileErrorKind::BlankName { instruction };
            return Err(error(node, span, kind));
        }
        pairs.push(Pair {
            key: key.clone(),
            value: value.clone(),
            span,
        });
    }
    let form: PairForm = *form;
    Ok(Pairs { form, pairs })
}

/// The argument of CMD and ENTRYPOINT.
fn command(node: &Node) -> Command {
    match node.arguments.json() {
        Some(words) => Command::Exec(words.to_vec()),
        None => Command::Shell(node.rest.clone()),
    }
}

fn shell(node: &Node) -> Result<Vec<Word>, DockerfileError> {
    match node.arguments.json() {
        Some(words) if !words.is_empty() => Ok(words.to_vec()),
        None if !node.rest.text.is_empty() => Err(error(
            node,
            node.rest.span,
            DockerfileErrorKind::ShellNotJson,
        )),
        Some(_) | None => {
            let kind = DockerfileErrorKind::AtLeastOneArgument {
                instruction: "SHELL",
            };
            Err(error(node, node.span, kind))
        }
    }
}

fn at_least_one(node: &Node, instruction: &'static str) -> Result<Vec<Word>, DockerfileError> {
    let words = node.arguments.words();
    if words.is_empty() {
        let kind = DockerfileErrorKind::AtLeastOneArgument { instruction };
        return Err(error(node, node.span, kind));
    }
    Ok(words.to_vec())
}

fn volume(node: &Node, instruction: &'static str) -> Result<Vec<Word>, DockerfileError> {
    let mut paths = at_least_one(node, instruction)?;
    for path in &mut paths {
        path.text = path.text.trim().to_owned();
        if path.text.is_empty() {
            return Err(error(node, path.span, DockerfileErrorKind::EmptyVolume));
        }
    }
    Ok(paths)
}

/// The whole rest of the line as one argument.
fn single(node: &Node, instruction: &'static str) -> Result<Word, DockerfileError> {
    let Arguments::Text(text) = &node.arguments else {
        let kind = DockerfileErrorKind::ExactlyOneArgument { instruction };
        return Err(error(node, node.keyword.span, kind));
    };
    let spec = node.known.map(Keyword::spec);
    spec.map_or(Ok(()), |spec| Flags::read(node, spec).map(|_| ()))?;
    Ok(text.clone())
}

fn onbuild(node: &Node) -> Result<Onbuild, DockerfileError> {
    let Arguments::Trigger(inner) = &node.arguments else {
        let kind = DockerfileErrorKind::AtLeastOneArgument {
            instruction: "ONBUILD",
        };
        return Err(error(node, node.keyword.span, kind));
    };
    Flags::read(node, Keyword::Onbuild.spec())?;
    let mut text = inner.text.clone();
    for heredoc in &node.heredocs {
        text.extend(["\n", &heredoc.body.text, &heredoc.delimiter]);
    }
    let span = inner.span.to(node
        .heredocs
        .last()
        .map_or(inner.span, |last| last.terminator));
    let inner = Node {
        span,
        heredocs: node.heredocs.clone(),
        ..Node::clone(inner)
    };
    let trigger = trigger(inner).map_err(|error| DockerfileError {
        instruction: node.span,
        ..error
    })?;
    Ok(Onbuild {
        text: Word { text, span },
        trigger: Box::new(trigger),
    })
}

fn trigger(node: Node) -> Result<Instruction, DockerfileError> {
    let refused = match node.known {
        Some(Keyword::Onbuild) => Some(DockerfileErrorKind::OnbuildChain),
        Some(keyword @ (Keyword::From | Keyword::Maintainer)) => {
            Some(DockerfileErrorKind::OnbuildTrigger {
                instruction: keyword.spec().name,
            })
        }
        _ => None,
    };
    if let Some(kind) = refused {
        return Err(error(&node, node.keyword.span, kind));
    }
    match item(&node)? {
        Item::Other(kind) => Ok(instruction(node, kind)),
        Item::From(_) => {
            let kind = DockerfileErrorKind::OnbuildTrigger {
                instruction: "FROM",
            };
            Err(error(&node, node.keyword.span, kind))
        }
    }
}

/// Everything between the instructions, line by line.
fn trivia(source: &Source, instructions: &[Span]) -> Vec<Trivia> {
    let directives_end = crate::directive::read(source).end;
    let mut trivia = Vec::new();
    let mut gap_start = 0;
    let whole = source.text().len();
    for next in instructions
        .iter()
        .map(|span| (span.start, span.end))
        .chain([(whole, whole)])
    {
        let mut start = gap_start;
        for line in source
            .slice(Span::new(gap_start, next.0))
            .split_inclusive('\n')
        {
            let span = Span::new(start, start + line.len());
            let kind = match line.trim_start() {
                comment if !comment.starts_with('#') && !comment.starts_with("//") => {
                    TriviaKind::Blank
                }
                _ if span.start < directives_end => TriviaKind::Directive,
                _ => TriviaKind::Comment,
            };
            trivia.push(Trivia { kind, span });
            start = span.end;
        }
        gap_start = next.1;
    }
    trivia
}
