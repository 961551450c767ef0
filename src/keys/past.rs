//! The keys that move the moment shown, while one looks at the past; all others look around as ever, and none acts.

use super::Key;
use super::Key::Char as C;
use super::table::{Does, Group, Row, spelled};

/// A move in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wind {
    /// Time goes on, or stands.
    Play,
    /// So many seconds on, or back.
    By(i64),
    /// On to the next thing that happened.
    Step,
    /// To the next thing that was asked for, or the one before.
    Mark {
        /// Onward.
        forward: bool,
    },
    /// Faster or slower.
    Pace {
        /// Faster.
        faster: bool,
    },
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// Back to the present; a recording is left.
    Leave,
}

/// One key or a few that do the same.
#[derive(Debug)]
pub struct PastRow {
    /// The keys, the first one shown.
    pub keys: &'static [Key],
    /// What it does, in a word or two, in a lab that goes on.
    pub label: &'static str,
    /// And in a recording.
    pub alone: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// What it asks for.
    pub wind: Wind,
}

const fn row(keys: &'static [Key], label: &'static str, help: &'static str, wind: Wind) -> PastRow {
    PastRow { keys, label, alone: label, help, wind }
}

/// All of them, in the order of the hint line.
pub const PAST: &[PastRow] = &[
    PastRow {
        keys: &[C('t'), Key::Esc],
        label: "back to now",
        alone: "leave",
        help: "back to now; a recording is left (`q` too)",
        wind: Wind::Leave,
    },
    row(&[C(' ')], "play", "time goes on, or stands", Wind::Play),
    row(&[Key::Left], "5 s back", "five seconds back", Wind::By(-5)),
    row(&[Key::Right], "on", "five seconds on", Wind::By(5)),
    row(
        &[C('[')],
        "act before",
        "to the act before: what a person or a lesson asked for",
        Wind::Mark { forward: false },
    ),
    row(&[C(']')], "next act", "to the next act", Wind::Mark { forward: true }),
    row(&[C('.')], "next event", "on to the next event", Wind::Step),
    row(&[C('>')], "faster", "faster, up to 64 times", Wind::Pace { faster: true }),
    row(&[C('<')], "slower", "slower, down to a quarter", Wind::Pace { faster: false }),
    row(&[Key::Home], "start", "the beginning", Wind::Home),
    row(&[Key::End], "end", "the end", Wind::End),
    row(&[Key::PageUp], "minute back", "a minute back", Wind::By(-60)),
    row(&[Key::PageDown], "minute on", "a minute on", Wind::By(60)),
];

/// Windows that are there to act: nothing can be done in them while one looks at the past.
const FOR_ACTS: [Key; 3] = [C('F'), C('i'), C(':')];

/// The keys of a row of the main table that do there what they do elsewhere; none where the row acts.
pub fn as_ever(row: &Row, live: bool) -> Vec<Key> {
    let looks = match row.does {
        Does::Look(_) => true,
        Does::Send(_) => matches!(row.group, Group::Look | Group::Lab),
        Does::Open(_) => matches!(row.group, Group::Node | Group::Lesson | Group::Look | Group::Lab),
        Does::Act(_) | Does::Ask(_) => false,
    };
    row.keys.iter().copied().filter(|key| looks && !FOR_ACTS.contains(key) && wind(*key, live).is_none()).collect()
}

/// The table for docs/recordings.md.
pub fn markdown_table() -> String {
    let row = |row: &PastRow| {
        let keys: Vec<String> = row.keys.iter().map(|key| format!("`{}`", spelled(*key))).collect();
        format!("| {} | {} |\n", keys.join(" "), row.help)
    };
    "| key | what it does |\n|---|---|\n".to_owned() + &PAST.iter().map(row).collect::<String>()
}

/// What a key means there, if it moves the moment.
pub(super) fn wind(key: Key, live: bool) -> Option<Wind> {
    match key {
        C('q') | Key::Ctrl('c') if !live => Some(Wind::Leave),
        _ => PAST.iter().find(|row| row.keys.contains(&key)).map(|row| row.wind),
    }
}
