//! What the person does with a lesson: reads on and back, answers, takes a hint, jumps to a chapter. Knows no condition
//! and no command but `reset`.

use super::{acts, finish, first_error, is_read, set, under_way};
use crate::model::Model;
use crate::model::command::Command;
use crate::model::journal::{Tone, Who};
use crate::model::msg::{Effect, Origin, Playback};
use crate::model::script::{Jump, Progress, Question, Script, StepKind};

/// A key of the person.
pub fn key(model: &mut Model, key: Playback) -> Vec<Effect> {
    match key {
        Playback::Leave => leave(model),
        Playback::Return => come_back(model),
        Playback::Next => next(model),
        Playback::Back => back(model),
        Playback::Answer(choice) => answer(model, choice),
        Playback::Hint => hint(model),
        Playback::Jump(chapter) => {
            let to = model.script.as_ref().and_then(|s| s.chapters().nth(chapter)).map(|(at, _)| at);
            jump(model, to);
        }
        Playback::Restart => {
            if let Some(script) = &mut model.script {
                (script.began, script.hints_taken) = (None, 0);
                (script.skipped, script.furthest) = (false, 0);
                script.answers.clear();
            }
            jump(model, Some(0));
        }
        Playback::Auto => auto(model),
        Playback::Pace { faster } => {
            if let Some(script) = &mut model.script {
                script.change_pace(faster);
            }
        }
    }
    Vec::new()
}

/// The lesson is set aside as it is; its sessions stay open, so that it can go on.
fn leave(model: &mut Model) {
    model.set_aside = model.script.take();
    if let Some(script) = &model.set_aside {
        let text = format!("left the lesson \"{}\"; X comes back to it", script.title);
        model.say(Who::You, Tone::Plain, text);
    }
}

/// It goes on where it was left. What it was waiting for gets its whole time anew.
fn come_back(model: &mut Model) {
    if model.script.is_some() {
        return;
    }
    model.script = model.set_aside.take();
    let now = model.now;
    if let Some(script) = &mut model.script {
        // SQL that is asked again and again begins anew.
        let asks_again = matches!(script.step().map(|s| &s.kind), Some(StepKind::Sql(_)));
        if asks_again && matches!(script.progress, Progress::Doing { ops: None, .. }) {
            script.progress = Progress::Fresh;
        }
        match &mut script.progress {
            Progress::Watching { since, held } => (*since, *held) = (now, None),
            Progress::Doing { since, .. } | Progress::Reading(since) | Progress::Asking(since) => *since = now,
            Progress::Fresh => {}
        }
        script.auto = script.auto.map(|_| now);
        let anew = if script.over() { "" } else { "; it knows the cluster as it left it: [ makes it anew" };
        let text = format!("back at the lesson \"{}\"{anew}", script.title);
        model.say(Who::You, Tone::Plain, text);
    }
}

fn next(model: &mut Model) {
    let now = model.now;
    let Some(script) = &mut model.script else { return };
    if let Some(at) = script.reread {
        script.reread = (at + 1..script.stands_at()).find(|i| script.steps[*i].is_text());
        // Back at the lesson's own text one finds into it anew.
        script.auto = script.auto.map(|_| now);
        return;
    }
    if matches!(script.progress, Progress::Reading(_)) {
        let of = match script.step().map(|s| &s.kind) {
            Some(StepKind::Reveal(of)) => Some(*of),
            _ => None,
        };
        let detail = of.map(|of| told(model, of)).unwrap_or_default();
        finish(model, true, detail);
    }
}

/// From now on the lesson goes on by itself, or it waits again.
fn auto(model: &mut Model) {
    let now = model.now;
    if let Some(script) = &mut model.script {
        script.auto = if script.auto.is_some() { None } else { Some(now) };
    }
}

fn back(model: &mut Model) {
    let Some(script) = &mut model.script else { return };
    let from = script.reread.unwrap_or(script.stands_at()).min(script.steps.len());
    if let Some(before) = (0..from).rev().find(|i| script.steps[*i].is_text()) {
        script.reread = Some(before);
    }
}

