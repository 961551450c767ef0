//! The lesson moves on: after each message, as far as it can. The person's keys are beside it (`reading`).

mod query;
mod reading;

pub use reading::key;

use crate::model::command::Command;
use crate::model::condition::{Condition, Value};
use crate::model::journal::{Tone, Who};
use crate::model::msg::{Effect, OpId, Origin};
use crate::model::script::{Progress, Script, StepKind, StepResult};
use crate::model::{Model, Node, NodeName, Stage, Stamp};

/// Log lines told of a node that a step waited for in vain.
const LAST_LINES: usize = 3;

/// Moves the lesson on until it has to wait for something.
pub fn advance(model: &mut Model) -> Vec<Effect> {
    let mut effects = Vec::new();
    if model.stage != Stage::Live || !reading::arrived(model, &mut effects) {
        return effects;
    }
    if let Some(script) = &mut model.script {
        script.began.get_or_insert(model.now);
    }
    while let Some((step, progress)) = present(model) {
        let now = model.now;
        model.script.iter_mut().for_each(|script| script.enter(now));
        let moved = match step {
            StepKind::Say(_) => read(model, &progress, String::new()),
            StepKind::Ask(question) => reading::ask(model, &question, &progress),
            StepKind::Reveal(of) => {
                let told = reading::told(model, of);
                read(model, &progress, told)
            }
            StepKind::Do(commands) => match next_of(&commands, &progress) {
                Some(command) => doing(model, &[command], progress, &mut effects),
                None => all_done(model),
            },
            StepKind::Together(commands) => match progress {
                Progress::Doing { index: 1.., .. } => all_done(model),
                progress => doing(model, &commands, progress, &mut effects),
            },
            StepKind::Sql(query) => query::run(model, &query, progress, &mut effects),
            StepKind::Wait { condition, within_ms } => watch(model, &condition, &progress, within_ms, 0),
            StepKind::Expect { condition, within_ms, during_ms } => {
                watch(model, &condition, &progress, within_ms, during_ms)
            }
            StepKind::Pause(ms) => pause(model, &progress, ms),
        };
        if !moved {
            break;
        }
    }
    if model.script.as_ref().is_some_and(Script::over) && model.let_sessions_go() {
        effects.push(Effect::CloseSql);
    }
    effects
}

fn present(model: &Model) -> Option<(StepKind, Progress)> {
    let script = model.script.as_ref()?;
    Some((script.step()?.kind.clone(), script.progress.clone()))
}

fn set(model: &mut Model, progress: Progress) {
    if let Some(script) = &mut model.script {
        script.progress = progress;
    }
}

/// Whether somebody reads along: not when it plays by itself, and not on the way to another step.
fn is_read(model: &Model) -> bool {
    model.script.as_ref().is_some_and(|s| s.by_hand && !s.skims())
}

/// Whether a lesson that goes on by itself has shown its text for long enough.
fn is_read_by_now(model: &Model) -> bool {
    let left = model.script.as_ref().and_then(|s| s.goes_on_in(model.now));
    left.is_some_and(|(left, _)| left == 0)
}

fn read(model: &mut Model, progress: &Progress, detail: String) -> bool {
    match progress {
        Progress::Reading(_) => is_read_by_now(model) && finish(model, true, detail),
        _ if is_read(model) => {
            set(model, Progress::Reading(model.now));
            false
        }
        _ => finish(model, true, detail),
    }
}

fn pause(model: &mut Model, progress: &Progress, ms: u64) -> bool {
    let begun = since(progress, model.now);
    if model.now.ms_since(begun) < ms {
        set(model, Progress::Watching { since: begun, held: None });
        return false;
    }
    finish(model, true, String::new())
}

fn since(progress: &Progress, now: Stamp) -> Stamp {
    match progress {
        Progress::Doing { since, .. }
        | Progress::Watching { since, .. }
        | Progress::Reading(since)
        | Progress::Asking(since) => *since,
        Progress::Fresh => now,
    }
}

