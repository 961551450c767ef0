//! The log of one node, newest at the bottom, filtered.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::{Logged, Model, NodeName};
use crate::ui::view::{Input, View};
use crate::ui::widgets::{self, window};
use crate::ui::{figures, prose};

pub(super) fn render(
    buf: &mut Buffer,
    name: &NodeName,
    filter: &Input,
    typing: bool,
    up: usize,
    model: &Model,
    view: &View,
) {
    let theme = &view.theme;
    let foot = "↑↓ scroll   ←→ other node   / filter   Esc closes";
    let size = (buf.area.width.saturating_sub(4), buf.area.height.saturating_sub(4));
    let inner = window(buf, size, &format!("Log of {name}"), foot, theme);
    let Some(node) = model.node(name) else { return };
    let body = if typing || !filter.text.is_empty() {
        let line = Rect { height: 1.min(inner.height), ..inner };
        if typing {
            widgets::prompt(buf, line, "/", filter, theme);
        } else {
            widgets::lines(buf, line, [Line::styled(format!("/{}", filter.text), theme.key)]);
        }
        widgets::below(inner, 1)
    } else {
        inner
    };
    let wanted = filter.text.to_lowercase();
    let holds = |l: &&Logged| {
        wanted.is_empty()
            || l.line.text.to_lowercase().contains(&wanted)
            || l.line.severity.to_lowercase().contains(&wanted)
    };
    let total = node.logs.iter().filter(holds).count();
    if total == 0 {
        let text = if node.logs.is_empty() { "It has logged nothing yet." } else { "No line holds that." };
        widgets::hollow(buf, body, text, theme);
        return;
    }
    // From the newest back until the window is full; wrapped, since log lines are long.
    let up = up.min(total - 1);
    let mut rows: Vec<Line<'static>> = Vec::new();
    for logged in node.logs.iter().rev().filter(holds).skip(up) {
        let mut wrapped = entry(logged, usize::from(body.width), view);
        wrapped.append(&mut rows);
        rows = wrapped;
        if rows.len() >= usize::from(body.height) {
            break;
        }
    }
    let extra = rows.len().saturating_sub(usize::from(body.height));
    widgets::lines(buf, body, rows.into_iter().skip(extra));
}

fn entry(logged: &Logged, width: usize, view: &View) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let style = match logged.line.severity.as_str() {
        "ERROR" | "FATAL" | "PANIC" => theme.bad,
        "WARNING" => theme.warn,
        "LOG" | "" => Style::new(),
        _ => theme.dim,
    };
    let spans = [
        Span::styled(format!("{} ", figures::moment(logged.at)), theme.dim),
        Span::styled(format!("{:<8} ", logged.line.severity), style),
        Span::styled(logged.line.text.as_str(), style),
    ];
    prose::wrap_spans(&spans, width, 17)
}
