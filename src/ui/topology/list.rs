//! The cluster as a tree of lines, for small screens and many nodes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Branch, Card, Flow, Tree, clients_way, flow, said};
use crate::model::cluster::Role;
use crate::model::standing::Rung;
use crate::model::{Model, Node};
use crate::ui::prose;
use crate::ui::view::View;
use crate::ui::widgets;

/// Lines per node and the first branch shown, so that the selected one is visible.
fn window(tree: &Tree, area: Rect, model: &Model, view: &View) -> (usize, usize) {
    let (nodes, rows) = (tree.branches.len(), usize::from(area.height));
    let each = if nodes * 2 <= rows { 2 } else { 1 };
    let selected = view.selected(model).map(|n| &n.name);
    let at = tree.branches.iter().position(|b| Some(&model.nodes[b.node].name) == selected).unwrap_or(0);
    let fit = (rows / each).max(1);
    (each, (at + 1).saturating_sub(fit))
}

/// Where each visible branch is.
pub(super) fn place(tree: &Tree, area: Rect, model: &Model, view: &View) -> Vec<(usize, Rect)> {
    let (each, first) = window(tree, area, model, view);
    let rows = (first..tree.branches.len()).zip((0..usize::from(area.height)).step_by(each));
    rows.map(|(i, row)| (i, Rect { y: area.y + row as u16, height: each as u16, ..area })).collect()
}

/// Draws the lines.
pub(super) fn render(buf: &mut Buffer, area: Rect, tree: &Tree, model: &Model, view: &View) {
    let rungs = model.ladder();
    let selected = view.selected(model).map(|n| &n.name);
    for (i, rect) in place(tree, area, model, view) {
        let branch = &tree.branches[i];
        let node = &model.nodes[branch.node];
        let rung = rungs.iter().find(|r| r.name == node.name);
        let mut card = Card::of(model, node, rung, &view.theme);
        let flow = flow_of(model, branch, rung);
        // Its word stands with the note: what is wrong with the link goes first.
        let told = said(model, node, flow, 0);
        if told != flow.word() {
            card.note = before(&told, &card.note);
        }
        let clients = clients_way(model, node, 0);
        if branch.parent.is_none() && !clients.is_empty() {
            let alone = format!("clients {clients}");
            let both = before(&alone, &card.note);
            card.note = if prose::width(&both) + 3 <= usize::from(rect.width) { both } else { alone };
        }
        // Too narrow for the line of the timelines above: each primary says where its own began.
        if let Some(fork) = fork_of(model, node).filter(|_| rect.height > 1) {
            let told = if card.note.is_empty() { fork } else { format!("{} · {fork}", card.note) };
            if prose::width(&told) + 3 <= usize::from(rect.width) {
                card.note = told;
            }
        }
        let chosen = selected == Some(&node.name);
        if chosen {
            buf.set_style(Rect { height: 1, ..rect }.intersection(buf.area), view.theme.selected);
        }
        let mark = Span::styled(if chosen { "▸" } else { " " }, view.theme.key);
        let mut spans = vec![mark];
        spans.extend(stems(tree, i, view));
        spans.extend(arrow(branch, flow, view));
        spans.extend(words(&card, node.name.as_str(), rect, view));
        widgets::lines(buf, rect, [Line::from(spans), second(tree, i, &card, view)]);
    }
}

fn before(first: &str, note: &str) -> String {
    format!("{first}{}{note}", if note.is_empty() { "" } else { " · " })
}

/// Where the timeline that this primary began forked off.
fn fork_of(model: &Model, node: &Node) -> Option<String> {
    let timeline = node.sample.as_ref().filter(|s| s.role == Role::Primary)?.timeline;
    let began = model.timelines.iter().find(|t| t.id == timeline && t.node == node.name)?;
    Some(format!("fork {}", began.fork?))
}

fn flow_of(model: &Model, branch: &Branch, rung: Option<&Rung>) -> Flow {
    rung.map_or(Flow::Gone, |r| flow(model, &model.nodes[branch.node], r))
}

/// Lines of the ancestors that go on below.
fn stems(tree: &Tree, at: usize, view: &View) -> Vec<Span<'static>> {
    let mut above = Vec::new();
    let mut up = tree.branches[at].parent;
    while let Some(i) = up {
        let branch = &tree.branches[i];
        if branch.parent.is_some() {
            above.push(Span::styled(if branch.last { "    " } else { "┃   " }, view.theme.dim));
        }
        up = branch.parent;
    }
    above.reverse();
    above
}

fn arrow(branch: &Branch, flow: Flow, view: &View) -> Vec<Span<'static>> {
    if branch.parent.is_none() {
        return Vec::new();
    }
    let line = match flow {
        Flow::Live(_) => "━▶ ",
        Flow::Silent => "╍▷ ",
        Flow::Cut => "╳▷ ",
        Flow::Gone => "┄  ",
    };
    let joint = if branch.last { "┗" } else { "┣" };
    vec![Span::styled(joint, view.theme.dim), Span::styled(line, flow.style(&view.theme))]
}

fn words(card: &Card, name: &str, rect: Rect, view: &View) -> Vec<Span<'static>> {
    let value = if card.stale { view.theme.dim } else { Style::new() };
    let mut spans = vec![
        Span::styled(format!("{} {name} ", card.face.glyph), card.face.style),
        Span::styled(format!("{} ", card.face.word), card.face.style),
    ];
    // One line, and a short one: what matters now goes before where in the log.
    if rect.height > 1 || rect.width >= 44 {
        spans.push(Span::styled(card.lsn.clone(), value));
        spans.push(Span::styled(format!(" {} ", card.timeline), view.theme.dim));
    }
    if rect.height < 2 {
        // "idle, up to date" is "idle" where there is no room for both.
        let short = if rect.width < 44 { card.note.split(',').next().unwrap_or_default() } else { card.note.as_str() };
        spans.push(Span::styled(format!(" {short}"), if card.stale { view.theme.warn } else { value }));
    }
    spans
}

fn second(tree: &Tree, at: usize, card: &Card, view: &View) -> Line<'static> {
    let mut spans = vec![Span::raw(" ")];
    spans.extend(stems(tree, at, view));
    let branch = &tree.branches[at];
    let below = tree.children(at).next().is_some();
    if branch.parent.is_some() {
        spans.push(Span::styled(if branch.last { "    " } else { "┃   " }, view.theme.dim));
    }
    spans.push(Span::styled(if below { "┃ " } else { "  " }, view.theme.dim));
    let style = if card.stale { view.theme.warn } else { view.theme.dim };
    spans.push(Span::styled(card.note.clone(), style));
    Line::from(spans)
}
