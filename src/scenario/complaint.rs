//! What is wrong with a file, and where: file:line:column, the line with a caret, what was expected.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::model::text::is_risky;

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It can be played, though it may not be what was meant: only `check` tells it.
    Doubt,
    /// It can't be right: such a file is not played.
    Mistake,
}

impl Weight {
    /// As compilers call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Doubt => "warning",
            Self::Mistake => "error",
        }
    }
}

/// A complaint about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// How much it matters.
    pub weight: Weight,
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
    /// A mistake in the bytes `span` of `text`.
    pub fn at(file: &str, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self::new(Weight::Mistake, (file, text), span, message)
    }

    /// A complaint about the bytes `span` of a file: its name and text.
    pub fn new(weight: Weight, (file, text): (&str, &str), span: Range<usize>, message: impl Into<String>) -> Self {
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
        let picture = shown.picture(weight, &message);
        Self { weight, file: file.to_owned(), line, column, message, picture }
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
    fn picture(&self, weight: Weight, message: &str) -> String {
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
        let level = if weight == Weight::Mistake { Level::ERROR } else { Level::WARNING };
        let report = [level.primary_title(message).element(snippet)];
        Renderer::plain().render(&report)
    }
}

fn tame(c: char) -> char {
    if is_risky(c) && !"\n\t".contains(c) { '\u{fffd}' } else { c }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doubt = if self.weight == Weight::Doubt { "warning: " } else { "" };
        writeln!(f, "{}:{}:{}: {doubt}{}", self.file, self.line, self.column, self.message)?;
        f.write_str(&self.picture)
    }
}

/// All that is wrong with a file, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaints {
    /// What is told.
    pub told: Vec<Complaint>,
    /// How many more there are.
    pub more: usize,
}

impl Complaints {
    /// Whether one of them keeps the file from being played.
    pub fn refuse(&self) -> bool {
        self.told.iter().any(|complaint| complaint.weight == Weight::Mistake)
    }

    /// Takes in what another reading of the same file has to say beyond this.
    pub fn add(&mut self, other: Self) {
        let new: Vec<Complaint> = other.told.into_iter().filter(|c| !self.told.contains(c)).collect();
        self.told.extend(new);
        self.told.sort_by_key(|c| (c.line, c.column));
        self.more = self.more.max(other.more);
    }

    /// How many of each there are, in words; None where there are none.
    pub fn count(&self) -> Option<String> {
        let count = |weight| self.told.iter().filter(|complaint| complaint.weight == weight).count();
        let some = |n: usize, word: &str| (n > 0).then(|| format!("{n} {word}{}", if n == 1 { "" } else { "s" }));
        let told = [some(count(Weight::Mistake), "mistake"), some(count(Weight::Doubt), "warning")];
        let untold = (self.more > 0).then(|| format!("{} more not told", self.more));
        let all: Vec<String> = told.into_iter().chain([untold]).flatten().collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

impl From<Complaint> for Complaints {
    fn from(complaint: Complaint) -> Self {
        Self { told: vec![complaint], more: 0 }
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in &self.told {
            write!(f, "{complaint}\n\n")?;
        }
        let file = self.told.first().map_or("", |complaint| &complaint.file);
        write!(f, "{file}: {}", self.count().unwrap_or_else(|| "no mistakes".to_owned()))
    }
}

impl std::error::Error for Complaints {}
