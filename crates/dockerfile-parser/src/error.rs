//! Why a Dockerfile was refused.

use crate::expand::ExpandError;
use crate::mount::MountError;
use crate::quote::quoted;
use crate::source::{Source, Span};

/// Why a Dockerfile was refused, and the bytes of it that are to blame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct DockerfileError {
    /// The piece to point at.
    pub span: Span,
    /// The lines the reference shows: the complete instruction, as a rule.
    pub instruction: Span,
    /// What is wrong.
    pub kind: DockerfileErrorKind,
}

impl DockerfileError {
    /// The reference's message: for errors of an instruction the text is prefixed with
    /// `dockerfile parse error on line N: `.
    pub fn message(&self, source: &Source) -> String {
        if self.kind.names_line() {
            let line = source.line_at(self.instruction.start);
            format!("dockerfile parse error on line {line}: {}", self.kind)
        } else {
            self.kind.to_string()
        }
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        self.kind.help()
    }
}

/// What is wrong with a Dockerfile. The texts are the reference's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileErrorKind {
    /// The file has no bytes.
    #[error("the Dockerfile cannot be empty")]
    Empty,
    /// Only comments and blank lines.
    #[error("file with no instructions")]
    NoInstructions,
    /// Only ARG instructions.
    #[error("dockerfile contains no stages to build")]
    NoStages,
    /// An instruction other than ARG before the first FROM.
    #[error("no build stage in current context")]
    BeforeFirstStage,
    /// An instruction holds bytes that are not UTF-8.
    #[error("text is not valid UTF-8")]
    NotUtf8,
    /// A physical line is too long.
    #[error("dockerfile line greater than max allowed size of 65535")]
    LineTooLong,
    /// A directive is given twice.
    #[error("only one {key} parser directive can be used")]
    DuplicateDirective {
        /// Its key.
        key: &'static str,
    },
    /// The escape directive has an unknown value.
    #[error("invalid escape token '{value}' does not match ` or \\")]
    InvalidEscape {
        /// The value.
        value: String,
    },
    /// The line that ends a heredoc is missing.
    #[error("unterminated heredoc")]
    UnterminatedHeredoc {
        /// What that line should be.
        delimiter: String,
    },
    /// A JSON array holds something else than strings.
    #[error("when using JSON array syntax, arrays must be comprised of strings only")]
    JsonNotStrings,
    /// ENV or LABEL: a word without `=` behind one with it.
    #[error(
        "Syntax error - can't find = in {}. Must be of the form: name=value",
        quoted(word)
    )]
    PairWithoutEquals {
        /// The word.
        word: String,
    },
    /// ENV or LABEL with a name only.
    #[error("{instruction} must have two arguments")]
    TwoArguments {
        /// The instruction.
        instruction: &'static str,
    },
    /// `--from` holds a variable.
    #[error(
        "variable expansion is not supported for --from, define a new stage with FROM using ARG from global scope as a workaround"
    )]
    VariableInFrom,
    /// `RUN []`
    #[error("arguments are required")]
    EmptyRun,

    /// No such instruction.
    #[error("unknown instruction: {keyword}{}", did_you_mean(nearest))]
    UnknownInstruction {
        /// The keyword as typed.
        keyword: String,
        /// The instruction it resembles.
        nearest: Option<&'static str>,
    },
    /// No such flag.
    #[error("unknown flag: {flag}{}", did_you_mean(nearest))]
    UnknownFlag {
        /// The flag with its dashes.
        flag: String,
        /// The flag it resembles, without dashes.
        nearest: Option<&'static str>,
    },
    /// A flag without a value.
    #[error("missing a value on flag: {flag}")]
    MissingFlagValue {
        /// The flag with its dashes.
        flag: String,
    },
    /// A flag given twice.
    #[error("duplicate flag specified: {flag}")]
    DuplicateFlag {
        /// The flag with its dashes.
        flag: String,
    },
    /// A boolean flag with another value.
    #[error("expecting boolean value for flag {flag}, not: {value}")]
    NotBoolean {
        /// The flag with its dashes.
        flag: String,
        /// The value.
        value: String,
    },
    /// No argument where some are needed.
    #[error("{instruction} requires at least one argument")]
    AtLeastOneArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// No argument where one is needed.
    #[error("{instruction} requires exactly one argument")]
    ExactlyOneArgument {
        /// The instruction.
        instruction: &'static str,
    },
    /// COPY or ADD with less than two words.
    #[error(
        "{instruction} requires at least two arguments, but only one was provided. Destination could not be determined"
    )]
    NoDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// A name is empty.
    #[error("{instruction} names can not be blank")]
    BlankName {
        /// The instruction.
        instruction: &'static str,
    },
    /// The destination is a heredoc.
    #[error("{instruction} cannot accept a heredoc as a destination")]
    HeredocDestination {
        /// The instruction.
        instruction: &'static str,
    },
    /// A source looks like a heredoc but is not a word.
    #[error(transparent)]
    HeredocWord(ExpandError),
    /// FROM with two words, or three without AS.
    #[error("FROM requires either one or three arguments")]
    FromArguments,
    /// The stage name is none.
    #[error(
        "invalid name for build stage: {}, name can't start with a number or contain symbols",
        quoted(name)
    )]
    StageName {
        /// The name as typed.
        name: String,
    },
    /// A mount that cannot be read.
    #[error(transparent)]
    Mount(MountError),
    /// A mount that can be read, and makes no sense whatever its variables hold.
    #[error(transparent)]
    MountFault(MountError),
    /// `--network`
    #[error("invalid network mode {}", quoted(mode))]
    NetworkMode {
        /// The value.
        mode: String,
    },
    /// `--security`
    #[error("security {} is not valid", quoted(mode))]
    SecurityMode {
        /// The value.
        mode: String,
    },
    /// `--device`
    #[error("invalid device {}", quoted(device))]
    Device {
        /// The value.
        device: String,
    },
    /// An empty path.
    #[error("VOLUME specified can not be an empty string")]
    EmptyVolume,
    /// SHELL in another form.
    #[error("SHELL requires the arguments to be in JSON form")]
    ShellNotJson,
    /// `HEALTHCHECK NONE x`
    #[error("HEALTHCHECK NONE takes no arguments")]
    HealthcheckNone,
    /// Neither NONE nor CMD.
    #[error("Unknown type {} in HEALTHCHECK (try CMD)", quoted(kind))]
    HealthcheckType {
        /// The word in upper case.
        kind: String,
    },
    /// `HEALTHCHECK CMD`
    #[error("Missing command after HEALTHCHECK CMD")]
    HealthcheckCommand,
    /// A duration that is none.
    #[error("time: {}", duration_error(duration, unit.as_deref()))]
    Duration {
        /// The value.
        duration: String,
        /// What is wrong with its unit: `Some("")` where it is missing.
        unit: Option<String>,
    },
    /// A duration below a millisecond.
    #[error("Interval {} cannot be less than 1ms", quoted(flag))]
    ShortDuration {
        /// The flag without dashes.
        flag: &'static str,
    },
    /// `--retries` is no number.
    #[error("strconv.ParseInt: parsing {}: invalid syntax", quoted(retries))]
    Retries {
        /// The value.
        retries: String,
    },
    /// `--retries` is too large a number.
    #[error("strconv.ParseInt: parsing {}: value out of range", quoted(retries))]
    RetriesRange {
        /// The value.
        retries: String,
    },
    /// `--retries` is negative.
    #[error("--retries cannot be negative ({retries})")]
    NegativeRetries {
        /// The value.
        retries: i32,
    },
    /// `ONBUILD ONBUILD`
    #[error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")]
    OnbuildChain,
    /// An instruction that cannot be a trigger.
    #[error("{instruction} isn't allowed as an ONBUILD trigger")]
    OnbuildTrigger {
        /// The instruction.
        instruction: &'static str,
    },
    /// A trigger of an image is not exactly one instruction.
    #[error("trigger is not a single instruction")]
    TriggerCount,
}

