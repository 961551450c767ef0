//! The report as Markdown, with tables as GitHub and GitLab show them.

use super::markup::shown;
use super::{Report, sheet};
use crate::model::Model;

/// The whole page.
pub(super) fn page(report: &Report, model: &Model) -> String {
    let sheet = sheet::of(report, model);
    let mut text = format!("# {}\n\n**Verdict: {}**\n\n", cell(&sheet.title), cell(&sheet.verdict.1));
    text.extend(sheet.findings.iter().map(|finding| format!("- {}\n", cell(finding))));
    for section in &sheet.sections {
        text.push_str(&format!("\n## {}\n\n", section.title));
        text.push_str(&row(section.head.iter().map(|h| cell(h))));
        text.push_str(&row(section.head.iter().map(|_| "---".to_owned())));
        text.extend(section.rows.iter().map(|r| row(r.cells.iter().map(|c| if r.prose { prose(c) } else { cell(c) }))));
    }
    text
}

fn row(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

/// A lesson's own prose: its emphasis and code stay, and nothing else of it is markup.
fn prose(text: &str) -> String {
    cell(text).replace("\\*", "*").replace("\\`", "`")
}

/// A text in a line of its own, of which nothing can be taken for markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in shown(text.trim()) {
        match c {
            '\n' => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '$' => safe.extend(['\\', c]),
            c => safe.push(c),
        }
    }
    safe
}
