//! The live display on a terminal (`cli-and-outputs.md` §11.2): drawn anew as things happen.
//!
//! ```text
//! [+] Building 1.2s (3/5)                                            rbuild
//!  => [internal] load build definition from Dockerfile                 0.0s
//!  => => transferring dockerfile: 63B                                  0.0s
//!  => CACHED [1/2] FROM docker.io/library/alpine                       0.0s
//!  => [2/2] RUN make                                                   1.1s
//!  => => # cc -c a.c                       the last lines of what is running
//! ```
//!
//! A drawing is one write: the cursor goes up over the last drawing, every row is written over what was
//! there and only then is the rest of the row erased, so nothing flickers. While it is written the
//! terminal does not wrap lines, so a row is a row whatever a character's width is on this terminal.
//! A drawing is never higher than the terminal, as rows that have scrolled out cannot be drawn again:
//! what is done gives way to what is running. The last drawing shows all steps and stays.
//!
//! Between drawings the terminal is as it was found, so there is nothing to restore if rbuild is killed.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anstyle::Style;
use oci::Digest;
use unicode_width::UnicodeWidthChar;

use super::record::{News, carried_text};
use super::{Carried, Outcome, Palette, StepId, Turn};
use crate::ui::printable::printable;
use crate::ui::units;

/// Ends a drawing's hold on the terminal's line wrapping; begins with it switched off.
const NO_WRAP: &str = "\u{1b}[?7l";
const WRAP: &str = "\u{1b}[?7h";
/// Terminals that can show what comes between these two at once; others skip them.
const TOGETHER: &str = "\u{1b}[?2026h";
const SHOW: &str = "\u{1b}[?2026l";
const ERASE_ROW: &str = "\u{1b}[K";
const ERASE_BELOW: &str = "\u{1b}[J";

/// How many finished transfers and notes of one step are drawn while there are more.
const SUBS: usize = 4;

/// How wide and how high the terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// Of a terminal that does not know.
    pub(crate) const USUAL: Self = Self {
        columns: 80,
        rows: 24,
    };
}

/// What the display looks like.
pub(crate) struct Look {
    /// Stands above the first drawing.
    pub(crate) notice: Option<String>,
    pub(crate) palette: Palette,
    /// How many lines of each running step are shown.
    pub(crate) log_lines: usize,
    /// From one drawing to the next.
    pub(crate) pause: Duration,
    /// Tells the terminal's size, which may change at any time.
    pub(crate) size: Box<dyn Fn() -> Size + Send>,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look")
            .field("palette", &self.palette)
            .field("log_lines", &self.log_lines)
            .field("pause", &self.pause)
            .finish_non_exhaustive()
    }
}

/// The steps so far, and what of them is drawn.
#[derive(Debug)]
pub(super) struct Tty {
    look: Look,
    /// How many steps there are to be, as far as that is known.
    expected: Arc<AtomicU64>,
    /// In the order of their start.
    steps: Vec<Step>,
    places: BTreeMap<StepId, usize>,
    /// How wide the rows of the last drawing are.
    drawn: Vec<usize>,
    drawn_at: Option<Duration>,
}

#[derive(Debug)]
struct Step {
    name: String,
    started: Duration,
    ended: Option<(Duration, Outcome)>,
    subs: Vec<Sub>,
    log: VecDeque<String>,
}

/// A transfer, or a note.
#[derive(Debug)]
struct Sub {
    text: String,
    what: Option<String>,
    started: Duration,
    ended: Option<Duration>,
}

/// A row of a drawing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    text: String,
    style: Style,
}

/// What is drawn of a step.
#[derive(Debug)]
struct Block {
    running: bool,
    main: Option<Row>,
    subs: VecDeque<Row>,
    log: VecDeque<Row>,
}

impl Block {
    fn rows(&self) -> usize {
        usize::from(self.main.is_some()) + self.subs.len() + self.log.len()
    }
}

impl Tty {
    /// Returns the state before the first step.
    pub(super) fn new(look: Look, expected: Arc<AtomicU64>) -> Self {
        Self {
            look,
            expected,
            steps: Vec::new(),
            places: BTreeMap::new(),
            drawn: Vec::new(),
            drawn_at: None,
        }
    }

    /// How long a drawing stays.
    pub(super) fn pause(&self) -> Duration {
        self.look.pause
    }

