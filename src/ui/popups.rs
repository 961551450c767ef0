//! The windows over the screen, each drawn from the same value that the keys work on.

use ratatui::buffer::Buffer;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::view::{Popup, Question, RuleDraft, View};
use super::widgets::{self, badge, window};
use super::{figures, prose};
use crate::model::command::Rate;
use crate::model::{Model, NodeName, Stage};

mod contents;
mod help;
mod link;
mod logs;
mod palette;
mod rule;
mod sql;

pub(crate) use link::{acts as link_acts, partners};

/// Draws a window.
pub(super) fn render(buf: &mut Buffer, popup: &Popup, model: &Model, view: &View) {
    match popup {
        Popup::Help { filter, scroll } => help::render(buf, filter, *scroll, model, view),
        Popup::Palette { input, picked } => palette::render(buf, input, *picked, model, view),
        Popup::Confirm { question, choice } => confirm(buf, question, *choice, model, view),
        Popup::Rule(draft) => rule::render(buf, draft, model, view),
        Popup::Writer { line } => writer(buf, *line, model, view),
        Popup::Follow { standby, choice } => follow(buf, standby, *choice, model, view),
        Popup::Link(draft) => link::render(buf, draft, model, view),
        Popup::Sql { node, input, scroll } => sql::render(buf, node, input, *scroll, model, view),
        Popup::Logs { node, filter, typing, up } => logs::render(buf, node, filter, *typing, *up, model, view),
        Popup::Steps { entry, scroll } => steps(buf, *entry, *scroll, model, view),
        Popup::Contents { picked } => contents::render(buf, *picked, model, view),
    }
}

/// What the choices of a question are: the letter, the words.
pub(crate) fn choices(question: &Question, model: &Model) -> Vec<(char, &'static str)> {
    match question {
        Question::Run(_) => vec![('y', "yes, do it"), ('n', "no")],
        Question::Quit if model.stage == Stage::Live => {
            vec![('d', "destroy the lab"), ('k', "keep the servers"), ('s', "stay")]
        }
        Question::Quit => vec![('d', "clean up and quit"), ('s', "stay")],
    }
}

fn confirm(buf: &mut Buffer, question: &Question, choice: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let (title, text) = match question {
        Question::Run(command) => (format!("{command}?"), consequence(command, model)),
        Question::Quit if model.stage != Stage::Live => ("Quit?".to_owned(), "The lab is not up. What was made of it so far is removed.".to_owned()),
        Question::Quit => ("Quit?".to_owned(), "What should happen to the servers? Kept servers go on running without replab. Their links become direct. The last lines say how to connect to them and how to remove them.".to_owned()),
    };
    let foot = "←→ choose   Enter does it   Esc goes back";
    let lines = prose::wrap(&text, Style::new(), 60.min(usize::from(buf.area.width).saturating_sub(6)));
    let inner = window(buf, (66, lines.len() as u16 + 6), &title, foot, theme);
    let used = lines.len() as u16;
    widgets::lines(buf, widgets::below(inner, 1), lines);
    let mut spans = Vec::new();
    for (i, (letter, words)) in choices(question, model).into_iter().enumerate() {
        let text = if i == choice { format!("▸{letter}  {words}") } else { format!(" {letter}  {words}") };
        spans.push(badge(&text, if i == choice { theme.badge_warn } else { theme.badge }));
        spans.push(Span::raw("  "));
    }
    widgets::lines(buf, widgets::below(inner, used + 2), [Line::from(spans)]);
}

fn consequence(command: &crate::model::command::Command, model: &Model) -> String {
    use crate::model::command::Command as C;
    match command {
        C::Promote(n) => {
            let ahead = model.ahead_of(n);
            if ahead.is_empty() {
                return format!("No standby is seen to be ahead of {n} now.");
            }
            let list: Vec<String> =
                ahead.iter().map(|(name, by)| format!("{name} by {}", figures::bytes(*by))).collect();
            format!(
                "Ahead of {n} in the log: {}. What {n} lacks is lost with its promotion. A standby that is ahead can't follow {n} until it is \
                 rewound. {n} can still be promoted.",
                list.join(", ")
            )
        }
        C::Rejoin { node, .. } => format!(
            "{node} becomes a standby. Rows of the writer that only it has are counted, then all that only it has is thrown away. This \
             can't be undone."
        ),
        C::Fence(n) => format!("{n} is killed, so that only one primary is left. Its clients lose their connections."),
        C::Remove(n) => format!("{n} goes away with all its data. This can't be undone."),
        C::Reset => {
            "Every node is thrown away and the first cluster is made again. Writes, timelines and added nodes are gone."
                .to_owned()
        }
        _ => "This can't be undone.".to_owned(),
    }
}

