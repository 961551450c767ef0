//! The two lines at the top: what runs, the rule as the server has it, the clock; then faults, work under way and the
//! last answer. When the engine is silent, that takes the second line.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::Screen;
use super::view::{Panel, View};
use super::widgets::{self, badge, sign, spinner, tone};
use super::{face, figures, prose};
use crate::model::detector::Cause;
use crate::model::journal::Tone;
use crate::model::links::{Harm, LinkFault};
use crate::model::{Fault, Model, Node, Stage};

/// A refusal that the journal tells is shown whole for so many milliseconds where the journal isn't on the screen.
const WHOLE_MS: u64 = 10_000;

/// Draws the first line.
pub(super) fn first(buf: &mut Buffer, area: Rect, model: &Model, view: &View) {
    let theme = &view.theme;
    buf.set_style(area, theme.badge);
    let mut right = clock(model, view);
    right.push(Span::styled("  ? help ", theme.dim));
    let right = Line::from(right);
    let room = usize::from(area.width).saturating_sub(right.width() + 1);
    let mut left = vec![Span::styled(" replab", theme.strong)];
    let mut used = 7;
    let (rule, style) = rule(model, view);
    let rule_width = prose::width(&rule) + 3;
    let version = if model.postgres.is_empty() { String::new() } else { format!("PostgreSQL {}", model.postgres) };
    for part in [version, model.runtime.clone()] {
        if !part.is_empty() && used + prose::width(&part) + 3 + rule_width.min(24) <= room {
            used += prose::width(&part) + 3;
            left.push(Span::styled(" · ", theme.dim));
            left.push(Span::raw(part));
        }
    }
    left.push(Span::styled(if rule.is_empty() { "" } else { " · " }, theme.dim));
    left.push(Span::styled(prose::clip(&rule, room.saturating_sub(used + 3)), style));
    widgets::lines(buf, area, [Line::from(left)]);
    let width = (right.width() as u16).min(area.width);
    widgets::lines(buf, Rect { x: area.right() - width, width, ..area }, [right]);
}

fn clock(model: &Model, view: &View) -> Vec<Span<'static>> {
    let theme = &view.theme;
    if let Some(past) = &view.past {
        return super::past::clock(past, view);
    }
    let (glyph, word, style) = match &model.stage {
        Stage::Starting => (spinner(model.now), "starting", theme.info),
        Stage::Failed(_) => ("✖", "failed", theme.bad),
        Stage::Live if model.engine_down.is_some() => ("▲", "stale", theme.bad),
        Stage::Live => ("●", "live", theme.good),
    };
    let mut spans = Vec::new();
    if model.read_only {
        spans.push(Span::styled("read-only  ", theme.warn));
    }
    spans.push(Span::styled(format!("{glyph} {word} "), style));
    spans.push(Span::styled(figures::clock(model.now), theme.strong));
    spans
}

/// The rule in force where the clients are, in the server's own spelling.
fn rule(model: &Model, view: &View) -> (String, Style) {
    let theme = &view.theme;
    let fresh = model.serving_node().is_some_and(Node::answers) && model.engine_down.is_none();
    let old = if fresh { "" } else { " (last known)" };
    // Beside another primary it must be said whose rule it is.
    let whose = model.serving().filter(|_| model.serves_beside_another()).map_or(String::new(), |n| format!("{n}: "));
    match model.serving_rule_text() {
        None if model.stage != Stage::Live => (String::new(), theme.dim),
        None => ("no rule known".to_owned(), theme.dim),
        Some(text) if text.trim().is_empty() => (format!("{whose}asynchronous{old}"), theme.strong),
        Some(text) => (format!("{whose}{}{old}", text.trim()), theme.strong),
    }
}

/// Draws the second line.
pub(super) fn second(buf: &mut Buffer, screen: &Screen, model: &Model, view: &View) {
    let theme = &view.theme;
    let area = screen.status;
    if let Some((since, why)) = &model.engine_down {
        // Not all of it need be: where the nodes go on, SQL still tells what they do.
        let text = format!(
            " ▲ What you see may be old: {} has not answered for {}: {why}",
            if model.runtime.is_empty() { "The engine" } else { model.runtime.as_str() },
            figures::lasted(model.now.ms_since(*since)),
        );
        buf.set_style(area, theme.badge_bad);
        let text = prose::clip(&text, usize::from(area.width));
        widgets::lines(buf, area, [Line::styled(text, theme.badge_bad)]);
        return;
    }
    let mut spans = state(model, view, usize::from(area.width));
    let room = usize::from(area.width).saturating_sub(spans.iter().map(Span::width).sum());
    if let Some(said) = said(screen, model, view).filter(|said| said.width() <= room || !said.whole) {
        spans.push(Span::styled(prose::clip(&said.text, room), tone(theme, said.tone)));
    }
    widgets::lines(buf, area, [Line::from(spans)]);
}

/// What the lab has to say beside its state.
struct Said {
    text: String,
    tone: Tone,
    /// It isn't to be cut short.
    whole: bool,
}

impl Said {
    fn width(&self) -> usize {
        prose::width(&self.text)
    }
}

/// The answer to the last key; else, where the journal isn't on the screen, its last sentence.
fn said(screen: &Screen, model: &Model, view: &View) -> Option<Said> {
    if let Some(toast) = &view.toast {
        let text = format!("{} {}", sign(toast.tone), toast.text).trim_start().to_owned();
        return Some(Said { text, tone: toast.tone, whole: true });
    }
    let last = model.journal.entries().next_back()?;
    let whole = last.tone == Tone::Bad && model.now.ms_since(last.at) < WHOLE_MS;
    if screen.place(Panel::Journal).is_some_and(|place| !whole || super::journal::has_room(place.area, last)) {
        return None;
    }
    Some(Said { text: last.text.clone(), tone: last.tone, whole })
}