    /// Notes what is new of a step.
    pub(super) fn take(&mut self, id: StepId, at: Duration, news: News) {
        if let News::Started { title } = &news {
            self.places.insert(id, self.steps.len());
            self.steps.push(Step {
                name: one_line(&title.name),
                started: at,
                ended: None,
                subs: Vec::new(),
                log: VecDeque::new(),
            });
            return;
        }
        let step = self.places.get(&id).and_then(|&at| self.steps.get_mut(at));
        let Some(step) = step else {
            return;
        };
        match news {
            News::Started { .. } => {}
            News::Line { text, .. } => {
                step.log.push_back(one_line(&text));
                while step.log.len() > self.look.log_lines {
                    step.log.pop_front();
                }
            }
            News::Transfer { what, carried } => step.transfer(at, &what, carried),
            News::Note(text) => step.subs.push(Sub {
                text: one_line(&text),
                what: None,
                started: at,
                ended: Some(at),
            }),
            News::Ended(outcome) => {
                step.ended = Some((at, outcome));
                step.log = VecDeque::new();
            }
        }
    }

    /// Returns what draws the steps as they are, if it is time to.
    pub(super) fn show(&mut self, now: Duration, turn: Turn) -> String {
        let fresh = self
            .drawn_at
            .is_some_and(|drawn| now.saturating_sub(drawn) < self.look.pause);
        let size = (self.look.size)();
        // There has to be room for a row and for the cursor below it.
        let wait = turn == Turn::Next && (fresh || size.rows < 2);
        if self.steps.is_empty() || wait {
            return String::new();
        }
        self.drawn_at = Some(now);
        let rows = self.rows(now, size, turn);
        let notice = self.look.notice.take();
        let notice = notice.map_or_else(String::new, |text| one_line(&text) + "\r\n");
        notice + &self.draw(&rows, size)
    }

    fn draw(&mut self, rows: &[Row], size: Size) -> String {
        // Terminals wrap rows that a narrower window has no room for.
        let columns = size.columns.max(1);
        let up: usize = self
            .drawn
            .iter()
            .map(|width| width.div_ceil(columns).max(1))
            .sum();
        let mut text = format!("{TOGETHER}{NO_WRAP}\r");
        if up > 0 {
            text += &format!("\u{1b}[{up}A");
        }
        self.drawn.clear();
        for Row { text: row, style } in rows {
            self.drawn.push(width(row));
            text += &format!("{style}{row}{style:#}{ERASE_ROW}\r\n");
        }
        text + ERASE_BELOW + WRAP + SHOW
    }

    fn rows(&self, now: Duration, size: Size, turn: Turn) -> Vec<Row> {
        // The last column stays free: some terminals wrap when it is written to.
        let columns = size.columns.saturating_sub(1);
        let header = self.header(now, columns, turn);
        let mut blocks: Vec<Block> = self
            .steps
            .iter()
            .map(|step| self.block(step, now, columns, turn))
            .collect();
        if turn == Turn::Next {
            // One row for the header, and one for the cursor below.
            fit(&mut blocks, size.rows.saturating_sub(2));
        }
        let below = blocks
            .into_iter()
            .flat_map(|block| block.main.into_iter().chain(block.subs).chain(block.log));
        [header].into_iter().chain(below).collect()
    }

    fn header(&self, now: Duration, columns: usize, turn: Turn) -> Row {
        let done = self.steps.iter().filter(|step| step.ended.is_some());
        let done = done.count();
        let expected = self.expected.load(Ordering::Relaxed);
        let all = usize::try_from(expected).unwrap_or(usize::MAX);
        let all = all.max(self.steps.len());
        let end = match turn {
            Turn::Next => "",
            Turn::Last => " FINISHED",
        };
        let text = format!("[+] Building {} ({done}/{all}){end}", units::seconds(now));
        Row {
            text: spread(&text, "rbuild", columns),
            style: match turn {
                Turn::Next => Style::new(),
                Turn::Last => self.look.palette.run,
            },
        }
    }

