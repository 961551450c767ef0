//! SQL on a node: the prompt, and what the last statement gave.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::msg::SqlResult;
use crate::model::{Model, NodeName};
use crate::ui::view::{Input, View};
use crate::ui::widgets::{self, Cell, window};
use crate::ui::{figures, prose};

/// The widest that a column gets.
const WIDEST: usize = 48;

pub(super) fn render(buf: &mut Buffer, node: &NodeName, input: &Input, scroll: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let size = (buf.area.width.saturating_sub(6).min(120), buf.area.height.saturating_sub(4).min(30));
    let foot = "Enter runs   ↑↓ scroll   Tab other node   Esc closes";
    let inner = window(buf, size, &format!("SQL on {node}"), foot, theme);
    widgets::prompt(buf, inner, &format!("{node}=# "), input, theme);
    let body = widgets::below(inner, 2);
    match &model.sql {
        Some((from, result)) => answer(buf, body, from, result, scroll, view),
        None => {
            widgets::hollow(buf, body, "For example: SELECT pg_is_in_recovery(), or TABLE pg_stat_replication", theme);
        }
    }
}

fn answer(buf: &mut Buffer, area: Rect, from: &NodeName, result: &SqlResult, scroll: usize, view: &View) {
    let theme = &view.theme;
    let width = usize::from(area.width);
    let mut head = vec![Line::styled(format!("{from} answered: {}", result.tag), theme.dim)];
    for notice in &result.notices {
        head.extend(prose::wrap(notice, theme.warn, width));
    }
    if let Some((state, why)) = &result.error {
        let spans = [Span::styled(format!("✖ ERROR {state} "), theme.bad), Span::styled(why.as_str(), theme.bad)];
        head[0] = Line::styled(format!("{from} refused:"), theme.dim);
        head.extend(prose::wrap_spans(&spans, width, 2));
    }
    let used = head.len() as u16;
    widgets::lines(buf, area, head);
    table(buf, widgets::below(area, used), result, scroll, view);
}

fn table(buf: &mut Buffer, area: Rect, result: &SqlResult, scroll: usize, view: &View) {
    let theme = &view.theme;
    let text = |cell: &Option<String>| cell.clone().unwrap_or_else(|| "NULL".to_owned());
    let widths: Vec<u16> = result
        .columns
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let cells = result
                .rows
                .iter()
                .take(200)
                .filter_map(|r| r.get(i))
                .map(|c| prose::width(c.as_deref().unwrap_or("NULL")));
            cells.chain([prose::width(name)]).max().unwrap_or(1).clamp(1, WIDEST) as u16
        })
        .collect();
    if area.height == 0 || widths.is_empty() {
        return;
    }
    let head: Vec<Cell<'_>> =
        result.columns.iter().zip(&widths).map(|(name, w)| Cell::new(*w, name, theme.title)).collect();
    widgets::row(buf, area, area.y, &head);
    let body = widgets::below(area, 1);
    let first = scroll.min(result.rows.len().saturating_sub(1));
    for (row, y) in result.rows.iter().skip(first).zip(body.y..body.bottom().saturating_sub(1)) {
        let texts: Vec<(String, Style)> =
            row.iter().map(|c| (text(c), if c.is_none() { theme.dim } else { Style::new() })).collect();
        let cells: Vec<Cell<'_>> = texts.iter().zip(&widths).map(|((t, s), w)| Cell::new(*w, t, *s)).collect();
        widgets::row(buf, body, y, &cells);
    }
    let kept = figures::plural(result.rows.len(), "row");
    let foot = if result.more > 0 { format!("{kept} shown, {} more", figures::count(result.more)) } else { kept };
    let last = Rect { y: area.bottom() - 1, height: 1, ..area };
    widgets::lines(buf, last, [Line::styled(foot, theme.dim)]);
}
