//! The file as a tree in which every value knows its place; mistakes are collected, not thrown. Knows the shapes of
//! `fields`, and nothing of what they mean.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, Complaints, Weight};
use super::fields::{Field, Kind, Shape};
use crate::model::command::nearest;
use crate::model::text::is_risky;

/// Mistakes told of one file; more are only counted.
const MISTAKES_MAX: usize = 50;

/// Text that a lesson may have in all, each repetition of a step counted: four times what a file may have.
pub const TEXT_MAX: usize = 4 << 20;

/// A text and where it is.
#[derive(Clone, Debug)]
pub struct Text {
    /// What it says.
    pub text: String,
    /// The place of its first letter to its last.
    pub span: Range<usize>,
}

/// Collects the mistakes of the file at hand.
#[derive(Debug)]
pub struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    told: Vec<Complaint>,
    seen: Vec<(usize, String)>,
    /// Mistakes beyond those kept.
    more: usize,
    /// Something is wrong that keeps the file from being played, told or only counted.
    hopeless: bool,
    /// Bytes of text in the steps by now, each repetition counted.
    grown: usize,
}

impl<'a> Reader<'a> {
    /// Nothing is wrong yet.
    pub fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text, told: Vec::new(), seen: Vec::new(), more: 0, hopeless: false, grown: 0 }
    }

    /// The file's tree; what isn't TOML is a mistake each.
    pub fn tree(&mut self) -> Option<DeTable<'a>> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            self.wrong(error.span().unwrap_or(0..0), error.message());
        }
        errors.is_empty().then(|| tree.into_inner())
    }

    /// Text that a terminal would act on instead of showing it is no text of a lesson's.
    fn printable(&mut self, text: &str, span: &Range<usize>) {
        let harmless = |rest: &str| rest.starts_with(['\n', '\t']) || rest.starts_with("\r\n");
        let found = text.char_indices().find(|(at, c)| is_risky(*c) && !harmless(&text[*at..]));
        if let Some((_, c)) = found {
            let place = self.part(span, c.encode_utf8(&mut [0; 4]));
            let place = if place == *span { self.inside(span) } else { place };
            self.wrong(
                place,
                format!("a terminal would act on U+{:04X} instead of showing it: leave it out", u32::from(c)),
            );
        }
    }

    /// The same for what is in a list or in a table of any names; tables of known fields come to it by themselves.
    fn all_printable(&mut self, value: &DeValue<'_>, span: &Range<usize>) {
        match value {
            DeValue::String(text) => self.printable(text, span),
            DeValue::Array(items) => {
                for item in items.iter().filter(|item| !item.get_ref().is_table()) {
                    self.all_printable(item.get_ref(), &item.span());
                }
            }
            _ => {}
        }
    }

    /// So many bytes of text more are in the steps.
    pub fn grows(&mut self, bytes: usize) {
        self.grown = self.grown.saturating_add(bytes);
    }

    fn is_full(&self) -> bool {
        self.told.len() >= MISTAKES_MAX
    }

    /// Whether so much is wrong that what comes is only counted: looking for a suggestion takes time.
    pub fn skips(&self) -> bool {
        self.is_full() && self.told.iter().any(|c| c.weight == Weight::Mistake)
    }

    /// One more that is wrong, and not told.
    pub fn counts(&mut self) {
        (self.more, self.hopeless) = (self.more + 1, true);
    }

    /// Whether the steps' text is more than a lesson may have.
    pub fn has_grown_too_long(&self) -> bool {
        self.grown > TEXT_MAX
    }

    /// Something there can't be right: the file is not played.
    pub fn wrong(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.note(span, message.into(), Weight::Mistake);
    }

    /// Something there may not be what was meant; the file can be played all the same.
    pub fn doubtful(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.note(span, message.into(), Weight::Doubt);
    }

    /// The same, as much as it matters.
    pub fn note(&mut self, span: Range<usize>, message: String, weight: Weight) {
        let grave = weight == Weight::Mistake;
        self.hopeless |= grave;
        let key = (span.start, message);
        if self.seen.contains(&key) {
            return;
        }
        if self.is_full() {
            self.more += 1;
            // The first thing that keeps it from being played is told in any case.
            if !grave || self.told.iter().any(|c| c.weight == Weight::Mistake) {
                return;
            }
            self.told.pop();
        }
        self.told.push(Complaint::new(weight, (self.name, self.text), span, key.1.as_str()));
        self.seen.push(key);
    }

    /// Whether anything is wrong so far that keeps the file from being played.
    pub fn is_hopeless(&self) -> bool {
        self.hopeless
    }

    /// All of them, in the order of the file.
    pub fn into_complaints(self) -> Complaints {
        let mut told = self.told;
        told.sort_by_key(|c| (c.line, c.column));
        Complaints { told, more: self.more }
    }

    /// A table held against its shape: fields that are none, values of another kind, fields that lack. `place` is where the
    /// table itself is complained of.
    pub fn shaped(&mut self, table: &DeTable<'_>, shape: &Shape, place: &Range<usize>) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match shape.fields.iter().find(|f| f.name == name) {
                Some(field) => self.of_kind(field, value.get_ref(), &value.span()),
                None if self.skips() => self.counts(),
                None => {
                    let near = nearest(name, shape.fields.iter().map(|f| f.name));
                    let short: String = name.chars().take(40).collect();
                    let hint = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            let names: Vec<&str> = shape.fields.iter().map(|f| f.name).collect();
                            format!("there are {}", names.join(", "))
                        }
                    };
                    self.wrong(key.span(), format!("{} has no field `{short}`; {hint}", shape.what));
                }
            }
        }
        for field in shape.fields.iter().filter(|f| f.required && !table.contains_key(f.name)) {
            let message = format!("{} needs `{}`: {}", shape.what, field.name, field.help);
            self.wrong(place.clone(), message);
        }
    }

    fn of_kind(&mut self, field: &Field, value: &DeValue<'_>, span: &Range<usize>) {
        self.all_printable(value, span);
        match (field.kind, value) {
            (Kind::Table(shape), DeValue::Table(table)) => self.shaped(table, shape, span),
            (Kind::Tables(shape), DeValue::Array(array)) => {
                for item in array {
                    match item.get_ref() {
                        DeValue::Table(table) => self.shaped(table, shape, &item.span()),
                        other => self.wrong(item.span(), format!("{} is a table, not {}", shape.what, word(other))),
                    }
                }
            }
            (Kind::Scalars, DeValue::Table(table)) => {
                for item in table.values() {
                    self.all_printable(item.get_ref(), &item.span());
                    if scalar(item.get_ref()).is_none() {
                        self.wrong(item.span(), format!("expected {}", Kind::Scalar.in_words()));
                    }
                }
            }
            (kind, value) if fits(kind, value) => {}
            (kind, value) => {
                let place = self.inside(span);
                self.wrong(place, format!("`{}` is {}, not {}", field.name, kind.in_words(), shown(value)));
            }
        }
    }

    /// The place of a text's letters, without its quotes.
    pub fn inside(&self, span: &Range<usize>) -> Range<usize> {
        let Some(raw) = self.text.get(span.clone()) else { return span.clone() };
        for quote in ["\"\"\"", "'''", "\"", "'"] {
            if let Some(body) = raw.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
                let first = span.start + quote.len();
                let blank = body.len() - body.trim_start_matches(['\r', '\n']).len();
                return first + blank..(first + body.len()).max(first + blank);
            }
        }
        span.clone()
    }

    /// The place of a word in a text, where the file has it so; else the whole text.
    pub fn part(&self, span: &Range<usize>, word: &str) -> Range<usize> {
        let found = self.text.get(span.clone()).filter(|_| !word.is_empty()).and_then(|raw| raw.find(word));
        found.map_or(span.clone(), |at| span.start + at..span.start + at + word.len())
    }

    /// A field that holds text.
    pub fn text(&self, table: &DeTable<'_>, field: &str) -> Option<Text> {
        let value = table.get(field)?;
        Some(Text { text: unix(value.get_ref().as_str()?), span: self.inside(&value.span()) })
    }

    /// A field that holds one text or several.
    pub fn texts(&self, table: &DeTable<'_>, field: &str) -> Vec<Text> {
        let Some(value) = table.get(field) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(items) => {
                let text = |item: &toml::Spanned<DeValue<'_>>| {
                    Some(Text { text: unix(item.get_ref().as_str()?), span: self.inside(&item.span()) })
                };
                items.iter().filter_map(text).collect()
            }
            _ => self.text(table, field).into_iter().collect(),
        }
    }
}

