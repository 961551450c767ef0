//! The few building blocks that all panels share: frames, lines of columns, badges, spinners, windows, prompts.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Widget};

use super::prose;
use super::theme::Theme;
use super::view::Input;
use crate::model::Stamp;
use crate::model::journal::Tone;

/// A spinner's picture at this moment.
pub(super) fn spinner(now: Stamp) -> &'static str {
    const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
    FRAMES[(now.0 / 100_000 % 10) as usize]
}

/// Writes text from (x, y) on, never outside `area`.
pub(super) fn put(buf: &mut Buffer, area: Rect, x: u16, y: u16, text: &str, style: Style) {
    let area = area.intersection(buf.area);
    if x >= area.left() && x < area.right() && y >= area.top() && y < area.bottom() {
        buf.set_stringn(x, y, text, usize::from(area.right() - x), style);
    }
}

/// Writes lines from the top of `area` on; what doesn't fit is left out.
pub(super) fn lines<'a>(buf: &mut Buffer, area: Rect, lines: impl IntoIterator<Item = Line<'a>>) {
    for (row, line) in area.rows().zip(lines) {
        line.render(row, buf);
    }
}

/// A frame with a title; gives what is inside. The focused one is heavy and has a mark, so that it needs no colour.
pub(super) fn panel(buf: &mut Buffer, area: Rect, title: Line<'_>, focused: bool, theme: &Theme) -> Rect {
    let (kind, style) = if focused { (BorderType::Thick, theme.focus) } else { (BorderType::Rounded, theme.border) };
    let mut spans = vec![Span::raw(if focused { "▸" } else { " " })];
    spans.extend(title.spans);
    spans.push(Span::raw(" "));
    let block = Block::bordered().border_type(kind).border_style(style).title(Line::from(spans).style(theme.title));
    let inner = block.inner(area);
    block.render(area, buf);
    inner
}

/// How long a note in the corner of a frame may be, beside its title.
pub(super) fn corner_room(area: Rect) -> usize {
    usize::from(area.width).saturating_sub(23)
}

/// A note in the upper right of a frame, if there is room.
pub(super) fn corner(buf: &mut Buffer, area: Rect, note: Line<'_>) {
    let width = note.width() as u16 + 2;
    if note.width() <= corner_room(area) {
        let at = Rect { x: area.right() - width - 1, y: area.y, width, height: 1 };
        let mut spans = vec![Span::raw(" ")];
        spans.extend(note.spans.into_iter().map(|s| s.patch_style(note.style)));
        spans.push(Span::raw(" "));
        lines(buf, at, [Line::from(spans)]);
    }
}

/// A word on a coloured ground.
pub(super) fn badge(text: &str, style: Style) -> Span<'static> {
    Span::styled(format!(" {text} "), style)
}

/// One column of a row.
pub(super) struct Cell<'a> {
    /// Columns it has.
    pub width: u16,
    /// What it says.
    pub text: &'a str,
    /// How.
    pub style: Style,
    /// Whether it stands at the right.
    pub right: bool,
}

impl<'a> Cell<'a> {
    /// A text at the left.
    pub fn new(width: u16, text: &'a str, style: Style) -> Self {
        Self { width, text, style, right: false }
    }

    /// A number at the right.
    pub fn right(width: u16, text: &'a str, style: Style) -> Self {
        Self { width, text, style, right: true }
    }
}

/// A row of columns with a blank between.
pub(super) fn row(buf: &mut Buffer, area: Rect, y: u16, cells: &[Cell<'_>]) {
    let mut x = area.x;
    for cell in cells.iter().filter(|c| c.width > 0) {
        let text = prose::clip(cell.text, usize::from(cell.width));
        let pad = if cell.right { cell.width - prose::width(&text) as u16 } else { 0 };
        put(buf, area, x + pad, y, &text, cell.style);
        x = x.saturating_add(cell.width + 1);
    }
}

/// The style of a tone.
pub(super) fn tone(theme: &Theme, tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => theme.good,
        Tone::Warn => theme.warn,
        Tone::Bad => theme.bad,
    }
}

/// The sign of a tone; none for the plain one.
pub(super) fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => " ",
        Tone::Good => "✔",
        Tone::Warn => "▲",
        Tone::Bad => "✖",
    }
}

/// A window in the middle of the screen, at most so large; gives what is inside.
pub(super) fn window(buf: &mut Buffer, wanted: (u16, u16), title: &str, foot: &str, theme: &Theme) -> Rect {
    let screen = buf.area;
    let (width, height) = (wanted.0.min(screen.width), wanted.1.min(screen.height));
    let at =
        Rect { x: screen.x + (screen.width - width) / 2, y: screen.y + (screen.height - height) / 2, width, height };
    blank(buf, at, theme);
    let inner = panel(buf, at, Line::from(title.to_owned()), true, theme);
    if height > 2 && width > 4 {
        let at = Rect { x: at.x + 2, y: at.bottom() - 1, width: width - 4, height: 1 };
        let text = prose::clip(foot, usize::from(at.width).saturating_sub(2));
        if !text.is_empty() {
            let line = Line::from(vec![Span::raw(" "), Span::raw(text), Span::raw(" ")]).style(theme.dim);
            let width = line.width() as u16;
            lines(buf, Rect { width: width.min(at.width), ..at }, [line]);
        }
    }
    inset(inner, 1)
}

/// Makes an area empty.
pub(super) fn blank(buf: &mut Buffer, area: Rect, theme: &Theme) {
    let area = area.intersection(buf.area);
    for position in area.positions() {
        buf[position].reset();
    }
    buf.set_style(area, theme.base);
}

/// Narrower by so many columns on both sides.
pub(super) fn inset(area: Rect, by: u16) -> Rect {
    if area.width > by * 2 + 10 { Rect { x: area.x + by, width: area.width - by * 2, ..area } } else { area }
}

/// Without its first `n` rows.
pub(super) fn below(area: Rect, n: u16) -> Rect {
    let n = n.min(area.height);
    Rect { y: area.y + n, height: area.height - n, ..area }
}

/// A line of text being typed, its cursor reversed.
pub(super) fn prompt(buf: &mut Buffer, area: Rect, mark: &str, input: &Input, theme: &Theme) {
    let (before, after) = input.text.split_at(input.cursor);
    let room = usize::from(area.width).saturating_sub(prose::width(mark) + 2);
    let mut rest = after.chars();
    let under = rest.next().map_or_else(|| " ".to_owned(), |c| c.to_string());
    let line = Line::from(vec![
        Span::styled(mark.to_owned(), theme.key),
        Span::raw(prose::tail(before, room).to_owned()),
        Span::styled(under, Style::new().add_modifier(ratatui::style::Modifier::REVERSED)),
        Span::raw(rest.as_str().to_owned()),
    ]);
    lines(buf, area, [line]);
}

/// A sentence in the middle of an empty panel.
pub(super) fn hollow(buf: &mut Buffer, area: Rect, text: &str, theme: &Theme) {
    let wrapped = prose::wrap(text, theme.dim, usize::from(area.width));
    let top = area.height.saturating_sub(wrapped.len() as u16) / 2;
    lines(buf, below(area, top), wrapped.into_iter().map(|l| l.alignment(Alignment::Center)));
}
