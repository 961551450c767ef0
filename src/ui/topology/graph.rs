//! The cluster as a drawing: a box per node, heavy lines from each upstream to what follows it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::widgets::{Block, BorderType, Widget};

use super::{Card, Flow, Tree, clients_way, flow, fork_of, said};
use crate::model::links::End;
use crate::model::standing::Rung;
use crate::model::{Model, Stamp};
use crate::ui::prose;
use crate::ui::view::View;
use crate::ui::widgets::put;

/// The narrowest and the widest box.
const WIDTHS: (u16, u16) = (17, 26);

/// Where each branch's box goes; None when they don't all fit.
pub(super) fn place(tree: &Tree, area: Rect) -> Option<Vec<(usize, Rect)>> {
    let levels = tree.branches.iter().map(|b| b.depth + 1).max()? as u16;
    let leaves = (0..tree.branches.len()).filter(|i| tree.children(*i).next().is_none()).count() as u16;
    let slot = area.width / leaves;
    let links = |height: u16| if levels < 2 { 0 } else { (area.height.saturating_sub(levels * height)) / (levels - 1) };
    let height = if links(5) >= 2 || levels < 2 { 5 } else { 4 };
    let fits = area.height >= levels * height && slot > WIDTHS.0 && (levels < 2 || links(height) >= 2);
    if !fits {
        return None;
    }
    let (width, gap) = ((slot - 1).min(WIDTHS.1), links(height).min(4));
    let slot = slot.min(width + 10);
    let used = levels * height + (levels - 1) * gap;
    let top = area.y + (area.height - used) / 2;
    let left = area.x + (area.width - slot * leaves) / 2;
    let mut middles = vec![0; tree.branches.len()];
    let mut next = 0;
    for i in (0..tree.branches.len()).filter(|i| tree.branches[*i].parent.is_none()) {
        spread(tree, i, slot, &mut next, &mut middles);
    }
    let boxes = tree.branches.iter().zip(&middles).enumerate().map(|(i, (branch, middle))| {
        let y = top + branch.depth as u16 * (height + gap);
        (i, Rect { x: left + middle - width / 2, y, width, height })
    });
    Some(boxes.collect())
}

/// Leaves side by side, each parent over the middle of its children.
fn spread(tree: &Tree, at: usize, slot: u16, next: &mut u16, middles: &mut [u16]) -> u16 {
    let children: Vec<usize> = tree.children(at).collect();
    let found: Vec<u16> = children.iter().map(|c| spread(tree, *c, slot, next, middles)).collect();
    middles[at] = if let (Some(first), Some(last)) = (found.first(), found.last()) {
        u16::midpoint(*first, *last)
    } else {
        *next += 1;
        (*next - 1) * slot + slot / 2
    };
    middles[at]
}

/// Draws boxes and links; `header` is what the frame says of the timelines.
pub(super) fn render(
    buf: &mut Buffer,
    area: Rect,
    tree: &Tree,
    boxes: &[(usize, Rect)],
    model: &Model,
    view: &View,
    header: &str,
) {
    let rungs = model.ladder();
    let rung_of = |i: usize| rungs.iter().find(|r| r.name == model.nodes[tree.branches[i].node].name);
    for i in 0..tree.branches.len() {
        links(buf, area, tree, boxes, i, model, view, &rung_of);
    }
    let selected = view.selected(model).map(|n| &n.name);
    for (i, rect) in boxes {
        let node = &model.nodes[tree.branches[*i].node];
        let card = Card::of(model, node, rung_of(*i), &view.theme);
        draw_box(buf, *rect, node.name.as_str(), &card, selected == Some(&node.name), view);
        clients(buf, area, tree, boxes, *i, model, view);
        if let Some(fork) = fork_of(model, node, header) {
            on_border(buf, *rect, rect.bottom() - 1, &fork, view.theme.dim);
        }
    }
}

fn draw_box(buf: &mut Buffer, rect: Rect, name: &str, card: &Card, selected: bool, view: &View) {
    let theme = &view.theme;
    let (kind, style) = if selected { (BorderType::Double, theme.focus) } else { (BorderType::Rounded, theme.border) };
    let block = Block::bordered().border_type(kind).border_style(style);
    let inner = block.inner(rect);
    block.render(rect, buf);
    let room = usize::from(inner.width).saturating_sub(2);
    let value = if card.stale { theme.dim } else { Style::new() };
    let (x, right) = (inner.x + 1, inner.right().saturating_sub(1));
    let at_right = |text: &str| right.saturating_sub(prose::width(text) as u16);
    // The word matters more than the end of a long name.
    let head = format!("{} {name}", card.face.glyph);
    let head = prose::clip(&head, room.saturating_sub(prose::width(card.face.word) + 1));
    put(buf, inner, x, inner.y, &head, card.face.style);
    put(buf, inner, at_right(card.face.word), inner.y, card.face.word, card.face.style);
    put(buf, inner, x, inner.y + 1, &card.lsn, value);
    let full = format!("{}{}", card.timeline, card.began_by);
    let fits = prose::width(&card.lsn) + 1 + prose::width(&full) <= room;
    let timeline = if fits { &full } else { &card.timeline };
    put(buf, inner, at_right(timeline), inner.y + 1, timeline, theme.dim);
    put(buf, inner, x, inner.y + 2, &prose::clip(&card.note, room), if card.stale { theme.warn } else { value });
}

