//! The replication ladder: per standby how far each byte of WAL has come, told with its age where it isn't fresh.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::Place;
use super::theme::Theme;
use super::view::{Panel, View};
use super::widgets::{self, Cell};
use super::{detection, face, figures, prose};
use crate::model::slots::Slot;
use crate::model::standing::{Link, Rung};
use crate::model::{Lsn, Model, NodeName};

/// The bar's pieces, from the beginning of the log to its end.
const PIECES: [(&str, &str); 5] =
    [("█", "replayed"), ("▓", "flushed"), ("▒", "written"), ("░", "sent"), ("·", "not sent")];

/// The bar shows at least so many bytes, so that a few don't look like a lot.
const SMALLEST_SPAN: u64 = 64 * 1024;

/// Lines of a standby where the panel has the whole screen: its row, one for each step, and an empty one.
const WHOLE: u16 = 6;

/// The steps of a byte of WAL, in their order.
const STEPS: [&str; 4] = ["sent", "write", "flush", "replay"];

/// Draws the panel.
pub(super) fn render(buf: &mut Buffer, place: &Place, model: &Model, view: &View) {
    let theme = &view.theme;
    let rungs = model.ladder();
    let inner = widgets::panel(buf, place.area, title(model, &rungs), view.focus == Panel::Replication, theme);
    if rungs.is_empty() {
        widgets::hollow(buf, inner, "No standby follows anything. Press a to add one.", theme);
        return;
    }
    let columns = Columns::of(inner.width, &rungs, model);
    if place.area.width >= 80 {
        widgets::corner(buf, place.area, legend(theme, 5));
    }
    columns.head(buf, inner, theme);
    let body = widgets::below(inner, 1);
    let deep = rungs.len() * 2 <= usize::from(body.height);
    let whole = view.zoom && body.height >= WHOLE;
    let each = if whole { usize::from(WHOLE) } else { 1 + usize::from(deep) };
    let first = view.scrolled(Panel::Replication).min(rungs.len().saturating_sub(usize::from(body.height) / each));
    let span = span(&rungs);
    for (rung, y) in rungs.iter().skip(first).zip((body.y..body.bottom()).step_by(each)) {
        columns.rung(buf, body, y, rung, span, model, theme);
        if whole {
            let at = Rect { x: body.x + 4, y: y + 1, width: body.width.saturating_sub(4), height: WHOLE - 2 };
            let at = at.intersection(body);
            widgets::lines(buf, at, step_lines(rung, theme).into_iter().take(usize::from(at.height)));
        } else if deep && columns.bar == 0 {
            let bar = Rect { x: body.x + 2, y: y + 1, width: body.width.saturating_sub(4), height: 1 };
            widgets::lines(buf, bar, [bar_line(rung, bar.width, span, theme)]);
        } else if deep {
            let at = Rect { x: body.x + 2, y: y + 1, width: body.width.saturating_sub(2), height: 1 };
            let line = trouble_line(model, &rung.name, at.width, theme);
            widgets::lines(buf, at, [line.unwrap_or_else(|| steps_line(rung, at.width, theme))]);
        }
    }
    let free = Rect { y: body.bottom().saturating_sub(1), height: 1, ..body };
    if place.area.width < 80 && rungs.len() * each < usize::from(body.height) {
        let countdowns = detection::line(&model.countdowns(), usize::from(free.width));
        let silent = (!countdowns.is_empty()).then(|| Line::styled(countdowns, theme.warn));
        let danger = || model.slots().iter().find_map(|s| slot_line(s, free.width, theme));
        let legend = || legend(theme, if free.width < 50 { 4 } else { 5 });
        widgets::lines(buf, free, [silent.or_else(danger).unwrap_or_else(legend)]);
    }
}

/// What matters more than each step's lag: who will notice that the link is silent, at both ends of it; else that the WAL
/// which the standby needs may go.
fn trouble_line(model: &Model, standby: &NodeName, width: u16, theme: &Theme) -> Option<Line<'static>> {
    let node = model.node(standby)?;
    let both: Vec<_> = model.sender_countdown(node).into_iter().chain(model.receiver_countdown(node)).collect();
    let silent = (!both.is_empty()).then(|| Line::styled(detection::line(&both, usize::from(width)), theme.warn));
    let others = model.namesakes(node);
    let namesakes = || {
        let text = format!("another connection is called {standby} too: which one confirms a commit isn't known");
        Line::styled(prose::clip(&text, usize::from(width)), theme.warn)
    };
    silent.or_else(|| (!others.is_empty()).then(namesakes)).or_else(|| slot_line(&model.slot_of(node)?, width, theme))
}

fn slot_line(slot: &Slot, width: u16, theme: &Theme) -> Option<Line<'static>> {
    let (name, status) = (&slot.row.name, slot.row.wal_status.as_deref()?);
    let text = match (status, slot.kept(), slot.limit) {
        ("lost", ..) => format!("slot {name} is lost: {name} must be made anew"),
        ("unreserved", Some(kept), Some(limit)) => {
            format!("slot {name} unreserved: keeps {} of {}", figures::bytes(kept), figures::bytes(limit))
        }
        _ => return None,
    };
    let style = if status == "lost" { theme.bad } else { theme.warn };
    Some(Line::styled(prose::clip(&text, usize::from(width)), style))
}

