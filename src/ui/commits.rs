//! The commits that wait: which, for how long, for whom, and until when.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::Place;
use super::theme::Theme;
use super::view::{Panel, View};
use super::widgets::{self, Cell};
use super::{detection, figures, prose};
use crate::model::Model;
use crate::model::sync_rule::{Standing, SyncRule};
use crate::model::waits::Wait;

/// Draws the panel.
pub(super) fn render(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    let theme = &view.theme;
    let waits = model.waits();
    // Beside another primary it must be said where.
    let place_of =
        model.serving().filter(|_| model.serves_beside_another()).map_or(String::new(), |n| format!(" on {n}"));
    let title = match waits.len() {
        0 => Line::from(format!("Commits waiting{place_of}")),
        n => {
            Line::from(vec![Span::raw(format!("Commits waiting{place_of}: ")), Span::styled(n.to_string(), theme.warn)])
        }
    };
    let inner = widgets::panel(buf, place.area, title, view.focus == Panel::Commits, theme);
    if waits.is_empty() {
        idle(buf, inner, model, theme);
        return;
    }
    let foot = foot(model, inner.width, theme);
    let tall = (foot.len() as u16).min(inner.height.saturating_sub(1));
    let list = Rect { height: inner.height - tall, ..inner };
    if list.height < 2 && waits.len() > 1 {
        widgets::lines(buf, list, [summary(&waits, model, theme)]);
    } else {
        rows(buf, list, &waits, model, view);
    }
    widgets::lines(buf, widgets::below(inner, list.height), foot);
}

/// All of them in one line, where there is room for no more.
fn summary(waits: &[Wait], model: &Model, theme: &Theme) -> Line<'static> {
    let oldest = waits.first().map_or(0, |w| w.age_us / 1_000);
    let why = waits.first().map_or_else(String::new, |w| why(w, model, false));
    Line::from(vec![
        Span::styled(format!("longest {}", figures::lasted(oldest)), theme.warn),
        Span::raw(format!(", {why}")),
    ])
}

fn rows(buf: &mut Buffer, area: Rect, waits: &[Wait], model: &Model, view: &View) {
    let theme = &view.theme;
    let wide = area.width >= 70;
    let (who, age, local) = (11, 6, if wide { 18 } else { 7 });
    let end = if area.width >= 92 { 14 } else { 0 };
    let rest = area.width.saturating_sub(who + age + local + end + 4);
    let room = usize::from(area.height);
    let first = view.scrolled(Panel::Commits).min(waits.len().saturating_sub(room));
    let hidden = waits.len().saturating_sub(first + room);
    let shown = waits.iter().skip(first).take(if hidden > 0 { room.saturating_sub(1) } else { room });
    for (wait, y) in shown.zip(area.y..) {
        let old = figures::lasted(wait.age_us / 1_000);
        let (local_text, why) = (here(wait, wide), why(wait, model, wide));
        let what = wait.seq.map_or_else(|| wait.query.clone(), |seq| format!("write {}", figures::count(seq)));
        widgets::row(
            buf,
            area,
            y,
            &[
                Cell::new(who, &wait.who, theme.strong),
                Cell::right(age, &old, theme.warn),
                Cell::new(local, local_text, if wait.listed { theme.good } else { theme.dim }),
                Cell::new(rest, &why, Style::new()),
                Cell::new(end, &what, theme.dim),
            ],
        );
    }
    if hidden > 0 {
        let last = Rect { y: area.bottom() - 1, height: 1, ..area };
        widgets::lines(buf, last, [Line::styled(format!("and {} more", hidden + 1), theme.dim)]);
    }
}

fn here(wait: &Wait, wide: bool) -> &'static str {
    match (wait.listed, wide) {
        (true, true) => "✔ flushed locally",
        (true, false) => "✔ local",
        (false, true) => "? not known",
        (false, false) => "?",
    }
}

fn why(wait: &Wait, model: &Model, wide: bool) -> String {
    if !wait.listed {
        return format!("waits for an answer from {}", server(model));
    }
    let names = model.needs().in_words();
    match (names.is_empty(), wide) {
        (true, _) => "no rule holds it any more".to_owned(),
        (false, true) => format!("waits for {names} to {}", verb(model)),
        (false, false) => format!("waits for {names}"),
    }
}

/// Where the clients are.
fn server(model: &Model) -> &str {
    model.serving().map_or("the primary", |p| p.as_str())
}

fn verb(model: &Model) -> &'static str {
    match model.writer.plan.level.as_str() {
        "remote_write" => "write it",
        "remote_apply" => "replay it",
        _ => "flush it",
    }
}

/// Nothing waits: then the panel tells the way a commit takes.
fn idle(buf: &mut Buffer, inner: Rect, model: &Model, theme: &Theme) {
    let width = usize::from(inner.width);
    let mut lines = prose::wrap(&nothing(model), theme.dim, width);
    let way = way(model);
    let mut spans = Vec::new();
    for (i, step) in way.iter().enumerate() {
        let style = if step.contains("answer") { theme.good } else { Style::new() };
        spans.push(Span::styled(if i > 0 { " ▸ " } else { "" }, theme.key));
        spans.push(Span::styled(step.as_str(), style));
    }
    let way = prose::wrap_spans(&spans, width, 0);
    if lines.len() + way.len() < usize::from(inner.height) {
        lines.push(Line::default());
        lines.extend(way);
    }
    let top = inner.height.saturating_sub(lines.len() as u16) / 2;
    widgets::lines(buf, widgets::below(inner, top), lines.into_iter().map(Line::centered));
}

