//! The syntax tree.
//!
//! A [`Dockerfile`] is a list of stages below some global ARGs. Every node has the [`Span`] it was
//! read from. Words are kept as written, with quotes, escapes and variables, unless the item says
//! otherwise: what they mean depends on variables the tree does not know.

use crate::directive::Directives;
use crate::mount::MountFlag;
use crate::source::Span;

/// A piece of the file: its text after continuations were joined, and where it stands.
///
/// A word that goes over a continuation covers the continuation in `span`, not in `text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The text, raw.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A value that has been read, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// A complete file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at the top.
    pub directives: Directives,
    /// The ARG instructions before the first FROM.
    pub global_args: Vec<Instruction<Arg>>,
    /// The stages in order; at least one.
    pub stages: Vec<Stage>,
    /// Everything that is not an instruction, in order: with the spans of the instructions it
    /// covers the text completely.
    pub trivia: Vec<Trivia>,
}

/// What stands between instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trivia {
    /// What it is.
    pub kind: TriviaKind,
    /// Where it stands, line end included.
    pub span: Span,
}

/// The kinds of text that are not instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriviaKind {
    /// Blanks, line ends, and lone continuation markers.
    Blank,
    /// A comment line.
    Comment,
    /// A comment line that is a parser directive.
    Directive,
}

/// A FROM and what stands below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The FROM that opens the stage.
    pub from: Instruction<From>,
    /// The instructions up to the next FROM.
    pub instructions: Vec<Instruction>,
}

impl Stage {
    /// The stage's name in lower case, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.from.kind.name.as_ref().map(|name| name.name.as_str())
    }

    /// From the FROM to the end of the last instruction.
    pub fn span(&self) -> Span {
        self.instructions
            .last()
            .map_or(self.from.span, |last| self.from.span.to(last.span))
    }
}

/// One instruction of any kind, or of the kind `K` where only one can stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction<K = Kind> {
    /// From the keyword to the end of the last continuation or heredoc terminator.
    pub span: Span,
    /// The keyword as typed.
    pub keyword: Word,
    /// The whole logical line, keyword included, continuations joined, without heredoc bodies.
    pub text: String,
    /// The comment lines directly above, without `#` and outer blanks.
    ///
    /// A bare `#` line drops what was collected before it; blank lines do not.
    pub comments: Vec<Word>,
    /// The blank lines inside a continuation, if any (first one).
    pub empty_continuation: Option<Span>,
    /// What the instruction is.
    pub kind: K,
}

impl<K> Instruction<K> {
    /// The description in the doc comment above, for the stage or argument `name`: what follows
    /// `name` and a blank in the last comment line.
    pub fn description(&self, name: &str) -> Option<&str> {
        let text = self.comments.last()?.text.strip_prefix(name)?;
        text.starts_with([' ', '\t']).then(|| text.trim())
    }
}

/// The instructions that can stand in a stage. FROM is none of them: it opens a [`Stage`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `ARG`
    Arg(Arg),
    /// `ENV`
    Env(Pairs),
    /// `LABEL`
    Label(Pairs),
    /// `RUN`
    Run(Run),
    /// `COPY`
    Copy(Copy),
    /// `ADD`
    Add(Add),
    /// `WORKDIR`: the path.
    Workdir(Word),
    /// `USER`: the user.
    User(Word),
    /// `CMD`
    Cmd(Command),
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `SHELL`: the words of the array; at least one.
    Shell(Vec<Word>),
    /// `EXPOSE`: the words; at least one.
    Expose(Vec<Word>),
    /// `VOLUME`: the paths; at least one.
    Volume(Vec<Word>),
    /// `STOPSIGNAL`: the signal.
    StopSignal(Word),
    /// `HEALTHCHECK`
    Healthcheck(Healthcheck),
    /// `ONBUILD`
    Onbuild(Onbuild),
    /// `MAINTAINER`: the author.
    Maintainer(Word),
}

/// `FROM [--platform=P] IMAGE [AS NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Value of `--platform`, when not empty.
    pub platform: Option<Word>,
    /// The image word.
    pub image: Word,
    /// The stage name.
    pub name: Option<StageName>,
}

/// `AS NAME`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageName {
    /// The word `AS` as typed.
    pub as_keyword: Word,
    /// The name as typed.
    pub typed: Word,
    /// The name in lower case, as it is looked up.
    pub name: String,
}

/// `ARG NAME[=DEFAULT]…`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// What is declared; at least one.
    pub declarations: Vec<ArgDeclaration>,
}

/// One `NAME` or `NAME=DEFAULT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// The name, raw (it is expanded as well); never empty.
    pub name: Word,
    /// What follows `=`; `Some` of an empty word for `NAME=`.
    pub default: Option<Word>,
    /// The whole word.
    pub span: Span,
}

/// The pairs of ENV or LABEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// How they are written.
    pub form: PairForm,
    /// The pairs in order; at least one, exactly one in the legacy form.
    pub pairs: Vec<Pair>,
}

/// The two spellings of ENV and LABEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairForm {
    /// `key=value…`
    Equals,
    /// `key rest of line`
    Legacy,
}

/// One key and its value, both raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The key; never empty.
    pub key: Word,
    /// The value.
    pub value: Word,
    /// From key to value.
    pub span: Span,
}

/// The argument of CMD and ENTRYPOINT, and of HEALTHCHECK CMD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A JSON array: the words, decoded. May be empty for CMD and ENTRYPOINT.
    Exec(Vec<Word>),
    /// One string for the shell; empty when the instruction has no argument.
    Shell(Word),
}