impl DockerfileErrorKind {
    /// Whether the reference prefixes the message with the line (an error of an instruction),
    /// rather than leaving it bare (an error of the text).
    pub fn names_line(&self) -> bool {
        match self {
            Self::Empty
            | Self::NoInstructions
            | Self::NoStages
            | Self::BeforeFirstStage
            | Self::NotUtf8
            | Self::LineTooLong
            | Self::DuplicateDirective { .. }
            | Self::InvalidEscape { .. }
            | Self::UnterminatedHeredoc { .. }
            | Self::JsonNotStrings
            | Self::PairWithoutEquals { .. }
            | Self::TwoArguments { .. }
            | Self::VariableInFrom
            | Self::EmptyRun
            | Self::MountFault(_)
            | Self::TriggerCount => false,
            Self::UnknownInstruction { .. }
            | Self::UnknownFlag { .. }
            | Self::MissingFlagValue { .. }
            | Self::DuplicateFlag { .. }
            | Self::NotBoolean { .. }
            | Self::AtLeastOneArgument { .. }
            | Self::ExactlyOneArgument { .. }
            | Self::NoDestination { .. }
            | Self::BlankName { .. }
            | Self::HeredocDestination { .. }
            | Self::HeredocWord(_)
            | Self::FromArguments
            | Self::StageName { .. }
            | Self::Mount(_)
            | Self::NetworkMode { .. }
            | Self::SecurityMode { .. }
            | Self::Device { .. }
            | Self::EmptyVolume
            | Self::ShellNotJson
            | Self::HealthcheckNone
            | Self::HealthcheckType { .. }
            | Self::HealthcheckCommand
            | Self::Duration { .. }
            | Self::ShortDuration { .. }
            | Self::Retries { .. }
            | Self::RetriesRange { .. }
            | Self::NegativeRetries { .. }
            | Self::OnbuildChain
            | Self::OnbuildTrigger { .. } => true,
        }
    }

