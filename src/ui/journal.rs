//! What happened, in sentences, with the exact steps behind each where there is room. What failed or was refused is never cut short.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::view::{Panel, View};
use super::widgets::{self, Cell, sign, tone};
use super::{figures, prose};
use crate::model::Model;
use crate::model::journal::{Entry, Tone, Who};

/// The columns before the sentence: the moment, who, the sign, and a blank after each.
const BEFORE: u16 = 7 + 1 + 6 + 1 + 1 + 1;

/// An entry on the screen: its number, and its sentence line by line.
pub(super) type Shown<'a> = (usize, &'a Entry, Vec<String>);

/// Draws the panel's inside.
pub(super) fn render(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    if model.journal.written() == 0 {
        widgets::hollow(buf, inner, "Nothing has happened yet.", &view.theme);
        return;
    }
    let cursor = cursor(model, view).filter(|_| view.focus == Panel::Journal);
    let mut y = inner.y;
    for (number, entry, text) in shown(inner, model, view) {
        let height = (text.len() as u16).min(inner.bottom().saturating_sub(y));
        let lines = Rect { y, height, ..inner };
        if cursor == Some(number) {
            buf.set_style(lines.intersection(buf.area), view.theme.selected);
        }
        draw(buf, lines, entry, &text, view);
        y += height;
    }
}

fn cursor(model: &Model, view: &View) -> Option<usize> {
    view.journal.and_then(|n| model.journal.numbered(n)).map(|(n, _)| n)
}

/// The entries that fit, oldest first. The newest is at the bottom; a cursor further back pulls the window with it.
pub(super) fn shown<'a>(inner: Rect, model: &'a Model, view: &View) -> Vec<Shown<'a>> {
    let rows = usize::from(inner.height);
    let first = model.journal.written() - model.journal.entries().len();
    let numbered = || (first..).zip(model.journal.entries());
    let last = model.journal.written();
    let laid = |(n, entry): (usize, &'a Entry)| (n, entry, lines(entry, inner.width));
    let until_full = |entries: &mut dyn Iterator<Item = (usize, &'a Entry)>| {
        let mut used = 0;
        let mut fits = Vec::new();
        for one in entries.map(laid) {
            used += one.2.len();
            if used > rows && !fits.is_empty() {
                break;
            }
            fits.push(one);
        }
        fits
    };
    // The number of entries is exact, so that the newest can be taken first.
    let newest = &mut model.journal.entries().rev().zip((first..last).rev()).map(|(entry, n)| (n, entry));
    let mut shown = until_full(newest);
    shown.reverse();
    match cursor(model, view) {
        Some(at) if shown.first().is_some_and(|(n, ..)| at < *n) => {
            until_full(&mut numbered().skip_while(|(n, _)| *n < at))
        }
        _ => shown,
    }
}

/// Whether the whole sentence fits into a panel of this area.
pub(super) fn has_room(area: Rect, entry: &Entry) -> bool {
    lines(entry, area.width.saturating_sub(2)).len() <= usize::from(area.height.saturating_sub(2))
}

/// How wide the sentence and the steps are.
fn widths(entry: &Entry, width: u16) -> (u16, u16) {
    let room = width.saturating_sub(BEFORE);
    if width < 110 || entry.steps.is_empty() {
        return (room, 0);
    }
    let text = room * 62 / 100;
    (text, room.saturating_sub(text + 1))
}

/// The sentence as it stands there: in one line, but for a refusal or a failure, which is whole.
fn lines(entry: &Entry, width: u16) -> Vec<String> {
    let text = usize::from(widths(entry, width).0);
    if entry.tone != Tone::Bad || prose::width(&entry.text) <= text {
        return vec![entry.text.clone()];
    }
    let wrapped = prose::wrap(&entry.text, ratatui::style::Style::new(), text);
    wrapped.iter().map(ToString::to_string).collect()
}

fn draw(buf: &mut Buffer, area: Rect, entry: &Entry, text: &[String], view: &View) {
    let theme = &view.theme;
    let at = figures::moment(entry.at);
    let steps = entry.steps.join(" ; ");
    let (width, steps_width) = widths(entry, area.width);
    let who = match entry.who {
        Who::You | Who::Outside => theme.key,
        Who::Script => theme.info,
        Who::Lab => theme.dim,
    };
    let tone_style = tone(theme, entry.tone);
    for (i, (line, text)) in area.rows().zip(text).enumerate() {
        let head = |said| if i == 0 { said } else { "" };
        widgets::row(
            buf,
            line,
            line.y,
            &[
                Cell::new(7, head(&at), theme.dim),
                Cell::new(6, head(entry.who.word()), who),
                Cell::new(1, head(sign(entry.tone)), tone_style),
                Cell::new(width, text, tone_style),
                Cell::new(steps_width, head(&steps), theme.dim),
            ],
        );
    }
}
