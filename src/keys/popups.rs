//! Keys inside windows. Each handler takes the window off the stack and puts it back when it stays.

use super::acts::{copied, round};
use super::complete::completions;
use super::{Intent, Key, QuitHow};
use crate::model::admit::admit;
use crate::model::command::{COMMIT_LEVELS, Command, Rate};
use crate::model::journal::Tone;
use crate::model::msg::Playback;
use crate::model::script::Script;
use crate::model::{Model, NodeName};
use crate::ui::popups::{choices, link_acts, partners, rule_lines, upstreams};
use crate::ui::view::{Input, LinkDraft, Popup, Question, RuleDraft, View};

/// A key inside the topmost window, which has been taken off the stack.
pub(super) fn key(view: &mut View, model: &Model, popup: Popup, key: Key) -> Vec<Intent> {
    if key == Key::Esc && !matches!(&popup, Popup::Logs { filter, typing, .. } if *typing || !filter.text.is_empty()) {
        return Vec::new();
    }
    match popup {
        Popup::Help { filter, scroll } => help(view, filter, scroll, key),
        Popup::Palette { input, picked } => palette(view, model, input, picked, key),
        Popup::Confirm { question, choice } => confirm(view, model, question, choice, key),
        Popup::Rule(draft) => rule(view, model, draft, key),
        Popup::Writer { line } => writer(view, model, line, key),
        Popup::Follow { standby, choice } => follow(view, model, standby, choice, key),
        Popup::Link(draft) => link(view, model, draft, key),
        Popup::Sql { node, input, scroll } => sql(view, model, node, input, scroll, key),
        Popup::Logs { node, filter, typing, up } => logs(view, model, Logs { node, filter, typing, up }, key),
        Popup::Steps { entry, scroll } => steps(view, model, entry, scroll, key),
        Popup::Contents { picked } => contents(view, model, picked, key),
    }
}

/// Pasted text goes where text is typed, and does nothing elsewhere.
pub(super) fn paste(view: &mut View, text: &str) -> Vec<Intent> {
    if let Some(
        Popup::Palette { input, .. }
        | Popup::Sql { input, .. }
        | Popup::Help { filter: input, .. }
        | Popup::Logs { filter: input, typing: true, .. },
    ) = view.popups.last_mut()
    {
        input.insert(text.trim_end());
    } else {
        view.say(Tone::Warn, "pasted text does nothing here; `:` takes a command");
    }
    Vec::new()
}

/// Editing keys; false when the key is none.
fn edit(input: &mut Input, key: Key) -> bool {
    match key {
        Key::Char(c) => input.insert(c.encode_utf8(&mut [0; 4])),
        Key::Backspace => input.backspace(),
        Key::Delete => input.delete(),
        Key::Left => input.step(false),
        Key::Right => input.step(true),
        Key::Home | Key::Ctrl('a') => input.cursor = 0,
        Key::End | Key::Ctrl('e') => input.cursor = input.text.len(),
        Key::Ctrl('w') => input.delete_word(),
        Key::Ctrl('u') => *input = Input::default(),
        _ => return false,
    }
    true
}

/// A scroll position moved by a key.
fn scrolled(scroll: usize, key: Key) -> usize {
    match key {
        Key::Up => scroll.saturating_sub(1),
        Key::Down => scroll.saturating_add(1),
        Key::PageUp => scroll.saturating_sub(10),
        Key::PageDown => scroll.saturating_add(10),
        Key::Home => 0,
        _ => scroll,
    }
    .min(5_000)
}

fn stay(view: &mut View, popup: Popup) -> Vec<Intent> {
    view.popups.push(popup);
    Vec::new()
}

/// Runs the command, or says why it can't.
fn run(view: &mut View, model: &Model, command: Command) -> Vec<Intent> {
    match admit(model, &command) {
        Ok(()) => vec![Intent::Command(command)],
        Err(why) => {
            view.say(Tone::Warn, format!("not now: {why}"));
            Vec::new()
        }
    }
}

fn help(view: &mut View, mut filter: Input, scroll: usize, key: Key) -> Vec<Intent> {
    if matches!(key, Key::Enter) || (key == Key::Char('?') && filter.text.is_empty()) {
        return Vec::new();
    }
    let scroll = if edit(&mut filter, key) { 0 } else { scrolled(scroll, key) };
    stay(view, Popup::Help { filter, scroll })
}

