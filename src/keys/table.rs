//! The one table of keys: what each is called, what it does and when it can. Everything that shows keys reads it.

use super::acts::{
    add, auto, back, cancel, copy, cut, details, follow, freeze, heal_all, hint, leave, logs, mouse, name, next_level,
    next_rule, next_step, on_off, page, replay, reread, sql, step, steps, turn, why_no_next,
};
use super::{Intent, Key};
use crate::model::admit::admit;
use crate::model::command::Command;
use crate::model::{Model, Stage};
use crate::ui::view::{Input, LinkDraft, Popup, Question, RuleDraft, View};

pub(super) type Made<T> = Result<T, String>;

/// What a key does.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Gives a command.
    Act(fn(&Model, &View) -> Made<Command>),
    /// Gives a command that is confirmed first.
    Ask(fn(&Model, &View) -> Made<Command>),
    /// Opens a window.
    Open(fn(&Model, &View) -> Made<Popup>),
    /// Asks the app for something else; None where the view alone could answer.
    Send(fn(&Model, &mut View) -> Made<Option<Intent>>),
    /// Changes only what is looked at.
    Look(fn(&Model, &mut View)),
}

/// Where a key stands in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "see `title`")]
pub enum Group {
    Node,
    Rule,
    Writes,
    Lesson,
    Look,
    Lab,
}

impl Group {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Node => "The selected node",
            Self::Rule => "Rule and commits",
            Self::Writes => "Writes",
            Self::Lesson => "Lesson",
            Self::Look => "Looking",
            Self::Lab => "The lab",
        }
    }
}

/// One key or a few that do the same.
#[derive(Debug)]
pub struct Row {
    /// The keys, the first one shown in hints.
    pub keys: &'static [Key],
    /// One or two words for the hint line.
    pub label: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Its heading.
    pub group: Group,
    /// Its place in the hint line, from the left; 0: not there. 1 is for lessons only.
    pub hint: u8,
    /// What it does.
    pub does: Does,
}

const fn row(keys: &'static [Key], label: &'static str, group: Group, hint: u8, help: &'static str, does: Does) -> Row {
    Row { keys, label, help, group, hint, does }
}

use Does::{Act, Ask, Look, Open, Send};
use Key::Char as C;

