//! What a key, a click or a wheel means here and now: a key in, intents out. Pure; changes the view only.
//!
//! The keys are one table (`table::TABLE`); the hint line, the help, the README and this dispatch all read it.
//! Knows the terminal's events (crossterm) and nothing of drawing.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};

mod acts;
pub(crate) mod complete;
mod mouse;
pub mod past;
mod popups;
mod start;
pub mod table;

pub use start::StartIntent;
pub use table::{TABLE, markdown_table};

use crate::model::Model;
use crate::model::admit::admit;
use crate::model::command::Command;
use crate::model::journal::Tone;
use crate::model::msg::Playback;
use crate::ui::view::{Popup, Question, View};
use table::Does;

/// A key without the terminal's peculiarities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "keys are called what they are called")]
pub enum Key {
    Char(char),
    Ctrl(char),
    Enter,
    Esc,
    Tab,
    BackTab,
    Backspace,
    Delete,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    PageUp,
    PageDown,
    /// One with a modifier that means nothing here: Alt-k is not k.
    Other,
}

/// Something the person did at the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyInput {
    /// A key.
    Key(Key),
    /// Pasted text.
    Paste(String),
    /// Printable keys that came faster than anybody types: text of a terminal that doesn't mark what is pasted.
    Burst(String),
    /// A click at column, row.
    Click(u16, u16),
    /// The wheel turned up (true) or down over column, row.
    Wheel(bool, u16, u16),
    /// The terminal has another size now: columns, rows.
    Resized(u16, u16),
}

/// What is to become of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuitHow {
    /// It goes.
    Destroy,
    /// The servers stay.
    Keep,
}

/// What a key asks of the app.
#[derive(Clone, Debug, PartialEq)]
pub enum Intent {
    /// Ask the model for this.
    Command(Command),
    /// Move the lesson.
    Play(Playback),
    /// Leave.
    Quit(QuitHow),
    /// Look at the past.
    Past,
    /// Move the moment that is looked at.
    Wind(past::Wind),
    /// Draw everything anew.
    Redraw,
    /// Put this into the clipboard.
    Copy(String),
    /// Stop, as a shell's job does.
    Suspend,
    /// Take the mouse (true), or let it go so that the terminal can select text.
    Mouse(bool),
}

/// The terminal's event in our terms; None for what has no meaning here (key releases, focus, mouse moves).
pub fn from_event(event: &Event) -> Option<KeyInput> {
    match event {
        Event::Key(key) if key.kind != KeyEventKind::Release => of_key(key).map(KeyInput::Key),
        Event::Paste(text) => Some(KeyInput::Paste(text.clone())),
        Event::Resize(w, h) => Some(KeyInput::Resized(*w, *h)),
        Event::Mouse(mouse) => of_mouse(*mouse),
        _ => None,
    }
}

fn of_key(event: &KeyEvent) -> Option<Key> {
    let ctrl = event.modifiers.contains(KeyModifiers::CONTROL);
    let other = KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::HYPER | KeyModifiers::META;
    Some(match event.code {
        _ if event.modifiers.intersects(other) => Key::Other,
        code if ctrl && !matches!(code, KeyCode::Char(_)) => Key::Other,
        KeyCode::Char(c) if ctrl => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) if event.modifiers.contains(KeyModifiers::SHIFT) && c.is_ascii_lowercase() => {
            Key::Char(c.to_ascii_uppercase())
        }
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => Key::BackTab,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        _ => return None,
    })
}

fn of_mouse(event: MouseEvent) -> Option<KeyInput> {
    match event.kind {
        MouseEventKind::Down(MouseButton::Left) => Some(KeyInput::Click(event.column, event.row)),
        MouseEventKind::ScrollUp => Some(KeyInput::Wheel(true, event.column, event.row)),
        MouseEventKind::ScrollDown => Some(KeyInput::Wheel(false, event.column, event.row)),
        _ => None,
    }
}

