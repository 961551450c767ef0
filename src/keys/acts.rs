//! What the keys of the main screen do, each a small function named in `table::TABLE`.

use super::table::Made;
use super::{Intent, Key};
use crate::model::cluster::{NodeState, Role};
use crate::model::command::{COMMIT_LEVELS, Command};
use crate::model::journal::Tone;
use crate::model::links::{Harm, Which};
use crate::model::msg::Playback;
use crate::model::script::{Progress, Step};
use crate::model::sync_rule::SyncRule;
use crate::model::{Model, Node, NodeName};
use crate::ui::view::{Input, Panel, Popup, View};
use crate::ui::{layout, lesson, topology};

fn node<'a>(model: &'a Model, view: &View) -> Made<&'a Node> {
    view.selected(model).ok_or_else(|| "there is no node yet".to_owned())
}

pub(super) fn name(model: &Model, view: &View) -> Made<NodeName> {
    Ok(node(model, view)?.name.clone())
}

pub(super) fn freeze(model: &Model, view: &View) -> Made<Command> {
    let node = node(model, view)?;
    let name = node.name.clone();
    Ok(if node.state == NodeState::Frozen { Command::Thaw(name) } else { Command::Freeze(name) })
}

pub(super) fn on_off(model: &Model, view: &View) -> Made<Command> {
    let node = node(model, view)?;
    let name = node.name.clone();
    let down = matches!(node.state, NodeState::Exited(_) | NodeState::Created);
    Ok(if down { Command::Start(name) } else { Command::Stop(name) })
}

/// The link to the upstream; for a primary with one cut link, that link.
pub(super) fn cut(model: &Model, view: &View) -> Made<Command> {
    let node = node(model, view)?;
    let me = node.name.clone();
    let upstream = node.upstream.clone().filter(|_| node.role() != Some(Role::Primary));
    let Some(up) = upstream else {
        return Err(format!("{me} follows nobody: select a standby, x cuts its link to its upstream"));
    };
    let cut = model.is_cut(&up, &me);
    let link = Which::Between(up.into(), me.into());
    Ok(if cut { Command::Heal(Some(link)) } else { Command::Link(Harm::Cut, link) })
}

pub(super) fn replay(model: &Model, view: &View) -> Made<Command> {
    let node = node(model, view)?;
    let paused = node.sample.as_ref().is_some_and(|s| s.replay_paused);
    Ok(if paused { Command::ResumeReplay(node.name.clone()) } else { Command::PauseReplay(node.name.clone()) })
}

pub(super) fn follow(model: &Model, view: &View) -> Made<Popup> {
    let node = node(model, view)?;
    if node.role() == Some(Role::Primary) {
        return Err(format!("{} is a primary; select a standby", node.name));
    }
    if model.nodes.len() < 2 {
        return Err("there is no other node".to_owned());
    }
    Ok(Popup::Follow { standby: node.name.clone(), choice: 0 })
}

/// The next free sN, behind the selected node.
pub(super) fn add(model: &Model, view: &View) -> Made<Command> {
    let from = name(model, view)?;
    let free = (1..1_000).filter_map(|n| format!("s{n}").parse::<NodeName>().ok()).find(|n| model.node(n).is_none());
    let name = free.ok_or("there are too many nodes")?;
    let from = Some(from).filter(|f| Some(f) != model.primary.as_ref());
    Ok(Command::Add { name, from })
}

pub(super) fn sql(model: &Model, view: &View) -> Made<Popup> {
    Ok(Popup::Sql { node: name(model, view)?, input: Input::default(), scroll: 0 })
}

pub(super) fn logs(model: &Model, view: &View, typing: bool) -> Made<Popup> {
    Ok(Popup::Logs { node: name(model, view)?, filter: Input::default(), typing, up: 0 })
}

/// The standbys of the server that the clients write to, in the order shown.
fn standbys(model: &Model) -> Vec<String> {
    let follows = |n: &&Node| n.upstream.is_some() && n.upstream.as_ref() == model.serving();
    model.nodes.iter().filter(follows).map(|n| n.name.to_string()).collect()
}

pub(super) fn next_rule(model: &Model, _: &View) -> Made<Command> {
    let names = standbys(model);
    if names.is_empty() {
        return Err("the primary has no standby to wait for".to_owned());
    }
    let mut rules = vec![SyncRule::Off, SyncRule::First(1, names.clone())];
    if names.len() > 1 {
        rules.push(SyncRule::First(2, names.clone()));
        rules.push(SyncRule::Any(1, names));
    }
    let now = model.serving_rule().and_then(|r| rules.iter().position(|x| *x == r));
    let next = now.map_or(0, |i| (i + 1) % rules.len());
    Ok(Command::Sync(rules.swap_remove(next)))
}

