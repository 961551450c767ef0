//! What is wrong with a file, and where: file:line:column, the line with a caret, what was expected.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::model::text::is_risky;

/// A complaint about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what was expected.
    pub message: String,
    picture: String,
}

impl Complaint {
    /// A complaint about the bytes `span` of `text`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let before = &text[..start];
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let first = before.rfind('\n').map_or(0, |at| at + 1);
        let column = text[first..start].chars().count() + 1;
        let file: &str = &file.chars().map(tame).collect::<String>();
        // A message may quote the file: TOML's escapes turn harmless bytes into control characters.
        let message: String = message.into().chars().map(tame).collect();
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let shown =
            Shown { file, line, text: &text[first..end], span: start - first..span.end.clamp(start, end) - first };
        let picture = shown.picture(&message);
        Self { file: file.to_owned(), line, column, message, picture }
    }
}

/// A line longer than this is cut around the place.
const LONGEST: usize = 400;

/// A line of a file, and the place in it.
struct Shown<'a> {
    file: &'a str,
    line: usize,
    text: &'a str,
    span: Range<usize>,
}

impl Shown<'_> {
    /// The line with a caret under the place. What a terminal would act on is replaced first.
    fn picture(&self, message: &str) -> String {
        let boundary =
            |at: usize| (0..=at.min(self.text.len())).rev().find(|i| self.text.is_char_boundary(*i)).unwrap_or(0);
        let first = if self.text.len() > LONGEST { boundary(self.span.start.saturating_sub(LONGEST / 4)) } else { 0 };
        let line = &self.text[first..boundary(first + LONGEST)];
        let safe: String = line.trim_end_matches('\r').chars().map(tame).collect();
        // `tame` keeps the number of characters, not of bytes: find the places again by counting characters.
        let place = |byte: usize| {
            let characters = line[..boundary(byte).saturating_sub(first).min(line.len())].chars().count();
            safe.char_indices().nth(characters).map_or(safe.len(), |(at, _)| at)
        };
        let span = place(self.span.start)..place(self.span.end.max(self.span.start));
        let span = span.start..span.end.max(span.start);
        let snippet =
            Snippet::source(&safe).path(self.file).line_start(self.line).annotation(AnnotationKind::Primary.span(span));
        let report = [Level::ERROR.primary_title(message).element(snippet)];
        Renderer::plain().render(&report)
    }
}

fn tame(c: char) -> char {
    if is_risky(c) && !"\n\t".contains(c) { '\u{fffd}' } else { c }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        f.write_str(&self.picture)
    }
}

impl std::error::Error for Complaint {}