/// A file may have been written on Windows.
fn unix(text: &str) -> String {
    text.replace("\r\n", "\n")
}

/// A whole number.
pub fn whole(table: &DeTable<'_>, field: &str) -> Option<u32> {
    number(table.get(field)?.get_ref())
}

/// true or false; false where there is nothing.
pub fn flag(table: &DeTable<'_>, field: &str) -> bool {
    table.get(field).and_then(|v| v.get_ref().as_bool()).unwrap_or(false)
}

/// Where a field's value is.
pub fn place(table: &DeTable<'_>, field: &str) -> Option<Range<usize>> {
    table.get(field).map(toml::Spanned::span)
}

/// Where a field's name is.
pub fn key_place(table: &DeTable<'_>, field: &str) -> Option<Range<usize>> {
    table.get_key_value(field).map(|(key, _)| key.span())
}

/// The scalars of a table, as PostgreSQL writes them.
pub fn scalars(table: &DeTable<'_>) -> BTreeMap<String, String> {
    table.iter().filter_map(|(key, value)| Some((key.get_ref().to_string(), scalar(value.get_ref())?))).collect()
}

/// A scalar as text: booleans as settings have them.
pub fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(n) if n.radix() == 10 => Some(n.as_str().to_owned()),
        DeValue::Integer(_) => number(value).map(|n| n.to_string()),
        DeValue::Float(n) => Some(n.as_str().to_owned()),
        DeValue::Boolean(b) => Some(if *b { "on" } else { "off" }.to_owned()),
        _ => None,
    }
}

