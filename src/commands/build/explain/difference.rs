//! The first thing in which a step differs from the last build's.

use solver::{Found, KeyPart};

use super::StepRecord;

/// How much of a value is shown.
const SHOWN_CHARS: usize = 100;

/// Returns why no earlier result served `step`.
pub(super) fn reason(step: &StepRecord, found: Found, before: &[StepRecord]) -> String {
    if found == Found::Unwanted {
        return "--no-cache: earlier results were not looked for".to_owned();
    }
    let Some(last) = same_step(step, before) else {
        return "there was no such step in the last build of this".to_owned();
    };
    let different = first_difference(step, last);
    match (different, found) {
        (Some(different), _) => different,
        (None, Found::Removed) => "its result was removed from the store".to_owned(),
        (None, _) if !last.done => "it did not come to its end in the last build".to_owned(),
        (None, Found::Nothing | Found::Unwanted | Found::Result) => {
            "nothing has changed, but its result is not remembered any more".to_owned()
        }
    }
}

/// Where a step stands: `linux/arm64 builder 2` of `[linux/arm64 builder 2/4] RUN make`; and what it does.
fn split(name: &str) -> (&str, &str) {
    let Some((place, instruction)) = name.split_once("] ") else {
        return ("", name);
    };
    let place = place.trim_start_matches('[');
    (
        place.rsplit_once('/').map_or(place, |(slot, _)| slot),
        instruction,
    )
}

/// The platform and stage of a place, without the step's number.
fn stage(slot: &str) -> &str {
    slot.rsplit_once(' ').map_or("", |(stage, _)| stage)
}

/// Finds the step in another build: the same instruction in the same stage, else the one at its place
/// that is of the same kind.
pub(super) fn same_step<'s>(step: &StepRecord, others: &'s [StepRecord]) -> Option<&'s StepRecord> {
    let (slot, instruction) = split(&step.name);
    let word = |instruction: &str| instruction.split(' ').next().map(str::to_owned);
    let in_stage = || {
        others
            .iter()
            .filter(move |other| stage(split(&other.name).0) == stage(slot))
    };
    let alike = |other: &&StepRecord| split(&other.name).1 == instruction;
    let at_its_place = |other: &&StepRecord| {
        let (there, what) = split(&other.name);
        there == slot && word(what) == word(instruction)
    };
    in_stage()
        .find(|other| alike(other) && at_its_place(other))
        .or_else(|| in_stage().find(alike))
        .or_else(|| in_stage().find(at_its_place))
}

fn first_difference(step: &StepRecord, last: &StepRecord) -> Option<String> {
    let value = |parts: &[KeyPart], name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        part.map(|part| part.value.clone())
    };
    for KeyPart { name, value: now } in &step.parts {
        let was = value(&last.parts, name);
        if was.as_ref() != Some(now) {
            return Some(told(name, Some(now), was.as_deref(), step, last));
        }
    }
    let gone = last
        .parts
        .iter()
        .find(|part| value(&step.parts, &part.name).is_none())?;
    Some(told(&gone.name, None, Some(&gone.value), step, last))
}

/// Says that `name` is `now`, and what it was.
fn told(
    name: &str,
    now: Option<&str>,
    was: Option<&str>,
    step: &StepRecord,
    last: &StepRecord,
) -> String {
    if name == "root" {
        return below(step, last);
    }
    if let Some(path) = name.strip_prefix("file ") {
        let path = match path {
            "" => "the files",
            path => path,
        };
        return match (now, was) {
            (Some(_), Some(_)) => format!("{path} changed"),
            (Some(_), None) => format!("{path} is new"),
            (None, _) => format!("{path} was removed"),
        };
    }
    let what = match name {
        "argv" => "the command".to_owned(),
        "cwd" => "the working directory".to_owned(),
        "sources" => return "the content that it reads is another".to_owned(),
        other if other.starts_with("variable ") || other.starts_with("mount ") => other.to_owned(),
        other => format!("the {other}"),
    };
    match (now.map(readable), was.map(readable)) {
        (Some(Some(now)), Some(Some(was))) => format!("{what} is {now}, and was {was}"),
        (Some(Some(now)), None) => format!("{what} is new: {now}"),
        (Some(None), None) => format!("{what} is new"),
        (Some(_), Some(_)) => format!("{what} is another"),
        (None, _) => format!("{what} is gone"),
    }
}