pub(super) fn next_level(model: &Model) -> Command {
    let now = COMMIT_LEVELS.iter().position(|l| *l == model.writer.plan.level).unwrap_or(2);
    Command::Commit(COMMIT_LEVELS[(now + 1) % COMMIT_LEVELS.len()].to_owned())
}

pub(super) fn cancel(model: &Model, _: &View) -> Made<Command> {
    if model.waiting().is_empty() { Err("no commit waits for a standby".to_owned()) } else { Ok(Command::Cancel) }
}

pub(super) fn heal_all(model: &Model, _: &View) -> Made<Command> {
    if model.faults().is_empty() { Err("nothing is broken".to_owned()) } else { Ok(Command::Heal(None)) }
}

/// Space turns the page first, where narration is longer than its place.
pub(super) fn next_step(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    if let Some(line) = lesson::next_page(model, view) {
        view.scroll.insert(Panel::Lesson, line);
        return Ok(None);
    }
    if let Some(why) = why_no_next(model) {
        return Err(why);
    }
    view.scroll.remove(&Panel::Lesson);
    Ok(Some(Intent::Play(Playback::Next)))
}

/// Why the lesson doesn't go on by key now; None when it does.
pub(super) fn why_no_next(model: &Model) -> Option<String> {
    let why = match &model.script {
        None => "no lesson plays",
        Some(script) if script.stopped_at().is_some() && script.reread.is_none() => {
            "the lesson stopped: its step failed. [ makes the cluster anew, X leaves the lesson"
        }
        Some(script) if script.over() && script.reread.is_none() => {
            "the lesson is over; X leaves it, and the lab stays"
        }
        Some(script) if script.reread.is_some() => return None,
        Some(script) if matches!(script.progress, Progress::Asking(_)) => {
            "the lesson asks: answer with a digit, or H for a hint"
        }
        Some(script) if !matches!(script.progress, Progress::Reading(_)) => {
            "the lesson goes on by itself when this step is done"
        }
        Some(_) => return None,
    };
    Some(why.to_owned())
}

/// A key that moves the lesson in another way than on; None where it is another key, or no lesson plays.
pub(super) fn in_lesson(model: &Model, key: Key) -> Option<Playback> {
    let script = model.script.as_ref()?;
    let chapter = |step: usize| script.chapters().position(|(at, _)| at == step);
    match key {
        Key::Char(digit @ '1'..='9') if matches!(script.progress, Progress::Asking(_)) => {
            Some(Playback::Answer(digit as usize - '1' as usize))
        }
        Key::Char('<') => Some(Playback::Pace { faster: false }),
        Key::Char('>') => Some(Playback::Pace { faster: true }),
        Key::Char('[') => Some(chapter(script.chapter_back()).map_or(Playback::Restart, Playback::Jump)),
        Key::Char(']') => script.chapter_on().and_then(chapter).map(Playback::Jump),
        _ => None,
    }
}

/// Back to the text before.
pub(super) fn reread(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    let script = model.script.as_ref().ok_or("no lesson plays")?;
    let from = script.reread.unwrap_or(script.stands_at()).min(script.steps.len());
    if !script.steps[..from].iter().any(Step::is_text) {
        return Err("this is the lesson's first text".to_owned());
    }
    view.scroll.remove(&Panel::Lesson);
    Ok(Some(Intent::Play(Playback::Back)))
}

/// A hint, where there is one more.
pub(super) fn hint(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    let script = model.script.as_ref().ok_or("no lesson plays")?;
    match script.step().map(|s| s.hints.len()) {
        Some(n) if n > script.hints => {
            view.scroll.remove(&Panel::Lesson);
            Ok(Some(Intent::Play(Playback::Hint)))
        }
        Some(0) | None => Err("the lesson has no hint for this step".to_owned()),
        Some(_) => Err("that was the last hint of this step".to_owned()),
    }
}

/// Auto-play on or off, where there is something left to play.
pub(super) fn auto(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    let script = model.script.as_ref().ok_or("no lesson plays")?;
    if script.over() {
        return Err("the lesson is over".to_owned());
    }
    let text = if script.auto.is_some() {
        "each text waits for Space again"
    } else {
        "the lesson goes on by itself; questions wait for you; < and > change the pace"
    };
    view.say(Tone::Plain, text);
    Ok(Some(Intent::Play(Playback::Auto)))
}

