//! JSON lines for programs (`cli-and-outputs.md` §11.2): one object for each report, with the parts
//! that it has.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Carried, Outcome, Phase, Report, StepId, Stream, Title, UNDER_EMULATION};
use crate::ui::printable::without_os_numbers;

/// What has been reported of the steps, and what of it is not written yet.
#[derive(Debug)]
pub(super) struct RawJson {
    /// When the build's clock started.
    epoch: Timestamp,
    steps: BTreeMap<StepId, Known>,
    text: String,
}

#[derive(Debug)]
struct Known {
    title: Title,
    started: Time,
    transfers: BTreeMap<String, Time>,
    ended: bool,
}

/// A time, as RFC 3339 text.
#[derive(Clone, Copy, Debug)]
struct Time(Timestamp);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A finding about the Dockerfile, as the reference's clients read it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct VertexWarning {
    /// The step that found it.
    pub(crate) vertex: String,
    /// How grave it is: 1.
    pub(crate) level: u32,
    /// The finding, in base64.
    pub(crate) short: String,
    /// What the rule is about, in base64.
    pub(crate) detail: Vec<String>,
    /// Where more is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// The lines.
    pub(crate) range: Vec<Range>,
}

/// Lines of the Dockerfile.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Range {
    pub(crate) start: Position,
    pub(crate) end: Position,
}

/// A line of the Dockerfile, from 1.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Position {
    pub(crate) line: usize,
}