/// An act of the lesson begins: what is logged from now on came after it.
fn acts(model: &mut Model) {
    let now = model.now;
    if let Some(script) = &mut model.script {
        script.acted = now;
    }
}

fn next_of(commands: &[Command], progress: &Progress) -> Option<Command> {
    let index = if let Progress::Doing { index, .. } = progress { *index } else { 0 };
    commands.get(index).cloned()
}

/// Asks for commands, all at once, and waits until they are done.
fn doing(model: &mut Model, commands: &[Command], progress: Progress, effects: &mut Vec<Effect>) -> bool {
    let begun = since(&progress, model.now);
    let (index, ops) = match progress {
        Progress::Doing { index, ops, .. } => (index, ops),
        _ => (0, None),
    };
    let in_words = || commands.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match ops {
        None => {
            if index == 0 {
                acts(model);
            }
            let mut all = Vec::new();
            for command in commands {
                match super::commands::request(model, command.clone(), Origin::Script) {
                    Ok((ids, work)) => {
                        effects.extend(work);
                        all.extend(ids);
                    }
                    Err(why) if may_fail(model) => {
                        model.say(Who::Script, Tone::Warn, format!("{command}: {why}"));
                    }
                    Err(why) => return done_badly(model, &format!("{command}: {why}")),
                }
            }
            set(model, Progress::Doing { index, ops: Some(all), since: begun });
            true
        }
        Some(ids) if under_way(model, &ids) => false,
        Some(ids) => match first_error(model, &ids) {
            Some(why) if !may_fail(model) => done_badly(model, &format!("{}: {why}", in_words())),
            failed => {
                if let Some(why) = failed {
                    model.say(Who::Script, Tone::Warn, format!("{}: {why}", in_words()));
                }
                set(model, Progress::Doing { index: index + 1, ops: None, since: begun });
                true
            }
        },
    }
}

fn under_way(model: &Model, ids: &[OpId]) -> bool {
    ids.iter().any(|id| model.ops.contains_key(id))
}

fn first_error(model: &Model, ids: &[OpId]) -> Option<String> {
    ids.iter().find_map(|id| model.ended.get(id).cloned().flatten())
}

fn may_fail(model: &Model) -> bool {
    model.script.as_ref().and_then(Script::step).is_some_and(|s| s.may_fail)
}

/// All commands of a step went well; a step that was to be refused has failed by that.
fn all_done(model: &mut Model) -> bool {
    done_well(model, String::new())
}

/// The same with something to show for it.
fn done_well(model: &mut Model, detail: String) -> bool {
    let wanted = model.script.as_ref().and_then(Script::step).and_then(|s| s.refused.clone());
    match wanted {
        Some(part) => {
            finish(model, false, format!("nothing was refused; \"{part}\" was to be the reason"));
            end(model)
        }
        None => finish(model, true, detail),
    }
}

/// A command failed or was refused: that ends the lesson, unless the lesson expects just that.
fn done_badly(model: &mut Model, why: &str) -> bool {
    let expected = model.script.as_ref().and_then(Script::step).and_then(|s| s.refused.clone());
    match expected {
        Some(part) if why.contains(&part) => finish(model, true, format!("refused, as expected: {why}")),
        Some(part) => {
            finish(model, false, format!("{why}; \"{part}\" was to be the reason"));
            end(model)
        }
        None => {
            finish(model, false, why.to_owned());
            end(model)
        }
    }
}

