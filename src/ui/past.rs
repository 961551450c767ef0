//! Looking at the past, in a recording or in a lab that goes on: the moment shown, and the keys that move it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::view::View;
use super::{figures, prose, widgets};
use crate::keys::past::PAST;
use crate::keys::table::spelled;
use crate::model::Stamp;

/// How fast time goes, as a multiple of its own pace.
pub const SPEEDS: [f64; 9] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Its own pace among [`SPEEDS`].
pub const PACE: usize = 2;

/// Where one is in a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// The moment shown.
    pub at: Stamp,
    /// The last moment there is.
    pub end: Stamp,
    /// Whether time goes on.
    pub playing: bool,
    /// How fast, of [`SPEEDS`].
    pub speed: usize,
    /// Whether the lab goes on meanwhile; else this is a recording.
    pub live: bool,
    /// Where things were asked for, in thousandths of the whole, each once.
    pub marks: Vec<u16>,
    /// What was asked for last before the moment shown.
    pub last: String,
}

/// Where a moment is in the whole, in thousandths.
pub fn share(at: Stamp, end: Stamp) -> u16 {
    let share = u128::from(at.0) * 1_000 / u128::from(end.0.max(1));
    u16::try_from(share).unwrap_or(1_000).min(1_000)
}

/// A moment as the clock shows it.
pub fn moment(at: Stamp) -> String {
    figures::clock(at)
}

/// In place of the clock: that it is the past, and which moment.
pub(super) fn clock(past: &Past, view: &View) -> Vec<Span<'static>> {
    let (glyph, word) = match (past.playing, past.live) {
        (true, _) => ("▶", "replay"),
        (false, true) => ("◀", "the past"),
        (false, false) => ("■", "replay"),
    };
    let speed = if past.speed == PACE { String::new() } else { format!(" ×{}", SPEEDS[past.speed]) };
    let text = format!(" {glyph} {word} {} of {}{speed} ", figures::clock(past.at), figures::clock(past.end));
    vec![Span::styled(text, view.theme.badge_warn)]
}

/// A line over the hints: the whole time, the moment shown, where things were asked for, and what that was last.
pub(super) fn timeline(buf: &mut Buffer, area: Rect, past: &Past, view: &View) {
    let theme = &view.theme;
    let width = usize::from(area.width);
    let last = prose::clip(&past.last, width * 2 / 5);
    let room = width.saturating_sub(prose::width(&last) + 4);
    let column = |share: u16| usize::from(share) * room.saturating_sub(1) / 1_000;
    let here = column(share(past.at, past.end));
    let mut cells: Vec<&str> = (0..room).map(|at| if at < here { "━" } else { "─" }).collect();
    for mark in past.marks.iter().map(|mark| column(*mark)).filter(|mark| *mark < room) {
        cells[mark] = if mark < here { "╋" } else { "┼" };
    }
    let Some((before, after)) = cells.split_at_checked(here).filter(|(_, after)| !after.is_empty()) else { return };
    let spans = [
        Span::raw(" "),
        Span::styled(before.concat(), theme.key),
        Span::styled("●", theme.strong),
        Span::styled(after[1..].concat(), theme.dim),
        Span::raw("  "),
        Span::styled(last, theme.dim),
    ];
    widgets::lines(buf, area, [Line::from(spans.to_vec())]);
}

/// In place of the hints: what moves the moment, as far as it fits.
pub(super) fn hints(buf: &mut Buffer, area: Rect, past: &Past, view: &View) {
    let theme = &view.theme;
    let (mut spans, mut used) = (vec![Span::raw(" ")], 1);
    for row in PAST {
        let label = if past.live { row.label } else { row.alone };
        let key = spelled(row.keys[0]);
        used += prose::width(&key) + prose::width(label) + 3;
        if used > usize::from(area.width) {
            break;
        }
        spans.extend([Span::styled(key, theme.key), Span::raw(format!(" {label}  "))]);
    }
    widgets::lines(buf, area, [Line::from(spans)]);
}
