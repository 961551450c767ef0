//! The rule editor: kind, number and names, and beneath them what the server gets and what it means.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::model::Model;
use crate::ui::prose;
use crate::ui::view::{RuleDraft, View};
use crate::ui::widgets::{self, window};

const KINDS: [(&str, &str); 3] = [
    ("off", "asynchronous: wait for nobody"),
    ("FIRST", "the first of the list that are connected"),
    ("ANY", "any of the list"),
];

pub(super) fn render(buf: &mut Buffer, draft: &RuleDraft, model: &Model, view: &View) {
    let theme = &view.theme;
    let foot = "↑↓ line   ←→ change   Space lists a name   [ ] moves it   Enter applies   Esc";
    let whose = model.serving().filter(|_| model.serves_beside_another()).map_or(String::new(), |n| format!(" of {n}"));
    let title = format!("Synchronous rule{whose}");
    let inner = window(buf, (84, draft.names.len() as u16 + 12), &title, foot, theme);
    let (kind, meaning) = KINDS[usize::from(draft.kind.min(2))];
    let mut lines = vec![line(draft, 0, view, "kind", &format!("◀ {kind} ▶"), meaning)];
    let k = if draft.kind == 0 { "–".to_owned() } else { format!("◀ {} ▶", draft.k) };
    lines.push(line(draft, 1, view, "how many", &k, "must confirm before a commit returns"));
    lines.push(Line::default());
    for (i, (name, listed)) in draft.names.iter().enumerate() {
        let place = draft.names.iter().take(i + 1).filter(|(_, on)| *on).count();
        let tick = if *listed { format!("[✔] {name}") } else { format!("[ ] {name}") };
        let order = match (draft.kind, listed) {
            (1, true) if place <= draft.k as usize => "must confirm while it is connected",
            (1, true) => "takes over when one before it disconnects",
            (2, true) => "counts like the others",
            _ => "",
        };
        let own = model.serving().is_some_and(|p| p.as_str().eq_ignore_ascii_case(name));
        let stranger = model.standing(name).is_none() && name != "*";
        let note = match (own, stranger) {
            (true, _) => "the primary itself: never counts",
            (_, true) => "no standby has this name",
            _ => order,
        };
        lines.push(line(draft, i + 2, view, "", &tick, note));
    }
    let used = lines.len() as u16;
    widgets::lines(buf, inner, lines);
    meaning_of(buf, widgets::below(inner, used + 1), draft, model, view);
}

fn line(draft: &RuleDraft, at: usize, view: &View, word: &str, value: &str, note: &str) -> Line<'static> {
    let theme = &view.theme;
    let here = draft.line == at;
    let style = if here { theme.selected } else { Style::new() };
    Line::from(vec![
        Span::styled(if here { "▸ " } else { "  " }, theme.key),
        Span::styled(format!("{word:<9} "), theme.dim),
        Span::styled(format!("{value:<16}"), style),
        Span::styled(format!("  {note}"), theme.dim),
    ])
}

fn meaning_of(buf: &mut Buffer, area: Rect, draft: &RuleDraft, model: &Model, view: &View) {
    let theme = &view.theme;
    let rule = draft.rule();
    let width = usize::from(area.width);
    let sql = format!("ALTER SYSTEM SET synchronous_standby_names = '{}'", rule.setting());
    let mut lines = prose::wrap(&sql, theme.code, width);
    lines.push(Line::default());
    lines.extend(prose::wrap(&model.meaning_of(&rule), Style::new(), width));
    widgets::lines(buf, area, lines);
}
