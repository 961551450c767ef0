//! Lessons as files on the command line: checked, and their schema. Starts nothing.

use color_eyre::eyre::Result;

use super::plain::{complain, print};
use crate::cli::{Common, exit};
use crate::scenario::{self, LoadError};

/// `check`: every mistake of every file, on standard error; a line for each file that has none.
pub fn check(common: &Common, files: &[String]) -> Result<u8> {
    let mut code = exit::OK;
    let mut rows = Vec::new();
    for file in files {
        let (mistakes, more) = match scenario::check_named(file) {
            Ok(found) => found,
            // What is no text at all has a place too.
            Err(LoadError::Invalid(mistake)) => (vec![*mistake], 0),
            Err(why) => {
                code = code.max(exit::USAGE);
                if common.json {
                    rows.push(
                        serde_json::json!({"file": file, "line": null, "column": null, "message": why.to_string()}),
                    );
                }
                complain(&why.to_string())?;
                continue;
            }
        };
        if !mistakes.is_empty() {
            code = exit::SCENARIO;
        }
        for mistake in &mistakes {
            if common.json {
                rows.push(serde_json::json!({
                    "file": mistake.file, "line": mistake.line, "column": mistake.column, "message": mistake.message,
                }));
            } else {
                complain(&format!("{mistake}\n"))?;
            }
        }
        if !common.json {
            verdict(common, file, mistakes.len() + more, more)?;
        }
    }
    if common.json {
        print(&(serde_json::to_string_pretty(&rows)? + "\n"))?;
    }
    Ok(code)
}

fn verdict(common: &Common, file: &str, count: usize, untold: usize) -> Result<()> {
    let file = crate::model::safe_text(file);
    match count {
        0 if common.quiet => {}
        0 => print(&format!("{file}: no mistakes\n"))?,
        1 => complain(&format!("{file}: 1 mistake"))?,
        n if untold > 0 => complain(&format!("{file}: {n} mistakes, {untold} of them not told"))?,
        n => complain(&format!("{file}: {n} mistakes"))?,
    }
    Ok(())
}

/// `schema`.
pub fn print_schema() -> Result<u8> {
    print(&(serde_json::to_string_pretty(&scenario::schema())? + "\n"))?;
    Ok(exit::OK)
}
