//! The terminal: a picture that is replaced where there is one, plain text where there is not.

use std::io::{ErrorKind, IsTerminal, Write};

/// Another screen, without a cursor.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
/// The screen from before, with the cursor.
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// To the upper left.
const HOME: &str = "\u{1b}[H";
/// Clears the rest of a line, and of the screen.
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_REST: &str = "\u{1b}[J";

/// Where pictures go. Dropped, it gives the terminal back as it was.
#[derive(Debug)]
pub(super) struct Screen {
    full: bool,
    color: bool,
    /// Whether something was printed before.
    begun: bool,
}

impl Screen {
    /// `plain` wants text even at a terminal.
    pub(super) fn new(plain: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let full = !plain && !dumb && std::io::stdout().is_terminal();
        if full {
            // Whoever closed the terminal is told by the next picture.
            let _ = write(ENTER);
        }
        Self { full, color: crate::control::wants_color(), begun: false }
    }

    /// Whether pictures replace each other.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Whether colours are wanted.
    pub(super) fn has_color(&self) -> bool {
        self.color
    }

    /// Shows a picture; false when nobody looks any more.
    pub(super) fn show(&mut self, text: &str) -> anyhow::Result<bool> {
        if self.full {
            // A terminal that nobody looks at, such as a recorder's, may say that it has no rows.
            let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
            let size = size.filter(|size| size.ws_row > 0 && size.ws_col > 0);
            let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row.into(), size.ws_col.into()));
            return write(&picture(text, rows, columns));
        }
        let is_table = !text.starts_with('{');
        let gap = if std::mem::replace(&mut self.begun, true) && is_table { "\n" } else { "" };
        write(&format!("{gap}{text}"))
    }

    /// Says that there is nothing to show; false when nobody looks any more.
    pub(super) fn show_trouble(&mut self, error: &anyhow::Error) -> anyhow::Result<bool> {
        if self.full {
            return self.show(&format!("{error}\n"));
        }
        // Standard output may be read by a program.
        let _ = writeln!(std::io::stderr().lock(), "error: {error}");
        Ok(true)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.full {
            let _ = write(LEAVE);
        }
    }
}

fn write(text: &str) -> anyhow::Result<bool> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A picture of at most so many rows and columns.
fn picture(text: &str, rows: usize, columns: usize) -> String {
    let mut picture = String::from(HOME);
    // The last row stays empty, or the terminal would scroll.
    for line in text.lines().take(rows.saturating_sub(1)) {
        picture += &cut(line, columns);
        picture += CLEAR_LINE;
        picture += "\r\n";
    }
    picture + CLEAR_REST
}

/// The first characters of a line; escape sequences take no place.
fn cut(line: &str, columns: usize) -> String {
    let mut kept = String::new();
    let (mut width, mut escape) = (0, false);
    for c in line.chars() {
        if escape || c == '\u{1b}' {
            escape = !(escape && c.is_ascii_alphabetic());
            kept.push(c);
        } else if width < columns {
            width += 1;
            kept.push(c);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_but_colours_end() {
        assert_eq!(cut("abcdef", 3), "abc");
        assert_eq!(cut("\u{1b}[31mabcdef\u{1b}[0m", 3), "\u{1b}[31mabc\u{1b}[0m");
        assert_eq!(cut("ab", 3), "ab");
    }

    #[test]
    fn a_picture_fits() {
        let shown = picture("a\nb\nc\nd\n", 3, 80);
        assert!(shown.contains('b') && !shown.contains('c'), "{shown:?}");
        assert!(shown.starts_with(HOME) && shown.ends_with(CLEAR_REST));
    }
}