fn palette(view: &mut View, model: &Model, mut input: Input, picked: Option<usize>, key: Key) -> Vec<Intent> {
    let list = completions(model, &input.text);
    let mut next = picked.filter(|p| *p < list.len());
    match key {
        Key::Down => next = Some(next.map_or(0, |p| (p + 1) % list.len().max(1))).filter(|_| !list.is_empty()),
        Key::Up => next = next.and_then(|p| p.checked_sub(1)),
        Key::Tab => {
            if let Some(c) = list.get(next.unwrap_or(0)) {
                input = Input::with(c.text.clone());
                next = None;
            }
        }
        Key::Enter => return enter(view, model, input, next.and_then(|p| list.get(p)).map(|c| c.text.clone())),
        Key::Backspace if input.text.is_empty() => return Vec::new(),
        _ => {
            if edit(&mut input, key) {
                next = None;
            }
        }
    }
    stay(view, Popup::Palette { input, picked: next })
}

/// Enter takes the picked completion; when that makes a whole command, it runs.
fn enter(view: &mut View, model: &Model, input: Input, picked: Option<String>) -> Vec<Intent> {
    let text = picked.unwrap_or(input.text);
    match text.parse::<Command>() {
        Ok(command) if super::wants_a_word(model, &command) && admit(model, &command).is_ok() => {
            stay(view, Popup::Confirm { question: Question::Run(command), choice: 1 })
        }
        Ok(command) => match admit(model, &command) {
            Ok(()) => vec![Intent::Command(command)],
            Err(_) => stay(view, Popup::Palette { input: Input::with(text), picked: None }),
        },
        Err(_) => stay(view, Popup::Palette { input: Input::with(text), picked: None }),
    }
}

fn confirm(view: &mut View, model: &Model, question: Question, choice: usize, key: Key) -> Vec<Intent> {
    let choices = choices(&question, model);
    let count = choices.len();
    match key {
        Key::Left | Key::Up | Key::BackTab => {
            stay(view, Popup::Confirm { question, choice: (choice + count - 1) % count })
        }
        Key::Right | Key::Down | Key::Tab => stay(view, Popup::Confirm { question, choice: (choice + 1) % count }),
        Key::Enter => decided(question, choices[choice.min(count - 1)].0),
        Key::Char(c) if choices.iter().any(|(letter, _)| *letter == c.to_ascii_lowercase()) => {
            decided(question, c.to_ascii_lowercase())
        }
        _ => stay(view, Popup::Confirm { question, choice }),
    }
}

fn decided(question: Question, letter: char) -> Vec<Intent> {
    match (question, letter) {
        (Question::Run(command), 'y') => vec![Intent::Command(command)],
        (Question::Quit, 'd') => vec![Intent::Quit(QuitHow::Destroy)],
        (Question::Quit, 'k') => vec![Intent::Quit(QuitHow::Keep)],
        _ => Vec::new(),
    }
}

fn rule(view: &mut View, model: &Model, mut draft: RuleDraft, key: Key) -> Vec<Intent> {
    let lines = rule_lines(&draft);
    let name = draft.line.checked_sub(2);
    match (key, draft.line) {
        (Key::Enter, _) => return run(view, model, Command::Sync(draft.rule())),
        (Key::Up, line) => draft.line = line.saturating_sub(1),
        (Key::Down | Key::Tab, line) => draft.line = (line + 1).min(lines - 1),
        (Key::Left, 0) => draft.kind = (draft.kind + 2) % 3,
        (Key::Right | Key::Char(' '), 0) => draft.kind = (draft.kind + 1) % 3,
        (Key::Left, 1) => draft.k = draft.k.saturating_sub(1).max(1),
        (Key::Right | Key::Char(' '), 1) => draft.k = (draft.k + 1).min(16),
        _ => {}
    }
    if let Some(i) = name.filter(|i| *i < draft.names.len()) {
        let to = match key {
            Key::Char(' ') | Key::Left | Key::Right => {
                draft.names[i].1 = !draft.names[i].1;
                // Listing a name under "off" can only mean that a rule is wanted.
                draft.kind = draft.kind.max(u8::from(draft.names[i].1));
                None
            }
            Key::Char('[') => i.checked_sub(1),
            Key::Char(']') => Some(i + 1).filter(|n| *n < draft.names.len()),
            _ => None,
        };
        if let Some(to) = to {
            draft.names.swap(i, to);
            draft.line = to + 2;
        }
    }
    stay(view, Popup::Rule(draft))
}