/// All keys of the main screen.
pub const TABLE: &[Row] = &[
    row(
        &[C('k')],
        "kill",
        Group::Node,
        2,
        "kill it, as a crash would (SIGKILL)",
        Act(|m, v| Ok(Command::Kill(name(m, v)?))),
    ),
    row(&[C('f')], "freeze", Group::Node, 3, "freeze it (connected, but silent), or thaw it", Act(freeze)),
    row(&[C('x')], "cut", Group::Node, 4, "cut the link to its upstream (silent, both ways), or heal it", Act(cut)),
    row(
        &[C('p')],
        "promote",
        Group::Node,
        5,
        "make this standby a primary; the rule doesn't move with it",
        Act(|m, v| Ok(Command::Promote(name(m, v)?))),
    ),
    row(&[C('o')], "stop", Group::Node, 11, "off and on: shut it down cleanly, or start it", Act(on_off)),
    row(
        &[C('z')],
        "replay",
        Group::Node,
        0,
        "pause replay on this standby (it goes on receiving), or resume it",
        Act(replay),
    ),
    row(
        &[C('n')],
        "link",
        Group::Node,
        0,
        "its links: cut one way, refuse, slow, throttle, isolate, heal; what has passed",
        Open(|m, v| Ok(Popup::Link(LinkDraft::new(name(m, v)?)))),
    ),
    row(
        &[C('j')],
        "rejoin",
        Group::Node,
        0,
        "bring it back as a standby: by pg_rewind, else by pg_basebackup (asks)",
        Act(|m, v| Ok(Command::Rejoin { node: name(m, v)?, way: None })),
    ),
    row(
        &[C('P')],
        "switchover",
        Group::Node,
        0,
        "hand the primary's part over to this standby, planned: nothing is lost",
        Act(|m, v| Ok(Command::Switchover(name(m, v)?))),
    ),
    row(&[C('F')], "follow", Group::Node, 0, "repoint this standby to another upstream", Open(follow)),
    row(&[C('a')], "add", Group::Node, 14, "add a standby that follows it, by pg_basebackup", Act(add)),
    row(
        &[C('d')],
        "remove",
        Group::Node,
        0,
        "take it away with all its data (asks)",
        Ask(|m, v| Ok(Command::Remove(name(m, v)?))),
    ),
    row(&[C('i')], "SQL", Group::Node, 16, "run SQL on it", Open(sql)),
    row(&[C('L')], "logs", Group::Node, 15, "its server log", Open(|m, v| logs(m, v, false))),
    row(&[C('/')], "find", Group::Node, 0, "its server log, filtered", Open(|m, v| logs(m, v, true))),
    row(
        &[C('S')],
        "rule",
        Group::Rule,
        6,
        "the next rule: off, FIRST 1, FIRST 2, ANY 1, with the standbys there are",
        Act(next_rule),
    ),
    row(
        &[C('s')],
        "edit rule",
        Group::Rule,
        12,
        "edit the synchronous rule, with what it means",
        Open(|m, _| Ok(Popup::Rule(RuleDraft::new(m)))),
    ),
    row(
        &[C('l')],
        "commit level",
        Group::Rule,
        0,
        "the next synchronous_commit of the writer: off, local, remote_write, on, remote_apply",
        Act(|m, _| Ok(next_level(m))),
    ),
    row(
        &[C('c')],
        "cancel",
        Group::Rule,
        0,
        "cancel the commits that wait for a standby; they stay committed on the primary",
        Act(cancel),
    ),
    row(
        &[C('w')],
        "writer",
        Group::Writes,
        7,
        "clients, rate and level of the writer",
        Open(|_, _| Ok(Popup::Writer { line: 0 })),
    ),
    row(
        &[C('W')],
        "pause",
        Group::Writes,
        0,
        "pause the writer, or let it go on",
        Act(|m, _| Ok(if m.writer.plan.paused { Command::Resume } else { Command::Pause })),
    ),
    row(&[C('1')], "one write", Group::Writes, 13, "one write now", Act(|_, _| Ok(Command::Write(1)))),
    row(&[C('!')], "burst", Group::Writes, 0, "a burst of 100 writes", Act(|_, _| Ok(Command::Write(100)))),
    row(
        &[C('v')],
        "verify",
        Group::Writes,
        10,
        "read every node and judge the books: what is lost, what is stranded",
        Act(|_, _| Ok(Command::Verify)),
    ),
    row(&[C(' '), C('.')], "next", Group::Lesson, 1, "go on with the lesson", Send(next_step)),
    row(
        &[C('2'), C('3'), C('4'), C('5'), C('6'), C('7'), C('8'), C('9')],
        "answer",
        Group::Lesson,
        0,
        "answer the lesson's question; while one is asked, 1 does that too",
        Send(|_, _| Err("no question is asked now".to_owned())),
    ),
    row(&[C('H')], "hint", Group::Lesson, 0, "a hint, where the lesson has one for this step", Send(hint)),
    row(&[Key::Backspace], "reread", Group::Lesson, 0, "back to the text before, to read it once more", Send(reread)),
    row(
        &[C('['), C(']')],
        "chapter",
        Group::Lesson,
        0,
        "to the beginning of this chapter, or to the next one; the cluster is made anew and taken there",
        Send(|m, _| {
            Err(if m.script.is_none() { "no lesson plays" } else { "there is no chapter after this one" }.to_owned())
        }),
    ),
    row(
        &[C('A')],
        "auto-play",
        Group::Lesson,
        0,
        "let the lesson go on by itself after a reading time, or wait again; questions always wait",
        Send(auto),
    ),
    row(
        &[C('<'), C('>')],
        "speed",
        Group::Lesson,
        0,
        "slower or faster auto-play: 0.5 to 4 times the usual reading pace",
        Send(|m, _| if m.script.is_none() { Err("no lesson plays".to_owned()) } else { Ok(None) }),
    ),
    row(
        &[C('C')],
        "contents",
        Group::Lesson,
        0,
        "all steps: what is done, where the lesson is, what comes; Enter goes to a chapter",
        Open(|m, _| m.script.as_ref().map(|_| Popup::Contents { picked: None }).ok_or("no lesson plays".to_owned())),
    ),
    row(&[C('X')], "leave", Group::Lesson, 0, "leave the lesson (the lab stays), or come back to it", Send(leave)),
    row(&[Key::Up, Key::Left], "up", Group::Look, 0, "the node, entry or line before", Look(|m, v| step(m, v, -1))),
    row(&[Key::Down, Key::Right], "down", Group::Look, 0, "the node, entry or line after", Look(|m, v| step(m, v, 1))),
    row(
        &[Key::PageUp],
        "page up",
        Group::Look,
        0,
        "a page up; during a lesson, in its text",
        Look(|m, v| page(m, v, -1)),
    ),
    row(
        &[Key::PageDown],
        "page down",
        Group::Look,
        0,
        "a page down; during a lesson, in its text",
        Look(|m, v| page(m, v, 1)),
    ),
    row(&[Key::Home], "first", Group::Look, 0, "the first one", Look(|m, v| step(m, v, -10_000))),
    row(&[Key::End], "last", Group::Look, 0, "the last one, and follow what comes", Look(|m, v| step(m, v, 10_000))),
    row(
        &[Key::Tab],
        "next panel",
        Group::Look,
        0,
        "focus the next panel; where panels share a place, bring it to the front",
        Look(|m, v| turn(m, v, 1)),
    ),
    row(
        &[Key::BackTab],
        "panel before",
        Group::Look,
        0,
        "focus the panel before (Shift-Tab)",
        Look(|m, v| turn(m, v, -1)),
    ),
    row(
        &[C('+'), C('='), C('-')],
        "zoom",
        Group::Look,
        16,
        "give the focused panel the whole screen, or take it back",
        Look(|_, v| v.zoom = !v.zoom),
    ),
    row(
        &[Key::Enter],
        "details",
        Group::Look,
        0,
        "the exact steps behind a journal entry; elsewhere zooms",
        Look(details),
    ),
    row(&[Key::Esc], "back", Group::Look, 0, "back out: window, zoom, selection", Look(back)),
    row(
        &[C('J')],
        "steps",
        Group::Look,
        0,
        "the exact SQL, file lines and engine calls behind the last act",
        Open(|m, v| Ok(steps(m, v))),
    ),
    row(
        &[C('y')],
        "copy",
        Group::Look,
        0,
        "copy the steps behind the chosen journal entry, or behind the last act",
        Send(copy),
    ),
    row(
        &[C('m')],
        "mouse",
        Group::Look,
        0,
        "let the mouse go, so that text can be selected, or take it back",
        Send(|_, v| Ok(Some(mouse(v)))),
    ),
    row(
        &[C(':')],
        "command",
        Group::Lab,
        9,
        "type a command",
        Open(|_, _| Ok(Popup::Palette { input: Input::default(), picked: None })),
    ),
    row(&[C('B')], "heal all", Group::Lab, 8, "heal everything: thaw, start, mend links, resume replay", Act(heal_all)),
    row(
        &[C('t')],
        "time",
        Group::Lab,
        10,
        "go back in time while the lab goes on: arrows move, space plays, t returns to now",
        Send(
            |m, _| if m.stage == Stage::Live { Ok(Some(Intent::Past)) } else { Err("nothing has happened yet".into()) },
        ),
    ),
    row(
        &[C('h')],
        "heartbeat",
        Group::Lab,
        0,
        "switch the lab's small write every 100 ms off, or on",
        Act(|m, _| Ok(Command::Heartbeat(!m.heartbeat))),
    ),
    row(
        &[C('R')],
        "reset",
        Group::Lab,
        0,
        "bring the lab back to its first state (asks)",
        Ask(|_, _| Ok(Command::Reset)),
    ),
    row(
        &[C('?')],
        "help",
        Group::Lab,
        0,
        "all keys, searchable, with the reason why one can't act now",
        Open(|_, _| Ok(Popup::Help { filter: Input::default(), scroll: 0 })),
    ),
    row(&[Key::Ctrl('l')], "redraw", Group::Lab, 0, "draw everything anew", Send(|_, _| Ok(Some(Intent::Redraw)))),
    row(
        &[Key::Ctrl('z')],
        "suspend",
        Group::Lab,
        0,
        "stop replab and give the terminal back (`fg` goes on); links and the writer stand still meanwhile",
        Send(|_, _| Ok(Some(Intent::Suspend))),
    ),
    row(
        &[C('q'), Key::Ctrl('c')],
        "quit",
        Group::Lab,
        18,
        "quit; asks whether to destroy the lab or keep its servers",
        Open(|m, v| Ok(quit(m, v))),
    ),
];