impl VertexWarning {
    /// Returns a finding of the step called `by` about the lines from `first` to `last`.
    pub(crate) fn new(
        by: &str,
        short: &str,
        detail: &str,
        url: Option<String>,
        (first, last): (usize, usize),
    ) -> Self {
        Self {
            vertex: Title::of(by).digest,
            level: 1,
            short: STANDARD.encode(short),
            detail: vec![STANDARD.encode(detail)],
            url,
            range: vec![Range {
                start: Position { line: first },
                end: Position { line: last },
            }],
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct Update<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    vertexes: Option<[Vertex<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statuses: Option<[Status<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<[Log<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<[&'a VertexWarning; 1]>,
}

#[derive(Debug, Serialize)]
struct Vertex<'a> {
    digest: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    inputs: &'a [String],
    name: &'a str,
    started: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Time>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct Status<'a> {
    id: &'a str,
    vertex: &'a str,
    current: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    timestamp: Time,
    started: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<Time>,
}

#[derive(Debug, Serialize)]
struct Log<'a> {
    vertex: &'a str,
    stream: u32,
    data: String,
    timestamp: Time,
}

impl RawJson {
    /// Returns the state before the first step, which comes not before `epoch`.
    pub(super) fn new(epoch: Timestamp) -> Self {
        Self {
            epoch,
            steps: BTreeMap::new(),
            text: String::new(),
        }
    }

    /// Notes what a step reports. Reports after its end, and of steps unheard of, say nothing.
    pub(super) fn take(&mut self, step: StepId, at: Duration, report: &Report) {
        let now = self.time(at);
        if let Report::Started { title } = report {
            self.steps.entry(step).or_insert_with(|| Known {
                title: title.clone(),
                started: now,
                transfers: BTreeMap::new(),
                ended: false,
            });
        }
        let Some(known) = self.steps.get_mut(&step).filter(|known| !known.ended) else {
            return;
        };
        let line = match report {
            Report::Started { .. } => line(&known.vertex(None)),
            Report::Finished(outcome) => {
                known.ended = true;
                line(&known.vertex(Some((now, outcome))))
            }
            Report::Output { stream, bytes } => line(&Update {
                logs: Some([Log {
                    vertex: &known.title.digest,
                    stream: match stream {
                        Stream::Stdout => 1,
                        Stream::Stderr => 2,
                    },
                    data: STANDARD.encode(bytes),
                    timestamp: now,
                }]),
                ..Update::default()
            }),
            Report::Transfer { what, carried } => {
                let started = *known.transfers.entry(what.clone()).or_insert(now);
                line(&known.status(what, *carried, started, now))
            }
            Report::Emulated(phase) => {
                let carried = Carried {
                    current_bytes: 0,
                    total_bytes: None,
                    complete: *phase == Phase::End,
                };
                let started = known.transfers.entry(UNDER_EMULATION.to_owned());
                let started = *started.or_insert(now);
                line(&known.status(UNDER_EMULATION, carried, started, now))
            }
            Report::Note(text) => {
                let carried = Carried {
                    current_bytes: 0,
                    total_bytes: None,
                    complete: true,
                };
                line(&known.status(text, carried, now, now))
            }
        };
        self.text += &line;
    }

    /// Notes a finding about the Dockerfile.
    pub(super) fn warning(&mut self, warning: VertexWarning) {
        self.text += &line(&Update {
            warnings: Some([&warning]),
            ..Update::default()
        });
    }

    /// Returns what is not written yet.
    pub(super) fn show(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    fn time(&self, at: Duration) -> Time {
        let since = SignedDuration::try_from(at).unwrap_or_default();
        Time(self.epoch.checked_add(since).unwrap_or(self.epoch))
    }
}

impl Known {
    fn vertex(&self, end: Option<(Time, &Outcome)>) -> Update<'_> {
        let Title {
            name,
            digest,
            inputs,
        } = &self.title;
        let (completed, outcome) = end.unzip();
        Update {
            vertexes: Some([Vertex {
                digest,
                inputs,
                name,
                started: self.started,
                completed,
                cached: outcome == Some(&Outcome::Cached),
                error: outcome.and_then(|outcome| match outcome {
                    Outcome::Done | Outcome::Cached => None,
                    Outcome::Failed(message) => Some(without_os_numbers(message)),
                    Outcome::Canceled => Some("context canceled".to_owned()),
                }),
            }]),
            ..Update::default()
        }
    }

    fn status<'a>(&'a self, id: &'a str, carried: Carried, started: Time, now: Time) -> Update<'a> {
        Update {
            statuses: Some([Status {
                id,
                vertex: &self.title.digest,
                current: carried.current_bytes,
                total: carried.total_bytes,
                timestamp: now,
                started,
                completed: carried.complete.then_some(now),
            }]),
            ..Update::default()
        }
    }
}

fn line(update: &Update<'_>) -> String {
    // Plain data with string keys: serialising it has no way to go wrong.
    let mut line = serde_json::to_string(update).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_is_a_line() {
        let mut json = RawJson::new(Timestamp::UNIX_EPOCH);
        let step = StepId(7);
        let title = Title {
            name: "[2/2] RUN \u{1b}[2J".to_owned(),
            digest: "sha256:d".to_owned(),
            inputs: vec!["sha256:i".to_owned()],
        };
        let reports = [
            Report::Output {
                stream: Stream::Stdout,
                bytes: b"before its start".to_vec(),
            },
            Report::Started { title },
            Report::Output {
                stream: Stream::Stderr,
                bytes: b"\x1b[2Jhi\xff\n".to_vec(),
            },
            Report::Transfer {
                what: "sha256:b".to_owned(),
                carried: Carried {
                    current_bytes: 1,
                    total_bytes: Some(2),
                    complete: false,
                },
            },
            Report::Note("exporting done".to_owned()),
            Report::Finished(Outcome::Failed("exit code: 1".to_owned())),
            Report::Finished(Outcome::Done),
        ];
        for (second, report) in (0..).zip(&reports) {
            json.take(step, Duration::from_secs(second), report);
        }
        json.warning(VertexWarning::new("load", "Rule: x", "about", None, (1, 2)));
        insta::assert_snapshot!(json.show(), @r#"
        {"vertexes":[{"digest":"sha256:d","inputs":["sha256:i"],"name":"[2/2] RUN \u001b[2J","started":"1970-01-01T00:00:01Z"}]}
        {"logs":[{"vertex":"sha256:d","stream":2,"data":"G1sySmhp/wo=","timestamp":"1970-01-01T00:00:02Z"}]}
        {"statuses":[{"id":"sha256:b","vertex":"sha256:d","current":1,"total":2,"timestamp":"1970-01-01T00:00:03Z","started":"1970-01-01T00:00:03Z"}]}
        {"statuses":[{"id":"exporting done","vertex":"sha256:d","current":0,"timestamp":"1970-01-01T00:00:04Z","started":"1970-01-01T00:00:04Z","completed":"1970-01-01T00:00:04Z"}]}
        {"vertexes":[{"digest":"sha256:d","inputs":["sha256:i"],"name":"[2/2] RUN \u001b[2J","started":"1970-01-01T00:00:01Z","completed":"1970-01-01T00:00:05Z","error":"exit code: 1"}]}
        {"warnings":[{"vertex":"sha256:0cf67fc72b3c86c7a454f6d86b43ed245a8e491d0e5288d4da8c7ff43a7bcdb0","level":1,"short":"UnVsZTogeA==","detail":["YWJvdXQ="],"range":[{"start":{"line":1},"end":{"line":2}}]}]}
        "#);
        assert_eq!(json.show(), "");
    }
}
