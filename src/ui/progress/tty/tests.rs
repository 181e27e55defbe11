use std::sync::atomic::AtomicUsize;

use super::super::record::Record;
use super::super::{Report, Stream, Title};
use super::*;

/// A terminal that understands what the display writes: rows of text, and what it is told otherwise
/// makes the test fail.
struct Screen {
    size: Size,
    rows: Vec<String>,
    row: usize,
    column: usize,
    wraps: bool,
}

impl Screen {
    fn new(columns: usize, rows: usize) -> Self {
        Self {
            size: Size { columns, rows },
            rows: vec![String::new()],
            row: 0,
            column: 0,
            wraps: true,
        }
    }

    fn write(&mut self, text: &str) {
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\r' => self.column = 0,
                '\n' => {
                    self.row += 1;
                    if self.row == self.rows.len() {
                        self.rows.push(String::new());
                    }
                }
                '\u{1b}' => {
                    assert_eq!(chars.next(), Some('['));
                    let mut order = String::new();
                    for c in chars.by_ref() {
                        order.push(c);
                        if c.is_ascii_alphabetic() {
                            break;
                        }
                    }
                    self.obey(&order);
                }
                c => {
                    assert!(!c.is_control(), "{c:?} reached the terminal");
                    assert!(
                        self.column < self.size.columns,
                        "a row is too long: {text:?}"
                    );
                    let row = &mut self.rows[self.row];
                    let mut cells: Vec<char> = row.chars().collect();
                    cells.resize(cells.len().max(self.column + 1), ' ');
                    cells[self.column] = c;
                    *row = cells.into_iter().collect();
                    self.column += 1;
                }
            }
        }
    }

    fn obey(&mut self, order: &str) {
        let visible = |row: usize, of: &Self| row + of.size.rows >= of.rows.len();
        match order {
            "?7l" => self.wraps = false,
            "?7h" => self.wraps = true,
            "?2026h" | "?2026l" => {}
            "K" => self.rows[self.row] = self.rows[self.row].chars().take(self.column).collect(),
            "J" => {
                self.rows.truncate(self.row + 1);
                self.rows[self.row] = self.rows[self.row].chars().take(self.column).collect();
            }
            up if up.ends_with('A') => {
                let up: usize = up[..up.len() - 1].parse().unwrap();
                self.row -= up;
                assert!(visible(self.row, self), "above what is on the screen");
            }
            colour => assert!(colour.ends_with('m'), "{colour}"),
        }
    }

    fn text(&self) -> String {
        assert!(self.wraps);
        self.rows.join("\n")
    }
}

struct Play {
    record: Record,
    tty: Tty,
    screen: Screen,
    columns: Arc<AtomicUsize>,
}

impl Play {
    fn new(columns: usize, rows: usize) -> Self {
        let shared = Arc::new(AtomicUsize::new(columns));
        let size = Arc::clone(&shared);
        let look = Look {
            notice: None,
            palette: Palette::PLAIN,
            log_lines: 6,
            pause: Duration::from_millis(100),
            size: Box::new(move || Size {
                columns: size.load(Ordering::Relaxed),
                rows,
            }),
        };
        Self {
            record: Record::default(),
            tty: Tty::new(look, Arc::new(AtomicU64::new(3))),
            screen: Screen::new(columns, rows),
            columns: shared,
        }
    }

    fn at(&mut self, ms: u64, step: u64, report: Report) -> &mut Self {
        let at = Duration::from_millis(ms);
        for news in self.record.take(StepId(step), at, report) {
            self.tty.take(StepId(step), at, news);
        }
        self
    }