/// The question at the end, on what leaving means where nothing else is chosen.
pub(super) fn quit(model: &Model, view: &View) -> Popup {
    Popup::Confirm { question: Question::Quit, choice: usize::from(view.keep && model.stage == Stage::Live) }
}

/// A key as it is written on the screen and in the README.
pub fn spelled(key: Key) -> String {
    let word = match key {
        Key::Char(' ') => "Space",
        Key::Char(c) => return c.to_string(),
        Key::Ctrl(c) => return format!("Ctrl-{}", c.to_ascii_uppercase()),
        Key::Enter => "Enter",
        Key::Esc => "Esc",
        Key::Tab => "Tab",
        Key::BackTab => "Shift-Tab",
        Key::Backspace => "Backspace",
        Key::Delete => "Delete",
        Key::Left => "←",
        Key::Right => "→",
        Key::Up => "↑",
        Key::Down => "↓",
        Key::Home => "Home",
        Key::End => "End",
        Key::PageUp => "PgUp",
        Key::PageDown => "PgDn",
        Key::Other => "another key",
    };
    word.to_owned()
}

/// More keys than this in one row are a range.
const KEYS_LISTED: usize = 4;

/// All keys of a row.
pub fn all_keys(row: &Row) -> String {
    listed(row, |key| key).join(" ")
}

