//! The colours of the display (`BUILDKIT_COLORS`).

use anstyle::{AnsiColor, Color, RgbColor, Style};

/// The colours of steps, by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Palette {
    /// Of steps that are done.
    pub(crate) run: Style,
    /// Of steps that were cancelled.
    pub(crate) cancel: Style,
    /// Of steps that failed.
    pub(crate) error: Style,
    /// Of warnings.
    pub(crate) warning: Style,
}

/// A part of `BUILDKIT_COLORS` that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PaletteError {
    #[error("`{part}` is not of the form run=…, cancel=…, error=… or warning=…")]
    Part { part: String },
    #[error("`{color}` is neither the name of a colour nor RED,GREEN,BLUE")]
    Color { color: String },
}

impl Palette {
    /// No colours at all.
    pub(crate) const PLAIN: Self = Self {
        run: Style::new(),
        cancel: Style::new(),
        error: Style::new(),
        warning: Style::new(),
    };

    /// The usual colours.
    pub(crate) const USUAL: Self = Self {
        run: AnsiColor::Blue.on_default(),
        cancel: AnsiColor::Yellow.on_default(),
        error: AnsiColor::Red.on_default(),
        warning: AnsiColor::Yellow.on_default(),
    };

    /// Reads `run=blue:error=255,0,0`; what is not named there stays as usual.
    pub(crate) fn parse(text: &str) -> Result<Self, PaletteError> {
        let mut palette = Self::USUAL;
        for part in text.split(':').filter(|part| !part.trim().is_empty()) {
            let unknown = || PaletteError::Part {
                part: part.to_owned(),
            };
            let (name, color) = part.split_once('=').ok_or_else(unknown)?;
            let slot = match name.trim().to_ascii_lowercase().as_str() {
                "run" => &mut palette.run,
                "cancel" => &mut palette.cancel,
                "error" => &mut palette.error,
                "warning" => &mut palette.warning,
                _ => return Err(unknown()),
            };
            *slot = style(color.trim()).ok_or_else(|| PaletteError::Color {
                color: color.to_owned(),
            })?;
        }
        Ok(palette)
    }
}

fn style(text: &str) -> Option<Style> {
    let named = match text.to_ascii_lowercase().replace('-', "").as_str() {
        "default" => return Some(Style::new()),
        "black" => Some(AnsiColor::Black),
        "red" => Some(AnsiColor::Red),
        "green" => Some(AnsiColor::Green),
        "yellow" => Some(AnsiColor::Yellow),
        "blue" => Some(AnsiColor::Blue),
        "magenta" => Some(AnsiColor::Magenta),
        "cyan" => Some(AnsiColor::Cyan),
        "white" => Some(AnsiColor::White),
        "lightblack" => Some(AnsiColor::BrightBlack),
        "lightred" => Some(AnsiColor::BrightRed),
        "lightgreen" => Some(AnsiColor::BrightGreen),
        "lightyellow" => Some(AnsiColor::BrightYellow),
        "lightblue" => Some(AnsiColor::BrightBlue),
        "lightmagenta" => Some(AnsiColor::BrightMagenta),
        "lightcyan" => Some(AnsiColor::BrightCyan),
        "lightwhite" => Some(AnsiColor::BrightWhite),
        _ => None,
    };
    if let Some(color) = named {
        return Some(color.on_default());
    }
    let parts: Vec<u8> = text
        .split(',')
        .map(|part| part.trim().parse().ok())
        .collect::<Option<_>>()?;
    let [red, green, blue] = parts.try_into().ok()?;
    let color = Color::Rgb(RgbColor(red, green, blue));
    Some(Style::new().fg_color(Some(color)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_names_or_numbers() {
        let palette = Palette::parse("run=green:error=1,2,255").unwrap();
        assert_eq!(palette.run, AnsiColor::Green.on_default());
        assert_eq!(palette.error, RgbColor(1, 2, 255).on_default());
        assert_eq!(palette.cancel, Palette::USUAL.cancel);
        assert_eq!(Palette::parse(""), Ok(Palette::USUAL));
        for wrong in [
            "green",
            "run=purplish",
            "run=1,2",
            "run=1,2,256",
            "walk=red",
        ] {
            assert!(Palette::parse(wrong).is_err(), "{wrong}");
        }
    }
}
