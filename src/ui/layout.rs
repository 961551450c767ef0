//! Which panel is where, by the size of the screen. Drawing and mouse clicks share it, so that they agree.

use ratatui::layout::Rect;

use super::view::{Panel, View};
use super::widgets::below;
use crate::model::Model;

/// Below this width and height the screen says so instead of drawing.
pub(crate) const SMALLEST: (u16, u16) = (60, 16);

/// A panel and where it is; several panels may share the place.
pub(crate) struct Place {
    /// The one shown.
    pub panel: Panel,
    /// Where.
    pub area: Rect,
    /// All that share the place; empty when it has the place alone.
    pub deck: Vec<Panel>,
}

/// The whole screen.
pub(crate) struct Screen {
    /// What runs, the rule, the clock.
    pub header: Rect,
    /// Faults, work under way, the last answer.
    pub status: Rect,
    /// The panels.
    pub places: Vec<Place>,
    /// The panels' area.
    pub body: Rect,
    /// The keys.
    pub hints: Rect,
    /// Over them, while one looks at the past: all of its time.
    pub timeline: Option<Rect>,
}

impl Screen {
    /// Where the panel is drawn, if it is.
    pub fn place(&self, panel: Panel) -> Option<&Place> {
        self.places.iter().find(|p| p.panel == panel)
    }
}

/// Divides the screen.
pub(crate) fn screen(area: Rect, model: &Model, view: &View) -> Screen {
    let line = |y| Rect { y: area.y + y, height: 1.min(area.height.saturating_sub(y)), ..area };
    let timeline = view.past.as_ref().map(|_| line(area.height.saturating_sub(2)));
    let lines = 3 + u16::from(timeline.is_some());
    let body = Rect { y: area.y + 2.min(area.height), height: area.height.saturating_sub(lines), ..area };
    let lesson = model.script.is_some();
    let places = match (body.width, body.height) {
        _ if view.zoom => vec![Place { panel: shown(view.focus, lesson), area: body, deck: Vec::new() }],
        (110.., 32..) => wide(body, model, view),
        (78.., 20..) => medium(body, model, view),
        _ => narrow(body, model, view),
    };
    Screen { header: line(0), status: line(1), places, body, hints: line(area.height.saturating_sub(1)), timeline }
}

/// All panels there are now, in the order Tab goes.
pub(crate) fn panels(lesson: bool) -> Vec<Panel> {
    use Panel as P;
    let all = [
        P::Lesson,
        P::Cluster,
        P::Replication,
        P::Commits,
        P::Words,
        P::Writes,
        P::Latency,
        P::Throughput,
        P::Slots,
        P::Journal,
    ];
    all.into_iter().filter(|p| lesson || *p != P::Lesson).collect()
}

fn shown(panel: Panel, lesson: bool) -> Panel {
    if panel == Panel::Lesson && !lesson { Panel::Cluster } else { panel }
}

struct Cut {
    rest: Rect,
    places: Vec<Place>,
}

impl Cut {
    fn new(rest: Rect) -> Self {
        Self { rest, places: Vec::new() }
    }

    fn top(&mut self, height: u16) -> Rect {
        let height = height.min(self.rest.height);
        let area = Rect { height, ..self.rest };
        self.rest = below(self.rest, height);
        area
    }

    fn put(&mut self, panel: Panel, area: Rect) {
        self.places.push(Place { panel, area, deck: Vec::new() });
    }

    fn deck(&mut self, deck: Vec<Panel>, area: Rect, view: &View) {
        if let Some(panel) = view.latest(&deck) {
            self.places.push(Place { panel, area, deck });
        }
    }
}

fn split(area: Rect, left: u16) -> (Rect, Rect) {
    let left = left.min(area.width);
    (Rect { width: left, ..area }, Rect { x: area.x + left, width: area.width - left, ..area })
}

