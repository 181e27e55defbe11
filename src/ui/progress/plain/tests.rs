use super::super::record::Record;
use super::super::{FailedStep, Report, Stream, Title};
use super::*;

/// Plays reports at given milliseconds, showing after each what is due.
struct Play {
    record: Record,
    plain: Plain,
    shown: String,
}

impl Play {
    fn new() -> Self {
        Self {
            record: Record::default(),
            plain: Plain::new(""),
            shown: String::new(),
        }
    }

    fn at(&mut self, ms: u64, step: u64, report: Report) -> &mut Self {
        let at = Duration::from_millis(ms);
        for news in self.record.take(StepId(step), at, report) {
            self.plain.take(StepId(step), at, news);
        }
        self.tick(ms)
    }

    fn tick(&mut self, ms: u64) -> &mut Self {
        self.shown += &self.plain.show(Duration::from_millis(ms), false);
        self
    }

    fn end(&mut self, ms: u64) -> &str {
        self.shown += &self.plain.show(Duration::from_millis(ms), true);
        &self.shown
    }
}

fn started(name: &str) -> Report {
    let title = Title::of(name);
    Report::Started { title }
}

fn output(text: &str) -> Report {
    Report::Output {
        stream: Stream::Stdout,
        bytes: text.into(),
    }
}

#[test]
fn steps_one_after_the_other() {
    let mut play = Play::new();
    play.plain = Plain::new("building with rbuild");
    play.at(
        0,
        1,
        started("[internal] load build definition from Dockerfile"),
    )
    .at(
        1,
        1,
        Report::Transfer {
            what: "transferring dockerfile:".into(),
            carried: Carried {
                current_bytes: 63,
                total_bytes: None,
                complete: true,
            },
        },
    )
    .at(2, 1, Report::Finished(Outcome::Done))
    .at(10, 2, started("[1/2] FROM docker.io/library/alpine:latest"))
    .at(11, 2, Report::Finished(Outcome::Cached))
    .at(20, 3, started("[2/2] RUN echo hi"))
    .at(124, 3, output("hi\nthe"))
    .at(130, 3, output("re\n"))
    .at(144, 3, Report::Finished(Outcome::Done));
    insta::assert_snapshot!(play.end(200), @r"
    #0 building with rbuild

    #1 [internal] load build definition from Dockerfile
    #1 transferring dockerfile: 63B done
    #1 DONE 0.0s

    #2 [1/2] FROM docker.io/library/alpine:latest
    #2 CACHED

    #3 [2/2] RUN echo hi
    #3 0.104 hi
    #3 0.110 there
    #3 DONE 0.1s
    ");
}

#[test]
fn steps_side_by_side_do_not_mix_and_none_is_hidden_for_long() {
    let mut play = Play::new();
    play.at(0, 1, started("[a 1/1] RUN one"))
        .at(0, 2, started("[b 1/1] RUN two"))
        .at(0, 3, started("[c 1/1] RUN three"))
        .at(100, 1, output("one\n"))
        .at(200, 2, output("two\n"))
        .at(300, 1, output("one again\n"))
        .at(400, 3, Report::Finished(Outcome::Done))
        .at(500, 1, output("and again\n"))
        .tick(1_600)
        .at(1_700, 1, output("more\n"))
        .at(1_800, 1, Report::Finished(Outcome::Done))
        .at(1_900, 2, Report::Finished(Outcome::Done));
    insta::assert_snapshot!(play.end(2_000), @r"

    #1 [a 1/1] RUN one
    #1 0.100 one
    #1 0.300 one again
    #1 0.500 and again
    #1 ...

    #2 [c 1/1] RUN three
    #2 DONE 0.4s

    #3 [b 1/1] RUN two
    #3 0.200 two
    #3 DONE 1.9s

    #1 [a 1/1] RUN one
    #1 1.700 more
    #1 DONE 1.8s
    ");
}

#[test]
fn short_steps_side_by_side_come_whole() {
    let mut play = Play::new();
    play.at(0, 1, started("[a 1/1] COPY one /"))
        .at(0, 2, started("[b 1/1] COPY two /"))
        .at(30, 2, Report::Finished(Outcome::Done))
        .at(40, 1, Report::Finished(Outcome::Done))
        .at(50, 3, started("[c 1/1] RUN sleep 9"))
        .tick(100);
    assert!(!play.shown.contains("sleep"), "{}", play.shown);
    play.tick(150);
    insta::assert_snapshot!(play.shown, @r"

    #1 [b 1/1] COPY two /
    #1 DONE 0.0s

    #2 [a 1/1] COPY one /
    #2 DONE 0.0s

    #3 [c 1/1] RUN sleep 9
    ");
}

#[test]
fn a_failure_waits_for_nobody() {
    let mut play = Play::new();
    play.at(0, 1, started("[a 1/1] RUN make"))
        .at(0, 2, started("[b 1/1] RUN false"))
        .at(10, 1, output("making\n"))
        .at(
            20,
            2,
            Report::Finished(Outcome::Failed("exit code: 1".into())),
        );
    insta::assert_snapshot!(play.shown, @r"

    #1 [a 1/1] RUN make
    #1 0.010 making
    #1 ...

    #2 [b 1/1] RUN false
    #2 ERROR: exit code: 1
    ");
}

#[test]
fn a_failed_step_leaves_its_whole_output_and_the_others_are_cancelled() {
    let mut play = Play::new();
    play.at(0, 1, started("[1/2] RUN false"))
        .at(0, 2, started("[2/2] RUN \u{1b}[31msleep\u{1b}[0m"))
        .at(104, 1, output("oops\nno newline"))
        .at(
            110,
            1,
            Report::Finished(Outcome::Failed("exit code: 1".into())),
        )
        .at(120, 2, Report::Finished(Outcome::Canceled))
        .at(130, 1, output("after the end\n"));
    insta::assert_snapshot!(play.end(200), @r"
    #1 [1/2] RUN false
    #1 0.104 oops
    #1 0.110 no newline
    #1 ERROR: exit code: 1

    #2 [2/2] RUN sleep
    #2 CANCELED
    ");
    let summary = play.record.summary();
    assert_eq!(
        summary.failed,
        [FailedStep {
            name: "[1/2] RUN false".into(),
            log: vec!["0.104 oops".into(), "0.110 no newline".into()],
            forgotten_lines: 0,
        }]
    );
    assert_eq!(summary.times.len(), 2);
}

#[test]
fn transfers_are_shown_now_and_then_and_at_their_end() {
    let mut play = Play::new();
    play.at(0, 1, started("[1/1] FROM base"));
    let mut at = |ms, current_bytes| {
        let carried = Carried {
            current_bytes,
            total_bytes: Some(3_620_000),
            complete: current_bytes == 3_620_000,
        };
        let what = "sha256:4abc".into();
        play.at(ms, 1, Report::Transfer { what, carried });
    };
    at(10, 0);
    at(500, 100_000);
    at(2_500, 1_050_000);
    at(2_600, 1_060_000);
    at(3_000, 3_620_000);
    at(3_001, 3_620_000);
    insta::assert_snapshot!(play.end(3_002), @r"
    #1 [1/1] FROM base
    #1 sha256:4abc 1.05MB / 3.62MB 2.5s
    #1 sha256:4abc 3.62MB / 3.62MB 3.0s done
    ");
}
