//! What happened, in sentences, newest last. Bounded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Stamp;

/// Entries kept.
const ENTRIES: usize = 2_000;

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The person.
    You,
    /// The lesson.
    Script,
    /// The lab.
    Lab,
    /// Another program of the person: `replab do`.
    Outside,
}

impl Who {
    /// "you", "script", "lab", "do".
    pub fn word(self) -> &'static str {
        match self {
            Self::You => "you",
            Self::Script => "script",
            Self::Lab => "lab",
            Self::Outside => "do",
        }
    }
}

/// How an entry should be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tone {
    /// Something that happened.
    Plain,
    /// Something went well.
    Good,
    /// Look here.
    Warn,
    /// Something failed or was refused.
    Bad,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Stamp,
    /// Who.
    pub who: Who,
    /// How.
    pub tone: Tone,
    /// What, in one sentence.
    pub text: String,
    /// The exact SQL, file lines or engine calls behind it.
    pub steps: Vec<String>,
}

/// The journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    entries: VecDeque<Entry>,
    /// Entries that have gone, so that a reader can number what it has seen.
    gone: usize,
}

impl Journal {
    /// Adds an entry.
    pub fn add(&mut self, entry: Entry) {
        if self.entries.len() == ENTRIES {
            self.entries.pop_front();
            self.gone += 1;
        }
        self.entries.push_back(entry);
    }

    /// All that is kept, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// How many were ever written.
    pub fn written(&self) -> usize {
        self.gone + self.entries.len()
    }

    /// The entry number `n`; the nearest one where that isn't kept. None while nothing has happened.
    pub fn numbered(&self, n: usize) -> Option<(usize, &Entry)> {
        let last = self.written().checked_sub(1)?;
        let n = n.clamp(self.gone, last);
        self.entries.get(n - self.gone).map(|entry| (n, entry))
    }

    /// The number of the last act: the newest entry with SQL, file lines or engine calls behind it, whatever was told since.
    /// Where there is none, the newest entry.
    pub fn last_act(&self) -> usize {
        let act = self.entries.iter().rposition(|entry| !entry.steps.is_empty());
        act.map_or(self.written().saturating_sub(1), |i| self.gone + i)
    }

    /// The entries from number `n` on (those that are still kept).
    pub fn since(&self, n: usize) -> impl Iterator<Item = &Entry> {
        self.entries.iter().skip(n.saturating_sub(self.gone))
    }
}
