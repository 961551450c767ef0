//! Clicks and the wheel.

use super::{Intent, Key, KeyInput, acts};
use crate::model::Model;
use crate::ui::hit;
use crate::ui::view::View;

/// A click focuses a panel and selects what is under it.
pub(super) fn click(view: &mut View, model: &Model, x: u16, y: u16) -> Vec<Intent> {
    if !view.popups.is_empty() {
        return Vec::new();
    }
    if let Some(hit) = hit::at(model, view, x, y) {
        view.focus_on(hit.panel);
        view.node = hit.node.or_else(|| view.node.take());
        view.journal = hit.entry.or(view.journal);
    }
    Vec::new()
}

/// The wheel scrolls what it is over.
pub(super) fn wheel(view: &mut View, model: &Model, up: bool, x: u16, y: u16) -> Vec<Intent> {
    if !view.popups.is_empty() {
        return view.key(model, KeyInput::Key(if up { Key::Up } else { Key::Down }));
    }
    if let Some(hit) = hit::at(model, view, x, y) {
        view.focus_on(hit.panel);
        acts::step(model, view, if up { -1 } else { 1 });
    }
    Vec::new()
}