    /// The user's next step, where the message alone does not imply it.
    pub fn help(&self) -> Option<String> {
        let help = match self {
            Self::Empty | Self::NoInstructions | Self::NoStages => {
                "a Dockerfile needs at least one FROM, such as `FROM scratch`"
            }
            Self::BeforeFirstStage => "only ARG may stand before the first FROM",
            Self::NotUtf8 => "save the file as UTF-8",
            Self::LineTooLong => "break the line with a continuation, or move the text to a file",
            Self::InvalidEscape { .. } => r"write `# escape=\` or `` # escape=` ``",
            Self::UnterminatedHeredoc { delimiter } => {
                return Some(format!(
                    "end the text with a line that holds `{delimiter}` and nothing else"
                ));
            }
            Self::JsonNotStrings => "put every element in double quotes",
            Self::TwoArguments { instruction } => {
                return Some(format!("write `{instruction} name=value`"));
            }
            Self::PairWithoutEquals { .. } => {
                r#"put a value with blanks in quotes, such as `name="a value"`"#
            }
            Self::NoDestination { instruction } => {
                return Some(format!(
                    "say where to, such as `{instruction} source /destination/`"
                ));
            }
            Self::VariableInFrom => "write `FROM $image AS alias` above, and `--from=alias` here",
            Self::UnknownInstruction {
                nearest: Some(nearest),
                ..
            } => {
                return Some(format!("did you mean `{nearest}`?"));
            }
            Self::UnknownFlag {
                nearest: Some(nearest),
                ..
            } => {
                return Some(format!("did you mean `--{nearest}`?"));
            }
            Self::NotBoolean { .. } => "write `true` or `false`",
            Self::HeredocDestination { .. } => {
                "name the destination last; heredocs are sources and stand before it"
            }
            Self::FromArguments => "write `FROM image` or `FROM image AS name`",
            Self::StageName { .. } => {
                "a stage name starts with a letter and goes on with letters, digits, `-`, `_` and `.`"
            }
            Self::NetworkMode { .. } => "the modes are default, none and host",
            Self::SecurityMode { .. } => "the modes are sandbox and insecure",
            Self::Device { .. } => {
                "write `vendor.com/class=name`, with `,required` if it has to exist"
            }
            Self::ShellNotJson => {
                r#"write the shell as an array, such as `SHELL ["/bin/sh", "-c"]`"#
            }
            Self::HealthcheckType { .. } => "write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`",
            Self::Duration { .. } | Self::ShortDuration { .. } => {
                "write a number with a unit, such as `30s`, `1m30s` or `500ms`"
            }
            Self::Mount(error) | Self::MountFault(error) => return error.help(),
            Self::DuplicateDirective { .. }
            | Self::EmptyRun
            | Self::UnknownInstruction { nearest: None, .. }
            | Self::UnknownFlag { nearest: None, .. }
            | Self::MissingFlagValue { .. }
            | Self::DuplicateFlag { .. }
            | Self::AtLeastOneArgument { .. }
            | Self::ExactlyOneArgument { .. }
            | Self::BlankName { .. }
            | Self::HeredocWord(_)
            | Self::EmptyVolume
            | Self::HealthcheckNone
            | Self::HealthcheckCommand
            | Self::Retries { .. }
            | Self::RetriesRange { .. }
            | Self::NegativeRetries { .. }
            | Self::OnbuildChain
            | Self::OnbuildTrigger { .. }
            | Self::TriggerCount => return None,
        };
        Some(help.to_owned())
    }
}

/// The reference's way to offer another word.
pub(crate) fn did_you_mean(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|nearest| format!(" (did you mean {nearest}?)"))
        .unwrap_or_default()
}

fn duration_error(duration: &str, unit: Option<&str>) -> String {
    let duration = quoted(duration);
    match unit {
        None => format!("invalid duration {duration}"),
        Some("") => format!("missing unit in duration {duration}"),
        Some(unit) => format!("unknown unit {} in duration {duration}", quoted(unit)),
    }
}
