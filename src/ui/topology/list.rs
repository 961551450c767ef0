//! The cluster as a tree of lines, for small screens and many nodes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{Branch, Card, Flow, Tree, clients_way, flow, fork_of, said};
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

/// Draws the lines; `header` is what the frame says of the timelines.
pub(super) fn render(buf: &mut Buffer, area: Rect, tree: &Tree, model: &Model, view: &View, header: &str) {
    let rungs = model.ladder();
    let selected = view.selected(model).map(|n| &n.name);
    for (i, rect) in place(tree, area, model, view) {
        let branch = &tree.branches[i];
        let node = &model.nodes[branch.node];
        let rung = rungs.iter().find(|r| r.name == node.name);
        let mut card = Card::of(model, node, rung, &view.theme);
        let flow = flow_of(model, branch, rung);
        let head = head(&card, node.name.as_str(), rect, view);
        // In a line of its own under the name, or behind it.
        let used = if rect.height > 1 { 3 } else { 2 + head.iter().map(Span::width).sum::<usize>() };
        let room = usize::from(rect.width).saturating_sub(used + 4 * branch.depth);
        card.note = note(model, node, &card.note, flow, room);
        // Too narrow for the line of the timelines above: each primary says where its own began.
        if let Some(fork) = fork_of(model, node, header).filter(|_| rect.height > 1) {
            let told = joined(&[&card.note, &fork]);
            if prose::width(&told) <= room {
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
        spans.extend(head);
        spans.extend(behind(&card, rect, view));
        widgets::lines(buf, rect, [Line::from(spans), second(tree, i, &card, view)]);
    }
}

/// What matters of a node now, after what is wrong with its link and with its clients' way; less of it where there is less room.
fn note(model: &Model, node: &Node, own: &str, flow: Flow, room: usize) -> String {
    // The flow's word stands with the node's own note.
    let link = Some(said(model, node, flow, 0)).filter(|told| told != flow.word()).unwrap_or_default();
    let clients = clients_way(model, node, 0);
    if clients.is_empty() {
        return joined(&[&link, own]);
    }
    let clients = format!("clients {clients}");
    let wanted = [joined(&[&link, &clients, own]), joined(&[&link, &clients])];
    let least = if link.is_empty() { clients } else { joined(&[&link, own]) };
    wanted.into_iter().find(|text| prose::width(text) <= room).unwrap_or(least)
}

/// Those that say something.
fn joined(texts: &[&str]) -> String {
    let told: Vec<&str> = texts.iter().copied().filter(|text| !text.is_empty()).collect();
    told.join(" · ")
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

/// Who it is, and where there is room how far.
fn head(card: &Card, name: &str, rect: Rect, view: &View) -> Vec<Span<'static>> {
    let value = if card.stale { view.theme.dim } else { Style::new() };
    let mut spans = vec![
        Span::styled(format!("{} {name} ", card.face.glyph), card.face.style),
        Span::styled(format!("{} ", card.face.word), card.face.style),
    ];
    // One line, and a short one: what matters now goes before where in the log.
    if rect.height > 1 || rect.width >= 44 {
        spans.push(Span::styled(card.lsn.clone(), value));
        let used: usize = spans.iter().map(Span::width).sum();
        let full = format!(" {}{} ", card.timeline, card.began_by);
        // The arrows stand before all this.
        let fits = used + prose::width(&full) + 3 <= usize::from(rect.width);
        let timeline = if fits { full } else { format!(" {} ", card.timeline) };
        spans.push(Span::styled(timeline, view.theme.dim));
    }
    spans
}

/// The note, where it has no line of its own.
fn behind(card: &Card, rect: Rect, view: &View) -> Option<Span<'static>> {
    if rect.height > 1 {
        return None;
    }
    // "idle, up to date" is "idle" where there is no room for both.
    let short = if rect.width < 44 { card.note.split(',').next().unwrap_or_default() } else { card.note.as_str() };
    let style = if card.stale { view.theme.warn } else { Style::new() };
    Some(Span::styled(format!(" {short}"), style))
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
