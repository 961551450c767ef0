//! Turns what a server writes to its standard error into lines that are safe to show. Knows no nodes.

use std::fmt::Write;

use crate::model::cluster::LogLine;

/// A line longer than this is cut; the server may log whole statements.
const LINE_BYTES: usize = 4 * 1024;
/// Letters in front of a message: LOG, WARNING, STATEMENT …
const SEVERITY_BYTES: std::ops::RangeInclusive<usize> = 3..=10;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Cutter {
    rest: Vec<u8>,
    too_long: bool,
}

impl Cutter {
    /// Takes the next bytes and returns the lines that are complete now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<LogLine> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = part.ends_with(b"\n");
            let text = if ended { &part[..part.len() - 1] } else { part };
            let room = LINE_BYTES.saturating_sub(self.rest.len());
            self.too_long |= text.len() > room;
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                lines.push(self.take());
            }
        }
        lines
    }

    /// What is left at the end of the stream.
    pub fn end(&mut self) -> Option<LogLine> {
        (!self.rest.is_empty()).then(|| self.take())
    }

    fn take(&mut self) -> LogLine {
        let mut line = parse(&String::from_utf8_lossy(&std::mem::take(&mut self.rest)));
        if std::mem::take(&mut self.too_long) {
            line.text.push('…');
        }
        line
    }
}

/// Reads one line that begins with `log_line_prefix` '%m [%p] ' or with nothing.
pub fn parse(line: &str) -> LogLine {
    let message = without_prefix(line);
    if let Some((severity, text)) = message.split_once(":  ")
        && SEVERITY_BYTES.contains(&severity.len())
        && severity.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    {
        return LogLine { severity: severity.to_owned(), text: safe_line(text) };
    }
    LogLine { severity: String::new(), text: safe_line(message) }
}

/// Without "2026-11-23 14:05:21.123 UTC [1234] ".
fn without_prefix(line: &str) -> &str {
    let Some((front, message)) = line.split_once("] ") else { return line };
    let Some((time, pid)) = front.rsplit_once(" [") else { return line };
    let is_prefix = time.starts_with(|c: char| c.is_ascii_digit())
        && time.len() < 60
        && !pid.is_empty()
        && pid.bytes().all(|b| b.is_ascii_digit());
    if is_prefix { message } else { line }
}

/// One line of text with everything spelled out that could move a cursor, change colours or turn the direction.
pub fn safe_line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => safe.push_str("    "),
            c if c.is_control() || changes_direction(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The same for a text of several lines.
pub fn safe_text(text: &str) -> String {
    text.lines().map(safe_line).collect::<Vec<_>>().join("\n")
}

/// Bidirectional controls, line separators and characters without width.
fn changes_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_of_the_server_is_taken_apart() {
        let line = parse("2026-11-23 14:05:21.123 UTC [1234] LOG:  started streaming WAL at 0/3000000 on timeline 1");
        assert_eq!(line.severity, "LOG");
        assert_eq!(line.text, "started streaming WAL at 0/3000000 on timeline 1");
        assert_eq!(parse("FATAL:  data directory \"x\" has wrong ownership").severity, "FATAL");
        let odd = parse("\tWHERE a[1] LOG:  x");
        assert_eq!((odd.severity.as_str(), odd.text.as_str()), ("", "    WHERE a[1] LOG:  x"));
    }

    #[test]
    fn pieces_join_and_long_lines_are_cut() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.push(b"LOG:  one\nLOG:  tw").len(), 1);
        assert_eq!(cutter.push(b"o\n")[0].text, "two");
        cutter.push(&vec![b'x'; 3 * LINE_BYTES]);
        let long = cutter.push(b"\nLOG:  after\n");
        assert_eq!(long[0].text.chars().count(), LINE_BYTES + 1);
        assert_eq!(long[1].text, "after");
        cutter.push(b"unfinished");
        assert_eq!(cutter.end().map(|line| line.text), Some("unfinished".to_owned()));
        assert_eq!(cutter.end(), None);
    }

    proptest! {
        #[test]
        fn nothing_dangerous_comes_through(text in ".*") {
            prop_assert!(!safe_line(&text).chars().any(|c| c.is_control() || changes_direction(c)));
        }
    }

    #[test]
    fn an_escape_is_spelled_out() {
        assert_eq!(safe_line("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
    }
}
