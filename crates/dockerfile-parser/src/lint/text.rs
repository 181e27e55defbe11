//! The rules that the text alone decides.

use std::collections::BTreeSet;

use crate::ast::{Arg, Dockerfile, From, Instruction, Kind, PairForm, Pairs, Stage, Word};
use crate::directive::Escape;
use crate::expand::Expander;
use crate::lint::{CheckConfig, Rule, RuleSet, Warning, suggestion};
use crate::source::Span;

/// The findings the text alone shows, in the order of the file; those that a comment
/// `# check=skip=…` above their instruction takes back are left out. Which other rules are
/// reported is for the caller, with a [`CheckConfig`].
///
/// Decides these rules completely: StageNameCasing, FromAsCasing, NoEmptyContinuation,
/// ConsistentInstructionCasing, DuplicateStageName, ReservedStageName, MaintainerDeprecated,
/// UndefinedArgInFrom, MultipleInstructionsDisallowed, LegacyKeyValueFormat,
/// RedundantTargetPlatform, SecretsUsedInArgOrEnv, FromPlatformFlagConstDisallowed and
/// InvalidDefinitionDescription. No others.
pub fn check(dockerfile: &Dockerfile) -> Vec<Warning> {
    let mut findings = Findings::default();
    for arg in &dockerfile.global_args {
        findings.continuation(arg);
        findings.descriptions(arg, "ARG", arg_names(&arg.kind));
    }
    findings.keyword_casing(&dockerfile.stages);
    findings.stage_names(&dockerfile.stages);
    let declared = declared_args(&dockerfile.global_args);
    for stage in &dockerfile.stages {
        findings.from(&stage.from, &declared, dockerfile.directives.escape);
        findings.repeated(&stage.instructions);
        for instruction in &stage.instructions {
            findings.instruction(instruction);
        }
    }
    findings.warnings.sort_by_key(|warning| warning.span.start);
    findings.warnings
}

/// What ExposeProtoCasing and ExposeInvalidFormat say of one word of EXPOSE, expanded.
pub fn expose_word(word: &str, span: Span) -> Vec<Warning> {
    let (ports, protocol) = word.split_once('/').unwrap_or((word, ""));
    let mut warnings = Vec::new();
    if protocol.chars().any(char::is_uppercase) {
        warnings.push(Warning {
            rule: Rule::ExposeProtoCasing,
            detail: format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase"),
            span,
        });
    }
    if ports.contains(':') {
        warnings.push(Warning {
            rule: Rule::ExposeInvalidFormat,
            detail: format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
            ),
            span,
        });
    }
    warnings
}

impl<K> Instruction<K> {
    /// The rules that `# check=skip=…` comments above the instruction switch off for it.
    pub fn skipped_rules(&self) -> RuleSet {
        let mut names = BTreeSet::new();
        for comment in &self.comments {
            let Some(("check", options)) = comment
                .text
                .split_once('=')
                .map(|(key, rest)| (key.trim(), rest))
            else {
                continue;
            };
            // A comment that is no configuration is a comment.
            match CheckConfig::parse(options).map(|config| config.skip) {
                Ok(RuleSet::All) => return RuleSet::All,
                Ok(RuleSet::Named(more)) => names.extend(more),
                Err(_) => {}
            }
        }
        RuleSet::Named(names)
    }
}

/// The ARGs that every FROM sees without a declaration.
const AUTOMATIC_ARGS: &[&str] = &[
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDOSVERSION",
    "BUILDARCH",
    "BUILDVARIANT",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETOSVERSION",
    "TARGETARCH",
    "TARGETVARIANT",
    "TARGETSTAGE",
];

fn declared_args(global_args: &[Instruction<Arg>]) -> BTreeSet<&str> {
    let globals = global_args.iter().flat_map(|arg| &arg.kind.declarations);
    let globals = globals.map(|declaration| declaration.name.text.as_str());
    globals.chain(AUTOMATIC_ARGS.iter().copied()).collect()
}

fn arg_names(arg: &Arg) -> Vec<&str> {
    arg.declarations
        .iter()
        .map(|declaration| declaration.name.text.as_str())
        .collect()
}

#[derive(Default)]
struct Findings {
    warnings: Vec<Warning>,
}

impl Findings {
    /// Reports a finding about a whole instruction.
    fn report<K>(&mut self, instruction: &Instruction<K>, rule: Rule, detail: String) {
        self.report_at(instruction, instruction.span, rule, detail);
    }

    fn report_at<K>(
        &mut self,
        instruction: &Instruction<K>,
        span: Span,
        rule: Rule,
        detail: String,
    ) {
        if !instruction.skipped_rules().contains(rule) {
            self.warnings.push(Warning { rule, detail, span });
        }
    }

    fn continuation<K>(&mut self, instruction: &Instruction<K>) {
        if let Some(span) = instruction.empty_continuation {
            let detail = "Empty continuation line".to_owned();
            self.report_at(instruction, span, Rule::NoEmptyContinuation, detail);
        }
    }

