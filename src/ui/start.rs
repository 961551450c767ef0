//! The first screen: the sandbox, the course, what earlier labs left. Has its own small model; knows no lab.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::view::View;
use super::{layout, prose, widgets};
use crate::model::journal::Tone;

/// From this width on each entry's explanation stands beside it.
const WIDE: u16 = 90;
/// Lines longer than this are hard to follow from one end to the other.
const WIDEST: u16 = 140;
/// What an entry's own line has before its explanation, where that stands beside it.
const BESIDE: u16 = 46;
/// How far an explanation below its entry is indented.
const BELOW: usize = 7;

/// What an entry opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opens {
    /// The sandbox.
    Sandbox,
    /// A lesson, by its name.
    Lesson(String),
    /// A recording, by its path.
    Recording(String),
    /// A lab that an earlier run left, by its id: to be removed.
    Leftover(String),
}

/// One line of the menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What Enter opens.
    pub opens: Opens,
    /// The heading it stands under: equal ones stand together.
    pub group: String,
    /// A lesson's number.
    pub number: Option<u32>,
    /// Its title.
    pub title: String,
    /// What one will see, in one line.
    pub line: String,
    /// Whether it was done before.
    pub done: bool,
}

/// The menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartMenu {
    /// The entries, the sandbox first.
    pub entries: Vec<Entry>,
    /// The one under the cursor.
    pub picked: usize,
    /// What the doctor found, each with the command that mends it.
    pub notes: Vec<(Tone, String)>,
    /// What runs it: "docker, postgres:18" or "processes, " and the programs' folder.
    pub machine: String,
}

/// Draws the screen.
pub fn render(frame: &mut Frame, menu: &StartMenu, view: &View) {
    let buf = frame.buffer_mut();
    super::canvas(buf, view, |buf| draw(buf, menu, view));
}

/// Where things are: the column, the list, the notes.
fn areas(area: Rect, menu: &StartMenu) -> (Rect, Rect, Rect) {
    let column = Rect { x: area.x + area.width.saturating_sub(WIDEST) / 2, width: area.width.min(WIDEST), ..area };
    let inner = widgets::inset(column, 2);
    let wanted: usize = menu.notes.iter().map(|(tone, text)| note(*tone, text, inner.width, Style::new()).len()).sum();
    let foot = (wanted as u16).min(inner.height / 3);
    let list = Rect { y: inner.y + 4, height: inner.height.saturating_sub(4 + foot + 3), ..inner };
    (inner, list, Rect { y: list.bottom() + 1, height: foot, ..inner })
}

fn draw(buf: &mut Buffer, menu: &StartMenu, view: &View) {
    let theme = &view.theme;
    let (inner, list, said) = areas(buf.area, menu);
    let title = vec![
        Line::default(),
        Line::from(vec![
            Span::styled("replab", theme.primary),
            Span::styled("  a PostgreSQL replication lab: real servers, broken on purpose", theme.dim),
        ]),
        Line::styled(prose::clip(&menu.machine, usize::from(inner.width)), theme.dim),
    ];
    widgets::lines(buf, inner, title);
    entries(buf, list, menu, view);
    let lines = menu.notes.iter().flat_map(|(t, text)| note(*t, text, inner.width, widgets::tone(theme, *t)));
    widgets::lines(buf, said, lines);
    let keys = [("↑↓", "choose"), ("Enter", "open"), ("q", "quit")];
    let spans =
        keys.iter().flat_map(|(k, w)| [Span::styled(*k, theme.key), Span::styled(format!(" {w}   "), theme.dim)]);
    let foot = Rect { y: inner.bottom().saturating_sub(1), height: 1, ..inner };
    widgets::lines(buf, foot, [Line::from(spans.collect::<Vec<_>>())]);
}

fn note(tone: Tone, text: &str, width: u16, style: Style) -> Vec<Line<'static>> {
    let spans = [Span::styled(format!("{} ", widgets::sign(tone)), style), Span::styled(text, style)];
    prose::wrap_spans(&spans, usize::from(width), 2)
}

