//! While the lab starts: each node with its phase, the time it takes; and when it failed, why and what to do.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::view::View;
use super::widgets::{self, spinner};
use super::{figures, prose};
use crate::model::cluster::NodeState;
use crate::model::{Model, Node, Stage};

/// Draws the body of the screen.
pub(super) fn render(buf: &mut Buffer, area: Rect, model: &Model, view: &View) {
    let theme = &view.theme;
    let width = area.width.min(76);
    let failed = matches!(model.stage, Stage::Failed(_));
    let mut lines = head(model, view);
    lines.extend(model.nodes.iter().map(|n| node(n, model, view)));
    lines.push(Line::default());
    if let Stage::Failed(why) = &model.stage {
        lines.extend(prose::wrap(why, Style::new(), usize::from(width.saturating_sub(4))));
        lines.push(Line::default());
        for (key, what) in
            [("replab doctor", "checks engine, image, programs and paths"), ("q", "quits; nothing is left behind")]
        {
            lines.push(Line::from(vec![Span::styled(format!("{key:<16}"), theme.key), Span::styled(what, theme.dim)]));
        }
    } else {
        let what = if model.phase.is_empty() { "getting ready" } else { model.phase.as_str() };
        let spin = Span::styled(format!("{} ", spinner(model.now)), theme.info);
        lines.push(Line::from(vec![spin, Span::raw(prose::clip(what, usize::from(width.saturating_sub(8))))]));
    }
    let height = (lines.len() as u16 + 4).min(area.height);
    let at = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    let title = if failed { "The lab did not start" } else { "Starting a real PostgreSQL cluster" };
    let inner = widgets::panel(buf, at, Line::styled(title, if failed { theme.bad } else { theme.title }), true, theme);
    if !failed {
        let elapsed = figures::lasted(model.now.0 / 1_000);
        widgets::corner(buf, at, Line::styled(elapsed, theme.dim));
    }
    widgets::lines(buf, widgets::inset(widgets::below(inner, 1), 1), lines);
}

fn head(model: &Model, view: &View) -> Vec<Line<'static>> {
    let from = if model.source.is_empty() { String::new() } else { format!(" from {}", model.source) };
    let what = format!(
        "{} on {}{from}",
        figures::plural(model.nodes.len(), "server"),
        if model.runtime.is_empty() { "this machine" } else { &model.runtime }
    );
    vec![Line::styled(what, view.theme.dim), Line::default()]
}

fn node(node: &Node, model: &Model, view: &View) -> Line<'static> {
    let theme = &view.theme;
    let (glyph, word, style) = match (&node.phase, &node.state) {
        (Some(phase), _) if model.stage == Stage::Starting => (spinner(model.now), phase.clone(), theme.info),
        (Some(phase), _) => ("✖", phase.clone(), theme.bad),
        (None, _) if node.sample.is_some() => ("✔", "answers".to_owned(), theme.good),
        (None, NodeState::Running) => (spinner(model.now), "starting".to_owned(), theme.info),
        _ => ("·", "waits".to_owned(), theme.dim),
    };
    let follows = node.upstream.as_ref().map_or_else(|| "primary".to_owned(), |u| format!("follows {u}"));
    Line::from(vec![
        Span::styled(format!("{glyph} "), style),
        Span::styled(format!("{:<10} ", node.name), theme.strong),
        Span::styled(format!("{follows:<16} "), theme.dim),
        Span::styled(word, style),
    ])
}
