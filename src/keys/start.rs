//! Keys of the start screen.

use super::{Key, KeyInput};
use crate::ui::start::{Opens, StartMenu, entry_at};

/// What the start screen asks of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartIntent {
    /// Open this.
    Open(Opens),
    /// Leave.
    Quit,
    /// Draw everything anew.
    Redraw,
    /// Stop, as a shell's job does.
    Suspend,
}

impl StartMenu {
    /// What this input means; `size` is the terminal's.
    pub fn key(&mut self, size: (u16, u16), input: &KeyInput) -> Option<StartIntent> {
        let last = self.entries.len().saturating_sub(1);
        match input {
            KeyInput::Click(_, y) => {
                let at = entry_at(size, self, *y)?;
                if std::mem::replace(&mut self.picked, at) == at {
                    return self.open();
                }
            }
            KeyInput::Wheel(up, ..) => {
                self.picked = if *up { self.picked.saturating_sub(1) } else { (self.picked + 1).min(last) }
            }
            KeyInput::Key(key) => match key {
                Key::Up | Key::BackTab | Key::Char('k') => self.picked = self.picked.saturating_sub(1),
                Key::Down | Key::Tab | Key::Char('j') => self.picked = (self.picked + 1).min(last),
                Key::PageUp => self.picked = self.picked.saturating_sub(10),
                Key::PageDown => self.picked = (self.picked + 10).min(last),
                Key::Home => self.picked = 0,
                Key::End => self.picked = last,
                Key::Enter | Key::Char(' ') => return self.open(),
                Key::Char('q') | Key::Esc | Key::Ctrl('c') => return Some(StartIntent::Quit),
                Key::Ctrl('l') => return Some(StartIntent::Redraw),
                Key::Ctrl('z') => return Some(StartIntent::Suspend),
                _ => {}
            },
            KeyInput::Paste(_) | KeyInput::Burst(_) | KeyInput::Resized(..) => {}
        }
        None
    }

    fn open(&self) -> Option<StartIntent> {
        self.entries.get(self.picked).map(|e| StartIntent::Open(e.opens.clone()))
    }
}