    fn keyword_casing(&mut self, stages: &[Stage]) {
        let keywords = stages.iter().flat_map(|stage| {
            let others = stage
                .instructions
                .iter()
                .map(|other| other.keyword.text.as_str());
            std::iter::once(stage.from.keyword.text.as_str()).chain(others)
        });
        let (mut lower, mut upper) = (0, 0);
        for keyword in keywords {
            match Casing::of(keyword) {
                Casing::Lower => lower += 1,
                Casing::Upper => upper += 1,
                Casing::Mixed => {}
            }
        }
        let majority = if lower > upper {
            Casing::Lower
        } else {
            Casing::Upper
        };
        for stage in stages {
            self.keyword(&stage.from, majority);
            for instruction in &stage.instructions {
                self.keyword(instruction, majority);
            }
        }
    }

    fn keyword<K>(&mut self, instruction: &Instruction<K>, majority: Casing) {
        let keyword = &instruction.keyword.text;
        if Casing::of(keyword) == majority {
            return;
        }
        let majority = if majority == Casing::Lower {
            "lowercase"
        } else {
            "uppercase"
        };
        let detail = format!(
            "Command '{keyword}' should match the case of the command majority ({majority})"
        );
        self.report(instruction, Rule::ConsistentInstructionCasing, detail);
    }

    fn stage_names(&mut self, stages: &[Stage]) {
        let mut seen = BTreeSet::new();
        for stage in stages {
            let Some(name) = &stage.from.kind.name else {
                continue;
            };
            if name.typed.text != name.name {
                let detail = format!("Stage name '{}' should be lowercase", name.typed.text);
                self.report(&stage.from, Rule::StageNameCasing, detail);
            }
            if !seen.insert(name.name.as_str()) {
                let detail = format!(
                    "Duplicate stage name \"{}\", stage names should be unique",
                    name.name
                );
                self.report(&stage.from, Rule::DuplicateStageName, detail);
            }
            if let "scratch" | "context" = name.name.as_str() {
                let detail = format!(
                    "Stage name should not use the same name as reserved stage \"{}\"",
                    name.name
                );
                self.report(&stage.from, Rule::ReservedStageName, detail);
            }
        }
    }

    fn from(&mut self, from: &Instruction<From>, declared: &BTreeSet<&str>, escape: Escape) {
        self.continuation(from);
        if let Some(name) = &from.kind.name {
            let (keyword, as_keyword) = (&from.keyword.text, &name.as_keyword.text);
            let casing = Casing::of(keyword);
            if casing != Casing::Mixed && casing != Casing::of(as_keyword) {
                let detail =
                    format!("'{as_keyword}' and '{keyword}' keywords' casing do not match");
                self.report(from, Rule::FromAsCasing, detail);
            }
            self.descriptions(from, "FROM", vec![&name.name]);
        }
        self.undeclared(from, &from.kind.image, declared, escape);
        if let Some(platform) = &from.kind.platform {
            self.undeclared(from, platform, declared, escape);
            self.platform(from, platform, escape);
        }
    }

    fn undeclared(
        &mut self,
        from: &Instruction<From>,
        word: &Word,
        declared: &BTreeSet<&str>,
        escape: Escape,
    ) {
        let lookup = |name: &str| declared.contains(name).then_some("");
        // A word that cannot be expanded is an error, which is told elsewhere.
        let Ok(expansion) = Expander::new(escape, &lookup).word(&word.text) else {
            return;
        };
        for name in expansion.unset {
            let nearest = suggestion(&name, declared.iter().copied());
            let hint = nearest.map(|nearest| format!(" (did you mean {nearest}?)"));
            let detail = format!(
                "FROM argument '{name}' is not declared{}",
                hint.unwrap_or_default()
            );
            self.report(from, Rule::UndefinedArgInFrom, detail);
        }
    }

    fn platform(&mut self, from: &Instruction<From>, platform: &Word, escape: Escape) {
        const TARGET: &str = "TARGETPLATFORM";
        let lookup = |name: &str| (name == TARGET).then_some(TARGET);
        let Ok(expansion) = Expander::new(escape, &lookup).word(&platform.text) else {
            return;
        };
        let is_constant = expansion.used.is_empty() && expansion.unset.is_empty();
        if !is_constant && expansion.unset.is_empty() && expansion.value == TARGET {
            let detail = format!(
                "Setting platform to predefined {} in FROM is redundant as this is the default behavior",
                platform.text
            );
            self.report(from, Rule::RedundantTargetPlatform, detail);
        }
        let stage = from.kind.name.as_ref().map_or("", |name| &name.name);
        if is_constant && !names_platform(stage, &expansion.value) {
            let detail = format!(
                "FROM --platform flag should not use constant value \"{}\"",
                expansion.value
            );
            self.report(from, Rule::FromPlatformFlagConstDisallowed, detail);
        }
    }

