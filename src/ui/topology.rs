//! The cluster panel: nodes, who follows whom, and what flows between them. As a drawing where there is room, as a
//! tree of lines where there isn't. Knows nothing of other panels.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::face::{self, Face};
use super::theme::Theme;
use super::view::{Panel, View};
use super::widgets::{self, spinner};
use super::{figures, layout};
use crate::model::cluster::{Role, Sample};
use crate::model::handover::Timeline;
use crate::model::links::{End, Harm};
use crate::model::standing::{Link, Rung};
use crate::model::{Model, Node, NodeName};

mod graph;
mod list;

/// Draws the panel.
pub(super) fn render(buf: &mut Buffer, place: &layout::Place, model: &Model, view: &View) {
    let focused = view.focus == Panel::Cluster;
    let inner = widgets::panel(buf, place.area, Line::from("Cluster"), focused, &view.theme);
    let count = figures::plural(model.nodes.len(), "node");
    let room = widgets::corner_room(place.area).saturating_sub(super::prose::width(&count));
    let header = lineage(model, room);
    widgets::corner(buf, place.area, Line::styled(format!("{header}{count}"), view.theme.dim));
    let tree = Tree::of(model);
    match graph::place(&tree, inner) {
        Some(boxes) => graph::render(buf, inner, &tree, &boxes, model, view, &header),
        None => list::render(buf, inner, &tree, model, view, &header),
    }
}

/// The timelines with where each forked off, the last ones that fit: "tl 1→2 at 0/3000060 · "; "1→2 at ..., 1→2 at ..." where two
/// histories parted, each with the name of who began it where they have one number.
fn lineage(model: &Model, room: usize) -> String {
    let forks: Vec<&Timeline> = model.timelines.iter().filter(|t| t.parent.is_some()).collect();
    let texts = (0..forks.len()).map(|first| format!("tl {} · ", branches(model, &forks[first..])));
    texts.into_iter().find(|text| super::prose::width(text) <= room).unwrap_or_default()
}

fn branches(model: &Model, forks: &[&Timeline]) -> String {
    let mut text = String::new();
    let mut last: Option<&Timeline> = None;
    for fork in forks {
        let off = fork.off.and_then(|at| model.timelines.get(at));
        let goes_on = last.is_some_and(|last| off.map_or(fork.parent == Some(last.id), |off| std::ptr::eq(off, last)));
        if !goes_on {
            let comma = if last.is_some() { ", " } else { "" };
            let parent = off.map_or_else(|| fork.parent.unwrap_or_default().to_string(), |off| called(model, off));
            text += &format!("{comma}{parent}");
        }
        let at = fork.fork.map_or("?".to_owned(), |lsn| lsn.to_string());
        text += &format!("→{} at {at}", called(model, fork));
        last = Some(fork);
    }
    text
}

/// A timeline by its number, and by who began it where another has that number too.
fn called(model: &Model, timeline: &Timeline) -> String {
    let alone = model.timelines.iter().filter(|t| t.id == timeline.id).count() == 1;
    if alone { timeline.id.to_string() } else { format!("{} of {}", timeline.id, timeline.node) }
}

/// Where the timeline that this primary began forked off, unless the panel's header tells it.
fn fork_of(model: &Model, node: &Node, header: &str) -> Option<String> {
    let timeline = node.sample.as_ref().filter(|s| s.role == Role::Primary)?.timeline;
    let began = model.timelines.iter().rev().find(|t| t.id == timeline && t.node == node.name)?;
    let fork = format!("fork {}", began.fork?);
    (!header.contains(&format!("→{} at ", called(model, began)))).then_some(fork)
}

/// The node drawn at this point of the panel.
pub(crate) fn node_at(area: Rect, model: &Model, view: &View, x: u16, y: u16) -> Option<NodeName> {
    let inner = Rect {
        x: area.x + 1,
        y: area.y + 1,
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    };
    let tree = Tree::of(model);
    let places = graph::place(&tree, inner).unwrap_or_else(|| list::place(&tree, inner, model, view));
    let found = places.iter().find(|(_, r)| r.contains((x, y).into()))?;
    Some(model.nodes[tree.branches[found.0].node].name.clone())
}

