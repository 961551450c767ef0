//! Lessons as files on the command line: checked, and their schema. Starts nothing.

use color_eyre::eyre::Result;

use super::plain::{complain, print};
use crate::cli::{Common, exit};
use crate::scenario::{self, Complaints, LoadError, Weight};

/// `check`: all that there is to say of every file, on standard error; a line for each file that has no mistake.
pub fn check(common: &Common, files: &[String]) -> Result<u8> {
    let mut code = exit::OK;
    let mut rows = Vec::new();
    for file in files {
        let complaints = match scenario::check_named(file) {
            Ok(found) => found,
            // What is no text at all has a place too.
            Err(LoadError::Invalid(complaints)) => complaints,
            Err(why) => {
                code = code.max(exit::USAGE);
                if common.json {
                    rows.push(serde_json::json!({
                        "file": file, "line": null, "column": null, "severity": "error", "message": why.to_string(),
                    }));
                }
                complain(&why.to_string())?;
                continue;
            }
        };
        if complaints.refuse() {
            code = exit::SCENARIO;
        }
        for told in &complaints.told {
            if common.json {
                rows.push(serde_json::json!({
                    "file": told.file, "line": told.line, "column": told.column, "severity": told.weight.word(),
                    "message": told.message,
                }));
            } else if told.weight == Weight::Mistake || !common.quiet {
                complain(&format!("{told}\n"))?;
            }
        }
        if !common.json {
            verdict(common, file, &complaints)?;
        }
    }
    if common.json {
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    }
    Ok(code)
}

/// A file that is not played: the same words as `check` has for it.
pub fn refuse(complaints: &Complaints) -> std::io::Result<()> {
    for told in &complaints.told {
        complain(&format!("{told}\n"))?;
    }
    let file = complaints.told.first().map_or("", |told| &told.file);
    complain(&format!("{file}: {}", complaints.count().unwrap_or_default()))
}

fn verdict(common: &Common, file: &str, complaints: &Complaints) -> Result<()> {
    let file = crate::model::safe_text(file);
    match complaints.count() {
        Some(count) if complaints.refuse() => complain(&format!("{file}: {count}"))?,
        _ if common.quiet => {}
        Some(count) => print(&format!("{file}: no mistakes, {count}\n"))?,
        None => print(&format!("{file}: no mistakes\n"))?,
    }
    Ok(())
}

/// `schema`.
pub fn print_schema() -> Result<u8> {
    print(&(serde_json::to_string_pretty(&scenario::schema())? + "\n"))?;
    Ok(exit::OK)
}
