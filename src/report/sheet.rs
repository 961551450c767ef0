//! What a report for people has in it, whatever its form: sections of texts and tables. Knows no markup.

use super::chaos::ChaosReport;
use super::{FaultReport, HandoverReport, NodeReport, Report};
use crate::model::journal::{Entry, Tone};
use crate::model::verdict::Verification;
use crate::model::{Model, Node};

/// Log lines told of each node.
const LOG_LINES: usize = 20;

/// A report for people.
pub(super) struct Sheet {
    /// Its heading.
    pub title: String,
    /// The verdict, and how to look at it.
    pub verdict: (Tone, String),
    /// The sentences that explain it.
    pub findings: Vec<String>,
    /// The rest.
    pub sections: Vec<Section>,
}

/// A section: a table under a heading.
pub(super) struct Section {
    /// The heading.
    pub title: &'static str,
    /// The columns.
    pub head: Vec<&'static str>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// A row of a table.
pub(super) struct Row {
    /// How to look at it.
    pub tone: Tone,
    /// Its cells.
    pub cells: Vec<String>,
    /// They are a lesson's own prose, which is written in markdown.
    pub prose: bool,
    /// Exact steps behind it, line by line.
    pub more: Vec<String>,
}

impl Row {
    fn new(cells: Vec<String>) -> Self {
        Self { tone: Tone::Plain, cells, prose: false, more: Vec::new() }
    }
}

/// The sheet of a report.
pub(super) fn of(report: &Report, model: &Model) -> Sheet {
    let script = model.lesson();
    let title = match (script, &report.chaos) {
        (Some(script), _) => script.title.clone(),
        (None, Some(chaos)) => format!("Chaos of seed {}", chaos.seed),
        (None, None) => "A lab".to_owned(),
    };
    let tone = match report.verdict.as_str() {
        "sound" => Tone::Good,
        "broken" => Tone::Bad,
        _ => Tone::Warn,
    };
    let failed = report.steps.iter().filter(|s| !s.ok).map(|s| format!("failed: {} ({})", s.name, s.detail));
    let mut findings: Vec<String> = report.findings.iter().cloned().chain(failed).collect();
    findings.extend(report.broke_off());
    findings.extend(Some(report.losses.clone()).filter(|l| !l.is_empty()));
    let all = [
        lab(report, model),
        steps(report),
        rounds(report.chaos.as_ref()),
        writes(report, model),
        nodes(&report.nodes),
        handovers(&report.handovers),
        faults(&report.faults),
        timelines(report),
        rejoins(report),
        sides(report),
        story(model),
        logs(model),
    ];
    let sections = all.into_iter().filter(|s| !s.rows.is_empty()).collect();
    Sheet { title, verdict: (tone, report.verdict.clone()), findings, sections }
}

/// The journal, a line an entry.
pub(super) fn journal(model: &Model) -> Vec<String> {
    model.journal.entries().map(|e| format!("{}  {}  {}", moment(e.at.0 / 1_000), e.who.word(), e.text)).collect()
}

/// Seconds since the lab was opened.
fn moment(ms: u64) -> String {
    format!("{:.3} s", ms as f64 / 1e3)
}

fn section<const N: usize>(title: &'static str, head: [&'static str; N], rows: Vec<Row>) -> Section {
    Section { title, head: head.into(), rows }
}

fn lab(report: &Report, model: &Model) -> Section {
    let e = &report.expectations;
    let nodes = model.nodes.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ");
    let up = report.bring_up_ms.map_or("not at all".to_owned(), |ms| format!("in {}", moment(ms)));
    let all = [
        ("Lesson", report.scenario.clone().unwrap_or_default()),
        ("Summary", model.lesson().map(|s| s.summary.clone()).unwrap_or_default()),
        ("PostgreSQL", format!("{}, {}, {}", report.postgres, report.runtime, model.source)),
        ("Nodes", nodes),
        ("Came up", up),
        ("Lasted", moment(model.now.0 / 1_000)),
        ("Expectations", format!("{} held, {} did not", e.passed, e.failed)),
        ("replab", report.replab.clone()),
    ];
    let rows = all.into_iter().filter(|(_, value)| !value.is_empty());
    let row =
        |(name, value): (&str, String)| Row { prose: name == "Summary", ..Row::new(vec![name.to_owned(), value]) };
    section("The lab", ["", ""], rows.map(row).collect())
}

