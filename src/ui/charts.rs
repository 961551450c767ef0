//! Commit latency and throughput over the last minute, with axes and units. Draws from the model's history only.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::view::View;
use super::widgets::{self, put};
use super::{figures, prose};
use crate::model::Model;
use crate::model::history::Point;

/// What the charts show, in microseconds.
const WINDOW_US: u64 = 60_000_000;

/// Points that cover the window, and some to spare.
const POINTS: usize = 260;

/// One column of a chart, as shares of its height.
#[derive(Clone, Copy, Default)]
struct Column {
    /// Solid up to here.
    solid: f64,
    /// Shaded from there up to here.
    shade: f64,
    /// In the colour of a warning from there up to here.
    alarm: f64,
}

/// The points of each column of the window.
fn buckets(model: &Model, columns: usize) -> Vec<Vec<&Point>> {
    let start = model.now.0.saturating_sub(WINDOW_US);
    let mut buckets = vec![Vec::new(); columns];
    for point in model.history.last(POINTS) {
        let age = model.now.0.saturating_sub(point.at.0);
        if point.at.0 >= start && age <= WINDOW_US && columns > 0 {
            let from_right = (age * columns as u64 / (WINDOW_US + 1)) as usize;
            buckets[columns - 1 - from_right.min(columns - 1)].push(point);
        }
    }
    buckets
}

/// The chart of commits per second.
pub(super) fn throughput(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    let plot = plot(inner, 8);
    let buckets = buckets(model, usize::from(plot.width));
    let mean = |points: &Vec<&Point>| match points.len() {
        0 => None,
        n => Some(points.iter().map(|p| p.commits_per_s).sum::<f64>() / n as f64),
    };
    let values = filled(buckets.iter().map(mean));
    let top = nice(values.iter().flatten().copied().fold(0.0, f64::max).max(1.0));
    let columns: Vec<Column> = values.iter().map(|v| bar(v.unwrap_or(0.0) / top)).collect();
    let now = figures::per_second(super::writes::rate(model));
    let head = Line::from(vec![Span::styled(now, view.theme.strong), Span::styled(" commits now", view.theme.dim)]);
    widgets::lines(buf, inner, [head]);
    axes(
        buf,
        inner,
        plot,
        &[(1.0, figures::per_second(top)), (0.5, figures::per_second(top / 2.0)), (0.0, "0/s".into())],
        view,
    );
    bars(buf, plot, &columns, view);
}

/// Powers of ten between which latency is drawn: 0.1 ms and 100 s.
const DECADES: (f64, f64) = (2.0, 8.0);

/// The chart of commit latency, on a logarithmic scale.
pub(super) fn latency(buf: &mut Buffer, inner: Rect, model: &Model, view: &View) {
    let plot = plot(inner, 7);
    let buckets = buckets(model, usize::from(plot.width));
    let top = buckets.iter().flatten().map(|p| p.oldest_us.max(p.p99_us.unwrap_or(0))).max().unwrap_or(0);
    let most = (top.max(10_000) as f64).log10().ceil().min(DECADES.1);
    let share = |us: u64| ((us.max(1) as f64).log10() - DECADES.0).max(0.02) / (most - DECADES.0);
    let max = |points: &[&Point], f: fn(&Point) -> Option<u64>| points.iter().filter_map(|p| f(p)).max();
    let summed = buckets.iter().map(|points| {
        (!points.is_empty()).then(|| Column {
            solid: max(points, |p| p.p50_us).map_or(0.0, share),
            shade: max(points, |p| p.p99_us).map_or(0.0, share),
            alarm: max(points, |p| Some(p.oldest_us)).filter(|us| *us > 50_000).map_or(0.0, share),
        })
    });
    let columns: Vec<Column> = filled(summed).into_iter().map(Option::unwrap_or_default).collect();
    let waited = columns.iter().any(|c| c.alarm > 0.0);
    widgets::lines(buf, inner, [Line::from(latency_head(model, inner.width, waited, view))]);
    let marks: Vec<(f64, String)> = (DECADES.0 as i32..=most as i32)
        .map(|d| ((f64::from(d) - DECADES.0) / (most - DECADES.0), decade(d)))
        .rev()
        .collect();
    axes(buf, inner, plot, &marks, view);
    bars(buf, plot, &columns, view);
}

