//! All keys by group, searchable, with the reason beside those that can't act now. While one looks at the past: the keys that move the
//! moment, and those that look around.

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::keys::past::{PAST, as_ever};
use crate::keys::table::{self, spelled};
use crate::model::Model;
use crate::ui::prose;
use crate::ui::view::{Input, View};
use crate::ui::widgets::{self, window};

/// A key or a few: their heading, names and sentence, and why they can't act now.
struct Entry {
    group: &'static str,
    keys: String,
    label: &'static str,
    help: &'static str,
    why: Option<String>,
}

impl Entry {
    fn holds(&self, wanted: &str) -> bool {
        format!("{} {} {} {}", self.keys, self.label, self.help, self.group).to_lowercase().contains(wanted)
    }
}

pub(super) fn render(buf: &mut Buffer, filter: &Input, scroll: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let title = if view.past.is_some() { "Keys in the past" } else { "Keys" };
    let size = (104, buf.area.height.saturating_sub(2));
    let inner = window(buf, size, title, "type to search   ↑↓ scroll   Esc closes", theme);
    widgets::prompt(buf, inner, "search: ", filter, theme);
    let wanted = filter.text.to_lowercase();
    let entries = match &view.past {
        Some(past) => past_entries(past.live),
        None => {
            table::TABLE.iter().map(|row| entry(row, table::all_keys(row), table::why_not(row, model, view))).collect()
        }
    };
    let lines = lines(entries.into_iter().filter(|entry| entry.holds(&wanted)), usize::from(inner.width), view);
    let body = widgets::below(inner, 2);
    let first = scroll.min(lines.len().saturating_sub(usize::from(body.height)));
    widgets::lines(buf, body, lines.into_iter().skip(first));
}

fn entry(row: &table::Row, keys: String, why: Option<String>) -> Entry {
    Entry { group: row.group.title(), keys, label: row.label, help: row.help, why }
}

fn names(keys: &[crate::keys::Key]) -> String {
    keys.iter().map(|key| spelled(*key)).collect::<Vec<_>>().join(" ")
}

fn past_entries(live: bool) -> Vec<Entry> {
    let moves = PAST.iter().map(|row| Entry {
        group: "Moving in time",
        keys: names(row.keys),
        label: row.label,
        help: row.help,
        why: None,
    });
    let others = table::TABLE.iter().map(|row| (row, as_ever(row, live))).filter(|(_, keys)| !keys.is_empty());
    moves.chain(others.map(|(row, keys)| entry(row, names(&keys), None))).collect()
}

fn lines(entries: impl Iterator<Item = Entry>, width: usize, view: &View) -> Vec<Line<'static>> {
    let theme = &view.theme;
    let (mut lines, mut group) = (Vec::new(), None);
    for entry in entries {
        if group != Some(entry.group) {
            if group.is_some() {
                lines.push(Line::default());
            }
            lines.push(Line::styled(entry.group, theme.title));
            group = Some(entry.group);
        }
        let off = entry.why.is_some();
        let (key, style) = if off { (theme.dim, theme.dim) } else { (theme.key, Style::new()) };
        let mut spans = vec![Span::styled(format!("  {:<11} ", entry.keys), key), Span::styled(entry.help, style)];
        if let Some(why) = entry.why {
            spans.push(Span::styled(format!("  (not now: {why})"), theme.warn));
        }
        lines.extend(prose::wrap_spans(&spans, width, 14));
    }
    if lines.is_empty() {
        lines.push(Line::styled("No key does that. Try the command prompt: Esc, then :", theme.dim));
    }
    lines
}