    fn repeated(&mut self, instructions: &[Instruction]) {
        let mut latest: [Option<&Instruction>; 3] = [None; 3];
        for instruction in instructions {
            let slot = match instruction.kind {
                Kind::Cmd(_) => 0,
                Kind::Entrypoint(_) => 1,
                Kind::Healthcheck(_) => 2,
                Kind::Arg(_)
                | Kind::Env(_)
                | Kind::Label(_)
                | Kind::Run(_)
                | Kind::Copy(_)
                | Kind::Add(_)
                | Kind::Workdir(_)
                | Kind::User(_)
                | Kind::Shell(_)
                | Kind::Expose(_)
                | Kind::Volume(_)
                | Kind::StopSignal(_)
                | Kind::Onbuild(_)
                | Kind::Maintainer(_) => continue,
            };
            if let Some(earlier) = latest[slot].replace(instruction) {
                let name = instruction.keyword.text.to_ascii_uppercase();
                let detail = format!(
                    "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
                );
                self.report(earlier, Rule::MultipleInstructionsDisallowed, detail);
            }
        }
    }

    fn instruction(&mut self, instruction: &Instruction) {
        self.continuation(instruction);
        match &instruction.kind {
            Kind::Arg(arg) => {
                self.descriptions(instruction, "ARG", arg_names(arg));
                for name in arg_names(arg) {
                    self.secret(instruction, "ARG", name);
                }
            }
            Kind::Env(env) => {
                self.legacy(instruction, "ENV", env);
                for pair in &env.pairs {
                    self.secret(instruction, "ENV", &pair.key.text);
                }
            }
            Kind::Label(label) => self.legacy(instruction, "LABEL", label),
            Kind::Maintainer(_) => {
                let detail = "Maintainer instruction is deprecated in favor of using label";
                self.report(instruction, Rule::MaintainerDeprecated, detail.to_owned());
            }
            Kind::Run(_)
            | Kind::Copy(_)
            | Kind::Add(_)
            | Kind::Workdir(_)
            | Kind::User(_)
            | Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Shell(_)
            | Kind::Expose(_)
            | Kind::Volume(_)
            | Kind::StopSignal(_)
            | Kind::Healthcheck(_)
            | Kind::Onbuild(_) => {}
        }
    }

    fn legacy(&mut self, instruction: &Instruction, name: &str, pairs: &Pairs) {
        if pairs.form == PairForm::Legacy {
            let detail = format!(
                "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
            );
            self.report(instruction, Rule::LegacyKeyValueFormat, detail);
        }
    }

    fn secret(&mut self, instruction: &Instruction, keyword: &str, name: &str) {
        if sounds_secret(name) {
            let detail = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} \"{name}\")"
            );
            self.report(instruction, Rule::SecretsUsedInArgOrEnv, detail);
        }
    }

    fn descriptions<K>(&mut self, instruction: &Instruction<K>, keyword: &str, names: Vec<&str>) {
        let Some(comment) = instruction.comments.last() else {
            return;
        };
        let first_word = comment.text.split(' ').next().unwrap_or_default();
        if names.contains(&first_word) {
            return;
        }
        let name = match names.as_slice() {
            [only] => only,
            _ => "<arg_key>",
        };
        let detail =
            format!("Comment for {keyword} should follow the format: `# {name} <description>`");
        self.report(instruction, Rule::InvalidDefinitionDescription, detail);
    }
}

/// The letter case of a keyword.
#[derive(Clone, Copy, PartialEq)]
enum Casing {
    Lower,
    Upper,
    Mixed,
}

impl Casing {
    fn of(keyword: &str) -> Self {
        let has_lower = keyword.chars().any(char::is_lowercase);
        let has_upper = keyword.chars().any(char::is_uppercase);
        match (has_lower, has_upper) {
            (true, false) => Self::Lower,
            (true, true) => Self::Mixed,
            (false, _) => Self::Upper,
        }
    }
}

/// Whether a name holds, between underscores, a word for a secret and none that takes it back.
fn sounds_secret(name: &str) -> bool {
    const SECRET: &[&str] = &[
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    const HARMLESS: &[&str] = &["public", "file", "version"];
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| name.split('_').any(|word| words.contains(&word));
    has(SECRET) && !has(HARMLESS)
}

/// Whether the name of a stage shows that it is for one platform: it holds the operating system or
/// the architecture.
fn names_platform(stage: &str, platform: &str) -> bool {
    let platform = platform.to_ascii_lowercase();
    let mut components = platform.split('/');
    let (os, architecture) = match (components.next(), components.next()) {
        (Some(os), Some(architecture)) => (os, architecture),
        (Some(os @ ("linux" | "windows" | "darwin" | "macos" | "freebsd")), None) => (os, os),
        (Some(architecture), None) => ("linux", architecture),
        (None, _) => return false,
    };
    let os = if os == "macos" { "darwin" } else { os };
    let architecture = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        "armhf" | "armel" => "arm",
        "i386" => "386",
        other => other,
    };
    stage.contains(os) || stage.contains(architecture)
}
