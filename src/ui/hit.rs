//! What is under the mouse, found through the same layout that is drawn.

use ratatui::layout::{Position, Rect};

use super::layout::{self, Place};
use super::topology;
use super::view::{Panel, View};
use crate::model::{Model, NodeName};

/// What a click meets.
pub(crate) struct Hit {
    /// The panel, or the tab of one.
    pub panel: Panel,
    /// The node, in the cluster.
    pub node: Option<NodeName>,
    /// The number of the journal entry.
    pub entry: Option<usize>,
}

/// What is at this column and row.
pub(crate) fn at(model: &Model, view: &View, x: u16, y: u16) -> Option<Hit> {
    let area = Rect::new(0, 0, view.size.0, view.size.1);
    let screen = layout::screen(area, model, view);
    let place = screen.places.iter().find(|p| p.area.contains(Position { x, y }))?;
    let panel = if y == place.area.y { tab_at(place, x) } else { place.panel };
    let inside = panel == place.panel;
    Some(Hit {
        panel,
        node: (inside && panel == Panel::Cluster).then(|| topology::node_at(place.area, model, view, x, y)).flatten(),
        entry: (inside && panel == Panel::Journal).then(|| entry_at(place.area, model, view, y)).flatten(),
    })
}

/// The name in the title of a shared place.
fn tab_at(place: &Place, x: u16) -> Panel {
    let tabs = super::tab_titles(place);
    let mut at = place.area.x + 2;
    for (panel, title) in tabs {
        let width = title.len() as u16 + 2;
        if (at..at + width).contains(&x) {
            return panel;
        }
        at += width + 1;
    }
    place.panel
}

/// The journal entry on this line, inside the frame.
fn entry_at(area: Rect, model: &Model, view: &View, y: u16) -> Option<usize> {
    let inner = Rect { width: area.width.saturating_sub(2), height: area.height.saturating_sub(2), ..area };
    let row = usize::from(y.checked_sub(area.y + 1)?);
    let shown = super::journal::shown(inner, model, view);
    let mut lines = shown.into_iter().flat_map(|(n, _, text)| std::iter::repeat_n(n, text.len()));
    lines.nth(row)
}