fn writer(view: &mut View, model: &Model, line: usize, key: Key) -> Vec<Intent> {
    let (line, change) = match key {
        Key::Enter | Key::Char('w' | 'q') => return Vec::new(),
        Key::Up => (line.saturating_sub(1), 0),
        Key::Down | Key::Tab => ((line + 1).min(3), 0),
        Key::Left | Key::Char('-') => (line, -1),
        Key::Right | Key::Char('+' | ' ') => (line, 1),
        _ => (line, 0),
    };
    view.popups.push(Popup::Writer { line });
    match changed(model, line, change) {
        Some(command) => run(view, model, command),
        None => Vec::new(),
    }
}

/// The writer's orders with one line changed.
fn changed(model: &Model, line: usize, by: i32) -> Option<Command> {
    const CLIENTS: [u32; 10] = [0, 1, 2, 4, 8, 12, 16, 24, 32, 64];
    const RATES: [u32; 10] = [1, 2, 5, 10, 20, 50, 100, 500, 1_000, 5_000];
    let plan = &model.writer.plan;
    if by == 0 {
        return None;
    }
    Some(match line {
        0 => Command::Clients(neighbour(&CLIENTS, plan.clients, by)?),
        1 => Command::Rate(match plan.rate {
            Rate::Max if by > 0 => return None,
            Rate::Max => Rate::PerSecond(RATES[RATES.len() - 1]),
            Rate::PerSecond(n) => neighbour(&RATES, n, by).map_or(Rate::Max, Rate::PerSecond),
        }),
        2 => {
            let now = COMMIT_LEVELS.iter().position(|l| *l == plan.level).unwrap_or(3);
            Command::Commit((*COMMIT_LEVELS.get(now.checked_add_signed(by as isize)?)?).to_owned())
        }
        _ if plan.paused => Command::Resume,
        _ => Command::Pause,
    })
}

/// The next larger or smaller value of the row; None beyond its upper end, the lowest beyond its lower.
fn neighbour(row: &[u32], now: u32, by: i32) -> Option<u32> {
    if by > 0 {
        row.iter().copied().find(|v| *v > now)
    } else {
        row.iter().rev().copied().find(|v| *v < now).or(Some(row[0]))
    }
}

fn follow(view: &mut View, model: &Model, standby: NodeName, choice: usize, key: Key) -> Vec<Intent> {
    let names: Vec<NodeName> = upstreams(model, &standby).cloned().collect();
    let last = names.len().saturating_sub(1);
    match key {
        Key::Up => stay(view, Popup::Follow { standby, choice: choice.saturating_sub(1) }),
        Key::Down | Key::Tab => stay(view, Popup::Follow { standby, choice: (choice + 1).min(last) }),
        Key::Enter => match names.into_iter().nth(choice) {
            Some(upstream) => run(view, model, Command::Follow { standby, upstream }),
            None => Vec::new(),
        },
        _ => stay(view, Popup::Follow { standby, choice }),
    }
}

fn link(view: &mut View, model: &Model, mut draft: LinkDraft, key: Key) -> Vec<Intent> {
    let acts = link_acts(model, &draft);
    match key {
        Key::Up => draft.line = draft.line.saturating_sub(1),
        Key::Down => draft.line = (draft.line + 1).min(acts.len() - 1),
        Key::Tab => draft.with = round(draft.with, 1, partners(model, &draft.node).len()),
        Key::BackTab => draft.with = round(draft.with, -1, partners(model, &draft.node).len()),
        Key::Left => draft.amount = draft.amount.saturating_sub(1),
        Key::Right => draft.amount = (draft.amount + 1).min(4),
        Key::Enter => return acts.into_iter().nth(draft.line).map_or_else(Vec::new, |(c, _)| run(view, model, c)),
        _ => {}
    }
    stay(view, Popup::Link(draft))
}