    fn show(&mut self, ms: u64, turn: Turn) -> String {
        let text = self.tty.show(Duration::from_millis(ms), turn);
        self.screen.write(&text);
        self.screen.text()
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

fn transfer(current_bytes: u64, total_bytes: u64) -> Report {
    Report::Transfer {
        what: "sha256:4abc".to_owned(),
        carried: Carried {
            current_bytes,
            total_bytes: Some(total_bytes),
            complete: current_bytes == total_bytes,
        },
    }
}

#[test]
fn steps_are_drawn_over_and_the_last_drawing_stays() {
    let mut play = Play::new(50, 20);
    play.at(0, 1, started("[1/2] FROM alpine"))
        .at(100, 1, transfer(1_000, 2_000))
        .at(200, 2, started("[2/2] RUN make"))
        .at(300, 2, output("cc\n\tld\n"));
    insta::assert_snapshot!(play.show(1_000, Turn::Next), @r"
    [+] Building 1.0s (0/3)                    rbuild
     => [1/2] FROM alpine                        1.0s
     => => sha256:4abc 1kB / 2kB                 0.9s
     => [2/2] RUN make                           0.8s
     => => # cc
     => => #         ld
    ");
    play.at(1_100, 1, transfer(2_000, 2_000))
        .at(1_200, 1, Report::Finished(Outcome::Done))
        .at(1_300, 2, Report::Finished(Outcome::Failed("no".into())));
    insta::assert_snapshot!(play.show(1_400, Turn::Last), @r"
    [+] Building 1.4s (2/3) FINISHED           rbuild
     => [1/2] FROM alpine                        1.2s
     => => sha256:4abc 2kB / 2kB                 1.0s
     => ERROR [2/2] RUN make                     1.1s
    ");
}

#[test]
fn nothing_is_drawn_more_often_than_it_can_be_seen() {
    let mut play = Play::new(50, 20);
    assert_eq!(play.tty.show(Duration::ZERO, Turn::Last), "");
    play.at(0, 1, started("a"));
    assert_ne!(play.tty.show(Duration::ZERO, Turn::Next), "");
    play.at(50, 2, started("b"));
    assert_eq!(play.tty.show(Duration::from_millis(99), Turn::Next), "");
    assert_ne!(play.tty.show(Duration::from_millis(100), Turn::Next), "");
    assert_ne!(play.tty.show(Duration::from_millis(100), Turn::Last), "");
}

#[test]
fn a_drawing_is_never_higher_than_the_terminal() {
    for rows in 1..12 {
        let mut play = Play::new(40, rows);
        for step in 0..20 {
            play.at(step, step, started(&format!("[{step}/20] RUN x")));
            for line in 0..9 {
                play.at(step, step, output(&format!("{step} {line}\n")));
            }
            if step < 10 {
                play.at(step, step, transfer(1, 1));
                play.at(step, step, Report::Finished(Outcome::Done));
            }
        }
        for ms in [100, 200, 300] {
            let shown = play.show(ms, Turn::Next);
            // The header is the only row that is always there.
            assert!(shown.lines().count() <= rows.max(2), "{rows}\n{shown}");
        }
        if rows < 2 {
            continue;
        }
        let all = play.show(400, Turn::Last);
        assert_eq!(all.matches("RUN x").count(), 20, "{all}");
    }
}

#[test]
fn what_runs_comes_before_what_is_done_and_logs_are_shared() {
    let mut play = Play::new(40, 8);
    play.at(0, 1, started("done"))
        .at(0, 1, Report::Finished(Outcome::Done))
        .at(0, 2, started("one"))
        .at(0, 3, started("two"));
    for line in 0..6 {
        play.at(0, 2, output(&format!("1.{line}\n")));
        play.at(0, 3, output(&format!("2.{line}\n")));
    }
    insta::assert_snapshot!(play.show(100, Turn::Next), @r"
    [+] Building 0.1s (1/3)          rbuild
     => one                            0.1s
     => => # 1.4
     => => # 1.5
     => two                            0.1s
     => => # 2.4
     => => # 2.5
    ");
}

#[test]
fn narrow_and_resized_terminals() {
    let mut play = Play::new(60, 10);
    play.at(
        0,
        1,
        started("[linux/arm64 builder 2/4] RUN ein sehr langes Kommando"),
    );
    play.show(0, Turn::Next);
    for (ms, columns) in [(100, 40), (200, 12), (300, 3), (400, 1), (500, 60)] {
        // The terminal wraps what no longer fits.
        let old = std::mem::replace(&mut play.screen, Screen::new(columns, 10));
        let (_, drawn) = old.rows.split_last().unwrap();
        for row in drawn {
            let cells: Vec<char> = format!("{row:1}").chars().collect();
            for piece in cells.chunks(columns) {
                play.screen.write(&piece.iter().collect::<String>());
                play.screen.write("\r\n");
            }
        }
        play.columns.store(columns, Ordering::Relaxed);
        let shown = play.show(ms, Turn::Next);
        assert_eq!(shown.lines().count(), 2, "{columns}\n{shown}");
    }
    insta::assert_snapshot!(play.screen.text(), @r"
    [+] Building 0.5s (0/3)                              rbuild
     => [linux/arm64 builder 2/4] RUN ein sehr langes Kom… 0.5s
    ");
}

#[test]
fn x25_steps_do_not_give_orders_to_the_terminal() {
    let mut play = Play::new(70, 10);
    let evil = "\u{1b}[2J\u{1b}]0;title\u{7}a\u{8}\u{9b}1Ab\u{202e}c\r\u{1b}[10Aoh\u{0}\n";
    let note = Report::Note(evil.to_owned());
    let carried = Carried {
        current_bytes: 0,
        total_bytes: None,
        complete: false,
    };
    let what = evil.to_owned();
    play.at(0, 1, started(evil))
        .at(0, 1, output(evil))
        .at(0, 1, note)
        .at(0, 1, Report::Transfer { what, carried });
    // The screen refuses everything but what the display itself needs.
    let shown = play.show(0, Turn::Next);
    assert!(shown.contains("abc"), "{shown}");
}

#[test]
fn wide_characters_take_two_columns() {
    assert_eq!(spread("建築", "1s", 40).chars().count(), 38);
    assert_eq!(cut_to("建築建築", 5), "建築…");
    assert_eq!(cut_to("abc", 3), "abc");
    assert_eq!(cut_to("abcd", 3), "ab…");
    assert_eq!(cut_to("abcd", 0), "");
}
