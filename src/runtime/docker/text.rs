//! Makes text of servers and engines safe for a terminal, and reads PostgreSQL's log lines. Pure.

use crate::model::cluster::LogLine;
pub(super) use crate::model::text::safe_text;

/// A longer line is cut: the server may log whole statements.
const LINE_CHARS: usize = 4 * 1024;

/// The words PostgreSQL puts before a message (manual 19.8.2), beside DEBUG1 to DEBUG5.
const SEVERITIES: [&str; 12] =
    ["LOG", "WARNING", "ERROR", "FATAL", "PANIC", "NOTICE", "INFO", "DETAIL", "HINT", "CONTEXT", "STATEMENT", "QUERY"];

/// `text` made safe, with its line breaks kept.
pub(super) fn safe_lines(text: &str) -> String {
    crate::model::text::safe_lines(text).join("\n")
}

/// One line of a server's log, whatever its `log_line_prefix` is: the first severity word ends the prefix.
pub(super) fn log_line(line: &str) -> LogLine {
    let line = cut(line.trim_end_matches(['\n', '\r']));
    match split_severity(line) {
        Some((severity, text)) => LogLine { severity: severity.to_owned(), text: safe_text(text) },
        None => LogLine { severity: String::new(), text: safe_text(line) },
    }
}

fn split_severity(line: &str) -> Option<(&str, &str)> {
    // Continuation lines begin with a tab and have no severity, whatever the message quotes.
    if line.starts_with('\t') {
        return None;
    }
    line.match_indices(":  ").find_map(|(at, _)| {
        let front = &line[..at];
        let word = front.rsplit(' ').next().unwrap_or(front);
        is_severity(word).then(|| (word, &line[at + 3..]))
    })
}

fn is_severity(word: &str) -> bool {
    SEVERITIES.contains(&word) || matches!(word.strip_prefix("DEBUG"), Some("1" | "2" | "3" | "4" | "5"))
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(LINE_CHARS).map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, severity: &str, text: &str) {
        let want = LogLine { severity: severity.to_owned(), text: text.to_owned() };
        assert_eq!(log_line(line), want, "{line:?}");
    }

    #[test]
    fn the_prefix_is_taken_off() {
        check("2026-11-23 14:05:21.123 UTC [1] LOG:  listening on :  x\n", "LOG", "listening on :  x");
        check("2026-11-23 14:05:21.123 UTC [7] postgres@app FATAL:  no", "FATAL", "no");
        check("LOG:  plain", "LOG", "plain");
        check("2026 [1] DEBUG2:  fine", "DEBUG2", "fine");
    }

    #[test]
    fn what_has_no_severity_stays_whole() {
        check("pg_ctl: server is running", "", "pg_ctl: server is running");
        check("\tERROR:  quoted", "", " ERROR:  quoted");
        check("", "", "");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        check("LOG:  a\u{1b}[2J\u{202e}b\u{9b}\r", "LOG", "a\\u{1b}[2J\\u{202e}b\\u{9b}");
        assert_eq!(safe_lines("a\x07\nb\tc\n"), "a\\u{7}\nb c");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(log_line(&"ä".repeat(10_000)).text.chars().count(), LINE_CHARS);
    }
}
