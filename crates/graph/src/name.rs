//! Names of steps, as progress shows them (`dockerfile.md` §16.2).
//!
//! A name must not speak of the target platform unless the stage reads it: the step may be shared
//! by several targets.

use dockerfile::directive::Escape;
use dockerfile::expand::Expander;
use oci::Platform;

use crate::git;
use crate::scope::Variables;

/// Numbers the steps of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    /// Whether names tell the stage's platform: in builds for several.
    pub(crate) show_platform: bool,
    /// The stage's name, in files with several.
    pub(crate) stage: Option<String>,
    /// How many steps there will be.
    pub(crate) total: usize,
    /// How many have been named.
    pub(crate) named: usize,
}

impl Steps {
    /// Returns the name of the next step: `[linux/arm64 builder 2/4] RUN make`.
    pub(crate) fn next(
        &mut self,
        text: &str,
        platform: &Platform,
        variables: &Variables,
    ) -> String {
        self.named += 1;
        let mut name = "[".to_owned();
        if self.show_platform {
            name.push_str(&platform.to_string());
            name.push_str(&other_target(platform, variables));
            name.push(' ');
        }
        if let Some(stage) = &self.stage {
            name.push_str(stage);
            name.push(' ');
        }
        let width = self.total.to_string().len();
        name.push_str(&format!("{:width$}/{}] {text}", self.named, self.total));
        name
    }
}

/// Returns `->arm64` in a stage that knows it works for another platform than its own.
fn other_target(own: &Platform, variables: &Variables) -> String {
    let Some(target) = declared_target(own, variables) else {
        return String::new();
    };
    if target.os != own.os {
        return format!("->{target}");
    }
    if target.architecture == own.architecture {
        return String::new();
    }
    match &target.variant {
        Some(variant) => format!("->{}/{variant}", target.architecture),
        None => format!("->{}", target.architecture),
    }
}

fn declared_target(own: &Platform, variables: &Variables) -> Option<Platform> {
    if let Some(target) = variables.get("TARGETPLATFORM")
        && let Ok(target) = target.parse()
    {
        return Some(target);
    }
    let of = |name: &str| variables.get(name);
    let (os, architecture, variant) = (of("TARGETOS"), of("TARGETARCH"), of("TARGETVARIANT"));
    os.or(architecture).or(variant)?;
    let or_own = |value: Option<&str>, own: &str| match value {
        None | Some("") => own.to_owned(),
        Some(value) => value.to_owned(),
    };
    let target = Platform {
        os: or_own(os, &own.os),
        architecture: or_own(architecture, &own.architecture),
        variant: variant.map(str::to_owned),
        os_version: None,
        os_features: Vec::new(),
    };
    Some(target.normalized())
}

/// Returns an instruction for people to read: keyword in capitals, variables replaced by their
/// values where they have one, secret variables and the passwords of addresses masked.
pub(crate) fn instruction(
    text: &str,
    variables: &Variables,
    secrets: &[String],
    escape: Escape,
) -> String {
    let lookup = |name: &str| {
        if secrets.iter().any(|secret| secret == name) {
            return Some("****");
        }
        variables.get(name)
    };
    let text = Expander::new(escape, &lookup).display(text);
    let words: Vec<String> = text.split(' ').map(git::without_password).collect();
    let text = words.join(" ");
    match text.split_once(' ') {
        Some((keyword, rest)) => format!("{} {rest}", keyword.to_uppercase()),
        None => text.to_uppercase(),
    }
}

/// Returns the first line of a heredoc's body, for the name of the step that runs it.
pub(crate) fn summary(body: &str) -> String {
    let mut lines = body.trim().lines();
    let first = lines.next().unwrap_or_default();
    let more = if lines.next().is_some() { "..." } else { "" };
    format!(" ({first}{more})")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        let mut variables = Variables::default();
        for (name, value) in pairs {
            variables.define(name, value);
        }
        variables
    }

    #[test]
    fn steps_are_numbered_and_padded() {
        let mut steps = Steps {
            show_platform: true,
            stage: Some("b".to_owned()),
            total: 12,
            named: 8,
        };
        let arm = "linux/arm/v7".parse().unwrap();
        let mut next = |pairs: &[(&str, &str)]| steps.next("RUN x", &arm, &variables(pairs));
        assert_eq!(next(&[]), "[linux/arm/v7 b  9/12] RUN x");
        assert_eq!(
            next(&[("TARGETARCH", "arm")]),
            "[linux/arm/v7 b 10/12] RUN x"
        );
        assert_eq!(
            next(&[("TARGETARCH", "arm64"), ("TARGETVARIANT", "")]),
            "[linux/arm/v7->arm64 b 11/12] RUN x"
        );
        assert_eq!(
            next(&[("TARGETPLATFORM", "windows/amd64")]),
            "[linux/arm/v7->windows/amd64 b 12/12] RUN x"
        );
    }

    #[test]
    fn instructions_show_values_but_no_secrets() {
        let variables = variables(&[("a", "1"), ("S", "old")]);
        let shown =
            |text: &str| instruction(text, &variables, &["S".to_owned()], Escape::Backslash);
        assert_eq!(shown("run echo $a '$a' $b $S"), "RUN echo 1 '$a' $b ****");
        assert_eq!(shown("run"), "RUN");
        assert_eq!(shown("RUN echo \"${a"), "RUN echo \"${a");
    }

    #[test]
    fn heredocs_are_summed_up_by_their_first_line() {
        assert_eq!(summary("\n a b \n"), " (a b)");
        assert_eq!(summary("a\r\nb\n"), " (a...)");
        assert_eq!(summary(""), " ()");
    }
}