/// Out of the lesson, or back into it.
pub(super) fn leave(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    match (&model.script, &model.set_aside) {
        (Some(script), _) => {
            let text = if script.over() {
                "X shows the lesson again"
            } else {
                "X comes back to the lesson: it waits where it is, and the lab is yours"
            };
            view.say(Tone::Plain, text);
            Ok(Some(Intent::Play(Playback::Leave)))
        }
        (None, Some(_)) => Ok(Some(Intent::Play(Playback::Return))),
        (None, None) => Err("no lesson plays".to_owned()),
    }
}

pub(super) fn mouse(view: &mut View) -> Intent {
    view.mouse = !view.mouse;
    let text = if view.mouse {
        "the mouse selects panels and nodes again"
    } else {
        "the mouse is free: select text with it; m takes it back"
    };
    view.say(Tone::Plain, text);
    Intent::Mouse(view.mouse)
}

pub(super) fn copy(model: &Model, view: &mut View) -> Made<Option<Intent>> {
    let entry = view.journal.unwrap_or_else(|| model.journal.last_act());
    copied(view, model, entry).map(Some).ok_or_else(|| "the journal is empty".to_owned())
}

/// The steps behind an entry into the clipboard; its sentence, where there are none.
pub(super) fn copied(view: &mut View, model: &Model, entry: usize) -> Option<Intent> {
    let (_, entry) = model.journal.numbered(entry)?;
    let text = if entry.steps.is_empty() { entry.text.clone() } else { entry.steps.join("\n") };
    view.say(Tone::Good, "copied");
    Some(Intent::Copy(text))
}

/// What was done: the chosen entry, else the last act.
pub(super) fn steps(model: &Model, view: &View) -> Popup {
    Popup::Steps { entry: view.journal.unwrap_or_else(|| model.journal.last_act()), scroll: 0 }
}

/// Moves by `by` in the focused panel.
pub(super) fn step(model: &Model, view: &mut View, by: isize) {
    match view.focus {
        Panel::Cluster => choose(model, view, by),
        Panel::Journal => {
            // Below the newest it follows what comes.
            let end = model.journal.written();
            let now = view.journal.and_then(|n| model.journal.numbered(n)).map_or(end, |(n, _)| n);
            let next = now.saturating_add_signed(by);
            view.journal = model.journal.numbered(next).map(|(n, _)| n).filter(|_| next < end);
        }
        panel => {
            let line = view.scroll.entry(panel).or_default();
            *line = line.saturating_add_signed(by).min(10_000);
        }
    }
}

/// A page of the focused panel; the cluster needs no pages, so that during a lesson its text moves.
pub(super) fn page(model: &Model, view: &mut View, by: isize) {
    if view.focus == Panel::Cluster && model.script.is_some() {
        let line = view.scroll.entry(Panel::Lesson).or_default();
        *line = line.saturating_add_signed(by * 5).min(1_000);
    } else {
        step(model, view, by * 10);
    }
}

/// The next node in the order of the tree.
fn choose(model: &Model, view: &mut View, by: isize) {
    let order = topology::order(model);
    let now = view.selected(model).and_then(|n| order.iter().position(|o| *o == n.name)).unwrap_or(0);
    let next = now.saturating_add_signed(by).min(order.len().saturating_sub(1));
    view.node = order.into_iter().nth(next);
}

pub(super) fn turn(model: &Model, view: &mut View, by: isize) {
    let panels = layout::panels(model.script.is_some());
    let now = panels.iter().position(|p| *p == view.focus).unwrap_or(0);
    let next = round(now, by, panels.len());
    view.focus_on(panels[next]);
}

pub(super) fn details(model: &Model, view: &mut View) {
    if view.focus == Panel::Journal {
        view.popups.push(steps(model, view));
    } else {
        view.zoom = !view.zoom;
    }
}

pub(super) fn back(_: &Model, view: &mut View) {
    if view.zoom {
        view.zoom = false;
    } else if view.journal.is_some() {
        view.journal = None;
    } else if view.focus != Panel::Cluster {
        view.focus_on(Panel::Cluster);
    } else {
        view.node = None;
    }
}

/// One further or one back, round and round.
pub(super) fn round(now: usize, by: isize, len: usize) -> usize {
    let len = len.max(1);
    if by < 0 { (now + len - 1) % len } else { (now + 1) % len }
}