fn steps(report: &Report) -> Section {
    let told = report.steps.iter().enumerate().filter(|(_, s)| s.kind != "say" || !s.ok);
    let row = |(n, step): (usize, &super::StepReport)| Row {
        tone: if step.ok { Tone::Good } else { Tone::Bad },
        cells: vec![
            (n + 1).to_string(),
            step.kind.clone(),
            step.name.clone(),
            if step.ok { "ok" } else { "FAILED" }.to_owned(),
            moment(step.ms),
            step.detail.clone(),
        ],
        prose: ["say", "ask", "reveal"].contains(&step.kind.as_str()),
        more: Vec::new(),
    };
    section("Steps and expectations", ["#", "Kind", "Step", "Result", "Took", "Evidence"], told.map(row).collect())
}

/// Lost is what no node has any more. What is only missing on the primary, a node that wasn't read may still hold.
fn writes(report: &Report, model: &Model) -> Section {
    let w = &report.writes;
    let mut all = vec![
        ("tried", w.tried, Tone::Plain),
        ("acknowledged", w.acked, Tone::Plain),
        ("acknowledged with a warning", w.acked_with_warning, Tone::Warn),
        ("failed", w.failed, Tone::Plain),
        ("without an answer", w.unknown, Tone::Warn),
        ("acknowledged, not on the primary", w.lost, Tone::Warn),
        ("of those, still on another node", w.stranded, Tone::Warn),
    ];
    let gone = model.verification.as_ref().and_then(Verification::gone);
    all.extend(gone.map(|gone| ("of those, lost, on no node", gone, Tone::Bad)));
    let row = |(name, count, tone): (&str, u64, Tone)| Row {
        tone: if count > 0 { tone } else { Tone::Plain },
        ..Row::new(vec![name.to_owned(), count.to_string()])
    };
    section("Writes", ["", "Writes"], all.into_iter().map(row).collect())
}

fn nodes(all: &[NodeReport]) -> Section {
    let row = |n: &NodeReport| {
        let figure = |count: u64| if n.unreadable.is_some() { "–".to_owned() } else { count.to_string() };
        let tone = if n.missing > 0 || n.unreadable.is_some() { Tone::Warn } else { Tone::Plain };
        let cells = [n.node.clone(), figure(n.rows), figure(n.present), figure(n.missing)];
        Row { tone, ..Row::new(cells.into_iter().chain(Some(n.unreadable.clone().unwrap_or_default())).collect()) }
    };
    let head = ["Node", "Rows of the writer", "Acknowledged ones there", "Missing", "Could not be read"];
    section("Each node at the last reading", head, all.iter().map(row).collect())
}

/// A part of a handover; a dash where it hasn't come to that.
fn part(ms: Option<f64>) -> String {
    ms.map_or("–".to_owned(), |ms| format!("{ms:.0} ms"))
}

fn handovers(all: &[HandoverReport]) -> Section {
    let row = |h: &HandoverReport| {
        let who = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
        let s = &h.split;
        let mut cells =
            vec![h.kind.clone(), h.cause.clone(), format!("{} → {}", who(&h.old), who(&h.new)), h.from.clone()];
        cells.extend([s.detection_ms, s.election_ms, s.promotion_ms, s.first_ack_ms, s.rto_ms, s.repoint_ms].map(part));
        cells.push(h.failed.clone().unwrap_or_default());
        Row { tone: if h.failed.is_some() { Tone::Bad } else { Tone::Plain }, ..Row::new(cells) }
    };
    let head = [
        "Kind",
        "Cause",
        "Primary",
        "Counted from",
        "Detection",
        "Election",
        "Promotion",
        "First write",
        "RTO",
        "Others follow",
        "Failed",
    ];
    section("Handovers", head, all.iter().map(row).collect())
}

fn faults(all: &[FaultReport]) -> Section {
    let row = |f: &FaultReport| {
        let to = f.to_ms.map_or("to the end".to_owned(), moment);
        Row::new(vec![f.kind.clone(), f.what.clone(), moment(f.from_ms), to])
    };
    section("Faults", ["Kind", "What", "From", "To"], all.iter().map(row).collect())
}

