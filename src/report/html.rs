//! The report as one page of HTML that needs nothing beside it: no scripts, no fonts, no pictures from elsewhere. It is well-formed XML
//! too, so that a program can read it.

use super::Report;
use super::chart::{Chart, Scale, Series};
use super::markup::Markup;
use super::sheet::{self, Row, Section, Sheet};
use crate::model::history::Point;
use crate::model::journal::Tone;
use crate::model::text::size;
use crate::model::{Model, NodeName};

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fbfaf6; --text: #1d2530; --dim: #66707d; --line: #d5dae1; --good: #00755a; --warn: #965600;
  --bad: #b82a16; --c0: #0b5cad; --c1: #b85c00; --c2: #00755a; --c3: #8a3fb0; --c4: #66707d; --c5: #a3003f; --fault: #b82a1622 }
@media (prefers-color-scheme: dark) { :root { --ground: #0f141b; --text: #d7dee8; --dim: #8f9cad; --line: #2b3644; --good: #52d1ac;
  --warn: #ffbf5f; --bad: #ff7866; --c0: #6cb6ff; --c1: #ffbf5f; --c2: #52d1ac; --c3: #c79bf2; --c4: #9aa7b6; --c5: #ff8fab; --fault: #ff786633 } }
body { font: 15px/1.5 system-ui, sans-serif; background: var(--ground); color: var(--text); max-width: 1100px; margin: 2em auto; padding: 0 1em }
h2 { font-size: 1.15em; margin: 2em 0 .5em } .verdict { font-weight: bold; font-size: 1.2em }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .2em .6em .2em 0; border-bottom: 1px solid var(--line); overflow-wrap: break-word }
th { color: var(--dim); font-weight: normal } .good { color: var(--good) } .warn { color: var(--warn) } .bad { color: var(--bad) }
pre, .log td { font: 13px/1.4 ui-monospace, monospace } pre, .log td:last-child { overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: .2em 0 } summary { color: var(--dim); cursor: pointer }
figure { margin: 1em 0 } figcaption { color: var(--dim); text-align: center } svg { width: 100%; height: auto } svg text { font-size: 12px; fill: var(--dim) }
.grid { stroke: var(--line) } .fault { fill: var(--fault) } .line { fill: none; stroke-width: 1.6 }
.s0 { stroke: var(--c0) } .s1 { stroke: var(--c1); stroke-dasharray: 6 3 } .s2 { stroke: var(--c2); stroke-dasharray: 2 3 }
.s3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3 } .s4 { stroke: var(--c4) } .s5 { stroke: var(--c5); stroke-dasharray: 4 4 }
";

/// The whole page.
pub(super) fn page(report: &Report, model: &Model) -> String {
    let sheet = sheet::of(report, model);
    let mut page = Markup::beginning("<!DOCTYPE html>\n");
    page.open("html", &[("lang", &"en"), ("xmlns", &"http://www.w3.org/1999/xhtml")]);
    page.open("head", &[]).empty("meta", &[("charset", &"utf-8")]);
    page.empty("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
    page.leaf("title", &[], &format!("{}: {}", sheet.title, sheet.verdict.1));
    page.open("style", &[]).raw(STYLE).close().close();
    page.open("body", &[]);
    head(&mut page, &sheet);
    for section in &sheet.sections {
        table(&mut page, section);
        if section.title == "The lab" {
            charts(&mut page, model);
        }
    }
    page.finish()
}

fn head(page: &mut Markup, sheet: &Sheet) {
    let (tone, verdict) = &sheet.verdict;
    page.leaf("h1", &[], &sheet.title);
    page.leaf("p", &[("class", &format!("verdict {}", class(*tone)))], &format!("Verdict: {verdict}"));
    page.open("ul", &[]);
    for finding in &sheet.findings {
        page.leaf("li", &[], finding);
    }
    page.close();
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Good => "good",
        Tone::Warn => "warn",
        Tone::Bad => "bad",
    }
}

