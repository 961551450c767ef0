//! The screen: a model and a view in, a picture out. Pure: reads no clock, does no I/O, keeps nothing.
//!
//! `render` draws a lab, `start::render` the menu before it. Where panels are is in `layout`, what they share in
//! `widgets`, `prose`, `figures` and `theme`; each panel has its own file.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::Color;
use ratatui::text::{Line, Span};

mod bringup;
mod charts;
mod commits;
mod detection;
mod face;
pub(crate) mod figures;
mod header;
mod hints;
pub(crate) mod hit;
mod journal;
pub(crate) mod layout;
pub(crate) mod lesson;
mod markdown;
pub mod notes;
pub mod past;
mod plain;
pub(crate) mod popups;
pub(crate) mod prose;
mod replication;
mod slots;
pub mod start;
mod svg;
pub mod theme;
pub(crate) mod topology;
pub mod view;
mod widgets;
mod words;
mod writes;

pub use svg::svg;
pub use theme::{ColourMode, Glyphs, Shade, Theme};
pub use view::{Panel, Popup, View};

use crate::model::{Model, Stage};
use layout::{Place, SMALLEST};

/// Draws a lab.
pub fn render(frame: &mut Frame, model: &Model, view: &View) {
    canvas(frame.buffer_mut(), view, |buf| draw(buf, model, view));
}

/// A lab's screen where there is no terminal: of the view's own size.
pub fn picture(model: &Model, view: &View) -> Buffer {
    let mut buf = Buffer::empty(Rect::new(0, 0, view.size.0, view.size.1));
    canvas(&mut buf, view, |buf| draw(buf, model, view));
    buf
}

/// What both screens share: the ground, the smallest size, and the last passes for terminals with fewer means.
fn canvas(buf: &mut Buffer, view: &View, draw: impl FnOnce(&mut Buffer)) {
    let area = buf.area;
    buf.set_style(area, view.theme.base);
    if start::fits(area) {
        draw(buf);
    } else {
        too_small(buf, view);
    }
    plain::harmless(buf);
    plain::glyphs(buf, view.glyphs);
    if view.theme.mode == ColourMode::None {
        plain::without_colour(buf);
    }
}

fn too_small(buf: &mut Buffer, view: &View) {
    let area = buf.area;
    let text = format!(
        "replab needs {}×{}; this terminal has {}×{}. Make it larger, or q to quit.",
        SMALLEST.0, SMALLEST.1, area.width, area.height
    );
    let lines = prose::wrap(&text, view.theme.warn, usize::from(area.width));
    let top = area.height.saturating_sub(lines.len() as u16) / 2;
    widgets::lines(buf, widgets::below(area, top), lines.into_iter().map(|l| l.alignment(Alignment::Center)));
}

fn draw(buf: &mut Buffer, model: &Model, view: &View) {
    let screen = layout::screen(buf.area, model, view);
    header::first(buf, screen.header, model, view);
    if model.stage == Stage::Live {
        header::second(buf, &screen, model, view);
        for place in &screen.places {
            panel(buf, place, model, view);
        }
        if model.engine_down.is_some() {
            plain::greyed(buf, screen.body, view.theme.dim.fg.unwrap_or(Color::Reset));
        }
    } else {
        bringup::render(buf, screen.body, model, view);
    }
    match &view.past {
        Some(past) => {
            past::hints(buf, screen.hints, past, view);
            past::timeline(buf, screen.timeline.unwrap_or_default(), past, view);
        }
        None => hints::render(buf, screen.hints, model, view),
    }
    for popup in &view.popups {
        popups::render(buf, popup, model, view);
    }
    header::whole(buf, &screen, model, view);
}

fn panel(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    match place.panel {
        Panel::Cluster => topology::render(buf, place, model, view),
        Panel::Replication => replication::render(buf, place, model, view),
        Panel::Commits => commits::render(buf, place, model, view),
        Panel::Words => words::render(buf, place, model, view),
        Panel::Lesson => lesson::render(buf, place, model, view),
        Panel::Writes | Panel::Latency | Panel::Throughput | Panel::Slots | Panel::Journal => {
            framed(buf, place, model, view);
        }
    }
    if !place.deck.is_empty() {
        tabs(buf, place, view);
    }
}

/// The panels whose frame may be shared.
fn framed(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    let title = if place.panel == Panel::Writes { writes::title(model) } else { place.panel.title().to_owned() };
    let inner = widgets::panel(buf, place.area, Line::from(title), view.focus == place.panel, &view.theme);
    match place.panel {
        Panel::Writes => writes::render(buf, inner, model, view),
        Panel::Latency => charts::latency(buf, inner, model, view),
        Panel::Throughput => charts::throughput(buf, inner, model, view),
        Panel::Slots => slots::render(buf, inner, model, view),
        _ => journal::render(buf, inner, model, view),
    }
}

/// The names of the panels that share a place, as far as they fit; where they don't, the one shown comes first.
fn tab_titles(place: &Place) -> Vec<(Panel, &'static str)> {
    let room = usize::from(place.area.width).saturating_sub(3);
    let full: usize = place.deck.iter().map(|p| p.short().len() + 3).sum();
    let shown = place.deck.iter().position(|p| *p == place.panel).unwrap_or(0);
    let first = if full <= room { 0 } else { shown };
    let mut used = 0;
    let round = place.deck.iter().cycle().skip(first).take(place.deck.len()).map(|p| (*p, p.short()));
    let fits = round.take_while(|(_, title)| {
        used += title.len() + 3;
        used <= room
    });
    fits.collect()
}

/// Over the title of a shared place: the names of all that share it.
fn tabs(buf: &mut Buffer, place: &Place, view: &View) {
    let theme = &view.theme;
    let mut spans = vec![Span::raw(if view.focus == place.panel { "▸" } else { " " })];
    for (panel, title) in tab_titles(place) {
        if panel == place.panel {
            spans.push(Span::styled(format!("[{title}]"), theme.title));
        } else {
            spans.push(Span::styled(format!(" {title} "), theme.dim));
        }
        spans.push(Span::raw(" "));
    }
    let area = place.area;
    let line = Line::from(spans);
    let width = (line.width() as u16).min(area.width.saturating_sub(2));
    widgets::lines(buf, Rect { x: area.x + 1, width, height: 1.min(area.height), ..area }, [line]);
}
