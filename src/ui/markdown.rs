//! Narration: a little markdown as wrapped lines. Paragraphs, lists, emphasis, code, headings, quotes; no links, no HTML.

use pulldown_cmark::{CodeBlockKind, Event, Parser, Tag, TagEnd};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::prose;
use super::theme::Theme;

/// The text as lines of at most so many columns.
pub(super) fn render(text: &str, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut out = Writer {
        width,
        theme,
        lines: Vec::new(),
        spans: Vec::new(),
        styles: vec![Style::new()],
        lists: Vec::new(),
        code: false,
        quote: false,
    };
    for event in Parser::new(text) {
        out.event(event);
    }
    out.flush("", 0);
    while out.lines.last().is_some_and(|l| l.width() == 0) {
        out.lines.pop();
    }
    out.lines
}

struct Writer<'t> {
    width: usize,
    theme: &'t Theme,
    lines: Vec<Line<'static>>,
    spans: Vec<Span<'static>>,
    styles: Vec<Style>,
    /// Open lists: the next number, or None for bullets.
    lists: Vec<Option<u64>>,
    code: bool,
    quote: bool,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.code => self.block(&text),
            Event::Text(text) | Event::InlineHtml(text) | Event::Html(text) => self.text(&text),
            Event::Code(text) => self.spans.push(Span::styled(text.into_string(), self.theme.code)),
            Event::SoftBreak => self.text(" "),
            Event::HardBreak => self.text("\n"),
            Event::Rule => self.gap(),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Strong => self.push(self.theme.strong),
            Tag::Emphasis => self.push(Style::new().add_modifier(Modifier::ITALIC | Modifier::UNDERLINED)),
            Tag::Heading { .. } => self.push(self.theme.title),
            Tag::BlockQuote(_) => self.quote = true,
            Tag::List(first) => {
                self.item(); // the text before an inner list
                self.lists.push(*first);
            }
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => self.code = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Strong | TagEnd::Emphasis => self.pop(),
            TagEnd::Heading(_) => {
                self.pop();
                self.flush("", 0);
                self.gap();
            }
            TagEnd::Paragraph if self.quote => self.flush("│ ", 2),
            TagEnd::Paragraph if self.lists.is_empty() => {
                self.flush("", 0);
                self.gap();
            }
            TagEnd::Item => self.item(),
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() {
                    self.gap();
                }
            }
            TagEnd::CodeBlock => {
                self.code = false;
                self.gap();
            }
            TagEnd::BlockQuote(_) => {
                self.quote = false;
                self.gap();
            }
            _ => {}
        }
    }

    fn push(&mut self, style: Style) {
        let below = self.styles.last().copied().unwrap_or_default();
        self.styles.push(below.patch(style));
    }

    fn pop(&mut self) {
        if self.styles.len() > 1 {
            self.styles.pop();
        }
    }

    fn text(&mut self, text: &str) {
        let style = self.styles.last().copied().unwrap_or_default();
        self.spans.push(Span::styled(text.to_owned(), style));
    }

    /// Code keeps its lines; those too wide are clipped.
    fn block(&mut self, text: &str) {
        for line in text.trim_end_matches('\n').split('\n') {
            let clipped = prose::clip(line, self.width.saturating_sub(4));
            self.lines.push(Line::from(vec![Span::raw("  "), Span::styled(format!(" {clipped} "), self.theme.code)]));
        }
    }

    fn item(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        let inner = "  ".repeat(self.lists.len().saturating_sub(1));
        let mark = match self.lists.last_mut() {
            Some(Some(n)) => {
                *n += 1;
                format!("{inner}{}. ", *n - 1)
            }
            _ => format!("{inner}• "),
        };
        let indent = prose::width(&mark);
        self.flush(&mark, indent);
    }

    fn flush(&mut self, mark: &str, indent: usize) {
        if self.spans.is_empty() {
            return;
        }
        let mut spans = vec![Span::styled(mark.to_owned(), self.theme.dim)];
        spans.append(&mut self.spans);
        self.lines.extend(prose::wrap_spans(&spans, self.width, indent));
    }

    fn gap(&mut self) {
        if self.lines.last().is_some_and(|l| l.width() > 0) {
            self.lines.push(Line::default());
        }
    }
}