fn timelines(report: &Report) -> Section {
    let row = |t: &super::TimelineReport| {
        let parent = t.parent.map(|p| p.to_string()).unwrap_or_default();
        Row::new(vec![t.id.to_string(), parent, t.fork.clone().unwrap_or_default(), t.node.clone(), moment(t.at_ms)])
    };
    let rows = if report.timelines.len() > 1 { report.timelines.iter().map(row).collect() } else { Vec::new() };
    section("Timelines", ["Timeline", "Parent", "Forked at", "Node", "At"], rows)
}

fn rejoins(report: &Report) -> Section {
    let thrown = |ids: &std::collections::BTreeMap<u32, Vec<(u64, u64)>>| {
        ids.values().flatten().map(|(first, last)| last - first + 1).sum::<u64>().to_string()
    };
    let row = |r: &super::RejoinReport| {
        let away = r.thrown_away.as_ref().map_or("could not be counted".to_owned(), thrown);
        Row::new(vec![r.node.clone(), moment(r.at_ms), r.road.clone(), away, r.detour.clone().unwrap_or_default()])
    };
    section(
        "Nodes that came back",
        ["Node", "At", "How", "Rows of the writer thrown away", "Why not shorter"],
        report.rejoins.iter().map(row).collect(),
    )
}

fn sides(report: &Report) -> Section {
    let row = |s: &super::SideReport| {
        let only: u64 = s.only.values().flatten().map(|(first, last)| last - first + 1).sum();
        Row { tone: Tone::Warn, ..Row::new(vec![s.node.clone(), only.to_string(), s.lost_if_it_loses.to_string()]) }
    };
    let head = ["Primary", "Rows of the writer only it has", "Acknowledged ones lost if another wins"];
    section("Two primaries", head, report.sides.iter().map(row).collect())
}

fn rounds(chaos: Option<&ChaosReport>) -> Section {
    let row = |r: &super::chaos::RoundReport, bad: bool| Row {
        tone: if bad { Tone::Bad } else { Tone::Good },
        cells: vec![
            r.number.to_string(),
            moment(r.at_ms),
            format!("{}, {}", r.rule, r.level),
            r.acts.iter().map(|a| format!("{} ({})", a.command, a.outcome)).collect::<Vec<_>>().join("; "),
            r.whole_after_ms.map_or("not again".to_owned(), moment),
            r.verdict.clone().unwrap_or_default(),
        ],
        prose: false,
        more: r.mends.iter().map(|a| format!("{} {}: {}", moment(a.at_ms), a.command, a.outcome)).collect(),
    };
    let rows = chaos.map_or_else(Vec::new, |c| {
        let last = c.rounds.len().saturating_sub(1);
        let mut rows: Vec<Row> =
            c.rounds.iter().enumerate().map(|(n, r)| row(r, n == last && c.failure.is_some())).collect();
        if let Some(why) = &c.failure {
            rows.push(Row {
                tone: Tone::Bad,
                ..Row::new(vec![
                    "failed".to_owned(),
                    String::new(),
                    String::new(),
                    why.clone(),
                    String::new(),
                    String::new(),
                ])
            });
        }
        rows
    });
    section("Rounds of chaos", ["Round", "At", "Rule", "Faults", "Whole after", "Verdict"], rows)
}

fn story(model: &Model) -> Section {
    let row = |e: &Entry| Row {
        tone: e.tone,
        cells: vec![moment(e.at.0 / 1_000), e.who.word().to_owned(), e.text.clone()],
        prose: false,
        more: e.steps.clone(),
    };
    section("What happened", ["At", "Who", "What"], model.journal.entries().map(row).collect())
}

fn logs(model: &Model) -> Section {
    let of = |node: &Node| {
        let name = node.name.to_string();
        let first = node.logs.len().saturating_sub(LOG_LINES);
        let row = move |l: &crate::model::Logged| {
            Row::new(vec![name.clone(), moment(l.at.0 / 1_000), l.line.severity.clone(), l.line.text.clone()])
        };
        node.logs.iter().skip(first).map(row).collect::<Vec<_>>()
    };
    section("What the nodes logged last", ["Node", "At", "Severity", "Line"], model.nodes.iter().flat_map(of).collect())
}