/// The steps of a commit under the rule and the level in force.
fn way(model: &Model) -> Vec<String> {
    let (flush, answer) = (format!("{} flushes it", server(model)), "answer to the client".to_owned());
    let level = model.writer.plan.level.as_str();
    let rule = model.serving_rule_at_work().unwrap_or_default();
    let commit = "COMMIT".to_owned();
    match (level, &rule) {
        ("off", _) => vec![commit, answer, format!("{flush} a moment later")],
        ("local", _) | (_, SyncRule::Off) if follows(model) => {
            vec![commit, flush, answer, "standbys follow".to_owned()]
        }
        ("local", _) | (_, SyncRule::Off) => vec![commit, flush, answer],
        (_, SyncRule::Any(k, names)) => {
            vec![commit, flush, format!("{k} of {} {}", names.join(", "), confirms(level, *k == 1)), answer]
        }
        _ => {
            let rungs = model.ladder().into_iter().filter(|r| r.upstream.as_ref() == model.serving());
            let sync: Vec<String> = rungs.filter(|r| r.sync_state == "sync").map(|r| r.name.to_string()).collect();
            let k = rule.needed() as usize;
            let names = if sync.len() < k {
                format!("{k} of {}", model.listed_by(&rule).join(", "))
            } else {
                sync.join(" and ")
            };
            vec![commit, flush, format!("{names} {}", confirms(level, k == 1)), answer]
        }
    }
}

/// Whether any standby is connected to the server that the clients write to.
fn follows(model: &Model) -> bool {
    let stands = |n: &crate::model::NodeName| model.standing(n.as_str()).is_some_and(|s| s != Standing::Away);
    model.names().any(stands)
}

fn confirms(level: &str, one: bool) -> &'static str {
    match (level, one) {
        ("remote_write", true) => "writes it",
        ("remote_write", false) => "write it",
        ("remote_apply", true) => "replays it",
        ("remote_apply", false) => "replay it",
        (_, true) => "flushes it",
        (_, false) => "flush it",
    }
}

fn nothing(model: &Model) -> String {
    let off = model.serving_rule().is_some_and(|r| !r.is_on());
    let level = model.writer.plan.level.as_str();
    if off || ["off", "local"].contains(&level) {
        "None: commits don't wait for standbys now.".to_owned()
    } else {
        "None has waited for half a second.".to_owned()
    }
}

/// What ends the wait, and a gauge that empties.
fn foot(model: &Model, width: u16, theme: &Theme) -> Vec<Line<'static>> {
    let Some((drop, ms)) = model.gives_up_in().and_then(|c| c.left_ms().map(|ms| (c, ms))) else {
        return until(model).map_or_else(Vec::new, |text| prose::wrap(&text, theme.warn, usize::from(width)));
    };
    let wide = width >= 60;
    let text = format!("{}, {}", detection::words(&drop, wide), then(model, drop.on.as_str()));
    let mut lines = prose::wrap(&text, theme.warn, usize::from(width));
    if wide {
        let full = usize::from(width.saturating_sub(2));
        let left = (full as u64 * ms.min(drop.timeout_ms) / drop.timeout_ms.max(1)) as usize;
        lines.push(Line::from(vec![
            Span::styled("━".repeat(left), theme.warn),
            Span::styled("╌".repeat(full - left), theme.border),
        ]));
    }
    lines
}

/// What happens when a silent standby is dropped.
fn then(model: &Model, dropped: &str) -> String {
    let Some(rule) = model.serving_rule() else { return "then the rule decides".to_owned() };
    let rungs = model.ladder();
    let others = rungs.iter().filter(|r| {
        r.upstream.as_ref() == model.serving() && rule.lists(r.name.as_str()) && r.name.as_str() != dropped
    });
    let well: Vec<&str> = others.filter(|r| r.link.counts()).map(|r| r.name.as_str()).collect();
    match (&rule, well.len() >= rule.needed() as usize) {
        (SyncRule::First(1, _), true) => format!("then {} takes over", well[0]),
        (_, true) => format!("then {} are enough", well.join(" and ")),
        _ => "and then commits wait on: too few standbys are left".to_owned(),
    }
}

/// Why commits wait where nothing counts down.
fn until(model: &Model) -> Option<String> {
    let server = model.serving_node()?;
    if !server.answers() {
        return Some(format!("{} does not answer. Clients that waited have had no answer yet.", server.name));
    }
    let rule = model.serving_rule_at_work()?;
    let there = |n: &&String| model.standing(n).is_some_and(|s| s != Standing::Away);
    let few = model.listed_by(&rule).iter().filter(there).count() < rule.needed() as usize;
    few.then(|| {
        "They wait until enough standbys are back, the rule is changed (S, s) or they are cancelled (c).".to_owned()
    })
}
