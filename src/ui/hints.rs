//! The last line: the keys that matter now, from the one key table. What can't act now is dimmed.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::view::View;
use super::{prose, widgets};
use crate::keys::table;
use crate::model::{Model, Stage};

/// Draws the line: the last key of the table always, then as many as fit. Where room is short, only those that can act.
pub(super) fn render(buf: &mut Buffer, area: Rect, model: &Model, view: &View) {
    let theme = &view.theme;
    let live = model.stage == Stage::Live;
    let mut rows: Vec<&table::Row> = table::TABLE.iter().filter(|r| r.hint > 0).collect();
    rows.sort_by_key(|r| r.hint);
    let (last, rest) = rows.split_last().map_or((None, &rows[..]), |(last, rest)| (Some(*last), rest));
    let room = usize::from(area.width).saturating_sub(1 + last.map_or(0, |r| width(r, r.label)));
    let mut spans = vec![Span::raw(" ")];
    let mut used = 0;
    for row in rest {
        let why = table::why_not(row, model, view);
        let lesson = row.hint == 1;
        if (lesson && model.script.is_none())
            || (why.is_some() && (area.width < 120 || !live))
            || (!live && row.hint < 17)
        {
            continue;
        }
        let label = table::label(row, model, view);
        if used + width(row, label) > room {
            break;
        }
        used += width(row, label);
        spans.extend(hint(row, label, why.is_none(), theme));
    }
    if let Some(row) = last {
        spans.extend(hint(row, row.label, true, theme));
    }
    widgets::lines(buf, area, [Line::from(spans)]);
}

fn width(row: &table::Row, label: &str) -> usize {
    prose::width(&table::spelled(row.keys[0])) + prose::width(label) + 3
}

fn hint(row: &table::Row, label: &str, can: bool, theme: &Theme) -> [Span<'static>; 2] {
    let (key, word) = if can { (theme.key, Style::new()) } else { (off(theme.dim), off(theme.dim)) };
    [Span::styled(table::spelled(row.keys[0]), key), Span::styled(format!(" {label}  "), word)]
}

fn off(dim: Style) -> Style {
    dim.add_modifier(Modifier::DIM)
}