/// The clients, who are drawn only where something is wrong with their way: as an arrow over a root; on the border of a box that
/// has its own link there.
fn clients(buf: &mut Buffer, area: Rect, tree: &Tree, boxes: &[(usize, Rect)], at: usize, model: &Model, view: &View) {
    let (branch, rect) = (&tree.branches[at], boxes[at].1);
    let node = &model.nodes[branch.node];
    let over = branch.parent.is_none() && rect.y > area.y;
    let room = if over { children_apart(boxes, at) } else { usize::from(rect.width).saturating_sub(2) };
    let room = room.saturating_sub(prose::width("▼ clients "));
    let told = clients_way(model, node, room);
    if told.is_empty() {
        return;
    }
    let (arrow, style) = if model.links.is_cut(&End::Client, &End::Node(node.name.clone())) {
        ("╳", view.theme.bad)
    } else {
        ("▼", view.theme.warn)
    };
    let text = format!("{arrow} clients {}", prose::clip(&told, room));
    if over {
        put(buf, area, middle(rect), rect.y - 1, &text, style);
    } else {
        on_border(buf, rect, rect.y, &text, style);
    }
}

/// Words on a box's border, if they fit there: its lines are for what is always told.
fn on_border(buf: &mut Buffer, rect: Rect, y: u16, text: &str, style: Style) {
    let room = usize::from(rect.width).saturating_sub(2);
    let apart = format!(" {text} ");
    if let Some(text) = [apart.as_str(), text].into_iter().find(|t| prose::width(t) <= room) {
        put(buf, rect, rect.x + 1, y, text, style);
    }
}

/// The lines from one box to those that follow it.
#[expect(clippy::too_many_arguments, reason = "one picture's parts")]
fn links<'a>(
    buf: &mut Buffer,
    area: Rect,
    tree: &Tree,
    boxes: &[(usize, Rect)],
    parent: usize,
    model: &Model,
    view: &View,
    rung_of: &impl Fn(usize) -> Option<&'a Rung>,
) {
    let from = middle(boxes[parent].1);
    let y = boxes[parent].1.bottom();
    let children: Vec<usize> = tree.children(parent).collect();
    let Some(first) = children.first() else { return };
    let end = boxes[*first].1.y;
    let bus = if end - y >= 3 { y + 1 } else { y };
    trunk(buf, area, (from, y, bus), &children.iter().map(|c| middle(boxes[*c].1)).collect::<Vec<_>>(), view.theme.dim);
    for child in children {
        let node = &model.nodes[tree.branches[child].node];
        let flow = rung_of(child).map_or(Flow::Gone, |r| flow(model, node, r));
        let x = middle(boxes[child].1);
        let style = flow.style(&view.theme);
        for row in bus + 1..end {
            put(buf, area, x, row, stem(flow, row + 1 == end), style);
        }
        // Up to the next box's stem; a wrong link is worth a warning even where bytes still flow.
        let room = children_apart(boxes, child).saturating_sub(4);
        let told = said(model, node, flow, room);
        let style = if told == flow.word() || flow == Flow::Cut { style } else { view.theme.warn };
        put(buf, area, x + 2, end - 1, &prose::clip(&told, room), style);
        if flow == Flow::Live(true) {
            pulse(buf, area, &path(from, (y, bus), x, end), model.now, view);
        }
    }
}

/// From one box's middle to that of the next one on its level.
fn children_apart(boxes: &[(usize, Rect)], child: usize) -> usize {
    let here = boxes[child].1;
    let right = boxes.iter().map(|(_, r)| r).filter(|r| r.y == here.y && r.x > here.x).map(|r| middle(*r)).min();
    right.map_or(usize::from(here.width), |x| usize::from(x - middle(here)))
}

fn middle(rect: Rect) -> u16 {
    rect.x + rect.width / 2
}

fn stem(flow: Flow, last: bool) -> &'static str {
    match flow {
        Flow::Live(_) => {
            if last {
                "▼"
            } else {
                "┃"
            }
        }
        Flow::Silent => {
            if last {
                "▽"
            } else {
                "╏"
            }
        }
        Flow::Cut => {
            if last {
                "╳"
            } else {
                "┃"
            }
        }
        Flow::Gone => "┊",
    }
}

/// The stem under the parent and the bar over the children, joined properly.
fn trunk(buf: &mut Buffer, area: Rect, (from, y, bus): (u16, u16, u16), children: &[u16], style: Style) {
    for row in y..bus {
        put(buf, area, from, row, "┃", style);
    }
    let left = children.iter().copied().chain([from]).min().unwrap_or(from);
    let right = children.iter().copied().chain([from]).max().unwrap_or(from);
    for x in left..=right {
        let (up, down) = (x == from, children.contains(&x));
        let joint = match (x > left, x < right, up, down) {
            (false, false, _, _) => "┃",
            (false, true, true, true) => "┣",
            (true, false, true, true) => "┫",
            (false, true, true, false) => "┗",
            (true, false, true, false) => "┛",
            (false, true, ..) => "┏",
            (true, false, ..) => "┓",
            (true, true, true, true) => "╋",
            (true, true, true, false) => "┻",
            (true, true, false, true) => "┳",
            (true, true, false, false) => "━",
        };
        put(buf, area, x, bus, joint, style);
    }
}

fn path(from: u16, (y, bus): (u16, u16), to: u16, end: u16) -> Vec<(u16, u16)> {
    let down = (y..bus).map(|row| (from, row));
    let along: Vec<u16> = if from <= to { (from..=to).collect() } else { (to..=from).rev().collect() };
    let last = (bus + 1..end.saturating_sub(1)).map(|row| (to, row));
    down.chain(along.into_iter().map(|x| (x, bus))).chain(last).collect()
}

/// A dot that runs with the stream.
fn pulse(buf: &mut Buffer, area: Rect, path: &[(u16, u16)], now: Stamp, view: &View) {
    let step = (now.0 / 80_000) as usize;
    for (i, (x, y)) in path.iter().enumerate() {
        if (i + 12 - step % 12).is_multiple_of(12) {
            put(buf, area, *x, *y, "●", view.theme.good);
        }
    }
}