impl View {
    /// What this input means now. Changes the view; gives what the app has to do. While one looks at the past, keys move the
    /// moment or look around, and nothing acts.
    pub fn key(&mut self, model: &Model, input: KeyInput) -> Vec<Intent> {
        let Some(live) = self.past.as_ref().map(|past| past.live) else { return self.input(model, input) };
        if let (KeyInput::Key(key), true) = (&input, self.popups.is_empty())
            && let Some(wind) = past::wind(*key, live)
        {
            self.toast = None;
            return vec![Intent::Wind(wind)];
        }
        let mut intents = self.input(model, input);
        let asked = intents.len();
        intents.retain(|intent| !matches!(intent, Intent::Command(_) | Intent::Play(_)));
        if intents.len() < asked {
            let why = if live { "this is the past: t returns to now" } else { "a recording can't be changed" };
            self.say(Tone::Warn, format!("not now: {why}"));
        }
        intents
    }

    fn input(&mut self, model: &Model, input: KeyInput) -> Vec<Intent> {
        match input {
            KeyInput::Resized(w, h) => {
                self.size = (w, h);
                Vec::new()
            }
            KeyInput::Click(x, y) => mouse::click(self, model, x, y),
            KeyInput::Wheel(up, x, y) => mouse::wheel(self, model, up, x, y),
            KeyInput::Paste(text) | KeyInput::Burst(text) => {
                self.toast = None;
                popups::paste(self, &text)
            }
            KeyInput::Key(key) => self.pressed(model, key),
        }
    }

    fn pressed(&mut self, model: &Model, key: Key) -> Vec<Intent> {
        self.toast = None;
        match key {
            Key::Ctrl('c') => return self.interrupted(model),
            Key::Ctrl('l') => return vec![Intent::Redraw],
            Key::Ctrl('z') => return vec![Intent::Suspend],
            _ => {}
        }
        if let Some(popup) = self.popups.pop() {
            return popups::key(self, model, popup, key);
        }
        if let Some(play) = acts::in_lesson(model, key) {
            return vec![Intent::Play(play)];
        }
        if let Some(row) = table::TABLE.iter().find(|row| row.keys.contains(&key)) {
            return self.act(model, row);
        }
        self.say(Tone::Plain, "that key does nothing here; ? lists the keys");
        Vec::new()
    }

    /// Ctrl-C asks once, and a second time means it.
    fn interrupted(&mut self, model: &Model) -> Vec<Intent> {
        if matches!(self.popup(), Some(Popup::Confirm { question: Question::Quit, .. })) {
            return vec![Intent::Quit(if self.keep { QuitHow::Keep } else { QuitHow::Destroy })];
        }
        let popup = table::quit(model, self);
        self.popups.push(popup);
        Vec::new()
    }

    fn act(&mut self, model: &Model, row: &table::Row) -> Vec<Intent> {
        let result = match row.does {
            Does::Act(make) => make(model, self)
                .and_then(|c| if wants_a_word(model, &c) { self.question(model, c) } else { admitted(model, c) }),
            Does::Ask(make) => make(model, self).and_then(|c| self.question(model, c)),
            Does::Open(make) => make(model, self).map(|popup| {
                self.popups.push(popup);
                Vec::new()
            }),
            Does::Send(make) => make(model, self).map(|intent| intent.into_iter().collect()),
            Does::Look(change) => {
                change(model, self);
                Ok(Vec::new())
            }
        };
        result.unwrap_or_else(|why| {
            self.say(Tone::Warn, format!("not now: {why}"));
            Vec::new()
        })
    }

    fn question(&mut self, model: &Model, command: Command) -> Result<Vec<Intent>, String> {
        admit(model, &command)?;
        self.popups.push(Popup::Confirm { question: Question::Run(command), choice: 1 });
        Ok(Vec::new())
    }
}

/// A primary that dies may have sent one standby a beat or a commit more than the other: the journal says so in any case, but nobody
/// is held up for that. In bytes of WAL; a beat takes about 200.
const HEARTBEATS: u64 = 4_096;

/// What can't be undone, or costs what one may not have seen.
fn wants_a_word(model: &Model, command: &Command) -> bool {
    match command {
        Command::Remove(_) | Command::Reset | Command::Fence(_) | Command::Rejoin { .. } => true,
        Command::Promote(node) => model.ahead_of(node).iter().any(|(_, by)| *by > HEARTBEATS),
        _ => false,
    }
}

/// The command, if it may run.
fn admitted(model: &Model, command: Command) -> Result<Vec<Intent>, String> {
    admit(model, &command)?;
    Ok(vec![Intent::Command(command)])
}