fn sql(view: &mut View, model: &Model, node: NodeName, mut input: Input, scroll: usize, key: Key) -> Vec<Intent> {
    match key {
        Key::Enter if input.text.trim().is_empty() => stay(view, Popup::Sql { node, input, scroll }),
        Key::Enter => {
            let command = Command::Sql { node: node.clone(), session: None, text: input.text.trim().to_owned() };
            view.popups.push(Popup::Sql { node, input, scroll: 0 });
            run(view, model, command)
        }
        Key::Tab => {
            let node = next_node(model, &node, 1);
            stay(view, Popup::Sql { node, input, scroll })
        }
        _ => {
            let moved = if edit(&mut input, key) { scroll } else { scrolled(scroll, key) };
            stay(view, Popup::Sql { node, input, scroll: moved })
        }
    }
}

fn next_node(model: &Model, node: &NodeName, by: isize) -> NodeName {
    let now = model.nodes.iter().position(|n| n.name == *node).unwrap_or(0);
    let next = round(now, by, model.nodes.len());
    model.nodes.get(next).map_or_else(|| node.clone(), |n| n.name.clone())
}

struct Logs {
    node: NodeName,
    filter: Input,
    typing: bool,
    up: usize,
}

impl From<Logs> for Popup {
    fn from(l: Logs) -> Self {
        Self::Logs { node: l.node, filter: l.filter, typing: l.typing, up: l.up }
    }
}

fn logs(view: &mut View, model: &Model, mut logs: Logs, key: Key) -> Vec<Intent> {
    match key {
        Key::Esc => (logs.filter, logs.typing) = (Input::default(), false),
        Key::Enter if logs.typing => logs.typing = false,
        _ if logs.typing && edit(&mut logs.filter, key) => logs.up = 0,
        Key::Char('/') => logs.typing = true,
        Key::Char('L' | 'q') | Key::Enter => return Vec::new(),
        Key::Left => logs.node = next_node(model, &logs.node, -1),
        Key::Right | Key::Tab => logs.node = next_node(model, &logs.node, 1),
        // Counted from the newest, so up is more.
        Key::Up => logs.up = scrolled(logs.up, Key::Down),
        Key::Down => logs.up = scrolled(logs.up, Key::Up),
        Key::PageUp => logs.up = scrolled(logs.up, Key::PageDown),
        Key::PageDown => logs.up = scrolled(logs.up, Key::PageUp),
        Key::Home => logs.up = 5_000,
        Key::End => logs.up = 0,
        _ => {}
    }
    stay(view, logs.into())
}

fn steps(view: &mut View, model: &Model, entry: usize, scroll: usize, key: Key) -> Vec<Intent> {
    let nearest = |n: usize| model.journal.numbered(n).map_or(0, |(n, _)| n);
    let now = nearest(entry);
    match key {
        Key::Char('y') => {
            view.popups.push(Popup::Steps { entry: now, scroll });
            copied(view, model, now).into_iter().collect()
        }
        Key::Left => stay(view, Popup::Steps { entry: nearest(now.saturating_sub(1)), scroll: 0 }),
        Key::Right => stay(view, Popup::Steps { entry: nearest(now + 1), scroll: 0 }),
        Key::Enter | Key::Char('q' | 'J') => Vec::new(),
        _ => stay(view, Popup::Steps { entry: now, scroll: scrolled(scroll, key) }),
    }
}

/// The lesson's steps: a cursor goes through them, and Enter goes to the chapter it is in.
fn contents(view: &mut View, model: &Model, picked: Option<usize>, key: Key) -> Vec<Intent> {
    let Some(script) = &model.script else { return Vec::new() };
    let last = script.steps.len().saturating_sub(1);
    let now = picked.unwrap_or(script.stands_at()).min(last);
    let to = match key {
        Key::Up => now.saturating_sub(1),
        Key::Down | Key::Tab => now + 1,
        Key::PageUp => now.saturating_sub(10),
        Key::PageDown => now + 10,
        Key::Home => 0,
        Key::End => last,
        Key::Enter => return picked.and_then(|to| chapter(script, to)).map(Intent::Play).into_iter().collect(),
        Key::Char('C' | 'q') => return Vec::new(),
        _ => return stay(view, Popup::Contents { picked }),
    };
    stay(view, Popup::Contents { picked: Some(to.min(last)) })
}

/// To the chapter of a step; None where the lesson is in it already.
fn chapter(script: &Script, to: usize) -> Option<Playback> {
    let number = |step| script.chapter_of(step).map_or(0, |(n, _)| n);
    let wanted = number(to);
    if wanted == number(script.at) && !script.over() {
        return None;
    }
    Some(wanted.checked_sub(1).map_or(Playback::Restart, Playback::Jump))
}
