//! A step that runs SQL: asked once, or again and again until it gives what it must. Knows no SQL.

use super::{acts, all_done, done_badly, done_well, end, finish, first_error, last_lines, set, since, under_way};
use crate::model::Model;
use crate::model::command::Command;
use crate::model::msg::{Effect, Origin};
use crate::model::script::{Progress, Query, in_a_line};

/// Between two attempts of one step.
const AGAIN_MS: u64 = 250;

/// Runs the query, or goes on waiting for it; true when the step is over.
pub fn run(model: &mut Model, query: &Query, progress: Progress, effects: &mut Vec<Effect>) -> bool {
    let begun = since(&progress, model.now);
    let waited = model.now.ms_since(begun);
    let (tries, ops) = match progress {
        Progress::Doing { index, ops, .. } => (index, ops),
        _ => (0, None),
    };
    let Some(ids) = ops else {
        if waited < tries as u64 * AGAIN_MS {
            return false;
        }
        if tries == 0 {
            acts(model);
        }
        return match super::super::commands::request(model, query.command.clone(), Origin::Script) {
            Ok((_, work)) if query.background => {
                effects.extend(work);
                all_done(model)
            }
            Ok((ids, work)) => {
                effects.extend(work);
                set(model, Progress::Doing { index: tries, ops: Some(ids), since: begun });
                true
            }
            Err(why) => done_badly(model, &format!("{}: {why}", query.command)),
        };
    };
    let late = query.within_ms.is_none_or(|ms| waited >= ms);
    if under_way(model, &ids) {
        // A statement without a limit of its own has the console's.
        if query.within_ms.is_none() || !late {
            return false;
        }
        let said = logged(model, query);
        // What it gave before is what it gave: only that this last answer is late.
        if let Some(why) = model.script.as_ref().and_then(|s| s.amiss.clone()) {
            return finish(model, false, format!("{why} after {waited} ms{said}"));
        }
        finish(model, false, format!("{}: no answer after {waited} ms{said}", query.command));
        return end(model);
    }
    if let Some(why) = first_error(model, &ids) {
        return done_badly(model, &format!("{}: {why}", query.command));
    }
    let Some(got) = ids.iter().find_map(|id| model.answers.get(id).cloned()) else {
        return finish(model, false, format!("{}: no answer", query.command));
    };
    match query.wanted.amiss(&got) {
        None => done_well(model, in_a_line(&got)),
        Some(why) if !late => {
            let may_go_on = got.error.is_none() || query.wanted.error.is_some();
            model.script.iter_mut().for_each(|s| s.amiss = may_go_on.then(|| why.clone()));
            set(model, Progress::Doing { index: tries + 1, ops: None, since: begun });
            true
        }
        Some(why) => {
            let said = if query.within_ms.is_some() { logged(model, query) } else { String::new() };
            finish(model, false, format!("{why} after {waited} ms{said}"));
            // What was only looked at can be amiss and the lesson go on; an error nobody expected has changed its course.
            got.error.is_none() || query.wanted.error.is_some() || end(model)
        }
    }
}

/// What the node that was asked logged last.
fn logged(model: &Model, query: &Query) -> String {
    match &query.command {
        Command::Sql { node, .. } => last_lines(model, Some(node)),
        _ => String::new(),
    }
}
