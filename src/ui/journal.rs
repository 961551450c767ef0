//! What happened, in sentences, with the exact steps behind each where there is room.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::figures;
use super::view::{Panel, View};
use super::widgets::{self, Cell, sign, tone};
use crate::model::Model;
use crate::model::journal::{Entry, Who};

/// Draws the panel's inside.
pub(super) fn render(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    let rows = usize::from(inner.height);
    let count = model.journal.entries().len();
    if count == 0 {
        widgets::hollow(buf, inner, "Nothing has happened yet.", &view.theme);
        return;
    }
    let cursor = view.journal.map(|back| back.min(count - 1));
    // The newest is at the bottom; a cursor further back pulls the window with it.
    let skip = cursor.map_or(0, |back| (back + 1).saturating_sub(rows));
    let shown: Vec<(usize, &Entry)> = model.journal.entries().rev().enumerate().skip(skip).take(rows).collect();
    for ((back, entry), y) in shown.into_iter().rev().zip(inner.y..) {
        let line = Rect { y, height: 1, ..inner };
        if cursor == Some(back) && view.focus == Panel::Journal {
            buf.set_style(line.intersection(buf.area), view.theme.selected);
        }
        draw(buf, line, entry, view);
    }
}

fn draw(buf: &mut Buffer, line: Rect, entry: &Entry, view: &View) {
    let theme = &view.theme;
    let at = figures::moment(entry.at);
    let steps = entry.steps.join(" ; ");
    let wide = line.width >= 110 && !steps.is_empty();
    let text = line.width.saturating_sub(7 + 1 + 6 + 1 + 1 + 1);
    let text = if wide { text * 62 / 100 } else { text };
    let steps_width = if wide { line.width.saturating_sub(7 + 6 + 1 + text + 4) } else { 0 };
    let who = match entry.who {
        Who::You | Who::Outside => theme.key,
        Who::Script => theme.info,
        Who::Lab => theme.dim,
    };
    let tone_style = tone(theme, entry.tone);
    widgets::row(
        buf,
        line,
        line.y,
        &[
            Cell::new(7, &at, theme.dim),
            Cell::new(6, entry.who.word(), who),
            Cell::new(1, sign(entry.tone), tone_style),
            Cell::new(text, &entry.text, tone_style),
            Cell::new(steps_width, &steps, theme.dim),
        ],
    );
}