/// `RUN [flags] command`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The flags.
    pub flags: RunFlags,
    /// What runs.
    pub command: RunCommand,
}

/// What a RUN executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunCommand {
    /// A JSON array: the argv, decoded; at least one word.
    Exec(Vec<Word>),
    /// One string for the shell.
    Shell(Word),
    /// A heredoc and nothing else: its [content](Heredoc::content) is the script.
    Script(Heredoc),
    /// A command line with heredocs in it, which the shell itself reads.
    ShellHeredocs {
        /// The line.
        line: Word,
        /// The heredocs opened in it; at least one.
        heredocs: Vec<Heredoc>,
    },
}

/// The flags of RUN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFlags {
    /// `--mount`, in order.
    pub mounts: Vec<MountFlag>,
    /// `--network`
    pub network: Option<Spanned<NetworkMode>>,
    /// `--security`
    pub security: Option<Spanned<SecurityMode>>,
    /// `--device`, in order.
    pub devices: Vec<Device>,
}

/// `--network`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The network of the build.
    Default,
    /// Loopback only.
    None,
    /// The host's network.
    Host,
}

/// `--security`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityMode {
    /// The default confinement.
    Sandbox,
    /// All capabilities, no system-call filter.
    Insecure,
}

/// `--device=[name=]<CDI device>[,required]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The CDI device name.
    pub name: String,
    /// Whether its absence is an error.
    pub required: bool,
    /// The flag's value.
    pub span: Span,
}

/// `COPY [flags] SOURCE… DESTINATION`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Value of `--from`, when not empty; free of variables.
    pub from: Option<Word>,
    /// The flags that ADD has too.
    pub flags: CopyFlags,
    /// `--parents`
    pub parents: bool,
    /// The sources; at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
}

/// `ADD [flags] SOURCE… DESTINATION`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Add {
    /// The flags that COPY has too.
    pub flags: CopyFlags,
    /// `--keep-git-dir`, when given.
    pub keep_git_dir: Option<Spanned<bool>>,
    /// Value of `--checksum`, when not empty.
    pub checksum: Option<Word>,
    /// `--unpack`, when given.
    pub unpack: Option<Spanned<bool>>,
    /// The sources; at least one.
    pub sources: Vec<CopySource>,
    /// The destination.
    pub destination: Word,
}

/// The flags that COPY and ADD share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFlags {
    /// Value of `--chown`, when not empty.
    pub chown: Option<Word>,
    /// Value of `--chmod`, when not empty.
    pub chmod: Option<Word>,
    /// `--link`
    pub link: bool,
    /// Values of `--exclude`, in order; not to be expanded.
    pub exclude: Vec<Word>,
}

/// A source of COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopySource {
    /// A path, pattern or URL, raw.
    Path(Word),
    /// A file whose content stands in the Dockerfile; its name is the delimiter.
    Heredoc(Heredoc),
}

/// Text given in place, from below the instruction to a line that holds the delimiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The opening word as written: `3<<-"EOF"`.
    pub word: Word,
    /// The delimiter without quotes: `EOF`.
    pub delimiter: String,
    /// The number before `<<`.
    pub descriptor: Option<u32>,
    /// Whether variables are to be expanded: no part of the delimiter was quoted.
    pub expand: bool,
    /// Whether leading tabs of each line are dropped (`<<-`).
    pub strip_tabs: bool,
    /// The body as it stands in the file, line ends included.
    pub body: Word,
    /// The line that ends it, without line end.
    pub terminator: Span,
}

/// `HEALTHCHECK`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`
    None,
    /// `[flags] CMD command`
    Cmd {
        /// The flags.
        flags: HealthcheckFlags,
        /// The command; never empty.
        command: Command,
    },
}

/// The flags of HEALTHCHECK; durations in nanoseconds, zero when absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HealthcheckFlags {
    /// `--interval`
    pub interval_ns: i64,
    /// `--timeout`
    pub timeout_ns: i64,
    /// `--start-period`
    pub start_period_ns: i64,
    /// `--start-interval`
    pub start_interval_ns: i64,
    /// `--retries`
    pub retries: u32,
}

/// `ONBUILD trigger`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onbuild {
    /// The trigger as it is stored in an image: the logical line, heredoc bodies below it.
    pub text: Word,
    /// The trigger, parsed; never FROM, ONBUILD or MAINTAINER.
    pub trigger: Box<Instruction>,
}

impl Heredoc {
    /// The body as a file or script gets it: without the tabs that `<<-` drops.
    pub fn content(&self) -> String {
        if !self.strip_tabs {
            return self.body.text.clone();
        }
        self.body
            .text
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

impl RunCommand {
    /// The text handed to the shell; `None` for the exec form.
    ///
    /// A [`RunCommand::Script`] gives its content; whether it starts with `#!` and is to be run as
    /// a program instead is for the caller to see.
    pub fn shell_text(&self) -> Option<String> {
        match self {
            Self::Exec(_) => None,
            Self::Shell(line) => Some(line.text.clone()),
            Self::Script(heredoc) => Some(heredoc.content()),
            Self::ShellHeredocs { line, heredocs } => {
                let mut text = line.text.clone();
                for heredoc in heredocs {
                    text.extend(["\n", &heredoc.body.text, &heredoc.delimiter]);
                }
                Some(text)
            }
        }
    }
}