/// `waited`: the chart shows commits that waited for long, be it that none does now.
fn latency_head(model: &Model, width: u16, waited: bool, view: &View) -> Vec<Span<'static>> {
    let pulse = &model.writer.pulse;
    let theme = &view.theme;
    let text = |us: Option<u64>| us.map_or_else(|| "–".to_owned(), figures::micros);
    let mut spans = Vec::new();
    let wide = width >= 44;
    let values = [
        ("█ ", theme.good, "p50", pulse.p50_us),
        ("▒ ", theme.info, "p99", pulse.p99_us),
        ("", theme.info, "max", pulse.max_us),
    ];
    for (glyph, style, word, value) in values.into_iter().take(if wide { 3 } else { 2 }) {
        spans.push(Span::styled(glyph, style));
        spans.push(Span::styled(format!("{word} "), theme.dim));
        spans.push(Span::styled(format!("{}  ", text(value)), theme.strong));
    }
    if let Some(oldest) = pulse.waiting.iter().map(|w| w.age_us).max() {
        spans.push(Span::styled("░ ", theme.warn));
        let word = if wide { "waiting " } else { "wait " };
        spans.push(Span::styled(format!("{word}{}", figures::lasted(oldest / 1_000)), theme.warn));
    } else if waited {
        spans.push(Span::styled("░ ", theme.warn));
        spans.push(Span::styled("waited", theme.dim));
    }
    spans
}

fn decade(power: i32) -> String {
    match power {
        2 => "0.1 ms".into(),
        3..6 => format!("{} ms", 10_u64.pow(power as u32 - 3)),
        _ => format!("{} s", 10_u64.pow((power - 6).clamp(0, 9) as u32)),
    }
}

/// Empty columns between full ones take the value before them: a chart wider than its points has no holes.
fn filled<T: Copy>(values: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let mut values: Vec<Option<T>> = values.collect();
    let last = values.iter().rposition(Option::is_some).unwrap_or(0);
    for i in 1..last {
        if values[i].is_none() {
            values[i] = values[i - 1];
        }
    }
    values
}

fn bar(share: f64) -> Column {
    Column { solid: share, ..Column::default() }
}

/// The next 1, 2 or 5 times a power of ten, not below.
fn nice(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|v| *v >= value * 0.999).unwrap_or(value)
}

/// Where the columns go: right of the labels, under the headline, over the time axis.
fn plot(inner: Rect, labels: u16) -> Rect {
    Rect {
        x: inner.x + labels.min(inner.width),
        y: inner.y + 1.min(inner.height),
        width: inner.width.saturating_sub(labels + 1),
        height: inner.height.saturating_sub(2),
    }
}

/// Labels and units on both axes; marks come from the top down, those too near to the one above are left out.
fn axes(buf: &mut Buffer, inner: Rect, plot: Rect, marks: &[(f64, String)], view: &View) {
    let theme = &view.theme;
    if plot.height == 0 || plot.width == 0 {
        return;
    }
    for y in plot.top()..plot.bottom() {
        put(buf, inner, plot.x.saturating_sub(1), y, "│", theme.border);
    }
    let mut free = plot.y;
    for (share, text) in marks {
        let row = plot.y + ((1.0 - share) * f64::from(plot.height - 1)).round() as u16;
        if row >= free {
            let x = plot.x.saturating_sub(2 + prose::width(text) as u16).max(inner.x);
            put(buf, inner, x, row, text, theme.dim);
            put(buf, inner, plot.x.saturating_sub(1), row, "┤", theme.border);
            free = row + 1;
        }
    }
    let y = plot.bottom();
    put(buf, inner, plot.x, y, "60 s ago", theme.dim);
    put(buf, inner, plot.right().saturating_sub(3), y, "now", theme.dim);
}

fn bars(buf: &mut Buffer, plot: Rect, columns: &[Column], view: &View) {
    const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];
    let theme = &view.theme;
    let height = f64::from(plot.height);
    for (column, x) in columns.iter().zip(plot.x..) {
        for row in 0..plot.height {
            let y = plot.bottom() - 1 - row;
            let level = f64::from(row);
            let part = ((column.solid * height - level) * 8.0).ceil().clamp(0.0, 8.0) as usize;
            if part > 0 {
                put(buf, plot, x, y, EIGHTHS[part], theme.good);
            } else if column.shade * height > level + 0.3 {
                put(buf, plot, x, y, "▒", theme.info);
            } else if column.alarm * height > level + 0.3 {
                put(buf, plot, x, y, "░", theme.warn);
            }
        }
    }
}
