//! The books of the writer: what was tried, what came of it, and what reading the nodes said.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::theme::Theme;
use super::view::View;
use super::widgets::{self, put};
use super::{figures, prose};
use crate::model::Model;
use crate::model::command::Rate;
use crate::model::loss::Weight;
use crate::model::verdict::{Verdict, Verification};

/// After so many milliseconds without a word from the writer its rate isn't shown as present.
const QUIET_MS: u64 = 2_000;

/// Commits per second by the writer's last word; 0 when that is old.
pub(super) fn rate(model: &Model) -> f64 {
    let pulse = &model.writer.pulse;
    if pulse.interval_us == 0 || model.now.ms_since(model.writer.pulse_at) > QUIET_MS {
        return 0.0;
    }
    pulse.commits as f64 * 1e6 / pulse.interval_us as f64
}

/// Draws the panel's inside; the frame may be shared.
pub(super) fn render(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    let theme = &view.theme;
    let inner = widgets::inset(inner, 1);
    let width = usize::from(inner.width);
    let mut top = prose::wrap_spans(&orders(model, width, theme), width, 0);
    if let Some(why) = &model.writer.pulse.trouble {
        top.push(Line::styled(prose::clip(&format!("▲ {why}"), width), theme.warn));
    }
    let verdict = model.verification.as_ref().map_or_else(Vec::new, |v| verdict(model, v, width, theme));
    let used = top.len() as u16;
    widgets::lines(buf, inner, top);
    let room = inner.height.saturating_sub(used + verdict.len() as u16);
    let grid = figures_grid(buf, widgets::below(inner, used), room, model, theme);
    widgets::lines(buf, widgets::below(inner, used + grid), verdict);
}

/// The frame's title, with the number of clients.
pub(super) fn title(model: &Model) -> String {
    format!("Writes · {}", figures::plural(model.writer.plan.clients as usize, "client"))
}

fn orders(model: &Model, width: usize, theme: &Theme) -> Vec<Span<'static>> {
    let plan = &model.writer.plan;
    let wanted = match plan.rate {
        _ if model.disk_low => "held: the disk is low".to_owned(),
        _ if plan.paused => "paused".to_owned(),
        Rate::Max => "flat out".to_owned(),
        Rate::PerSecond(n) => format!("{}/s wanted", figures::count(n.into())),
    };
    let target = plan.target.as_ref().map_or_else(|| "to nobody".to_owned(), |n| format!("to {n}"));
    let level = if width < 60 { String::new() } else { format!(" · synchronous_commit {}", plan.level) };
    vec![
        Span::styled(figures::per_second(rate(model)), theme.strong),
        Span::styled(format!(" now · {wanted} · {target}{level}"), theme.dim),
    ]
}

/// The numbers, in as many columns as fit; gives the rows used. Where a verdict needs the room, zeros go.
fn figures_grid(buf: &mut Buffer, area: Rect, room: u16, model: &Model, theme: &Theme) -> u16 {
    let c = model.ledger.counts();
    let mut cells = vec![
        ("tried", c.tried, Style::new()),
        ("✔ acked", c.acked, theme.good),
        ("▲ warned", c.acked_with_warning, theme.warn),
        ("✖ failed", c.failed, theme.bad),
        ("? unknown", c.unknown, theme.warn),
        ("… waiting", c.pending, theme.info),
    ];
    let across = if area.width >= 66 { 3 } else { (area.width / 22).clamp(1, 2) };
    let rows = |cells: usize| (cells as u16).div_ceil(across);
    if rows(cells.len()) > room {
        cells.retain(|(word, n, _)| *n > 0 || *word == "tried");
    }
    let (width, rows) = (area.width / across, rows(cells.len()));
    for (i, (word, n, style)) in cells.into_iter().enumerate() {
        let i = i as u16;
        let (column, line) = if across == 3 { (i % 3, i / 3) } else { (i / rows, i % rows) };
        let x = area.x + column * width;
        let style = if n > 0 { style } else { theme.dim };
        let number = figures::count(n);
        let at = (x + width.saturating_sub(3)).saturating_sub(number.len() as u16).max(x + 10);
        put(buf, area, x, area.y + line, word, style);
        put(buf, area, at, area.y + line, &number, style);
    }
    rows
}

/// What the nodes were found to hold; losses first, then whether a promise was broken.
fn verdict(model: &Model, v: &Verification, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let (aside, losses): (Vec<_>, Vec<_>) =
        v.parts().into_iter().filter(|_| v.judged).partition(|(weight, _)| *weight == Weight::Aside);
    // What things were like before they changed comes with its time first: the end may be cut off.
    let (clock, before) = (figures::clock(v.at), before(model, v));
    let first = before.as_ref().map(|before| Span::styled(format!("Read at {clock}, {before}: "), theme.warn));
    let mut spans: Vec<Span<'static>> = first.into_iter().chain(said(losses, theme)).collect();
    let (sign, style) = match v.verdict {
        Verdict::Sound if v.is_well() => ("✔", theme.badge_good),
        Verdict::Sound => ("▲", theme.badge_warn),
        Verdict::Unknown(_) => ("?", theme.badge_warn),
        Verdict::Broken(_) => ("✖", theme.badge_bad),
    };
    let (promises, why) = v.promises();
    spans.extend([widgets::badge(&format!("{sign} {promises}"), style), Span::raw(" ")]);
    spans.extend(why.map(|why| Span::styled(format!("{}. ", first_up(&why)), theme.warn)));
    spans.extend(said(aside, theme));
    if before.is_none() {
        spans.push(Span::styled(format!("read at {clock}"), theme.dim));
    }
    let missing = |weight| if weight == Weight::Held { theme.warn } else { theme.dim };
    spans.extend(v.by_node().map(|(weight, text)| Span::styled(format!(" · {text}"), missing(weight))));
    prose::wrap_spans(&spans, width, 0)
}

/// What has changed since the rows were read, if that makes what is said a matter of the past.
fn before(model: &Model, v: &Verification) -> Option<String> {
    let later = model.timelines.last().filter(|timeline| timeline.at > v.at);
    let fenced = !v.sides.is_empty() && model.rivals().next().is_none();
    let told = later.map(|timeline| format!("before {} took over", timeline.node));
    told.or_else(|| fenced.then(|| "while two primaries ran".to_owned()))
}

/// Sentences, each in the colour of its weight.
fn said(parts: Vec<(Weight, String)>, theme: &Theme) -> Vec<Span<'static>> {
    let style = |weight| match weight {
        Weight::Well => theme.good,
        Weight::Held => theme.warn,
        Weight::Gone => theme.bad,
        Weight::Aside => theme.dim,
    };
    parts.into_iter().map(|(weight, text)| Span::styled(format!("{}. ", first_up(&text)), style(weight))).collect()
}

fn first_up(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