fn answer(model: &mut Model, choice: usize) {
    let Some(script) = &mut model.script else { return };
    let Some(question) = script.question(script.at) else { return };
    if !matches!(script.progress, Progress::Asking(_)) || choice >= question.choices.len() {
        return;
    }
    let detail = format!("answered: {}", question.choices[choice]);
    script.answers.insert(script.at, choice);
    finish(model, true, detail);
}

fn hint(model: &mut Model) {
    let Some(script) = &mut model.script else { return };
    if script.step().is_some_and(|s| s.hints.len() > script.hints) {
        script.hints += 1;
        script.hints_taken += 1;
    }
}

/// A question: it waits for its answer where somebody reads along.
pub fn ask(model: &mut Model, question: &Question, progress: &Progress) -> bool {
    match progress {
        Progress::Asking(_) => false,
        _ if is_read(model) => {
            set(model, Progress::Asking(model.now));
            false
        }
        _ => finish(model, true, format!("{} choices", question.choices.len())),
    }
}

/// What is told when a question is answered by what happened.
pub fn told(model: &Model, of: usize) -> String {
    let Some(script) = &model.script else { return String::new() };
    let Some(question) = script.question(of) else { return String::new() };
    let right = question.choices.get(question.answer).map_or("", String::as_str);
    match script.answers.get(&of).map(|choice| *choice == question.answer) {
        Some(true) => format!("Right. The answer is: {right}"),
        Some(false) => format!("Not quite. The answer is: {right}"),
        None => format!("The answer is: {right}"),
    }
}

/// Takes the lesson to a step. Where a jump is under way already its reset serves this one too.
fn jump(model: &mut Model, to: Option<usize>) {
    let before = model.script.as_ref().and_then(|s| s.jump.clone());
    let again = before.is_some();
    // Another reset than this lesson's own is waited for, and done once more.
    let reset = before.and_then(|jump| jump.reset).filter(|ids| under_way(model, ids));
    let (Some(script), Some(to)) = (&mut model.script, to) else { return };
    let here = script.here();
    script.skipped |= to > here.max(script.furthest);
    script.jump = Some(Jump { to, reset });
    script.at = 0;
    script.progress = Progress::Fresh;
    script.results.clear();
    (script.reread, script.amiss) = (None, None);
    script.hints = 0;
    let name = script.chapter_of(to).map_or_else(|| "the beginning".to_owned(), |(_, name)| format!("\"{name}\""));
    let what = if again { "rather" } else { "the cluster is made anew and taken" };
    model.say(Who::Script, Tone::Plain, format!("{what} to {name}"));
}

/// Whether the lesson may play on: on the way to another step the cluster is reset first.
pub fn arrived(model: &mut Model, effects: &mut Vec<Effect>) -> bool {
    let Some(jump) = model.script.as_ref().and_then(|s| s.jump.clone()) else { return true };
    match &jump.reset {
        // Somebody resets it already: that is waited for, and done once more for this lesson.
        None if model.is_resetting() => false,
        None => {
            acts(model);
            match crate::model::update::commands::request(model, Command::Reset, Origin::Script) {
                Ok((ids, work)) => {
                    effects.extend(work);
                    note(model, Some(Jump { reset: Some(ids), ..jump }));
                }
                Err(why) => give_up(model, &why),
            }
            false
        }
        Some(ids) if under_way(model, ids) => false,
        Some(ids) => match first_error(model, ids) {
            Some(why) => {
                give_up(model, &why);
                false
            }
            None => {
                if model.script.as_ref().is_some_and(|s| !s.skims()) {
                    note(model, None);
                }
                true
            }
        },
    }
}

fn note(model: &mut Model, jump: Option<Jump>) {
    if let Some(script) = &mut model.script {
        script.jump = jump;
    }
}

fn give_up(model: &mut Model, why: &str) {
    if let Some(script) = model.script.as_mut().filter(|s: &&mut Script| !s.over()) {
        script.at = script.steps.len();
    }
    note(model, None);
    model.say(Who::Script, Tone::Bad, format!("the lesson can't be taken there: {why}"));
}
