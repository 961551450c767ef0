//! Makes text from elsewhere (servers, engines, files) safe to show in a terminal. Pure; knows no terminal library.

use std::fmt::Write as _;

/// `text` with everything that could move the cursor, colour the screen or turn the reading direction made visible.
///
/// A tab becomes a space; other control characters (below 0x20, 0x7f, C1), the bidirectional controls, line and
/// paragraph separators and the byte order mark become `\u{..}`, newline and carriage return `\n` and `\r`.
pub fn safe_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if is_risky(c) => {
                // Writing to a String can't fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Like [`safe_text`], line by line: the line breaks themselves stay as separate entries.
pub fn safe_lines(text: &str) -> Vec<String> {
    text.lines().map(safe_text).collect()
}

/// Like [`safe_text`], but line breaks stay what they are: for text of several lines that is printed as it is.
pub fn safe_prose(text: &str) -> String {
    text.split('\n').map(|line| safe_text(line.strip_suffix('\r').unwrap_or(line))).collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them, in the server's own units (1 kB = 1024 B).
pub fn size(n: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// Whether a character could move the cursor, colour the screen or turn the reading direction.
pub(crate) fn is_risky(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}' | '\u{2029}' | '\u{FEFF}')
        || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn survives(text: &str) -> Option<char> {
        safe_text(text).chars().find(|c| {
            let code = u32::from(*c);
            code < 0x20
                || (0x7f..=0x9f).contains(&code)
                || (0x202A..=0x202E).contains(&code)
                || (0x2066..=0x2069).contains(&code)
                || [0x200E, 0x200F, 0x061C].contains(&code)
        })
    }

    proptest! {
        #[test]
        fn nothing_dangerous_survives(text: String) {
            prop_assert_eq!(survives(&text), None);
        }

        #[test]
        fn making_safe_twice_changes_nothing(text: String) {
            let once = safe_text(&text);
            prop_assert_eq!(safe_text(&once), once);
        }

        #[test]
        fn ordinary_text_stays(text in "[ -~äöü€—]{0,80}") {
            prop_assert_eq!(safe_text(&text), text);
        }
    }

    #[test]
    fn every_named_character_is_caught() {
        let named = (0..0x20).chain(0x7f..=0x9f).chain(0x202A..=0x202E).chain(0x2066..=0x2069);
        for code in named.chain([0x200E, 0x200F, 0x061C]) {
            let text: String = char::from_u32(code).into_iter().collect();
            assert_eq!(survives(&text), None, "{code:x}");
        }
    }

    #[test]
    fn an_escape_sequence_is_shown_not_obeyed() {
        assert_eq!(safe_text("a\x1b[31mb\tc\n"), "a\\u{1b}[31mb c\\n");
        assert_eq!(safe_lines("a\nb\r\n"), ["a", "b"]);
        assert_eq!(safe_prose("a\r\nb\x1bc\rd\n\n"), "a\nb\\u{1b}c\\rd\n\n");
    }
}
