//! The instructions and their flags: the one table that parsing, suggestions and listings use.

/// The keyword of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keyword {
    /// `ADD`
    Add,
    /// `ARG`
    Arg,
    /// `CMD`
    Cmd,
    /// `COPY`
    Copy,
    /// `ENTRYPOINT`
    Entrypoint,
    /// `ENV`
    Env,
    /// `EXPOSE`
    Expose,
    /// `FROM`
    From,
    /// `HEALTHCHECK`
    Healthcheck,
    /// `LABEL`
    Label,
    /// `MAINTAINER`
    Maintainer,
    /// `ONBUILD`
    Onbuild,
    /// `RUN`
    Run,
    /// `SHELL`
    Shell,
    /// `STOPSIGNAL`
    StopSignal,
    /// `USER`
    User,
    /// `VOLUME`
    Volume,
    /// `WORKDIR`
    Workdir,
}

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagShape {
    /// Nothing, `=true` or `=false`; at most once.
    Bool,
    /// A value; at most once.
    Value,
    /// A value; may be repeated.
    List,
}

/// One flag of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlagSpec {
    /// The name without `--`.
    pub name: &'static str,
    /// What it takes.
    pub shape: FlagShape,
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstructionSpec {
    /// The keyword.
    pub keyword: Keyword,
    /// Its name in upper case.
    pub name: &'static str,
    /// The flags it knows.
    pub flags: &'static [FlagSpec],
    /// Whether its words may open heredocs.
    pub heredocs: bool,
}

const fn bool(name: &'static str) -> FlagSpec {
    FlagSpec {
        name,
        shape: FlagShape::Bool,
    }
}
const fn value(name: &'static str) -> FlagSpec {
    FlagSpec {
        name,
        shape: FlagShape::Value,
    }
}
const fn list(name: &'static str) -> FlagSpec {
    FlagSpec {
        name,
        shape: FlagShape::List,
    }
}
const fn row(keyword: Keyword, name: &'static str, flags: &'static [FlagSpec]) -> InstructionSpec {
    let heredocs = matches!(keyword, Keyword::Add | Keyword::Copy | Keyword::Run);
    InstructionSpec {
        keyword,
        name,
        flags,
        heredocs,
    }
}

/// All instructions, by name.
pub const INSTRUCTIONS: &[InstructionSpec] = &[
    row(
        Keyword::Add,
        "ADD",
        &[
            value("chown"),
            value("chmod"),
            bool("link"),
            bool("keep-git-dir"),
            value("checksum"),
            bool("unpack"),
            list("exclude"),
        ],
    ),
    row(Keyword::Arg, "ARG", &[]),
    row(Keyword::Cmd, "CMD", &[]),
    row(
        Keyword::Copy,
        "COPY",
        &[
            value("from"),
            value("chown"),
            value("chmod"),
            bool("link"),
            bool("parents"),
            list("exclude"),
        ],
    ),
    row(Keyword::Entrypoint, "ENTRYPOINT", &[]),
    row(Keyword::Env, "ENV", &[]),
    row(Keyword::Expose, "EXPOSE", &[]),
    row(Keyword::From, "FROM", &[value("platform")]),
    row(
        Keyword::Healthcheck,
        "HEALTHCHECK",
        &[
            value("interval"),
            value("timeout"),
            value("start-period"),
            value("start-interval"),
            value("retries"),
        ],
    ),
    row(Keyword::Label, "LABEL", &[]),
    row(Keyword::Maintainer, "MAINTAINER", &[]),
    row(Keyword::Onbuild, "ONBUILD", &[]),
    row(
        Keyword::Run,
        "RUN",
        &[
            list("mount"),
            value("network"),
            value("security"),
            list("device"),
        ],
    ),
    row(Keyword::Shell, "SHELL", &[]),
    row(Keyword::StopSignal, "STOPSIGNAL", &[]),
    row(Keyword::User, "USER", &[]),
    row(Keyword::Volume, "VOLUME", &[]),
    row(Keyword::Workdir, "WORKDIR", &[]),
];

impl Keyword {
    /// The row of this instruction.
    pub fn spec(self) -> &'static InstructionSpec {
        // The rows stand in the order of the variants; a test holds the table to that.
        &INSTRUCTIONS[self as usize]
    }
}

/// The instruction with this name, in any case.
pub fn lookup(name: &str) -> Option<Keyword> {
    let row = INSTRUCTIONS
        .iter()
        .find(|row| row.name.eq_ignore_ascii_case(name))?;
    Some(row.keyword)
}

#[cfg(test)]
mod tests {
    use super::INSTRUCTIONS;

    #[test]
    fn every_keyword_finds_its_own_row() {
        for row in INSTRUCTIONS {
            assert_eq!(row.keyword.spec().name, row.name);
            assert_eq!(super::lookup(&row.name.to_lowercase()), Some(row.keyword));
        }
    }
}