fn table(page: &mut Markup, section: &Section) {
    let is_log = section.title.ends_with("logged last");
    page.leaf("h2", &[], section.title);
    page.open("div", &[("class", &"scroll")]);
    page.open("table", &[("class", &if is_log { "log" } else { "plain" })]);
    if section.head.iter().any(|name| !name.is_empty()) {
        page.open("thead", &[]).open("tr", &[]);
        for name in &section.head {
            page.leaf("th", &[], name);
        }
        page.close().close();
    }
    page.open("tbody", &[]);
    for row in &section.rows {
        cells(page, row);
    }
    page.close().close().close();
}

fn cells(page: &mut Markup, row: &Row) {
    page.open("tr", &[("class", &class(row.tone))]);
    let last = row.cells.len().saturating_sub(1);
    for (n, cell) in row.cells.iter().enumerate() {
        page.open("td", &[]);
        if row.prose {
            page.prose(cell);
        } else {
            page.text(cell);
        }
        if n == last && !row.more.is_empty() {
            page.open("details", &[]).leaf("summary", &[], "the exact steps");
            page.leaf("pre", &[], &row.more.join("\n")).close();
        }
        page.close();
    }
    page.close();
}

/// Lag, latency and throughput over the lab's life.
fn charts(page: &mut Markup, model: &Model) {
    let points: Vec<&Point> = model.history.whole().collect();
    if points.is_empty() {
        return;
    }
    let line = |name: &str, value: fn(&Point) -> Option<f64>| Series {
        name: name.to_owned(),
        points: points.iter().map(|p| (seconds(p), value(p))).collect(),
    };
    let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
    let charts = [
        ("Replication lag, bytes behind the upstream", lags(model, &points), Scale::Linear, bytes as fn(f64) -> String),
        (
            "Commit latency",
            vec![
                line("median", |p| p.p50_us.map(|us| us as f64 / 1e3)),
                line("99th percentile", |p| p.p99_us.map(|us| us as f64 / 1e3)),
                Series {
                    name: "oldest under way".to_owned(),
                    points: points.iter().map(|p| (seconds(p), ms(Some(p.oldest_us).filter(|us| *us > 0)))).collect(),
                },
            ],
            Scale::Log(0.1),
            milliseconds,
        ),
        ("Throughput, commits per second", vec![line("commits", |p| Some(p.commits_per_s))], Scale::Linear, per_second),
    ];
    page.leaf("h2", &[], "Over time");
    if !model.fault_log.is_empty() {
        page.leaf("p", &[], "A shaded band is a fault while it lasted.");
    }
    let end = model.now.0 as f64 / 1e6;
    for (title, series, scale, unit) in charts {
        Chart { title, series, scale, unit, end, faults: &model.fault_log }.draw(page);
    }
}

fn seconds(point: &Point) -> f64 {
    point.at.0 as f64 / 1e6
}

/// A line for each node that ever was a standby.
fn lags(model: &Model, points: &[&Point]) -> Vec<Series> {
    let mut names: Vec<&NodeName> = model.names().collect();
    names.extend(points.iter().flat_map(|p| p.behind.iter().map(|(name, _)| name)));
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    let of = |name: &NodeName| {
        let value = |p: &&&Point| p.behind.iter().find(|(n, _)| n == name).map(|(_, bytes)| *bytes as f64);
        Series { name: name.to_string(), points: points.iter().map(|p| (seconds(p), value(&p))).collect() }
    };
    names.into_iter().map(of).filter(|s| s.points.iter().any(|(_, value)| value.is_some())).collect()
}

fn bytes(value: f64) -> String {
    size(value as u64)
}

fn milliseconds(value: f64) -> String {
    match value {
        1_000.0.. => format!("{:.0} s", value / 1e3),
        1.0.. => format!("{value:.0} ms"),
        _ => format!("{value:.1} ms"),
    }
}

fn per_second(value: f64) -> String {
    format!("{value:.0}/s")
}