/// A value that SQL gives, as text: booleans as PostgreSQL shows them.
pub fn cell(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Boolean(b) => Some(if *b { "t" } else { "f" }.to_owned()),
        other => scalar(other),
    }
}

fn number(value: &DeValue<'_>) -> Option<u32> {
    let n = value.as_integer()?;
    u32::from_str_radix(n.as_str(), n.radix()).ok()
}

fn fits(kind: Kind, value: &DeValue<'_>) -> bool {
    let text = |v: &DeValue<'_>| v.is_str();
    let all = |v: &DeValue<'_>, is: &dyn Fn(&DeValue<'_>) -> bool| {
        v.as_array().is_some_and(|items| items.iter().all(|i| is(i.get_ref())))
    };
    match kind {
        Kind::Text => text(value),
        Kind::Texts => text(value) || (all(value, &text) && value.as_array().is_some_and(|a| !a.is_empty())),
        Kind::List => all(value, &text) && value.as_array().is_some_and(|a| !a.is_empty()),
        Kind::Whole(from, to) => number(value).is_some_and(|n| (from..=to).contains(&n)),
        Kind::Flag => value.is_bool(),
        Kind::Time => value.as_str().is_some_and(|t| t.contains("${") || time(t).is_some()),
        Kind::Scalar => scalar(value).is_some(),
        Kind::Word(words) => value.as_str().is_some_and(|t| words.contains(&t)),
        Kind::Rate => value.as_str() == Some("max") || number(value).is_some_and(|n| (1..=1_000_000).contains(&n)),
        Kind::Rows => all(value, &|row| all(row, &|cell| scalar(cell).is_some())),
        Kind::Scalars | Kind::Table(_) => value.is_table(),
        Kind::Tables(_) => value.is_array(),
    }
}

/// A time in milliseconds, less than a day.
pub fn time(text: &str) -> Option<u64> {
    let time = text.parse::<jiff::SignedDuration>().ok().filter(|d| !d.is_negative() && d.as_hours() < 24)?;
    time.as_millis().try_into().ok()
}

fn word(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list in brackets",
        DeValue::Table(_) => "a table",
    }
}

/// A value as it is complained of.
fn shown(value: &DeValue<'_>) -> String {
    match (value, scalar(value)) {
        (DeValue::String(text), _) => format!("\"{}\"", text.chars().take(30).collect::<String>()),
        (DeValue::Integer(_) | DeValue::Float(_), Some(number)) => number.chars().take(30).collect(),
        (DeValue::Boolean(b), _) => b.to_string(),
        (other, _) => word(other).to_owned(),
    }
}
