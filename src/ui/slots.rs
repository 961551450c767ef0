//! What replication slots keep, as a gauge against their limit, in what state their WAL is, and the room on the disk.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::view::{Panel, View};
use super::widgets::{self, Cell};
use super::{figures, prose};
use crate::model::Model;
use crate::model::slots::Slot;

/// The narrowest gauge that tells something.
const GAUGE_MIN: u16 = 6;

/// Draws the panel's inside; the frame may be shared.
pub(super) fn render(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    let theme = &view.theme;
    let slots = model.slots();
    let room = usize::from(inner.height.saturating_sub(1));
    if slots.is_empty() {
        widgets::lines(buf, inner, [Line::styled("No slot keeps any WAL.", theme.dim)]);
    }
    let columns = Columns::of(inner.width, &slots, model);
    let first = view.scrolled(Panel::Slots).min(slots.len().saturating_sub(room));
    for (slot, y) in slots.iter().skip(first).take(room).zip(inner.y..) {
        columns.row(buf, inner, y, (slot, &called(slot, model)), theme);
    }
    let foot = Rect { y: inner.bottom().saturating_sub(1), height: 1.min(inner.height), ..inner };
    widgets::lines(buf, foot, [disk(model, usize::from(inner.width), theme)]);
}

/// Widths; 0 where a column has no room.
struct Columns {
    name: u16,
    status: u16,
    kept: u16,
    gauge: u16,
    limit: u16,
}

impl Columns {
    fn of(width: u16, slots: &[Slot], model: &Model) -> Self {
        let name = slots.iter().map(|s| prose::width(&called(s, model))).max().unwrap_or(2).clamp(2, 12) as u16;
        let mut columns = Self { name, status: 12, kept: 7, gauge: 0, limit: 0 };
        let rest = width.saturating_sub(columns.name + columns.status + columns.kept + 3);
        columns.limit = if rest >= 11 { 11 } else { 0 };
        let rest = rest.saturating_sub(columns.limit + 1);
        columns.gauge = if rest >= GAUGE_MIN { rest.min(40) } else { 0 };
        columns
    }

    fn row(&self, buf: &mut Buffer, area: Rect, y: u16, (slot, name): (&Slot, &str), theme: &Theme) {
        let (glyph, style) = status_looks(slot, theme);
        let status = format!("{glyph} {}", slot.row.wal_status.as_deref().unwrap_or("empty"));
        let kept = slot.kept().map_or_else(|| "–".to_owned(), figures::bytes);
        let limit = slot.limit.map_or_else(|| "no limit".to_owned(), |l| format!("of {}", figures::bytes(l)));
        let value = if slot.fresh { Style::new() } else { theme.dim };
        widgets::row(
            buf,
            area,
            y,
            &[
                Cell::new(self.name, name, value),
                Cell::new(self.status, &status, style),
                Cell::right(self.kept, &kept, value),
                Cell::new(self.gauge, "", value),
                Cell::new(self.limit, &limit, theme.dim),
            ],
        );
        if self.gauge > 0 {
            let x = area.x + self.name + self.status + self.kept + 3;
            let at = Rect { x, y, width: self.gauge, height: 1 };
            widgets::lines(buf, at, [gauge(slot, self.gauge, style, theme)]);
        }
    }
}

/// The slot's name, which is that of the standby it is for; and where it is, if that isn't the primary.
fn called(slot: &Slot, model: &Model) -> String {
    if model.primary.as_ref() == Some(&slot.on) {
        slot.row.name.clone()
    } else {
        format!("{}@{}", slot.row.name, slot.on)
    }
}

fn status_looks(slot: &Slot, theme: &Theme) -> (&'static str, Style) {
    match slot.row.wal_status.as_deref() {
        _ if !slot.fresh => ("?", theme.dim),
        Some("reserved") => ("✔", theme.good),
        Some("lost") => ("✖", theme.bad),
        Some(_) => ("▲", theme.warn),
        None => (" ", theme.dim),
    }
}

/// How much of the limit is used; without a limit there is no end to measure against.
fn gauge(slot: &Slot, width: u16, style: Style, theme: &Theme) -> Line<'static> {
    let Some((kept, limit)) = slot.kept().zip(slot.limit) else { return Line::default() };
    let used = (kept.min(limit) * u64::from(width)).div_ceil(limit.max(1)).min(u64::from(width)) as usize;
    Line::from(vec![
        Span::styled("█".repeat(used), style),
        Span::styled("░".repeat(usize::from(width) - used), theme.border),
    ])
}

fn disk(model: &Model, width: usize, theme: &Theme) -> Line<'static> {
    let free =
        model.disk_free.map_or_else(|| "free room not known".to_owned(), |n| format!("{} free", figures::bytes(n)));
    let floor = match model.disk_floor {
        0 => "no floor".to_owned(),
        floor if model.disk_low => format!("writer held (floor {})", figures::bytes(floor)),
        floor => format!("floor {}", figures::bytes(floor)),
    };
    let style = if model.disk_low { theme.bad } else { theme.dim };
    Line::styled(prose::clip(&format!("disk: {free}, {floor}"), width), style)
}