/// From whom: the server that the clients write to, where somebody follows it, and other upstreams. A row of theirs names its own.
fn title(model: &Model, rungs: &[Rung]) -> Line<'static> {
    let upstreams = || rungs.iter().filter_map(|r| r.upstream.as_ref());
    let mut from: Vec<&str> = Vec::new();
    for upstream in model.serving().into_iter().filter(|n| upstreams().any(|u| u == *n)).chain(upstreams()) {
        if !from.contains(&upstream.as_str()) {
            from.push(upstream.as_str());
        }
    }
    Line::from(if from.is_empty() { "Replication".to_owned() } else { format!("Replication from {}", from.join(", ")) })
}

/// The standby's name; with its upstream where that isn't the server that the clients write to, because all figures compare the two.
fn called(rung: &Rung, model: &Model) -> String {
    match &rung.upstream {
        Some(up) if model.serving() != Some(up) => format!("{}←{up}", rung.name),
        _ => rung.name.to_string(),
    }
}

fn legend(theme: &Theme, pieces: usize) -> Line<'static> {
    let spans =
        PIECES.iter().zip(theme.steps).take(pieces).flat_map(|((glyph, word), style)| {
            [Span::styled(*glyph, style), Span::styled(format!(" {word} "), theme.dim)]
        });
    Line::from(spans.collect::<Vec<_>>())
}

/// Bytes that the bar's last three quarters stand for.
fn span(rungs: &[Rung]) -> u64 {
    let most =
        rungs.iter().flat_map(|r| r.steps.iter().flatten().filter_map(|s| Some(r.wal?.bytes_ahead_of(*s)))).max();
    most.unwrap_or(0).max(SMALLEST_SPAN)
}

/// Widths; 0 where a column has no room.
struct Columns {
    name: u16,
    state: u16,
    sync: u16,
    bar: u16,
    behind: u16,
    lag: u16,
}

impl Columns {
    fn of(width: u16, rungs: &[Rung], model: &Model) -> Self {
        let longest = rungs.iter().map(|r| prose::width(&called(r, model)) + 2).max().unwrap_or(9).min(14) as u16;
        let mut c = Self { name: longest.max(8), state: 17, sync: 9, bar: 0, behind: 8, lag: 0 };
        if width < c.used() {
            c.name = (c.name + width).saturating_sub(c.used()).min(longest).max(6);
        }
        if width >= c.used() + 9 {
            c.lag = 8;
        }
        if width >= c.used() + 27 {
            c.bar = width - c.used() - 1;
        }
        // "last heard 58.2 s ago"
        if c.bar > 14 {
            (c.state, c.bar) = (c.state + 4, c.bar - 4);
        }
        c
    }

    fn used(&self) -> u16 {
        [self.name, self.state, self.sync, self.bar, self.behind, self.lag]
            .iter()
            .map(|w| w + u16::from(*w > 0))
            .sum::<u16>()
            - 1
    }

    fn head(&self, buf: &mut Buffer, area: Rect, theme: &Theme) {
        let dim = theme.dim;
        let bar = prose::clip("sent ▸ write ▸ flush ▸ replay", usize::from(self.bar));
        widgets::row(
            buf,
            area,
            area.y,
            &[
                Cell::new(self.name, if self.name < 7 { "node" } else { "standby" }, dim),
                Cell::new(self.state, "state", dim),
                Cell::new(self.sync, "sync", dim),
                Cell::new(self.bar, &bar, dim),
                Cell::right(self.behind, "behind", dim),
                Cell::right(self.lag, "time", dim),
            ],
        );
    }

    #[expect(clippy::too_many_arguments, reason = "one row's parts")]
    fn rung(&self, buf: &mut Buffer, area: Rect, y: u16, rung: &Rung, span: u64, model: &Model, theme: &Theme) {
        let face = model.node(&rung.name).map(|n| face::of(model, n, theme));
        let name = format!("{} {}", face.as_ref().map_or("?", |f| f.glyph), called(rung, model));
        let (state, style) = state(rung, self.state, theme);
        let value = if fresh(rung) { Style::new() } else { theme.dim };
        let (behind, lag) = (behind(rung), lag(rung));
        let sync = sync(rung, theme, value);
        widgets::row(
            buf,
            area,
            y,
            &[
                Cell::new(self.name, &name, face.map_or(value, |f| f.style)),
                Cell::new(self.state, &state, style),
                Cell::new(self.sync, sync.0, sync.1),
                Cell::new(self.bar, "", value),
                Cell::right(self.behind, &behind, value),
                Cell::right(self.lag, &lag, value),
            ],
        );
        if self.bar > 0 {
            let x = area.x + self.name + self.state + self.sync + 3;
            let at = Rect { x, y, width: self.bar, height: 1 };
            widgets::lines(buf, at, [bar_line(rung, self.bar, span, theme)]);
        }
    }
}

