//! Progress, as it suits standard error.

use std::io;
use std::time::Duration;

use super::HEADING;
use super::options::Shown;
use crate::args::GlobalArgs;
use crate::environment::Environment;
use crate::ui;
use crate::ui::progress::{Look, Palette, Progress, Size, Style};
use crate::ui::report::Failure;

/// How many lines of a running step are shown, unless `BUILDKIT_TTY_LOG_LINES` says so.
const LOG_LINES: usize = 6;

/// From one drawing to the next, unless `TTY_DISPLAY_RATE` says so.
const PAUSE: Duration = Duration::from_millis(100);

/// What is shown beside the log: its lines, which go to standard error as well, would destroy a
/// display that is drawn anew.
pub(super) fn beside_log(shown: Shown, global: &GlobalArgs, environment: &Environment) -> Shown {
    match shown {
        Shown::Tty if global.debug || environment.log.is_some() => {
            ui::say("WARNING: beside a log, progress is shown as plain lines\n");
            Shown::Plain
        }
        Shown::Plain | Shown::Tty | Shown::RawJson | Shown::Quiet | Shown::Nothing => shown,
    }
}

/// Starts to show progress below `heading`.
pub(super) fn progress(
    shown: Shown,
    heading: &str,
    environment: &Environment,
) -> Result<Progress, Failure> {
    let style = match shown {
        Shown::Plain => Style::Plain,
        Shown::Tty => Style::Tty(look(heading, environment)),
        Shown::RawJson => Style::RawJson,
        Shown::Quiet | Shown::Nothing => Style::Nothing,
    };
    let progress = Progress::new(style, heading, io::stderr());
    progress.map_err(|error| Failure::of_system("starting threads", error))
}

fn look(heading: &str, environment: &Environment) -> Look {
    let lines = environment.tty_log_lines.as_deref();
    let rate = environment.tty_display_rate.as_deref();
    let pause = number("TTY_DISPLAY_RATE", rate).filter(|rate| *rate > 0);
    Look {
        // The display has a heading of its own; what is out of the ordinary stands above it.
        notice: (heading != HEADING).then(|| heading.to_owned()),
        palette: palette(environment),
        log_lines: number("BUILDKIT_TTY_LOG_LINES", lines)
            .and_then(|lines| usize::try_from(lines).ok())
            .unwrap_or(LOG_LINES),
        pause: pause.map_or(PAUSE, Duration::from_millis),
        size: Box::new(size),
    }
}

fn palette(environment: &Environment) -> Palette {
    let usual = match environment.no_color {
        true => return Palette::PLAIN,
        false => Palette::USUAL,
    };
    let Some(colors) = environment.colors.as_deref() else {
        return usual;
    };
    Palette::parse(colors).unwrap_or_else(|error| {
        ui::say(&format!("WARNING: BUILDKIT_COLORS: {error}\n"));
        usual
    })
}

fn number(name: &str, text: Option<&str>) -> Option<u64> {
    let number = text?.trim().parse().ok();
    if number.is_none() {
        let text = text.unwrap_or_default();
        ui::say(&format!("WARNING: {name}={text} is no number\n"));
    }
    number
}

/// The size that the terminal has at this moment.
fn size() -> Size {
    match rustix::termios::tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size {
            columns: usize::from(size.ws_col),
            rows: usize::from(size.ws_row),
        },
        Ok(_) | Err(_) => Size::USUAL,
    }
}