/// A line of the list: a heading, an entry, or a line of the entry's explanation.
enum Row<'a> {
    Gap,
    Heading(&'a str),
    Entry(usize, &'a Entry),
    More(usize, Line<'static>),
}

fn is_wide(width: u16) -> bool {
    width >= WIDE
}

/// The picked entry's explanation, where its own line has no room for all of it.
fn more(entry: &Entry, width: u16, style: Style) -> Vec<Line<'static>> {
    let beside = usize::from(if is_wide(width) { width.saturating_sub(BESIDE) } else { 0 });
    if prose::width(&entry.line) <= beside {
        return Vec::new();
    }
    let text = [Span::raw(" ".repeat(BELOW)), Span::styled(entry.line.clone(), style)];
    prose::wrap_spans(&text, usize::from(width), BELOW)
}

fn rows(menu: &StartMenu, width: u16, style: Style) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut group = "";
    for (i, entry) in menu.entries.iter().enumerate() {
        if entry.group != group {
            if !rows.is_empty() {
                rows.push(Row::Gap);
            }
            rows.push(Row::Heading(&entry.group));
            group = &entry.group;
        }
        rows.push(Row::Entry(i, entry));
        if i == menu.picked {
            rows.extend(more(entry, width, style).into_iter().map(|line| Row::More(i, line)));
        }
    }
    rows
}

/// First row shown, so that the picked one is in the window.
fn first(rows: &[Row<'_>], picked: usize, height: usize) -> usize {
    let at = |row: &Row<'_>| matches!(row, Row::Entry(i, _) | Row::More(i, _) if *i == picked);
    let last = rows.iter().rposition(at).unwrap_or(0);
    (last + 3).min(rows.len()).saturating_sub(height)
}

fn entries(buf: &mut Buffer, area: Rect, menu: &StartMenu, view: &View) {
    let theme = &view.theme;
    let rows = rows(menu, area.width, theme.dim);
    let from = first(&rows, menu.picked, usize::from(area.height));
    for (row, y) in rows.iter().skip(from).zip(area.y..area.bottom()) {
        let line = Rect { y, height: 1, ..area };
        match row {
            Row::Gap => {}
            Row::Heading(text) => widgets::lines(buf, line, [Line::styled((*text).to_owned(), theme.title)]),
            Row::More(_, more) => widgets::lines(buf, line, [more.clone()]),
            Row::Entry(i, entry) => draw_entry(buf, line, entry, *i == menu.picked, view),
        }
    }
}

fn draw_entry(buf: &mut Buffer, line: Rect, entry: &Entry, picked: bool, view: &View) {
    let (theme, wide) = (&view.theme, is_wide(line.width));
    if picked {
        buf.set_style(line.intersection(buf.area), theme.selected);
    }
    let mark = if picked { "▸" } else { " " };
    let number = entry.number.map(|n| format!("{n:>2}")).unwrap_or_default();
    let done = if entry.done { "✔" } else { " " };
    widgets::row(
        buf,
        line,
        line.y,
        &[
            widgets::Cell::new(1, mark, theme.key),
            widgets::Cell::new(1, done, theme.good),
            widgets::Cell::right(2, &number, theme.dim),
            widgets::Cell::new(
                if wide { 38 } else { line.width.saturating_sub(BELOW as u16) },
                &entry.title,
                Style::new(),
            ),
            widgets::Cell::new(if wide { line.width.saturating_sub(BESIDE) } else { 0 }, &entry.line, theme.dim),
        ],
    );
}

/// The entry drawn in this row of the screen.
pub(crate) fn entry_at(size: (u16, u16), menu: &StartMenu, y: u16) -> Option<usize> {
    let (_, list, _) = areas(Rect::new(0, 0, size.0, size.1), menu);
    let rows = rows(menu, list.width, Style::new());
    let from = first(&rows, menu.picked, usize::from(list.height));
    let row = y.checked_sub(list.y).filter(|row| *row < list.height)?;
    match rows.get(from + usize::from(row))? {
        Row::Entry(i, _) | Row::More(i, _) => Some(*i),
        _ => None,
    }
}

/// Whether the screen is large enough for the menu at all.
pub(super) fn fits(area: Rect) -> bool {
    area.width >= layout::SMALLEST.0 && area.height >= layout::SMALLEST.1
}