/// The nodes as the panel shows them, for moving from one to the next.
pub(crate) fn order(model: &Model) -> Vec<NodeName> {
    Tree::of(model).branches.iter().map(|b| model.nodes[b.node].name.clone()).collect()
}

/// One node's place in the tree.
struct Branch {
    /// Index in `Model::nodes`.
    node: usize,
    /// Index of the branch it hangs on.
    parent: Option<usize>,
    /// 0 for a root.
    depth: usize,
    /// Whether it is the last one on its parent.
    last: bool,
}

/// The nodes as a forest, parents before children.
struct Tree {
    branches: Vec<Branch>,
}

impl Tree {
    fn of(model: &Model) -> Self {
        let mut tree = Self { branches: Vec::with_capacity(model.nodes.len()) };
        let mut taken = vec![false; model.nodes.len()];
        let first = model.nodes.iter().position(|n| Some(&n.name) == model.primary.as_ref());
        let roots = first.into_iter().chain((0..model.nodes.len()).filter(|i| parent(model, *i).is_none()));
        for root in roots {
            tree.grow(model, root, None, &mut taken);
        }
        for left in 0..model.nodes.len() {
            tree.grow(model, left, None, &mut taken); // circles, which shouldn't be
        }
        tree
    }

    fn grow(&mut self, model: &Model, node: usize, on: Option<usize>, taken: &mut [bool]) {
        if std::mem::replace(&mut taken[node], true) {
            return;
        }
        let depth = on.map_or(0, |p| self.branches[p].depth + 1);
        let me = self.branches.len();
        self.branches.push(Branch { node, parent: on, depth, last: false });
        let primary = |i: usize| Some(&model.nodes[i].name) == model.primary.as_ref();
        for child in (0..model.nodes.len()).filter(|i| parent(model, *i) == Some(node) && !primary(*i)) {
            self.grow(model, child, Some(me), taken);
        }
        if let Some(last) = self.branches.iter_mut().skip(me).rfind(|b| b.parent == Some(me)) {
            last.last = true;
        }
    }

    fn children(&self, of: usize) -> impl Iterator<Item = usize> + '_ {
        (0..self.branches.len()).filter(move |i| self.branches[*i].parent == Some(of))
    }
}

/// Whom a node follows, by index; a primary follows nobody.
fn parent(model: &Model, node: usize) -> Option<usize> {
    let node = &model.nodes[node];
    let upstream = node.upstream.as_ref().filter(|_| node.role() != Some(Role::Primary))?;
    model.nodes.iter().position(|n| n.name == *upstream)
}

/// What goes over a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Connected; whether something but the heartbeat moves.
    Live(bool),
    /// Connected as far as is known, but silent.
    Silent,
    /// Cut by the person.
    Cut,
    /// Not connected.
    Gone,
}

impl Flow {
    fn word(self) -> &'static str {
        match self {
            Self::Live(_) | Self::Cut => "",
            Self::Silent => "silent",
            Self::Gone => "no link",
        }
    }

    fn style(self, theme: &Theme) -> Style {
        match self {
            Self::Live(_) => theme.good,
            Self::Silent => theme.warn,
            Self::Cut => theme.bad,
            Self::Gone => theme.dim,
        }
    }
}

fn flow(model: &Model, node: &Node, rung: &Rung) -> Flow {
    match (&rung.link, &node.upstream) {
        (_, Some(up)) if model.is_cut(up, &node.name) => Flow::Cut,
        (Link::Connected(_), _) => Flow::Live(!rung.idle && model.writer.pulse.commits > 0),
        (Link::LastKnown { .. }, _) => Flow::Silent,
        _ => Flow::Gone,
    }
}

/// What is wrong with a link, and else what its flow is called.
fn said(model: &Model, node: &Node, flow: Flow, room: usize) -> String {
    let Some(up) = &node.upstream else { return flow.word().to_owned() };
    let (up, own) = (End::Node(up.clone()), End::Node(node.name.clone()));
    let told = wrong(model, &up, &own, room);
    if told.is_empty() { flow.word().to_owned() } else { told }
}

/// What is wrong between the clients and a node.
fn clients_way(model: &Model, node: &Node, room: usize) -> String {
    wrong(model, &End::Client, &End::Node(node.name.clone()), room)
}