/// An answer or a refusal that the second line has no room for: all of it, over what is below.
pub(super) fn whole(buf: &mut Buffer, screen: &Screen, model: &Model, view: &View) {
    let Some(said) = said(screen, model, view).filter(|said| said.whole && model.stage == Stage::Live) else { return };
    let width = usize::from(screen.status.width);
    let used: usize = state(model, view, width).iter().map(Span::width).sum();
    if model.engine_down.is_none() && said.width() <= width.saturating_sub(used) {
        return;
    }
    let style = tone(&view.theme, said.tone);
    let lines = prose::wrap_spans(&[Span::styled(format!(" {}", said.text), style)], width.saturating_sub(1), 1);
    let area = Rect { height: (lines.len() as u16).min(screen.body.height), ..screen.body };
    widgets::blank(buf, area, &view.theme);
    widgets::lines(buf, area, lines);
}

/// The disk, faults, and work under way.
fn state(model: &Model, view: &View, width: usize) -> Vec<Span<'static>> {
    let theme = &view.theme;
    let mut spans = vec![Span::raw(" ")];
    if let Some(free) = model.disk_free.filter(|_| model.disk_low) {
        let (free, floor) = (figures::bytes(free), figures::bytes(model.disk_floor));
        let text = format!("▲ disk: {free} free, less than {floor}: the writer is held");
        spans.extend([badge(&text, theme.badge_bad), Span::raw(" ")]);
    }
    if let Some(text) = split_brain(model).or_else(|| election(model)) {
        spans.extend([badge(&prose::clip(&text, width.saturating_sub(4)), theme.badge_bad), Span::raw(" ")]);
    }
    spans.extend(faults(model, view, width * 6 / 10));
    if model.stage == Stage::Live {
        // Without it PostgreSQL's own delays show: what is on the screen must say so.
        let (word, style) = if model.heartbeat { ("heartbeat  ", theme.dim) } else { ("heartbeat off  ", theme.warn) };
        spans.push(Span::styled(word, style));
        if model.detector.auto.is_some() {
            spans.push(Span::styled("auto-failover  ", theme.info));
        }
    }
    // Where room is short, what the lab has to say goes before what it does.
    let ops = if view.toast.is_some() && width < 120 { 0 } else { 2 };
    for op in model.ops.values().take(ops) {
        let what = op.command.as_ref().map_or_else(|| "starting".to_owned(), ToString::to_string);
        let text = format!("{} {what} {}", spinner(model.now), figures::lasted(model.now.ms_since(op.since)));
        let most = if width < 120 { 24 } else { 40 };
        spans.extend([Span::styled(prose::clip(&text, most), theme.info), Span::raw("  ")]);
    }
    spans
}

/// Two primaries are a state of their own: who they are, and where the writer is.
fn split_brain(model: &Model) -> Option<String> {
    let rivals: Vec<&str> = model.rivals().map(|n| n.name.as_str()).collect();
    let primary = model.primary.as_ref().filter(|_| !rivals.is_empty())?;
    let writer = model.writer.plan.target.as_ref().map_or("nowhere", |n| n.as_str());
    Some(format!("SPLIT BRAIN: {primary} and {} accept writes; the writer is on {writer}", rivals.join(", ")))
}

/// The detector counts down, or an election waits.
fn election(model: &Model) -> Option<String> {
    if let Some(h) = model.waiting_election() {
        return Some(format!("the election waits for {}", h.waits_for.join(", ")));
    }
    let primary = model.primary.as_ref()?;
    let (cause, left) = model.fails_over_in()?;
    let why = if cause == Cause::CutOff { "has lost every standby" } else { "is silent" };
    Some(format!("{primary} {why}: failover in {}", figures::lasted(left)))
}

/// Badges, as many as fit; the rest as a number.
fn faults(model: &Model, view: &View, room: usize) -> Vec<Span<'static>> {
    let faults = model.faults();
    if faults.is_empty() {
        return if model.stage == Stage::Live { vec![Span::styled("no faults  ", view.theme.dim)] } else { Vec::new() };
    }
    let mut spans = Vec::new();
    let mut used = 0;
    // A second primary has a badge of its own.
    let faults: Vec<&Fault> = faults.iter().filter(|fault| !matches!(fault, Fault::Rival(_))).collect();
    for (i, fault) in faults.iter().enumerate() {
        let style = match fault {
            Fault::Link(LinkFault { harm: Harm::Slow(_) | Harm::Throttle(_), .. })
            | Fault::Frozen(_)
            | Fault::ReplayPaused(_) => view.theme.badge_warn,
            Fault::Link(_) | Fault::Isolated(_) | Fault::Down(_) | Fault::Rival(_) | Fault::ReplayStopped(..) => {
                view.theme.badge_bad
            }
        };
        let noticed = model.noticed_in(fault).filter(|_| room >= 60);
        let text = match (noticed, face::fault(fault)) {
            (Some(ms), text) => format!("{text}; PostgreSQL notices in {}", figures::lasted(ms)),
            (None, text) => text,
        };
        let span = badge(&text, style);
        used += span.width() + 1;
        if used > room && i > 0 {
            spans.push(Span::styled(format!("and {} more  ", faults.len() - i), view.theme.warn));
            return spans;
        }
        spans.extend([span, Span::raw(" ")]);
    }
    spans.push(Span::raw(" "));
    spans
}
