//! The table of rules.

/// What a rule is called and asks for.
struct Row {
    rule: Rule,
    name: &'static str,
    description: &'static str,
    found_in: FoundIn,
}

/// Which stages a rule looks at in an ordinary build.
#[derive(Clone, Copy, PartialEq)]
enum FoundIn {
    /// All of the file.
    AllStages,
    /// Those the target reaches.
    ReachedStages,
}

macro_rules! rules {
    ($($rule:ident $name:literal $found_in:ident $description:literal;)*) => {
        /// The rules.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $(#[doc = $description] $rule,)*
        }

        const ROWS: &[Row] = &[$(Row {
            rule: Rule::$rule,
            name: $name,
            description: $description,
            found_in: FoundIn::$found_in,
        },)*];
    };
}

rules! {
    StageNameCasing "StageNameCasing" AllStages
        "Stage names are written in lower case";
    FromAsCasing "FromAsCasing" AllStages
        "AS is written in the letter case of its FROM";
    NoEmptyContinuation "NoEmptyContinuation" AllStages
        "A continued instruction holds no blank lines";
    ConsistentInstructionCasing "ConsistentInstructionCasing" AllStages
        "All instructions of a file are written in the same letter case";
    DuplicateStageName "DuplicateStageName" AllStages
        "No two stages have the same name";
    ReservedStageName "ReservedStageName" AllStages
        "No stage is called scratch or context";
    JsonArgsRecommended "JSONArgsRecommended" ReachedStages
        "CMD and ENTRYPOINT are arrays, so that signals reach the program and not a shell";
    MaintainerDeprecated "MaintainerDeprecated" AllStages
        "The author stands in a label and not in MAINTAINER";
    UndefinedArgInFrom "UndefinedArgInFrom" AllStages
        "FROM uses arguments only that are declared above the first FROM";
    WorkdirRelativePath "WorkdirRelativePath" ReachedStages
        "The first WORKDIR is absolute, so that the base image cannot change its meaning";
    UndefinedVar "UndefinedVar" ReachedStages
        "Variables are declared before they are used";
    MultipleInstructionsDisallowed "MultipleInstructionsDisallowed" ReachedStages
        "A stage has one CMD, ENTRYPOINT and HEALTHCHECK at most, as the last one wins";
    LegacyKeyValueFormat "LegacyKeyValueFormat" ReachedStages
        "ENV and LABEL are written with an equals sign";
    InvalidBaseImagePlatform "InvalidBaseImagePlatform" ReachedStages
        "The base image is made for the platform that is built";
    RedundantTargetPlatform "RedundantTargetPlatform" AllStages
        "FROM does not ask for the target platform, which it gets anyway";
    SecretsUsedInArgOrEnv "SecretsUsedInArgOrEnv" ReachedStages
        "Secrets are mounted and not put in ARG or ENV, which the image shows to everybody";
    InvalidDefaultArgInFrom "InvalidDefaultArgInFrom" AllStages
        "The defaults of arguments alone make a valid image name in FROM";
    FromPlatformFlagConstDisallowed "FromPlatformFlagConstDisallowed" AllStages
        "The platform of FROM is a variable, so that the file builds for others too";
    CopyIgnoredFile "CopyIgnoredFile" ReachedStages
        "Files that are copied are not excluded by the ignore file";
    InvalidDefinitionDescription "InvalidDefinitionDescription" AllStages
        "A comment directly above ARG or a named FROM starts with the name it describes";
    ExposeProtoCasing "ExposeProtoCasing" ReachedStages
        "Protocols in EXPOSE are written in lower case";
    ExposeInvalidFormat "ExposeInvalidFormat" ReachedStages
        "EXPOSE gives container ports only, no addresses and no host ports";
}

impl Rule {
    /// All rules.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.rule)
    }

    fn row(self) -> &'static Row {
        // The rows stand in the order of the variants: one macro makes both.
        &ROWS[self as usize]
    }

    /// The rule's name, such as `StageNameCasing`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// One sentence on what the rule asks for.
    pub fn description(self) -> &'static str {
        self.row().description
    }

    /// Where the rule is documented; not every rule is.
    pub fn url(self) -> Option<String> {
        if self == Self::InvalidBaseImagePlatform {
            return None;
        }
        let mut words = String::new();
        let letters: Vec<char> = self.name().chars().collect();
        for (at, c) in letters.iter().enumerate() {
            let follows_word = at > 0 && letters[at - 1].is_ascii_lowercase();
            let starts_word = letters.get(at + 1).is_some_and(char::is_ascii_lowercase);
            if at > 0 && c.is_ascii_uppercase() && (follows_word || starts_word) {
                words.push('-');
            }
            words.push(c.to_ascii_lowercase());
        }
        Some(format!(
            "https://docs.docker.com/go/dockerfile/rule/{words}/"
        ))
    }

    /// Whether the rule is off unless asked for.
    pub fn is_experimental(self) -> bool {
        self == Self::InvalidDefinitionDescription
    }

    /// Whether an ordinary build reports the rule also for stages that its target does not reach.
    pub fn covers_unreached_stages(self) -> bool {
        self.row().found_in == FoundIn::AllStages
    }
}

#[cfg(test)]
mod tests {
    use super::Rule;

    #[test]
    fn addresses_are_made_of_words() {
        let url = |rule: Rule| rule.url().unwrap_or_default();
        let base = "https://docs.docker.com/go/dockerfile/rule/";
        assert_eq!(
            url(Rule::StageNameCasing),
            format!("{base}stage-name-casing/")
        );
        assert_eq!(
            url(Rule::JsonArgsRecommended),
            format!("{base}json-args-recommended/")
        );
        assert_eq!(
            url(Rule::UndefinedArgInFrom),
            format!("{base}undefined-arg-in-from/")
        );
    }
}