/// What is wrong with a link, worst first in each direction. One direction's fault has an arrow: down from the upper end, or up to it. Beside a cut the
/// rest is told where there is room for all of it: it shows when the cut is healed.
fn wrong(model: &Model, up: &End, below: &End, room: usize) -> String {
    let (down, back) = (model.links.lane(up, below), model.links.lane(below, up));
    let one = |harm: Harm, arrow: &str| format!("{}{arrow}", harm.word());
    let mut words: Vec<(Harm, String)> =
        down.harms().map(|h| (h, one(h, if back.has(h) { "" } else { "↓" }))).collect();
    words.extend(back.harms().filter(|h| !down.has(*h)).map(|h| (h, one(h, "↑"))));
    let text = words.iter().map(|(_, word)| word.as_str()).collect::<Vec<_>>().join(" + ");
    let cut = words.iter().any(|(harm, word)| *harm == Harm::Cut && word == "cut");
    if cut && super::prose::width(&text) > room { "cut".to_owned() } else { text }
}

/// What is said of a node.
struct Card {
    face: Face,
    lsn: String,
    timeline: String,
    /// Who began it, where another has the same number.
    began_by: String,
    /// What matters of it now.
    note: String,
    /// What is known of it is old.
    stale: bool,
}

impl Card {
    fn of(model: &Model, node: &Node, rung: Option<&Rung>, theme: &Theme) -> Self {
        let sample = node.sample.as_ref();
        // A standby's position as its upstream has it, seen in one look with the upstream's own: looked at one after the
        // other, a standby would seem to be ahead of its primary.
        let streams = rung.filter(|r| matches!(r.link, Link::Connected(_))).and_then(|r| r.steps[3]);
        let own = |s: &Sample| if s.role == Role::Primary { s.wal } else { s.replayed.unwrap_or(s.wal) };
        let lsn = streams.or_else(|| sample.map(own));
        Self {
            face: face::of(model, node, theme),
            lsn: lsn.map(|l| l.to_string()).unwrap_or_default(),
            timeline: sample.map(|s| format!("tl {}", s.timeline)).unwrap_or_default(),
            began_by: model.began_by(node).map(|by| format!(" of {by}")).unwrap_or_default(),
            note: note(model, node, rung),
            stale: !node.answers() || model.engine_down.is_some(),
        }
    }
}

fn note(model: &Model, node: &Node, rung: Option<&Rung>) -> String {
    let told = told(model, node, rung);
    match (model.has_diverged(node), told.as_str()) {
        // It says so itself, or is seen to be a primary beside the lab's.
        _ if rung.is_some_and(|r| r.link == Link::Forked) || model.rivals().any(|n| n.name == node.name) => told,
        (true, "") => "diverged".to_owned(),
        (true, told) => format!("diverged · {told}"),
        (false, _) => told,
    }
}

fn told(model: &Model, node: &Node, rung: Option<&Rung>) -> String {
    if let Some(phase) = &node.phase {
        return format!("{} {phase}", spinner(model.now));
    }
    if let (Some(ms), true) = (model.stale_ms(node), node.sample.is_some()) {
        return format!("seen {} ago", figures::lasted(ms));
    }
    let stranger =
        node.sample.as_ref().is_some_and(|s| model.system_identifier.is_some_and(|id| id != s.system_identifier));
    match (node.role(), rung) {
        (Some(Role::Primary), _) if stranger => "another cluster".to_owned(),
        (Some(Role::Primary), _) if model.writer.plan.target.as_ref() == Some(&node.name) => {
            format!("{} writes", figures::per_second(super::writes::rate(model))).replacen("/s writes", " writes/s", 1)
        }
        (Some(Role::Standby), Some(rung)) => behind(rung),
        _ => String::new(),
    }
}

fn behind(rung: &Rung) -> String {
    match (&rung.link, rung.behind) {
        (Link::Disconnected, _) => "disconnected".to_owned(),
        (Link::Forked, _) => "can't follow: forked".to_owned(),
        _ if rung.idle => "idle, up to date".to_owned(),
        (Link::LastKnown { ms, .. }, _) => format!("silent {}", figures::lasted(*ms)),
        (_, Some(bytes)) => format!("{} behind", figures::bytes(bytes)),
        _ => String::new(),
    }
}
