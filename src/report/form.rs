//! The forms a report can have, by the ending of its file.

use std::path::{Path, PathBuf};

use super::{Report, html, junit, markdown};
use crate::model::Model;

/// A form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For programs: docs/report-format.md.
    Json,
    /// JUnit's XML, for CI.
    Junit,
    /// Markdown.
    Markdown,
    /// One page with charts, which needs nothing beside it.
    Html,
}

/// Which ending means which form.
pub const ENDINGS: [(&str, Form); 4] =
    [("json", Form::Json), ("xml", Form::Junit), ("md", Form::Markdown), ("html", Form::Html)];

impl Form {
    /// The form that a file's ending asks for.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        ENDINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ending)).map(|(_, form)| *form)
    }

    /// The report in this form. `model`: what the report was made of; charts, journal and logs come from it.
    pub fn text(self, report: &Report, model: &Model) -> String {
        match self {
            Self::Json => report.json(),
            Self::Junit => junit::page(report, model),
            Self::Markdown => markdown::page(report, model),
            Self::Html => html::page(report, model),
        }
    }
}

/// A file that a report can be written to; else says which endings there are.
pub fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match Form::of(&path) {
        Some(_) => Ok(path),
        None => Err("a report's form is told by its ending: .json, .xml (JUnit), .md or .html".to_owned()),
    }
}