fn writer(buf: &mut Buffer, line: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let plan = &model.writer.plan;
    let rate = match plan.rate {
        Rate::Max => "flat out".to_owned(),
        Rate::PerSecond(n) => figures::per_second(n.into()),
    };
    let rows = [
        ("clients", plan.clients.to_string(), "that write at the same time, each waiting for its answer"),
        ("rate", rate, "over all clients together"),
        ("synchronous_commit", plan.level.clone(), "what an answer stands for"),
        ("state", if plan.paused { "paused" } else { "writing" }.to_owned(), "pause and resume"),
    ];
    let inner = window(buf, (76, 8), "Writer", "↑↓ choose   ←→ change   Esc closes", theme);
    for (i, (word, value, help)) in rows.iter().enumerate() {
        let at = widgets::below(inner, i as u16 + 1);
        let here = i == line;
        if here && at.height > 0 {
            buf.set_style(ratatui::layout::Rect { height: 1, ..at }, theme.selected);
        }
        let value = if here { format!("◀ {value} ▶") } else { format!("  {value}") };
        widgets::row(
            buf,
            at,
            at.y,
            &[
                widgets::Cell::new(18, word, theme.strong),
                widgets::Cell::new(16, &value, theme.key),
                widgets::Cell::new(inner.width.saturating_sub(36), help, theme.dim),
            ],
        );
    }
}

/// The nodes a standby could be told to follow.
pub(crate) fn upstreams<'a>(model: &'a Model, standby: &'a NodeName) -> impl Iterator<Item = &'a NodeName> {
    model.nodes.iter().map(|n| &n.name).filter(move |n| *n != standby)
}

fn follow(buf: &mut Buffer, standby: &NodeName, choice: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let names: Vec<&NodeName> = upstreams(model, standby).collect();
    let title = format!("{standby} follows");
    let inner = window(buf, (44, names.len() as u16 + 4), &title, "↑↓ choose   Enter does it   Esc", theme);
    for (i, name) in names.iter().enumerate() {
        let Some(node) = model.node(name) else { continue };
        let face = super::face::of(model, node, theme);
        let mark = if i == choice { "▸" } else { " " };
        let now = if model.node(standby).and_then(|s| s.upstream.as_ref()) == Some(*name) { "now" } else { "" };
        let at = widgets::below(inner, i as u16 + 1);
        widgets::row(
            buf,
            at,
            at.y,
            &[
                widgets::Cell::new(1, mark, theme.key),
                widgets::Cell::new(16, &format!("{} {name}", face.glyph), face.style),
                widgets::Cell::new(12, face.word, theme.dim),
                widgets::Cell::new(4, now, theme.dim),
            ],
        );
    }
}

/// A journal entry with the exact steps behind it.
fn steps(buf: &mut Buffer, entry: usize, scroll: usize, model: &Model, view: &View) {
    let theme = &view.theme;
    let foot = "↑↓ scroll   ←→ other entries   y copies   Esc closes";
    let inner = window(buf, (100, buf.area.height.saturating_sub(6)), "What was done", foot, theme);
    let Some((_, entry)) = model.journal.numbered(entry) else {
        widgets::hollow(buf, inner, "Nothing has happened yet.", theme);
        return;
    };
    let width = usize::from(inner.width);
    let head = format!("{}  {}", figures::moment(entry.at), entry.who.word());
    let mut lines = vec![Line::styled(head, theme.dim)];
    lines.extend(prose::wrap(&entry.text, widgets::tone(theme, entry.tone).patch(theme.title), width));
    lines.push(Line::default());
    if entry.steps.is_empty() {
        lines.push(Line::styled("No SQL, file or engine call stands behind this.", theme.dim));
    }
    for step in &entry.steps {
        let spans = [Span::styled("▸ ", theme.key), Span::raw(step.as_str())];
        lines.extend(prose::wrap_spans(&spans, width, 2));
    }
    let first = scroll.min(lines.len().saturating_sub(usize::from(inner.height)));
    widgets::lines(buf, inner, lines.into_iter().skip(first));
}

/// What the rule editor's lines are called, for keys and picture alike.
pub(crate) fn rule_lines(draft: &RuleDraft) -> usize {
    2 + draft.names.len()
}