fn wide(body: Rect, model: &Model, view: &View) -> Vec<Place> {
    let lesson = model.script.is_some();
    let bottom = if lesson { (body.height * 38 / 100).clamp(13, 22) } else { (body.height / 5).clamp(7, 14) };
    let mut cut = Cut::new(body);
    let top = cut.top(body.height - bottom);
    let foot = cut.rest;
    if lesson {
        let (left, right) = split(foot, body.width * 56 / 100);
        cut.put(Panel::Lesson, left);
        cut.put(Panel::Journal, right);
    } else {
        cut.put(Panel::Journal, foot);
    }
    let (left, right) = split(top, (body.width * 38 / 100).clamp(46, 76));
    let words = if left.height < 24 { 6 } else { 8 };
    cut.rest = left;
    let cluster = cut.top(left.height - words);
    let rest = cut.rest;
    cut.put(Panel::Cluster, cluster);
    cut.put(Panel::Words, rest);
    wide_right(&mut cut, right, model, view);
    cut.places
}

fn wide_right(cut: &mut Cut, right: Rect, model: &Model, view: &View) {
    let standbys = model.nodes.len().saturating_sub(1).max(1) as u16;
    let charts = (right.height * 34 / 100).clamp(9, 16);
    let ladder = (standbys * 2 + 4).min((right.height - charts) * 55 / 100);
    cut.rest = right;
    let replication = cut.top(ladder);
    let commits = cut.top(right.height - ladder - charts);
    let row = cut.rest;
    cut.put(Panel::Replication, replication);
    cut.put(Panel::Commits, commits);
    if row.width >= 90 {
        let (writes, rest) = split(row, row.width * 36 / 100);
        let (latency, throughput) = split(rest, rest.width / 2);
        cut.put(Panel::Writes, writes);
        cut.put(Panel::Latency, latency);
        cut.deck(vec![Panel::Throughput, Panel::Slots], throughput, view);
    } else {
        let (writes, rest) = split(row, row.width / 2);
        cut.put(Panel::Writes, writes);
        cut.deck(vec![Panel::Latency, Panel::Throughput, Panel::Slots], rest, view);
    }
}

fn medium(body: Rect, model: &Model, view: &View) -> Vec<Place> {
    use Panel as P;
    let mut cut = Cut::new(body);
    let lesson = model.script.is_some();
    let top_height = if lesson { body.height * 36 / 100 } else { body.height * 40 / 100 };
    let top = cut.top(top_height);
    let (cluster, replication) = split(top, body.width * 43 / 100);
    cut.put(P::Cluster, cluster);
    cut.put(P::Replication, replication);
    if lesson {
        let (left, right) = split(cut.rest, body.width * 57 / 100);
        cut.put(P::Lesson, left);
        cut.rest = right;
        let commits = cut.top(right.height * 45 / 100);
        let rest = cut.rest;
        cut.put(P::Commits, commits);
        cut.deck(vec![P::Words, P::Writes, P::Latency, P::Throughput, P::Slots, P::Journal], rest, view);
    } else {
        let middle = cut.top(cut.rest.height.div_ceil(2));
        let (words, commits) = split(middle, body.width * 48 / 100);
        let rest = cut.rest;
        cut.put(P::Words, words);
        cut.put(P::Commits, commits);
        cut.deck(vec![P::Writes, P::Latency, P::Throughput, P::Slots, P::Journal], rest, view);
    }
    cut.places
}

fn narrow(body: Rect, model: &Model, view: &View) -> Vec<Place> {
    use Panel as P;
    let mut cut = Cut::new(body);
    let cluster = cut.top((model.nodes.len() as u16 + 2).clamp(3, body.height.max(6) / 2));
    let rest = cut.rest;
    cut.put(P::Cluster, cluster);
    let deck = panels(model.script.is_some()).into_iter().filter(|p| *p != P::Cluster).collect();
    cut.deck(deck, rest, view);
    cut.places
}