fn fresh(rung: &Rung) -> bool {
    matches!(rung.link, Link::Connected(_))
}

fn state(rung: &Rung, width: u16, theme: &Theme) -> (String, Style) {
    match &rung.link {
        Link::Connected(state) if state == "streaming" => ("streaming".to_owned(), theme.good),
        Link::Connected(state) => (state.clone(), theme.info),
        Link::LastKnown { ms, .. } => {
            let heard = format!("heard {} ago", figures::lasted(*ms));
            let last = format!("last {heard}");
            (if prose::width(&last) <= usize::from(width) { last } else { heard }, theme.warn)
        }
        Link::Disconnected => ("disconnected".to_owned(), theme.bad),
        Link::Forked => ("can't follow".to_owned(), theme.bad),
        Link::Unseen => ("not seen yet".to_owned(), theme.dim),
    }
}

fn sync<'a>(rung: &'a Rung, theme: &Theme, stale: Style) -> (&'a str, Style) {
    match rung.sync_state.as_str() {
        "" => ("–", theme.dim),
        word if !fresh(rung) => (word, stale),
        word @ ("sync" | "quorum") => (word, theme.strong),
        word => (word, Style::new()),
    }
}

fn behind(rung: &Rung) -> String {
    rung.behind.map_or_else(|| "?".to_owned(), figures::bytes)
}

fn lag(rung: &Rung) -> String {
    match rung.lag_us {
        _ if rung.idle => "idle".to_owned(),
        Some(us) => figures::micros(us.max(0).unsigned_abs()),
        None => "?".to_owned(),
    }
}

fn bar_line(rung: &Rung, width: u16, span: u64, theme: &Theme) -> Line<'static> {
    let Some(wal) = rung.wal.filter(|_| rung.steps.iter().any(Option::is_some)) else {
        let why = match rung.link {
            Link::Forked => "another history: not comparable",
            Link::Unseen => "nothing known",
            _ => "nothing to compare with",
        };
        return Line::styled(prose::clip(why, usize::from(width)), theme.dim);
    };
    let width = u64::from(width);
    let reach =
        |lsn: Lsn| width - (wal.bytes_ahead_of(lsn).min(span) * (width * 3 / 4)).div_ceil(span.max(1)).min(width);
    let [sent, write, flush, replay] = rung.steps;
    let mut from = 0;
    let mut spans = Vec::with_capacity(5);
    for (i, step) in [replay, flush, write, sent].into_iter().enumerate() {
        let to = step.map_or(from, reach).max(from);
        let style = if fresh(rung) { theme.steps[i] } else { theme.dim };
        spans.push(Span::styled(PIECES[i].0.repeat((to - from) as usize), style));
        from = to;
    }
    spans.push(Span::styled(PIECES[4].0.repeat((width - from) as usize), theme.steps[4]));
    Line::from(spans)
}

/// Each step as position, and how far it is behind the upstream in bytes and time; of what was sent PostgreSQL tells no time.
fn step_lines(rung: &Rung, theme: &Theme) -> Vec<Line<'static>> {
    let value = if fresh(rung) { Style::new() } else { theme.dim };
    let lags = [None, rung.lags_us[0], rung.lags_us[1], rung.lag_us];
    let line = |((word, lsn), lag): ((&str, Option<Lsn>), Option<i64>)| {
        let at = lsn.map_or_else(|| "–".to_owned(), |lsn| lsn.to_string());
        let behind = lsn.zip(rung.wal).map(|(lsn, wal)| figures::bytes(wal.bytes_ahead_of(lsn)));
        let time = lag.map(|us| figures::micros(us.max(0).unsigned_abs()));
        let [behind, time] = [behind, time].map(|text| text.unwrap_or_else(|| "–".to_owned()));
        Line::from(vec![
            Span::styled(format!("{word:<8}"), theme.dim),
            Span::styled(format!("{at:<14} {behind:>10} behind {time:>10}"), value),
        ])
    };
    STEPS.into_iter().zip(rung.steps).zip(lags).map(line).collect()
}

fn steps_line(rung: &Rung, width: u16, theme: &Theme) -> Line<'static> {
    let value = if fresh(rung) { Style::new() } else { theme.dim };
    let long = width >= 112;
    let lead = if rung.wal.is_some() { "behind: " } else { "at: " };
    let mut spans = vec![Span::styled(if long { "" } else { lead }, theme.dim)];
    for (i, (word, lsn)) in STEPS.iter().zip(rung.steps).enumerate() {
        if i > 0 {
            spans.push(Span::styled(" ▸ ", theme.border));
        }
        let text = match lsn.zip(rung.wal) {
            None => lsn.map_or_else(|| "–".to_owned(), |lsn| lsn.to_string()),
            Some((lsn, wal)) if long => format!("{lsn} (−{})", figures::bytes(wal.bytes_ahead_of(lsn))),
            Some((lsn, wal)) => figures::bytes(wal.bytes_ahead_of(lsn)),
        };
        spans.push(Span::styled(format!("{word} "), theme.dim));
        spans.push(Span::styled(text, value));
    }
    Line::from(spans)
}
