//! The synchronous rule in plain words, and before it, where there are two primaries, that there are.

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use ratatui::text::Line;

use super::layout::Place;
use super::view::{Panel, View};
use super::{prose, widgets};
use crate::model::Model;

/// Draws the panel.
pub(super) fn render(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    let title = Line::from("In words");
    let inner = widgets::panel(buf, place.area, title, view.focus == Panel::Words, &view.theme);
    let beat = if model.heartbeat { "heartbeat every 100 ms" } else { "heartbeat off" };
    let level = format!("synchronous_commit {}", model.writer.plan.level);
    let note = if place.area.width >= 64 { format!("{beat} · {level}") } else { level };
    widgets::corner(buf, place.area, Line::styled(note, view.theme.dim));
    let inner = if inner.width > 40 { widgets::inset(inner, 1) } else { inner };
    let split = model.split_brain_in_words().map_or_else(String::new, |text| format!("{text} "));
    let wrapped = prose::wrap(&format!("{split}{}", model.rule_in_words()), Style::new(), usize::from(inner.width));
    let first = view.scrolled(Panel::Words).min(wrapped.len().saturating_sub(usize::from(inner.height)));
    widgets::lines(buf, inner, wrapped.into_iter().skip(first));
}