/// What the step is built on is another: which, if it has another name; else its reason is told there.
fn below(step: &StepRecord, last: &StepRecord) -> String {
    let named = |below: &Option<String>| below.as_deref().map_or("nothing", |name| name).to_owned();
    let (now, was) = (named(&step.below), named(&last.below));
    let image = |name: &str| Some(split(name).1.strip_prefix("FROM ")?.to_owned());
    match (image(&now), image(&was)) {
        (Some(now), Some(was)) if now != was => {
            format!("the base image is {now}, and was {was}")
        }
        (None, _) | (_, None) if split(&now).1 != split(&was).1 => {
            format!("what it is built on is {now}, and was {was}")
        }
        _ => format!("what it is built on is another: see {now}"),
    }
}

/// A value as people write it; `None` for the digest of one.
fn readable(json: &str) -> Option<String> {
    if json.starts_with("sha256:") {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    let text = match &value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(words) if words.iter().all(serde_json::Value::is_string) => {
            let words: Vec<&str> = words.iter().filter_map(|word| word.as_str()).collect();
            match words.as_slice() {
                ["/bin/sh", "-c", line] => (*line).to_owned(),
                words => words.join(" "),
            }
        }
        serde_json::Value::Null => "not set".to_owned(),
        serde_json::Value::Bool(_)
        | serde_json::Value::Number(_)
        | serde_json::Value::Array(_)
        | serde_json::Value::Object(_) => value.to_string(),
    };
    let is_long = text.chars().count() > SHOWN_CHARS;
    let shown: String = text.chars().take(SHOWN_CHARS).collect();
    Some(format!("`{shown}{}`", if is_long { "…" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, below: &str, parts: &[(&str, &str)]) -> StepRecord {
        let parts = parts.iter().map(|(name, value)| KeyPart {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        });
        StepRecord {
            name: name.to_owned(),
            below: Some(below.to_owned()),
            parts: parts.collect(),
            done: true,
        }
    }

    const BASE: &str = "[1/3] FROM docker.io/library/busybox:latest@sha256:aa";

    fn run(argv: &str) -> StepRecord {
        let argv = serde_json::json!(["/bin/sh", "-c", argv]).to_string();
        step(
            "[2/3] RUN x",
            BASE,
            &[("root", "\"1\""), ("argv", &argv), ("variable A", "\"1\"")],
        )
    }

    fn why(now: &StepRecord, before: &[StepRecord]) -> String {
        reason(now, Found::Nothing, before)
    }

    #[test]
    fn the_first_difference_is_told() {
        let last = [run("a")];
        assert_eq!(why(&run("b"), &last), "the command is `b`, and was `a`");
        let mut now = run("a");
        now.parts[2].value = "\"2\"".to_owned();
        assert_eq!(why(&now, &last), "variable A is `2`, and was `1`");
        now.parts[2].value = "sha256:00".to_owned();
        assert_eq!(why(&now, &last), "variable A is another");
        now.parts.pop();
        assert_eq!(why(&now, &last), "variable A is gone");
        now.parts.push(KeyPart {
            name: "file src/a.rs".to_owned(),
            value: "1".to_owned(),
        });
        assert_eq!(why(&now, &last), "src/a.rs is new");
        let mut now = run("b");
        now.parts[0].value = "\"2\"".to_owned();
        let see = "what it is built on is another: see [1/3] FROM docker.io/library/busybox:latest@sha256:aa";
        assert_eq!(why(&now, &last), see);
        now.below = Some(BASE.replace("aa", "bb"));
        let moved = "the base image is docker.io/library/busybox:latest@sha256:bb, and was docker.io/library/busybox:latest@sha256:aa";
        assert_eq!(why(&now, &last), moved);
        assert_eq!(
            reason(&run("a"), Found::Removed, &last),
            "its result was removed from the store"
        );
        assert!(reason(&run("a"), Found::Unwanted, &last).starts_with("--no-cache"));
        assert!(why(&run("a"), &[]).starts_with("there was no such step"));
        let mut failed = last;
        failed[0].done = false;
        assert_eq!(
            why(&run("a"), &failed),
            "it did not come to its end in the last build"
        );
    }

    #[test]
    fn steps_are_found_again_where_others_came_between() {
        let last = [
            step("[linux/arm64 a 2/3] RUN one", "", &[]),
            step("[linux/arm64 a 3/3] RUN two", "", &[]),
            step("[linux/amd64 a 3/3] RUN two", "", &[]),
        ];
        let found =
            |name: &str| same_step(&step(name, "", &[]), &last).map(|step| step.name.as_str());
        assert_eq!(
            found("[linux/arm64 a 4/4] RUN two"),
            Some("[linux/arm64 a 3/3] RUN two")
        );
        assert_eq!(
            found("[linux/arm64 a 2/9] RUN new"),
            Some("[linux/arm64 a 2/3] RUN one")
        );
        assert_eq!(found("[linux/arm64 a 2/9] COPY . /"), None);
        assert_eq!(found("[linux/arm64 b 2/3] RUN one"), None);
    }
}
