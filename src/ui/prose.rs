//! Text that fits: clipped to a width or wrapped at words, by columns of the terminal rather than characters.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

/// Columns that a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// The text, or its beginning and `…` where it is too wide.
pub(crate) fn clip(text: &str, max: usize) -> String {
    if text.width() <= max {
        return text.to_owned();
    }
    if max == 0 {
        return String::new();
    }
    let mut kept = head(text, max - 1).to_owned();
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

/// As much of the beginning as fits. Measured as a whole: some characters change the width of the one before.
fn head(text: &str, max: usize) -> &str {
    let ends = text.char_indices().map(|(i, c)| i + c.len_utf8());
    let end = ends.take_while(|end| text[..*end].width() <= max).last();
    &text[..end.unwrap_or(0)]
}

/// The end of a text, where the beginning doesn't fit: for prompts, whose cursor is at the end.
pub(crate) fn tail(text: &str, max: usize) -> &str {
    let starts = text.char_indices().rev().map(|(i, _)| i);
    let start = starts.take_while(|start| text[*start..].width() <= max).last();
    &text[start.unwrap_or(text.len())..]
}

/// One text in one style, wrapped.
pub(crate) fn wrap(text: &str, style: Style, max: usize) -> Vec<Line<'static>> {
    wrap_spans(&[Span::styled(text, style)], max, 0)
}

/// Spans wrapped at words; every line but the first is indented by `indent`. Line feeds break. What isn't parted by a
/// blank stays together, though it may have several styles.
pub(crate) fn wrap_spans(spans: &[Span<'_>], max: usize, indent: usize) -> Vec<Line<'static>> {
    let max = max.max(1);
    let mut out = Wrapper { max, indent: indent.min(max / 2), lines: Vec::new(), line: Vec::new(), used: 0 };
    let mut word: Vec<(&str, Style)> = Vec::new();
    for span in spans {
        for (i, piece) in span.content.split('\n').enumerate() {
            if i > 0 {
                out.word(&std::mem::take(&mut word));
                out.line_break(0);
            }
            for part in piece.split_inclusive(' ') {
                word.push((part, span.style));
                if part.ends_with(' ') {
                    out.word(&std::mem::take(&mut word));
                }
            }
        }
    }
    out.word(&word);
    out.line_break(0);
    out.lines
}

struct Wrapper {
    max: usize,
    indent: usize,
    lines: Vec<Line<'static>>,
    line: Vec<Span<'static>>,
    used: usize,
}

impl Wrapper {
    /// Puts a word, of one or more pieces; only the last may end in a blank.
    fn word(&mut self, pieces: &[(&str, Style)]) {
        let bare: usize = pieces.iter().map(|(text, _)| text.trim_end_matches(' ').width()).sum();
        if self.used > self.indent && self.used + bare > self.max {
            self.line_break(self.indent);
        }
        for (text, style) in pieces {
            self.piece(text, *style);
        }
    }

    fn piece(&mut self, text: &str, style: Style) {
        let room = self.max.saturating_sub(self.used);
        let bare = text.trim_end_matches(' ');
        if bare.width() <= room {
            self.put(if text.width() <= room { text } else { bare }, style);
            return;
        }
        let mut rest = bare;
        while !rest.is_empty() {
            let piece = head(rest, self.max.saturating_sub(self.used));
            if piece.is_empty() {
                if self.used <= self.indent {
                    return; // a character wider than the whole line
                }
                self.line_break(self.indent);
                continue;
            }
            self.put(piece, style);
            rest = &rest[piece.len()..];
        }
        if text.len() > bare.len() && self.used < self.max {
            self.put(" ", style);
        }
    }

    fn put(&mut self, text: &str, style: Style) {
        self.used += text.width();
        match self.line.last_mut() {
            Some(last) if last.style == style => last.content.to_mut().push_str(text),
            _ => self.line.push(Span::styled(text.to_owned(), style)),
        }
    }

    fn line_break(&mut self, indent: usize) {
        self.lines.push(Line::from(std::mem::take(&mut self.line)));
        self.used = indent;
        if indent > 0 {
            self.line.push(Span::raw(" ".repeat(indent)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_wrap_and_long_ones_break() {
        let lines = wrap("a frozen one still blocks", Style::new(), 10);
        assert_eq!(plain(&lines), ["a frozen ", "one still ", "blocks"]);
        assert_eq!(plain(&wrap("abcdefgh ij", Style::new(), 3)), ["abc", "def", "gh ", "ij"]);
        let glued = [
            Span::raw("it is "),
            Span::styled("so", Style::new().add_modifier(ratatui::style::Modifier::BOLD)),
            Span::raw(", and"),
        ];
        assert_eq!(plain(&wrap_spans(&glued, 8, 0)), ["it is ", "so, and"]);
        assert_eq!(plain(&wrap("a\nb", Style::new(), 3)), ["a", "b"]);
        assert_eq!((clip("日本語", 5), tail("日本語", 5)), ("日本…".to_owned(), "本語"));
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_asked(text in ".{0,80}", max in 0usize..20, indent in 0usize..6) {
            prop_assert!(clip(&text, max).width() <= max);
            for line in wrap_spans(&[Span::raw(text.as_str())], max, indent) {
                prop_assert!(line.width() <= max.max(1), "{line:?}");
            }
        }
    }
}