    fn block(&self, step: &Step, now: Duration, columns: usize, turn: Turn) -> Block {
        let palette = &self.look.palette;
        let (word, style) = match step.ended.as_ref().map(|(_, outcome)| outcome) {
            None => ("", Style::new()),
            Some(Outcome::Done) => ("", palette.run),
            Some(Outcome::Cached) => ("CACHED ", palette.run),
            Some(Outcome::Failed(_)) => ("ERROR ", palette.error),
            Some(Outcome::Canceled) => ("CANCELED ", palette.cancel),
        };
        let end = step.ended.as_ref().map_or(now, |(at, _)| *at);
        let took = units::seconds(end.saturating_sub(step.started));
        let row = |text: &str, right: &str| Row {
            text: spread(text, right, columns),
            style,
        };
        let sub = |sub: &Sub| {
            let took = sub.ended.unwrap_or(end).saturating_sub(sub.started);
            let took = match sub.what {
                Some(_) => units::seconds(took),
                None => String::new(),
            };
            row(&format!(" => => {}", sub.text), &took)
        };
        // Of many that are done, the latest.
        let done = step.subs.iter().filter(|sub| sub.ended.is_some()).count();
        let mut hidden = match turn {
            Turn::Next => done.saturating_sub(SUBS),
            Turn::Last => 0,
        };
        let shown = step.subs.iter().filter(|sub| {
            let hide = hidden > 0 && sub.ended.is_some();
            hidden -= usize::from(hide);
            !hide
        });
        Block {
            running: step.ended.is_none(),
            main: Some(row(&format!(" => {word}{}", step.name), &took)),
            subs: shown.map(sub).collect(),
            log: step
                .log
                .iter()
                .map(|line| row(&format!(" => => # {line}"), ""))
                .collect(),
        }
    }
}

impl Step {
    fn transfer(&mut self, at: Duration, what: &str, carried: Carried) {
        let place = self
            .subs
            .iter()
            .position(|sub| sub.what.as_deref() == Some(what));
        let place = place.unwrap_or_else(|| {
            self.subs.push(Sub {
                text: String::new(),
                what: Some(what.to_owned()),
                started: at,
                ended: None,
            });
            self.subs.len() - 1
        });
        if let Some(sub) = self.subs.get_mut(place).filter(|sub| sub.ended.is_none()) {
            sub.text = format!("{} {}", short(what), carried_text(carried));
            sub.ended = carried.complete.then_some(at);
        }
    }
}

/// Leaves out what matters least until no more than `limit` rows are left.
fn fit(blocks: &mut [Block], limit: usize) {
    let mut excess = blocks
        .iter()
        .map(Block::rows)
        .sum::<usize>()
        .saturating_sub(limit);
    let cut = |excess: &mut usize, rows: usize| *excess = excess.saturating_sub(rows);
    for block in blocks.iter_mut().filter(|block| !block.running) {
        if excess > 0 {
            cut(&mut excess, block.subs.len());
            block.subs.clear();
        }
    }
    for block in blocks.iter_mut().filter(|block| !block.running) {
        if excess > 0 {
            cut(&mut excess, usize::from(block.main.take().is_some()));
        }
    }
    while excess > 0 {
        // The step with most lines on the screen gives one up.
        let longest = blocks.iter_mut().max_by_key(|block| block.log.len());
        match longest.and_then(|block| block.log.pop_front()) {
            Some(_) => cut(&mut excess, 1),
            None => break,
        }
    }
    for block in blocks.iter_mut() {
        while excess > 0 && block.subs.pop_front().is_some() {
            cut(&mut excess, 1);
        }
    }
    for block in blocks.iter_mut() {
        if excess > 0 {
            cut(&mut excess, usize::from(block.main.take().is_some()));
        }
    }
}

/// What is carried, in a form that leaves room for how much of it: of digests the beginning.
fn short(what: &str) -> String {
    match what.parse::<Digest>() {
        Ok(_) => format!("{}…", what.chars().take(19).collect::<String>()),
        Err(_) => one_line(what),
    }
}

/// A text of others as one row: without terminal orders, and tabs as blanks.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut at = 0;
    for c in printable(text).chars() {
        match c {
            '\t' => {
                let blanks = 8 - at % 8;
                line.extend(std::iter::repeat_n(' ', blanks));
                at += blanks;
            }
            c => {
                line.push(c);
                at += char_width(c);
            }
        }
    }
    line
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or_default()
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Puts `left` and `right` at the ends of a row; what there is no room for is cut off `left`, then
/// `right` is left out.
fn spread(left: &str, right: &str, columns: usize) -> String {
    let right_width = width(right);
    let room = match right_width {
        0 => columns,
        // As much as to tell which step it is.
        _ if columns < right_width + 12 => columns,
        _ => columns - right_width - 1,
    };
    let mut row = cut_to(left, room);
    if room < columns {
        let blanks = columns - right_width - width(&row);
        row.extend(std::iter::repeat_n(' ', blanks));
        row += right;
    }
    row
}

fn cut_to(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        used += char_width(c);
        if used >= columns {
            break;
        }
        cut.push(c);
    }
    if columns > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests;