fn watch(model: &mut Model, condition: &Condition, progress: &Progress, within_ms: u64, during_ms: u64) -> bool {
    let begun = since(progress, model.now);
    if !seen_since(model, begun) {
        set(model, Progress::Watching { since: begun, held: None });
        return false;
    }
    let (holds, value) = condition.check(model);
    let held = match progress {
        Progress::Watching { held, .. } => *held,
        _ => None,
    };
    let waited = model.now.ms_since(begun);
    let is_wait = model.script.as_ref().and_then(Script::step).is_some_and(|s| s.word() == "wait");
    let evidence = || format!("{condition}: {} (after {waited} ms)", shown(model, condition, &value));
    if holds && model.now.ms_since(held.unwrap_or(model.now)) >= during_ms {
        return finish(model, true, evidence());
    }
    if !holds && waited >= within_ms {
        // What must hold at once says enough by its value; what was waited for in vain has a reason somewhere.
        let said = if within_ms > 0 { last_lines(model, condition.node()) } else { String::new() };
        finish(model, false, evidence() + &said);
        return !is_wait || end(model);
    }
    let held = holds.then(|| held.unwrap_or(model.now));
    set(model, Progress::Watching { since: begun, held });
    false
}

/// The value that was seen; of an answer to SQL also whose it is.
fn shown(model: &Model, condition: &Condition, value: &Value) -> String {
    let shown = condition.shown(value);
    match model.sql.as_ref().filter(|_| condition.quantity() == "sql_value") {
        Some((node, _)) => format!("{node} shows {shown}"),
        None => format!("it is {shown}"),
    }
}

/// What the node that was waited for logged last; every node, where the condition is of the whole lab.
fn last_lines(model: &Model, node: Option<&NodeName>) -> String {
    let concerned = model.nodes.iter().filter(|n| node.is_none_or(|name| n.name == *name) && !n.logs.is_empty());
    concerned.map(|n| last_of(n, if node.is_some() { LAST_LINES } else { 1 })).collect()
}

fn last_of(node: &Node, most: usize) -> String {
    let first = node.logs.len().saturating_sub(most);
    let lines: Vec<String> = node
        .logs
        .iter()
        .skip(first)
        .map(|l| format!("{} {}", l.line.severity, l.line.text).trim().to_owned())
        .collect();
    format!("; {} logged last: {}", node.name, lines.join(" | "))
}

/// Whether every node that answers was looked at wholly after `begun`: an expectation after an act must not be met by
/// what was seen before it. A node that stops answering is not waited for longer than two seconds.
fn seen_since(model: &Model, begun: Stamp) -> bool {
    let looked = |node: &Node| {
        let took = node.sample.as_ref().map_or(0, |s| s.took_us);
        node.seen.is_some_and(|seen| seen.0.saturating_sub(took) >= begun.0)
    };
    model.now.ms_since(begun) > 2_000 || model.nodes.iter().filter(|n| n.answers()).all(looked)
}

/// The present step is over; the next one is there.
fn finish(model: &mut Model, ok: bool, detail: String) -> bool {
    let (now, after) = (model.now, model.journal.written());
    let Some(script) = &mut model.script else { return true };
    let begun = since(&script.progress, now);
    let name = script.step().map(|s| s.name.clone()).unwrap_or_default();
    script.results.push(StepResult { ok, ms: now.ms_since(begun), detail: detail.clone(), after });
    script.at += 1;
    script.progress = Progress::Fresh;
    script.hints = 0;
    script.amiss = None;
    script.furthest = script.furthest.max(script.at);
    script.reread = None;
    if !script.skims() {
        script.jump = None;
    }
    if !ok {
        let text = if detail.starts_with(&name) { detail } else { format!("{name}: {detail}") };
        model.say(Who::Script, Tone::Bad, text);
    }
    true
}

/// The lesson can't go on: what its next texts say would not be so.
fn end(model: &mut Model) -> bool {
    let Some(script) = &mut model.script else { return true };
    script.at = script.steps.len();
    script.jump = None;
    if let Some(at) = script.stopped_at() {
        let text =
            format!("the lesson stops here, at step {} of {}: what it has left to tell is not so", at + 1, script.at);
        model.say(Who::Script, Tone::Bad, text);
    }
    true
}
