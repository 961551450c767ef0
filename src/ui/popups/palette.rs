//! The command prompt: what is typed, what could follow, and at once whether it can run.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::keys::complete::completions;
use crate::model::Model;
use crate::model::admit::admit;
use crate::model::command::{BadCommand, Command};
use crate::ui::prose;
use crate::ui::view::{Input, View};
use crate::ui::widgets::{self, window};

pub(super) fn render(buf: &mut Buffer, input: &Input, picked: Option<usize>, model: &Model, view: &View) {
    let theme = &view.theme;
    let foot = "Tab completes   ↑↓ choose   Enter runs   Esc closes";
    let inner = window(buf, (88, 18), "Command", foot, theme);
    widgets::prompt(buf, inner, ": ", input, theme);
    let list = completions(model, &input.text);
    let said = judge(input, !list.is_empty(), model, view);
    let said = prose::wrap_spans(&said.spans, usize::from(inner.width), 2);
    let area = widgets::below(inner, 2 + said.len() as u16);
    widgets::lines(buf, widgets::below(inner, 1), said);
    let room = usize::from(area.height);
    let first = picked.map_or(0, |p| (p + 1).saturating_sub(room));
    let widest = list.iter().map(|c| prose::width(&c.text)).max().unwrap_or(0).clamp(10, 34) as u16;
    for ((i, c), y) in list.iter().enumerate().skip(first).zip(area.y..area.bottom()) {
        let here = picked == Some(i);
        let line = Rect { y, height: 1, ..area };
        if here {
            buf.set_style(line.intersection(buf.area), theme.selected);
        }
        widgets::row(
            buf,
            line,
            y,
            &[
                widgets::Cell::new(1, if here { "▸" } else { " " }, theme.key),
                widgets::Cell::new(widest, &c.text, theme.strong),
                widgets::Cell::new(area.width.saturating_sub(widest + 3), &c.help, theme.dim),
            ],
        );
    }
}

fn judge(input: &Input, more: bool, model: &Model, view: &View) -> Line<'static> {
    let theme = &view.theme;
    if input.text.trim().is_empty() {
        return Line::from(Span::styled("type a command, for example `freeze s1`", theme.dim));
    }
    match input.text.parse::<Command>() {
        Err(BadCommand::Verb { .. }) if more => Line::from(Span::styled("Tab completes", theme.dim)),
        Err(why) => Line::from(Span::styled(why.to_string(), theme.dim)),
        Ok(command) => match admit(model, &command) {
            Ok(()) => Line::from(vec![Span::styled("✔ ", theme.good), Span::styled("Enter runs it", theme.good)]),
            Err(why) => Line::from(vec![Span::styled("▲ not now: ", theme.warn), Span::styled(why, theme.warn)]),
        },
    }
}
