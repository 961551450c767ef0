//! Texts in conditions: the words a quantity can have, and looking for a part in lines. Knows no lesson.

use super::{Cmp, Dimension, Quantity, Value};
use crate::model::command::{COMMIT_LEVELS, nearest};
use crate::model::{Model, Node, NodeName};

/// What the quantities with a fixed vocabulary can be.
const WORDS: &[(&str, &[&str])] = &[
    ("state", &["created", "running", "frozen", "down", "gone", "unknown"]),
    ("role", &["primary", "standby"]),
    ("link", &["streaming", "catchup", "last-known", "disconnected", "forked", "startup", "backup", "stopping"]),
    ("sync_state", &["async", "potential", "sync", "quorum"]),
    ("slot_status", &["reserved", "extended", "unreserved", "lost"]),
    ("replay_paused", YES_NO),
    ("replay_paused_by", &["nobody", "person", "postgresql"]),
    ("idle", YES_NO),
    ("reachable", YES_NO),
    ("writer_held", YES_NO),
    ("level", &COMMIT_LEVELS),
    ("verdict", &["sound", "unknown", "broken"]),
    ("handover", &["none", "waiting", "running", "done", "failed"]),
    ("came_back", &["straight", "rewound", "rebuilt"]),
    ("session", &["running", "idle", "in_transaction", "failed", "closed"]),
];

const YES_NO: &[&str] = &["yes", "no"];

/// The words that a quantity can be; None where it is free text or a number.
pub fn vocabulary(quantity: &str) -> Option<&'static [&'static str]> {
    WORDS.iter().find(|(name, _)| *name == quantity).map(|(_, words)| *words)
}

/// Whether a quantity can ever be that word; the error says what it can be.
pub(super) fn check(quantity: &str, word: &str) -> Result<(), String> {
    let Some(words) = vocabulary(quantity) else { return Ok(()) };
    if words.iter().any(|w| w.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let short: String = word.chars().take(30).collect();
    Err(match nearest(word, words.iter().copied()) {
        Some(near) => format!("`{quantity}` is never `{short}`; did you mean `{near}`?"),
        None => format!("`{quantity}` is never `{short}`: `{quantity}` is one of {}", words.join(", ")),
    })
}

/// Whether a quantity can be compared that way.
pub(super) fn fits(quantity: &Quantity, cmp: Cmp) -> Result<(), String> {
    let looks_inside = matches!(cmp, Cmp::Has | Cmp::Lacks);
    match quantity.dimension {
        Dimension::Lines if !looks_inside => {
            Err(format!("`{}` is compared with ~ or !~: what one of its lines has, or none has", quantity.name))
        }
        Dimension::Count | Dimension::Bytes | Dimension::Time if looks_inside => {
            Err(format!("`{}` is a number; ~ and !~ look for a part of a text", quantity.name))
        }
        _ => Ok(()),
    }
}

/// What a session may be called.
pub const BAD_SESSION: &str = "a session's name is 1 to 32 of a-z, 0-9 and _, beginning with a letter, and no word of the commands (client, all, off, ...)";

/// A session's name has the shape of a node's.
pub(super) fn session(text: &str) -> Result<NodeName, String> {
    text.parse().map_err(|_| {
        let short: String = text.chars().take(40).collect();
        format!("`{short}` can't be one: {BAD_SESSION}")
    })
}

/// Whether some text has the part in it (or none has), with what shows it.
pub(super) fn compared(now: Value, has: bool, part: &str) -> (bool, Value) {
    let found = match &now {
        Value::Text(text) => text.contains(part).then(|| now.clone()),
        Value::Lines(lines) => {
            let line = lines.iter().find(|l| l.contains(part));
            line.map(|l| Value::Lines(vec![l.clone()]))
        }
        Value::Number(_) => None,
        Value::Unknown => return (false, now),
    };
    match found {
        Some(shown) => (has, shown),
        None => (!has, now),
    }
}

/// What a node logged since the lesson's last act began; all that is kept where no lesson plays.
pub(super) fn lines(model: &Model, node: &Node) -> Value {
    let since = model.script.as_ref().map(|s| s.acted).unwrap_or_default();
    let line = |l: &crate::model::Logged| format!("{} {}", l.line.severity, l.line.text).trim().to_owned();
    Value::Lines(node.logs.iter().filter(|l| l.at >= since).map(line).collect())
}