fn listed(row: &Row, dress: impl Fn(String) -> String) -> Vec<String> {
    let key = |key: &Key| dress(spelled(*key));
    match row.keys {
        [first, .., last] if row.keys.len() > KEYS_LISTED => vec![key(first), "…".to_owned(), key(last)],
        keys => keys.iter().map(key).collect(),
    }
}

/// Why the key can't act now; None when it can.
pub fn why_not(row: &Row, model: &Model, view: &View) -> Option<String> {
    match row.does {
        Does::Act(make) | Does::Ask(make) => make(model, view).and_then(|c| admit(model, &c)).err(),
        Does::Open(make) => make(model, view).err(),
        Does::Send(_) if row.hint == 1 => why_no_next(model),
        Does::Send(_) if row.keys.contains(&C('X')) && model.set_aside.is_some() => None,
        Does::Send(_) if row.group == Group::Lesson => model.script.is_none().then(|| "no lesson plays".to_owned()),
        Does::Send(_) | Does::Look(_) => None,
    }
}

/// The row's label; a key that toggles is called by what it would do now.
pub fn label(row: &Row, model: &Model, view: &View) -> &'static str {
    let Does::Act(make) = row.does else { return row.label };
    match make(model, view) {
        Ok(Command::Thaw(_)) => "thaw",
        Ok(Command::Start(_)) => "start",
        Ok(Command::Heal(Some(_))) => "mend",
        Ok(Command::Resume) => "resume",
        _ => row.label,
    }
}

/// The table for the README.
pub fn markdown_table() -> String {
    let mut lines = Vec::new();
    let mut group = None;
    for row in TABLE {
        if group != Some(row.group) {
            lines.extend([String::new(), format!("| {} | |", row.group.title()), "|---|---|".to_owned()]);
            group = Some(row.group);
        }
        let keys = listed(row, |key| format!("`{key}`"));
        lines.push(format!("| {} | {} |", keys.join(" "), row.help));
    }
    lines.join("\n").trim_start().to_owned() + "\n"
}
