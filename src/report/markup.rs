//! XML and HTML put together piece by piece, so that no text of anybody else's can become markup. Knows nothing of reports.

use std::fmt::{Display, Write as _};

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use crate::model::text::is_risky;

/// An attribute: its name, and a value that will be escaped.
pub(crate) type Attribute<'a> = (&'static str, &'a dyn Display);

/// A page as it grows. Every text and every value of an attribute is escaped on its way in.
#[derive(Debug, Default)]
pub(crate) struct Markup {
    text: String,
    open: Vec<&'static str>,
}

impl Markup {
    /// Begins with this line, as it is.
    pub(crate) fn beginning(line: &'static str) -> Self {
        Self { text: line.to_owned(), open: Vec::new() }
    }

    fn tag(&mut self, name: &'static str, attributes: &[Attribute<'_>], end: &'static str) {
        self.text.push('<');
        self.text.push_str(name);
        for (name, value) in attributes {
            // Writing to a String can't fail.
            let _ = write!(self.text, " {name}=\"{}\"", escape(&value.to_string()));
        }
        self.text.push_str(end);
    }

    /// Opens an element.
    pub(crate) fn open(&mut self, name: &'static str, attributes: &[Attribute<'_>]) -> &mut Self {
        self.tag(name, attributes, ">");
        self.open.push(name);
        self
    }

    /// Closes the element opened last.
    pub(crate) fn close(&mut self) -> &mut Self {
        if let Some(name) = self.open.pop() {
            let _ = writeln!(self.text, "</{name}>");
        }
        self
    }

    /// A lesson's own prose: its emphasis and code as elements, the rest as text.
    pub(crate) fn prose(&mut self, markdown: &str) -> &mut Self {
        let kept: String = shown(markdown).collect();
        for event in Parser::new(&kept) {
            match event {
                Event::Start(Tag::Strong) => self.tag("strong", &[], ">"),
                Event::End(TagEnd::Strong) => self.text.push_str("</strong>"),
                Event::Start(Tag::Emphasis) => self.tag("em", &[], ">"),
                Event::End(TagEnd::Emphasis) => self.text.push_str("</em>"),
                Event::Code(code) => {
                    self.tag("code", &[], ">");
                    self.text(&code).text.push_str("</code>");
                }
                Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                    self.text(&text);
                }
                Event::SoftBreak | Event::HardBreak => self.text.push(' '),
                _ => {}
            }
        }
        self
    }

    /// An element without content.
    pub(crate) fn empty(&mut self, name: &'static str, attributes: &[Attribute<'_>]) -> &mut Self {
        self.tag(name, attributes, "/>\n");
        self
    }

    /// An element with a text.
    pub(crate) fn leaf(&mut self, name: &'static str, attributes: &[Attribute<'_>], text: &str) -> &mut Self {
        self.open(name, attributes).text(text).close()
    }

    /// A text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.text.push_str(&escape(text));
        self
    }

    /// Something of our own, as it is.
    pub(crate) fn raw(&mut self, text: &'static str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// The page, everything closed.
    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.text
    }
}

/// A text of which nothing can be taken for markup. What can't be shown, or turns the reading direction, is dropped: XML has no
/// way to say it.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in shown(text) {
        match c {
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// The characters of a text that can be shown; a tab is a blank, and lines stay lines.
pub(crate) fn shown(text: &str) -> impl Iterator<Item = char> {
    let kept = text.chars().map(|c| if c == '\t' { ' ' } else { c });
    kept.filter(|c| *c == '\n' || !(is_risky(*c) || matches!(c, '\u{FFFE}' | '\u{FFFF}')))
}
